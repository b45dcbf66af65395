//! PostgreSQL, search and the archive by hour: what one of them lost is named, and put back where another
//! has it.

use std::time::SystemTime;

use audit::reconcile::{Depth, Detail, FindingKind, Findings, Window};
use chrono::TimeDelta;
use contracts::LogId;
use contracts::audit::lifecycle::Then;
use evidence::Codec;
use queue_core::{Clock as _, SystemClock};

use super::scene::{of, window};
use crate::archive::scene::{acme, v7};
use crate::cleanup::scene::{Scene, ids};

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_search_lost_are_indexed_again_and_nothing_else_is_touched() {
    let scene = Scene::new().await;
    let logs = scene.logs([1, 2, 3]).await;
    let hour = scene.archive.hour;
    // Enough for two pages, and one that search has and PostgreSQL has not.
    let lost: Vec<_> = (0..1_100)
        .map(|at| scene.archive.log(100 + at, LogId(v7(hour, 100 + at)), "a.b", 20))
        .collect();
    scene.archive.insert(lost.clone()).await;
    let owner = scene.archive.owner();
    sqlx::query("DELETE FROM logs WHERE id = $1")
        .bind(logs[1].key.id.0)
        .execute(owner.pool())
        .await
        .unwrap();
    let reconciler = of(&scene);
    let look = reconciler.look(&acme(), window(&scene), Depth::Whole).await.unwrap();
    assert_eq!(look.findings.found(FindingKind::NotSearchable), 1_100);
    assert_eq!(look.findings.found(FindingKind::NotStored), 1);
    assert_eq!((look.hours[0].stored, look.hours[0].searchable), (1_102, 3));
    assert_eq!(scene.found(&lost).await, 0, "looking changes nothing");

    let mut findings = Findings::default();
    reconciler.hours(&acme(), window(&scene), true, &mut findings).await.unwrap();
    assert_eq!(findings.mended(FindingKind::NotSearchable), 1_100);
    assert_eq!(scene.found(&lost).await, 1_100);
    assert_eq!(findings.left(), 1, "what PostgreSQL lacks nobody can put back");
    let about = &findings.shown.iter().find(|it| it.kind == FindingKind::NotStored).unwrap();
    assert_eq!(
        (about.about.clone(), about.detail.as_str()),
        (logs[1].key.id.to_string(), "nothing knows of it")
    );
    let mut after = Findings::default();
    reconciler.hours(&acme(), window(&scene), true, &mut after).await.unwrap();
    assert_eq!((after.found(FindingKind::NotSearchable), after.left()), (0, 1));
    assert!(scene.stored().await.is_superset(&ids(&lost)));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_too_many_and_one_too_few_are_told_apart_by_ids() {
    let scene = Scene::new().await;
    let logs = scene.logs([1, 2]).await;
    let (hour, at) = (scene.archive.hour, 30 * 60 * 1_000);
    let unseen = scene.archive.log(at, LogId(v7(hour, at)), "a.b", 20);
    scene.archive.insert(vec![unseen.clone()]).await;
    let owner = scene.archive.owner();
    sqlx::query("DELETE FROM logs WHERE id = $1")
        .bind(logs[0].key.id.0)
        .execute(owner.pool())
        .await
        .unwrap();
    let reconciler = of(&scene);
    let mut findings = Findings::default();
    let counted = reconciler.hours(&acme(), window(&scene), false, &mut findings).await.unwrap();
    assert_eq!((counted[0].stored, counted[0].searchable), (2, 2));
    assert!(findings.is_clean(), "counts alone say that all is well");
    let by_ids = Window { detail: Detail::Ids, ..window(&scene) };
    reconciler.hours(&acme(), by_ids, true, &mut findings).await.unwrap();
    assert_eq!(findings.found(FindingKind::NotStored), 1);
    assert_eq!(findings.mended(FindingKind::NotSearchable), 1);
    assert_eq!(scene.found(&[unseen]).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_archives_index_and_its_store_are_held_against_each_other() {
    let scene = Scene::new().await;
    scene.logs([1, 2, 3]).await;
    let (run, _) = scene.archive.run(Then::Archive, Codec::Gzip).await;
    scene.archive.archive(&run).await.unwrap();
    scene.audited().await;
    let reconciler = of(&scene);
    let clean = reconciler.look(&acme(), window(&scene), Depth::Whole).await.unwrap();
    assert!(clean.findings.is_clean(), "{:?}", clean.findings);
    let hour = clean.hours[0];
    assert_eq!((hour.stored, hour.searchable, hour.archived, hour.marked), (3, 3, 3, 3));

    let name = scene.archive.objects().await.remove(0);
    let path = scene.archive.dir.path().join(&name);
    let stranger = path.with_file_name("part-00009.ndjson.gz");
    std::fs::write(&stranger, "x").unwrap();
    let young = reconciler.look(&acme(), window(&scene), Depth::Whole).await.unwrap();
    assert!(young.findings.is_clean(), "it may be a unit's that has not noted it: {young:?}");
    let old = SystemTime::from(SystemClock.now() - TimeDelta::days(3));
    std::fs::File::options().append(true).open(&stranger).unwrap().set_modified(old).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.push(0);
    std::fs::write(&path, bytes).unwrap();
    let damaged = reconciler.look(&acme(), window(&scene), Depth::Whole).await.unwrap().findings;
    assert_eq!(damaged.found(FindingKind::ObjectUnknown), 1);
    assert_eq!(damaged.found(FindingKind::ObjectDiffers), 1);
    std::fs::remove_file(&path).unwrap();
    let owner = scene.archive.owner();
    sqlx::query("UPDATE archived_logs SET unit_id = gen_random_uuid()")
        .execute(owner.pool())
        .await
        .unwrap();
    let missing = reconciler.look(&acme(), window(&scene), Depth::Whole).await.unwrap().findings;
    assert_eq!(missing.found(FindingKind::ObjectMissing), 1);
    assert_eq!(missing.found(FindingKind::MarkWithoutObject), 3);
    assert_eq!(scene.stored().await.len(), 3);
}

//! Sealing: what was written passes the verifier, also after rotations, outages and lost answers; one
//! chain that does not go on keeps no other; nothing is overwritten.

use std::sync::Arc;

use audit::archive::Pass;
use chrono::TimeDelta;
use evidence::verify::Verdict;
use queue_core::Clock;
use sinks::objects::{Files, Objects, Write};

use super::scene::{Scene, tenant, verify_dir};

#[tokio::test]
async fn what_is_appended_ends_in_an_archive_that_verifies() {
    let scene = Scene::new().await;
    for _ in 0..20 {
        scene.archive("acme").await.unwrap();
    }
    let sealer = scene.sealer(&[1]);
    // A go of 16 documents at most, and a head only after a quiet minute.
    assert_eq!(
        sealer.pass().await.unwrap(),
        Pass { stored: 16, heads: 0, stalled: 0, unstored: 5 }
    );
    assert_eq!(sealer.pass().await.unwrap(), Pass { stored: 5, heads: 0, stalled: 0, unstored: 0 });
    assert_eq!(scene.verify(1).verdict, Verdict::TailUnproven);
    scene.clock.turn(TimeDelta::minutes(10));
    assert_eq!(sealer.pass().await.unwrap().heads, 1);
    assert_eq!(sealer.pass().await.unwrap(), Pass::default());
    let report = scene.verify(1);
    assert_eq!(report.verdict, Verdict::Verified, "{report:?}");
    let one = &report.tenants[0];
    assert_eq!((one.complete_to, one.proven.as_ref().unwrap().documents), (21, 21));
    // Every hour one more, also where nothing came.
    scene.clock.turn(TimeDelta::minutes(61));
    assert_eq!(sealer.pass().await.unwrap().heads, 1);
    let again = &scene.verify(1).tenants[0];
    assert_eq!((again.verdict, again.heads), (Verdict::Verified, 2));
    assert!(again.proven.as_ref().unwrap().at > one.proven.as_ref().unwrap().at);
    assert_ne!(scene.verify(9).verdict, Verdict::Verified);
}

#[tokio::test]
async fn either_key_of_a_rotation_verifies_what_was_sealed() {
    let scene = Scene::new().await;
    scene.archive("acme").await.unwrap();
    // Not sealed yet when the key changes.
    scene.key(2, "rotation").await;
    scene.archive("acme").await.unwrap();
    let without_old = scene.sealer(&[2]);
    let passed = without_old.pass().await.unwrap();
    assert_eq!(passed, Pass { stored: 0, heads: 0, stalled: 1, unstored: 4 });
    let both = scene.sealer(&[1, 2]);
    assert_eq!(both.pass().await.unwrap().stored, 4);
    assert_eq!(both.head_now(&tenant("acme")).await.unwrap(), 4);
    scene.archive("acme").await.unwrap();
    // The old key may go now.
    assert_eq!(without_old.pass().await.unwrap().stored, 1);
    without_old.head_now(&tenant("acme")).await.unwrap();
    for seed in [1, 2] {
        let report = scene.verify(seed);
        assert_eq!(report.verdict, Verdict::Verified, "{seed}: {report:?}");
        assert_eq!(report.tenants[0].documents.keys, 2);
    }
}

#[tokio::test]
async fn a_long_outage_of_the_store_is_caught_up_with() {
    let scene = Scene::new().await;
    let sealer = scene.sealer(&[1]);
    scene.archive("acme").await.unwrap();
    assert_eq!(sealer.pass().await.unwrap().stored, 2);
    scene.away(true);
    for _ in 0..40 {
        scene.archive("acme").await.unwrap();
        assert_eq!(sealer.pass().await.unwrap().stalled, 1);
    }
    assert_eq!(
        sealer.pass().await.unwrap(),
        Pass { stored: 0, heads: 0, stalled: 1, unstored: 40 }
    );
    scene.away(false);
    // One write took effect and its answer was lost: the next try finds its own.
    let (three, name) = (seal_of(&scene, 3).await, "proof/acme/chain/000000000003-manifest.note");
    let file = [&three.0[..], b"\n", &three.1].concat();
    scene.store.put(&name.parse().unwrap(), file, Write::IfAbsent).await.unwrap();
    while sealer.pass().await.unwrap().unstored > 0 {}
    sealer.head_now(&tenant("acme")).await.unwrap();
    let report = scene.verify(1);
    assert_eq!((report.verdict, report.tenants[0].complete_to), (Verdict::Verified, 42));
}

/// A document and the seal that is kept for it.
async fn seal_of(scene: &Scene, sequence: i64) -> (Vec<u8>, Vec<u8>) {
    database::sqlx::query_as("SELECT document, seal FROM chain_documents WHERE sequence = $1")
        .bind(sequence)
        .fetch_one(scene.worker.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn another_document_under_a_name_is_an_alarm_and_stays() {
    let scene = Scene::new().await;
    let (forged, name) = (b"forged".to_vec(), "proof/acme/chain/000000000002-manifest.note");
    let key = name.parse().unwrap();
    scene.store.put(&key, forged.clone(), Write::IfAbsent).await.unwrap();
    scene.archive("acme").await.unwrap();
    scene.archive("globex").await.unwrap();
    let sealer = scene.sealer(&[1]);
    let passed = sealer.pass().await.unwrap();
    // Its own first document, and all of the other tenant's.
    assert_eq!(passed, Pass { stored: 3, heads: 0, stalled: 1, unstored: 1 });
    assert_eq!(scene.store.get(&key, 100).await.unwrap(), Some(forged));
    assert_eq!(sealer.pass().await.unwrap().stalled, 1);
}

#[tokio::test]
async fn a_row_that_was_changed_is_not_signed() {
    let scene = Scene::new().await;
    scene.archive("acme").await.unwrap();
    let owner = scene.database.connect(database::Role::Owner);
    database::sqlx::query(
        "UPDATE chain_documents SET document = convert_to(replace(convert_from(document, 'UTF8'),
           'unit-1', 'unit-7'), 'UTF8') WHERE sequence = 2",
    )
    .execute(owner.pool())
    .await
    .unwrap();
    let passed = scene.sealer(&[1]).pass().await.unwrap();
    assert_eq!(passed, Pass { stored: 1, heads: 0, stalled: 1, unstored: 1 });
}

#[tokio::test]
async fn heads_go_to_the_second_store_and_catch_up_there() {
    let scene = Scene::new().await;
    let other = tempfile::tempdir().unwrap();
    scene.archive("acme").await.unwrap();
    // A file where the directory should be: every write fails.
    let place = other.path().join("second");
    std::fs::write(&place, "in the way").unwrap();
    let sealer = scene.sealer(&[1]).with_second_store(Arc::new(Files::new(&place)));
    sealer.pass().await.unwrap();
    scene.clock.turn(TimeDelta::minutes(10));
    let passed = sealer.pass().await.unwrap();
    assert_eq!((passed.heads, passed.stalled), (1, 1));
    assert_eq!(scene.verify(1).verdict, Verdict::Verified, "the first store has it");
    std::fs::remove_file(&place).unwrap();
    assert_eq!(sealer.pass().await.unwrap(), Pass::default());
    let names = |dir: &std::path::Path| {
        let listed = std::fs::read_dir(dir.join("proof/acme/heads")).unwrap();
        listed.map(|file| file.unwrap().file_name()).collect::<Vec<_>>()
    };
    assert_eq!(names(&place), names(scene.dir.path()));
    assert!(!verify_dir(&place, 1).tenants.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn sealers_at_once_write_one_chain() {
    let scene = Arc::new(Scene::new().await);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..4_u8 {
        let scene = scene.clone();
        tasks.spawn(async move {
            let sealer = scene.sealer(&[1]);
            for _ in 0..10 {
                scene.archive(if n % 2 == 0 { "acme" } else { "globex" }).await.unwrap();
                assert_eq!(sealer.pass().await.unwrap().stalled, 0);
            }
        });
    }
    tasks.join_all().await;
    let sealer = scene.sealer(&[1]);
    while sealer.pass().await.unwrap().unstored > 0 {}
    for of in ["acme", "globex"] {
        assert_eq!(sealer.head_now(&tenant(of)).await.unwrap(), 21);
    }
    assert!(scene.clock.now() > chrono::DateTime::UNIX_EPOCH);
    assert_eq!(scene.verify(1).verdict, Verdict::Verified);
}

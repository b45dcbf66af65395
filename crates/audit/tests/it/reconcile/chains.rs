//! Chains by themselves: rolled back to nothing, over a rotation whose key PostgreSQL lost, with documents
//! that the store lost, and with heads that count more than there is.

use std::path::PathBuf;
use std::sync::Arc;

use audit::reconcile::{ChainState, Depth, FindingKind, Findings, ReconcileError, Reconciler};
use audit::store::signing_keys;
use database::Role;
use evidence::verify::Verdict;
use sinks::search::SearchConfig;

use super::scene::{mend, reconciler, restore, snapshot};
use crate::chain::scene::{Scene, signer, tenant};

const DOCUMENTS: &str = "SELECT count(*) FROM chain_documents";

async fn of(scene: &Scene, owner: bool) -> Reconciler {
    let search = sinks::search::open(&SearchConfig::postgres(), &scene.worker).await.unwrap();
    let owner = owner.then(|| scene.database.connect(Role::Owner));
    reconciler(&scene.worker, owner, scene.store.clone(), search)
}

async fn published(scene: &Scene, seeds: &[u8], documents: usize) {
    for _ in 0..documents {
        scene.archive("acme").await.unwrap();
    }
    let sealer = scene.sealer(seeds);
    while sealer.pass().await.unwrap().unstored > 0 {}
    sealer.head_now(&tenant("acme")).await.unwrap();
}

async fn standing(reconciler: &Reconciler) -> (ChainState, Findings) {
    let mut findings = Findings::default();
    let standing = reconciler.standing(&tenant("acme"), Depth::Whole, &mut findings).await.unwrap();
    (standing.state, findings)
}

fn files(scene: &Scene, folder: &str) -> Vec<PathBuf> {
    let folder = scene.dir.path().join("proof/acme").join(folder);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

async fn count(scene: &Scene, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(scene.worker.pool()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_postgresql_knows_nothing_of_comes_back_whole() {
    let scene = Scene::new().await;
    snapshot(&scene.database.connect(Role::Owner)).await;
    published(&scene, &[1], 20).await;
    restore(&scene.database.connect(Role::Owner)).await;
    let reconciler = of(&scene, false).await;
    assert_eq!(reconciler.published_tenants().await.unwrap(), [tenant("acme")]);
    assert_eq!(standing(&reconciler).await.0, ChainState::RolledBack);
    let mended = mend(&reconciler, &tenant("acme")).await.unwrap().unwrap();
    assert_eq!((mended.from, mended.to, mended.indexed), (0, 21, 20));
    assert!(standing(&reconciler).await.1.is_clean());
    // The sealer finds what it would have stored, and goes on behind it.
    published(&scene, &[1], 1).await;
    let report = scene.verify(1);
    assert_eq!(report.verdict, Verdict::Verified, "{report:?}");
    assert_eq!(report.tenants[0].complete_to, 22);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_rotated_in_after_the_restored_point_is_set_up_again_by_the_owner() {
    let scene = Scene::new().await;
    published(&scene, &[1], 1).await;
    snapshot(&scene.database.connect(Role::Owner)).await;
    scene.key(2, "yearly").await;
    published(&scene, &[1, 2], 2).await;
    restore(&scene.database.connect(Role::Owner)).await;
    let worker = of(&scene, false).await;
    let refused = mend(&worker, &tenant("acme")).await.unwrap_err();
    let key = signer(2).key().id();
    assert!(matches!(&refused, ReconcileError::NoOwner(id) if *id == key), "{refused}");
    assert_eq!(count(&scene, DOCUMENTS).await, 2, "it stopped before the rotation");

    let mended = mend(&of(&scene, true).await, &tenant("acme")).await.unwrap().unwrap();
    assert_eq!((mended.from, mended.to), (2, 5));
    let mut connection = scene.worker.pool().acquire().await.unwrap();
    let newest = signing_keys::newest_key(&mut connection).await.unwrap().unwrap();
    assert_eq!((newest.key_id, newest.reason.as_str()), (key, "yearly"));
    published(&scene, &[2], 1).await;
    assert_eq!(scene.verify(1).verdict, Verdict::Verified);
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_the_store_lost_are_published_again() {
    let scene = Scene::new().await;
    published(&scene, &[1], 4).await;
    let chain = files(&scene, "chain");
    let kept: Vec<Vec<u8>> = [1, 4].iter().map(|at| std::fs::read(&chain[*at]).unwrap()).collect();
    for at in [1, 4] {
        std::fs::remove_file(&chain[at]).unwrap();
    }
    let reconciler = of(&scene, false).await;
    let mut findings = Findings::default();
    let acme = tenant("acme");
    let standing = reconciler.standing(&acme, Depth::Whole, &mut findings).await.unwrap();
    assert_eq!((standing.state, &standing.unpublished[..]), (ChainState::Whole, &[2, 5][..]));
    assert_eq!(findings.found(FindingKind::DocumentUnpublished), 2);
    // By their kept seals: no key is at hand.
    reconciler.publish_again(&acme, &standing.unpublished, &mut findings).await.unwrap();
    assert!(findings.is_clean(), "{findings:?}");
    for (at, kept) in [1, 4].iter().zip(&kept) {
        assert_eq!(&std::fs::read(&chain[*at]).unwrap(), kept);
    }
    assert_eq!(scene.verify(1).verdict, Verdict::Verified);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_head_counts_and_nobody_has_is_a_broken_chain() {
    let scene = Scene::new().await;
    published(&scene, &[1], 1).await;
    snapshot(&scene.database.connect(Role::Owner)).await;
    published(&scene, &[1], 3).await;
    restore(&scene.database.connect(Role::Owner)).await;
    let chain = files(&scene, "chain");
    let reconciler = of(&scene, false).await;
    let broken = async |what: &str| {
        let (state, findings) = standing(&reconciler).await;
        assert_eq!(state, ChainState::Broken);
        assert!(findings.shown[0].detail.contains(what), "{findings:?}");
        let refused = mend(&reconciler, &tenant("acme")).await.unwrap_err();
        assert!(matches!(refused, ReconcileError::Broken(_)), "{refused}");
        assert_eq!(count(&scene, DOCUMENTS).await, 2, "nothing was taken back");
    };
    // The last one is gone.
    let last = std::fs::read(&chain[4]).unwrap();
    std::fs::remove_file(&chain[4]).unwrap();
    broken("counts 5 documents; PostgreSQL has 2 and the archive's store 4").await;
    std::fs::write(&chain[4], &last).unwrap();
    // One in the middle is gone.
    let middle = std::fs::read(&chain[2]).unwrap();
    std::fs::remove_file(&chain[2]).unwrap();
    broken("document 3 of acme is neither in PostgreSQL nor in the archive's store").await;
    // One was changed: found by reading the whole rest, before anything is taken.
    std::fs::write(&chain[2], &middle).unwrap();
    let text = String::from_utf8(std::fs::read(&chain[3]).unwrap()).unwrap();
    std::fs::write(&chain[3], text.replace("unit-", "unit_")).unwrap();
    assert_eq!(standing(&reconciler).await.0, ChainState::RolledBack);
    let refused = mend(&reconciler, &tenant("acme")).await.unwrap_err();
    assert!(refused.to_string().contains("manifest-edited"), "{refused}");
    assert_eq!(count(&scene, DOCUMENTS).await, 2, "nothing was taken back");
    // As it was, it is taken.
    std::fs::write(&chain[3], text).unwrap();
    assert_eq!(mend(&reconciler, &tenant("acme")).await.unwrap().unwrap().to, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_in_the_second_store_shows_what_was_taken_from_the_first() {
    let scene = Scene::new().await;
    published(&scene, &[1], 2).await;
    snapshot(&scene.database.connect(Role::Owner)).await;
    published(&scene, &[1], 1).await;
    restore(&scene.database.connect(Role::Owner)).await;
    // Whoever has the archive's bucket takes the tail and its heads away.
    let second = tempfile::tempdir().unwrap();
    let folder = second.path().join("proof/acme/heads");
    std::fs::create_dir_all(&folder).unwrap();
    for head in files(&scene, "heads") {
        std::fs::copy(&head, folder.join(head.file_name().unwrap())).unwrap();
        std::fs::remove_file(head).unwrap();
    }
    std::fs::remove_file(files(&scene, "chain").last().unwrap()).unwrap();
    assert_eq!(standing(&of(&scene, false).await).await.0, ChainState::Whole, "nobody can tell");
    let search = sinks::search::open(&SearchConfig::postgres(), &scene.worker).await.unwrap();
    let with_second = Reconciler::new(audit::reconcile::Parts {
        database: scene.worker.clone(),
        owner: None,
        objects: Some(scene.store.clone()),
        heads: Some(Arc::new(sinks::objects::Files::new(second.path()))),
        search,
        clock: scene.clock.clone(),
        keys: Vec::new(),
    });
    assert_eq!(standing(&with_second).await.0, ChainState::Broken);
}

//! What is not as it should be: nothing is deleted that the archive does not hold, and nothing that was
//! deleted stays without its receipt.

use std::sync::atomic::Ordering;

use audit::lifecycle::RunState;
use queue_core::{ErrorClass, Failure};

use super::scene::{Scene, ids};

fn failed(outcome: Result<(), Failure>, says: &str) {
    let Err(Failure::Reject(reason)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(reason.code.code, "cleanup-unit-failed");
    assert!(reason.message.contains(says), "{reason:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_search_is_away_the_receipt_is_pending() {
    let scene = Scene::new().await;
    let logs = scene.logs([1, 2]).await;
    let run = scene.sealed().await;
    scene.search.down.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        match scene.clean(&run).await {
            Err(Failure::Retry(error) | Failure::RetryAfter(error, _)) => {
                assert_eq!(error.class, ErrorClass::Infrastructure, "{error}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!((scene.stored().await.len(), scene.receipts().await.len()), (0, 0));
    }
    scene.search.down.store(false, Ordering::SeqCst);
    // It answers well and forgets nothing: counted, not believed.
    scene.search.forgets_nothing.store(true, Ordering::SeqCst);
    let still = scene.clean(&run).await;
    assert!(matches!(still, Err(Failure::Snooze(_))), "{still:?}");
    assert_eq!((scene.found(&logs).await, scene.receipts().await.len()), (2, 0));
    scene.search.forgets_nothing.store(false, Ordering::SeqCst);
    scene.clean(&run).await.unwrap();
    assert_eq!((scene.found(&logs).await, scene.receipts().await.len()), (0, 1));
    scene.ended(&run, RunState::Done).await;
    scene.audited().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_was_changed_or_is_gone_deletes_nothing() {
    for gone in [false, true] {
        let scene = Scene::new().await;
        let logs = scene.logs([1, 2]).await;
        let run = scene.sealed().await;
        let object = scene.archive.objects().await.remove(0);
        let path = scene.archive.dir.path().join(object);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::remove_file(&path).unwrap();
        if !gone {
            std::fs::write(&path, bytes).unwrap();
        }
        failed(scene.clean(&run).await, "nothing is deleted");
        assert_eq!((scene.stored().await, scene.found(&logs).await), (ids(&logs), 2));
        let ended = scene.ended(&run, RunState::Failed).await;
        assert!(ended.failure.unwrap().contains("nothing is deleted"));
        assert_eq!(scene.receipts().await.len(), 0);
        // Redriven: it is over.
        scene.clean(&run).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_the_archive_does_not_hold_like_that_stays_with_its_unit() {
    let scene = Scene::new().await;
    let logs = scene.logs([1, 2, 3]).await;
    let run = scene.sealed().await;
    let edit = "UPDATE logs SET record = record || '\\x20' WHERE id = $1";
    let owner = scene.archive.owner();
    sqlx::query(edit).bind(logs[1].key.id.0).execute(owner.pool()).await.unwrap();
    failed(scene.clean(&run).await, "is not what was read before");
    assert_eq!((scene.stored().await, scene.found(&logs).await), (ids(&logs), 3));
    assert_eq!(scene.count("SELECT count(*) FROM tombstones").await, 0);
    scene.ended(&run, RunState::Failed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_vanished_unexplained_fails_its_unit() {
    let scene = Scene::new().await;
    let logs = scene.logs([1, 2]).await;
    let run = scene.sealed().await;
    let owner = scene.archive.owner();
    let vanish = sqlx::query("DELETE FROM logs WHERE id = $1").bind(logs[0].key.id.0);
    vanish.execute(owner.pool()).await.unwrap();
    failed(scene.clean(&run).await, "neither stored nor known as deleted");
    assert_eq!(scene.stored().await, ids(&logs[1..]));
    scene.ended(&run, RunState::Failed).await;
}

/// More than one transaction; the second one meets a row that was edited.
#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_fails_halfway_has_a_receipt_of_what_went() {
    let scene = Scene::new().await;
    let mut logs = scene.logs((0..5_100).map(|at| at * 10)).await;
    logs.sort_by_key(|log| log.key.id);
    let run = scene.sealed().await;
    let edit = "UPDATE logs SET record = record || '\\x20' WHERE id = $1";
    let owner = scene.archive.owner();
    sqlx::query(edit).bind(logs[5_050].key.id.0).execute(owner.pool()).await.unwrap();
    failed(scene.clean(&run).await, "is not what was read before");
    assert_eq!(scene.stored().await, ids(&logs[5_000..]));
    assert_eq!(scene.found(&logs).await, 100);
    let receipt = scene.receipts().await.remove(0);
    assert_eq!((receipt.deleted, receipt.already_gone, receipt.held), (5_000, 0, 100));
    let ended = scene.ended(&run, RunState::Failed).await;
    assert_eq!((ended.counters.deleted.events, ended.counters.failed.events), (5_000, 100));
    scene.audited().await;
}

//! What a unit's cleanup does to rows, search and the chain; once, and for good.

use audit::lifecycle::{RunState, UnitState};
use audit::store;
use contracts::audit::lifecycle::{CleanupArchived, CleanupMessage};
use queue_core::Failure;

use super::scene::{Scene, archived_message, ids};

#[tokio::test(flavor = "multi_thread")]
async fn rows_go_from_everywhere_and_an_auditor_verifies_the_receipt() {
    let scene = Scene::new().await;
    let logs = scene.logs([0, 5, 5, 7, 3_599_000]).await;
    scene.archive.revise(logs[1].key.id, "looked at").await;
    let (run, _) = scene
        .archive
        .run(contracts::audit::lifecycle::Then::ArchiveAndDelete, evidence::Codec::Gzip)
        .await;
    scene.archive.archive(&run).await.unwrap();
    // Its manifest is in the chain, and nowhere else yet.
    let early = scene.clean(&run).await.unwrap_err();
    assert!(matches!(early, Failure::Snooze(_)), "{early:?}");
    assert_eq!((scene.stored().await.len(), scene.found(&logs).await), (5, 5));

    scene.archive.verify().await;
    scene.clean(&run).await.unwrap();
    assert_eq!((scene.stored().await.len(), scene.found(&logs).await), (0, 0));
    assert_eq!(scene.count("SELECT count(*) FROM log_revisions").await, 0);
    let kept = "SELECT count(*) FROM tombstones WHERE expires_at > now() + interval '28 days'";
    assert_eq!(scene.count(kept).await, 5);
    let run = scene.ended(&run, RunState::Done).await;
    assert_eq!(run.counters.deleted, run.counters.planned);
    let told = scene.archive.outbox("audit-retention").await;
    assert_eq!(told.len(), 2, "the policy's targets");
    let own = scene.archive.outbox("audit-index").await;
    let own = own.iter().filter(|body| body.to_string().contains("flotilla.logs.deleted"));
    assert_eq!(own.count(), 2, "one for the tenant, one for `system`");

    let receipt = scene.receipts().await.remove(0);
    assert_eq!((receipt.deleted, receipt.already_gone, receipt.held), (5, 0, 0));
    assert_eq!(receipt.requester, "system");
    let survivor = &receipt.survives[0];
    assert_eq!(survivor.place, "RDS snapshots");
    assert!(survivor.until.unwrap() > receipt.deleted_at);
    scene.audited().await;
    // The object still proves what was deleted.
    assert_eq!(scene.archive.held().len(), 5);

    scene.clean(&run).await.unwrap();
    assert_eq!(scene.receipts().await.len(), 1, "a message that comes again finds it done");
    scene.audited().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn opensearch_is_counted_to_none_too() {
    let Some(scene) = Scene::with_opensearch().await else { return };
    let logs = scene.logs(0..30).await;
    assert_eq!(scene.found(&logs).await, 30);
    let run = scene.sealed().await;
    scene.clean(&run).await.unwrap();
    assert_eq!((scene.stored().await.len(), scene.found(&logs).await), (0, 0));
    scene.ended(&run, RunState::Done).await;
    scene.audited().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_cleanups_of_a_unit_at_once_are_one() {
    let scene = Scene::new().await;
    let logs = scene.logs(0..300).await;
    let run = scene.sealed().await;
    let all = futures_util::future::join_all((0..4).map(|_| scene.clean(&run))).await;
    let waited =
        all.iter().all(|one| matches!(one, Ok(()) | Err(Failure::Snooze(_) | Failure::Retry(_))));
    assert!(waited, "{all:?}");
    scene.clean(&run).await.unwrap();
    scene.ended(&run, RunState::Done).await;
    assert_eq!((scene.receipts().await.len(), scene.found(&logs).await), (1, 0));
    scene.audited().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_comes_again_does_not_bring_a_log_back() {
    let scene = Scene::new().await;
    let logs = scene.logs([1, 2, 3]).await;
    let run = scene.sealed().await;
    // Redriven while the cleanup is at it, again and again.
    let mut sorted = logs.clone();
    sorted.sort_by(|a, b| a.key.cmp(&b.key));
    let redriven = async {
        for _ in 0..30 {
            let mut connection = scene.archive.database.pool().acquire().await.unwrap();
            store::insert_batch(&mut connection, &sorted).await.unwrap();
        }
    };
    let (cleaned, ()) = tokio::join!(scene.clean(&run), redriven);
    cleaned.unwrap();
    let mut connection = scene.archive.database.pool().acquire().await.unwrap();
    let after = store::insert_batch(&mut connection, &sorted).await.unwrap();
    assert_eq!(after.new_rows, 0);
    assert_eq!(scene.stored().await.len(), 0);
    scene.ended(&run, RunState::Done).await;
    scene.audited().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_erased_or_said_since_is_seen() {
    let scene = Scene::new().await;
    let logs = scene.logs([1, 2, 3]).await;
    let run = scene.sealed().await;
    scene.archive.erase(logs[0].key.id).await;
    scene.archive.revise(logs[1].key.id, "after the archive").await;
    scene.clean(&run).await.unwrap();
    // What the archive does not hold stays, and the next run archives it.
    assert_eq!(scene.stored().await, ids(&logs[1..2]));
    assert_eq!(scene.count("SELECT count(*) FROM archived_logs").await, 0);
    let receipt = scene.receipts().await.remove(0);
    assert_eq!((receipt.deleted, receipt.already_gone, receipt.held), (1, 1, 1));
    let ended = scene.ended(&run, RunState::Done).await;
    assert_eq!((ended.counters.gone.events, ended.counters.held.events), (1, 1));
    scene.audited().await;

    let again = scene.sealed().await;
    scene.clean(&again).await.unwrap();
    assert_eq!(scene.stored().await.len(), 0);
    scene.ended(&again, RunState::Done).await;
    scene.audited().await;
}

/// The archive holds what stays: no later run archives it once more.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_stopped_after_its_unit_was_sealed_leaves_marks() {
    let scene = Scene::new().await;
    let logs = scene.logs([1, 2, 3]).await;
    let run = scene.sealed().await;
    scene.archive.erase(logs[0].key.id).await;
    let mut connection = scene.archive.owner().pool().acquire().await.unwrap();
    let (tenant, to) = (&run.new.tenant, RunState::Cancelled);
    store::stop_run(&mut connection, tenant, run.new.id, to, "not now").await.unwrap();
    scene.clean(&run).await.unwrap();
    assert_eq!(scene.stored().await, ids(&logs[1..]));
    assert_eq!(scene.count("SELECT count(*) FROM archived_logs").await, 2);
    let unit = scene.archive.units(run.new.id).await.remove(0);
    assert_eq!((unit.state, unit.counters.held), (UnitState::Kept, unit.counters.planned));
    assert_eq!(scene.receipts().await.len(), 0);
    scene.clean(&run).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_names_another_manifest_is_refused() {
    let scene = Scene::new().await;
    scene.logs([1]).await;
    let run = scene.sealed().await;
    let unit = scene.archive.units(run.new.id).await.remove(0);
    let manifest = unit.manifest.unwrap();
    for (sequence, sha256) in
        [(9, manifest.sha256.to_string()), (manifest.sequence, "ab".repeat(32))]
    {
        let refused = scene
            .handle(CleanupMessage::Archived(CleanupArchived {
                manifest_sequence: sequence,
                manifest_sha256: sha256,
                ..archived_message(&unit)
            }))
            .await;
        let Err(Failure::Reject(reason)) = refused else { panic!("{refused:?}") };
        assert_eq!(reason.code.code, "cleanup-refused");
    }
    assert_eq!(scene.stored().await.len(), 1);
}

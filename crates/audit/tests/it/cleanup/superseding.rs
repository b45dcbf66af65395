//! Erasures reach the archive: another object takes the place of one that holds an erased log, what is
//! gone is proved to be all that is gone, and locks and holds are heeded.

use audit::archive::Reader;
use audit::store::holds;
use contracts::LogId;
use contracts::audit::lifecycle::CleanupMessage;
use queue_core::{Clock, SystemClock};
use serde_json::json;
use sinks::objects::{ArchiveConfig, LockMode};
use sinks::search::SearchConfig;

use super::scene::Scene;
use crate::archive::scene::{Scene as Archived, acme};
use crate::retention::hold;

impl Scene {
    async fn found_in_archive(&self, id: LogId) -> usize {
        let reader = Reader::new(&self.archive.database, self.archive.store.clone());
        reader.find(&acme(), id.0).await.unwrap().len()
    }

    /// Why an erasure waits.
    async fn waits(&self) -> Vec<String> {
        let why = "SELECT coalesce(why, '') FROM archive_erasures ORDER BY log_id";
        sqlx::query_scalar(why).fetch_all(self.archive.owner().pool()).await.unwrap()
    }

    /// So that what waits is looked at now.
    async fn look_now(&self) -> u64 {
        let now = "UPDATE archive_erasures SET look_at = now()";
        sqlx::query(now).execute(self.archive.owner().pool()).await.unwrap();
        self.archive.worker.supersede().await.unwrap()
    }

    /// What the scheduler asks for is done.
    async fn remove_due(&self) -> u64 {
        let due = audit::expiry::follow(&self.archive.database, SystemClock.now()).await.unwrap();
        for told in self.archive.outbox("audit-cleanup").await {
            if told["type"] == "CLEANUP_EXPIRED" {
                let message = serde_json::from_value(told["body"].clone()).unwrap();
                self.handle(CleanupMessage::Expired(message)).await.unwrap();
            }
        }
        due
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_log_goes_from_the_archive_and_nothing_else_does() {
    let scene = Scene::new().await;
    let logs = scene.logs([1, 2, 3, 4]).await;
    scene.archive.revise(logs[1].key.id, "looked at").await;
    scene.archive_only().await;
    assert_eq!(scene.found_in_archive(logs[1].key.id).await, 2);
    scene.archive.erase(logs[1].key.id).await;
    assert_eq!(scene.archive.worker.supersede().await.unwrap(), 1);
    assert_eq!(scene.waits().await.len(), 0);
    let found = async |at: usize| scene.found_in_archive(logs[at].key.id).await;
    assert_eq!([found(0).await, found(1).await, found(2).await], [1, 0, 1]);
    // Both are in the store, the chain says which one counts, and a verifier puts them side by side.
    assert_eq!(scene.archive.objects().await.len(), 2);
    scene.audited().await;
    // Once more, out of the object that took the place.
    scene.archive.erase(logs[3].key.id).await;
    assert_eq!(scene.archive.worker.supersede().await.unwrap(), 1);
    scene.audited().await;
    // The old ones go with receipts; what is left is still proved to be what there was.
    assert_eq!(scene.remove_due().await, 2);
    assert_eq!((scene.archive.objects().await.len(), scene.receipts().await.len()), (1, 2));
    assert_eq!([found(0).await, found(1).await, found(2).await, found(3).await], [1, 0, 1, 0]);
    scene.audited().await;
    assert_eq!(scene.archive.worker.supersede().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_only_the_archive_has_is_erased_there() {
    let scene = Scene::new().await;
    let logs = scene.logs([1, 2]).await;
    let run = scene.sealed().await;
    scene.clean(&run).await.unwrap();
    assert_eq!((scene.stored().await.len(), scene.archive.held().len()), (0, 2));
    scene.archive.erase(logs[0].key.id).await;
    assert_eq!(scene.archive.worker.supersede().await.unwrap(), 1);
    assert_eq!(scene.found_in_archive(logs[0].key.id).await, 0);
    scene.audited().await;
    scene.remove_due().await;
    assert_eq!(scene.archive.held(), [logs[1].key.id.0]);
    scene.audited().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_which_nothing_is_left_is_removed() {
    let scene = Scene::new().await;
    let logs = scene.logs([1]).await;
    scene.archive_only().await;
    scene.archive.erase(logs[0].key.id).await;
    assert_eq!(scene.archive.worker.supersede().await.unwrap(), 0);
    assert_eq!(scene.waits().await, ["all of it is erased: it is to be removed"]);
    assert_eq!(scene.remove_due().await, 1);
    assert_eq!((scene.archive.objects().await.len(), scene.receipts().await.len()), (0, 1));
    assert_eq!((scene.look_now().await, scene.waits().await.len()), (0, 0));
    scene.audited().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_a_hold_and_a_unit_at_work_are_waited_for() {
    let scene = Scene::new().await;
    let logs = scene.logs([1, 2]).await;
    let run = scene.sealed().await;
    scene.archive.erase(logs[0].key.id).await;
    assert_eq!(scene.archive.worker.supersede().await.unwrap(), 0);
    assert_eq!(scene.waits().await, ["a unit that has not ended goes by it"]);
    scene.clean(&run).await.unwrap();
    // A hold on what only the archive has by now.
    let owner = scene.archive.owner();
    let mut connection = owner.pool().acquire().await.unwrap();
    holds::place(&mut connection, &acme(), hold(1, &json!({"actions": ["a.*"]}))).await.unwrap();
    assert_eq!(scene.look_now().await, 0);
    assert_eq!(scene.waits().await, ["a legal hold keeps a log of it"]);
    let release =
        "UPDATE holds SET released_at = now(), released_by = '{}', release_reason = 'over'";
    sqlx::query(release).execute(owner.pool()).await.unwrap();
    assert_eq!((scene.look_now().await, scene.waits().await.len()), (1, 0));
    assert_eq!(scene.found_in_archive(logs[0].key.id).await, 0);
    scene.audited().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_store_locks_an_object_it_is_said_until_when() {
    let archive = Archived::stored_as(ArchiveConfig {
        archive_lock_mode: Some(LockMode::Compliance),
        archive_lock_days: Some(10),
        ..ArchiveConfig::default()
    });
    let archive = archive.await;
    let search = sinks::search::open(&SearchConfig::postgres(), &archive.database).await.unwrap();
    let scene = Scene::on(archive, search);
    let logs = scene.logs([1, 2]).await;
    scene.archive_only().await;
    scene.archive.erase(logs[0].key.id).await;
    assert_eq!(scene.archive.worker.supersede().await.unwrap(), 0);
    let why = scene.waits().await.remove(0);
    assert!(why.starts_with("the store has it locked until 20"), "{why}");
    assert_eq!(scene.archive.worker.supersede().await.unwrap(), 0, "not before");
    assert_eq!(scene.archive.objects().await.len(), 1);
}

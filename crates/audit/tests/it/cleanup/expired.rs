//! Objects past their own term: removed with a receipt, unless a lock or a hold keeps them.

use audit::lifecycle::Run;
use audit::store::holds;
use chrono::TimeDelta;
use contracts::audit::lifecycle::{CleanupExpired, CleanupMessage, Then};
use evidence::Codec;
use evidence::document::Scope;
use queue_core::{Clock, Failure, SystemClock};
use serde_json::json;
use sinks::objects::{ArchiveConfig, LockMode};

use super::scene::{Scene, expired_message};
use crate::archive::scene::{Scene as Archived, acme};
use crate::retention::hold;
use sinks::search::SearchConfig;

impl Scene {
    /// A run that only archives, its object sealed and stored.
    pub(crate) async fn archive_only(&self) -> Run {
        let (run, _) = self.archive.run(Then::Archive, Codec::Zstd).await;
        self.archive.archive(&run).await.unwrap();
        self.archive.verify().await;
        run
    }

    /// The object's term is over since then.
    pub(crate) async fn expire(&self) {
        sqlx::query("UPDATE archive_objects SET expires_at = now() - interval '1 second'")
            .execute(self.archive.owner().pool())
            .await
            .unwrap();
    }

    pub(crate) async fn remove(&self, run: &Run) -> Result<(), Failure> {
        let unit = self.archive.units(run.new.id).await.remove(0);
        let message = expired_message(&unit, self.archive.policy);
        self.handle(CleanupMessage::Expired(message)).await
    }
}

fn refused(outcome: Result<(), Failure>, says: &str) {
    let Err(Failure::Reject(reason)) = outcome else { panic!("{outcome:?}") };
    assert!(reason.message.contains(says), "{reason:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_past_its_term_goes_with_a_receipt() {
    let scene = Scene::new().await;
    scene.logs([1, 2]).await;
    let run = scene.archive_only().await;
    refused(scene.remove(&run).await, "its term is over at");
    assert_eq!(scene.archive.objects().await.len(), 1);
    scene.expire().await;
    scene.remove(&run).await.unwrap();
    assert_eq!(scene.archive.objects().await.len(), 0);
    let receipt = scene.receipts().await.remove(0);
    assert_eq!((receipt.scope, receipt.deleted), (Scope::Object, 2));
    // Its rows are still stored, and archived no more.
    assert_eq!(scene.stored().await.len(), 2);
    assert_eq!(scene.count("SELECT count(*) FROM archived_logs").await, 0);
    scene.audited().await;
    scene.remove(&run).await.unwrap();
    assert_eq!(scene.receipts().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_and_a_lock_keep_an_object_and_nothing_is_pending() {
    let archive = Archived::stored_as(ArchiveConfig {
        archive_lock_mode: Some(LockMode::Compliance),
        archive_lock_days: Some(10),
        ..ArchiveConfig::default()
    });
    let archive = archive.await;
    let search = sinks::search::open(&SearchConfig::postgres(), &archive.database).await.unwrap();
    let scene = Scene::on(archive, search);
    scene.logs([1, 2]).await;
    let run = scene.archive_only().await;
    scene.expire().await;
    let pending = "SELECT count(*) FROM cleanups";
    // Locked: not yet.
    scene.remove(&run).await.unwrap();
    assert_eq!((scene.archive.objects().await.len(), scene.count(pending).await), (1, 0));
    let owner = scene.archive.owner();
    let mut connection = owner.pool().acquire().await.unwrap();
    holds::place(&mut connection, &acme(), hold(1, &json!({"actions": ["a.*"]}))).await.unwrap();
    scene.remove(&run).await.unwrap();
    assert_eq!((scene.archive.objects().await.len(), scene.count(pending).await), (1, 0));
    assert_eq!(scene.receipts().await.len(), 0);
    scene.audited().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_somebody_else_removed_gets_no_receipt() {
    let scene = Scene::new().await;
    scene.logs([1]).await;
    let run = scene.archive_only().await;
    scene.expire().await;
    let object = scene.archive.objects().await.remove(0);
    std::fs::remove_file(scene.archive.dir.path().join(object)).unwrap();
    refused(scene.remove(&run).await, "was not removed by us");
    assert_eq!(scene.receipts().await.len(), 0);
    // Nor where we had wanted to, but had not asked for holds yet.
    let wanted = "INSERT INTO cleanups (tenant, unit_id, scope, run_id, object)
                  SELECT tenant, unit_id, 'object', gen_random_uuid(), object FROM archive_objects";
    sqlx::query(wanted).execute(scene.archive.owner().pool()).await.unwrap();
    refused(scene.remove(&run).await, "was not removed by us");
    assert_eq!(scene.receipts().await.len(), 0);
    // Where we had, it is ours: the attempt died between the removal and its note.
    let asked = "UPDATE cleanups SET holds_at = now(), holds_in_force = 0";
    sqlx::query(asked).execute(scene.archive.owner().pool()).await.unwrap();
    scene.remove(&run).await.unwrap();
    assert_eq!(scene.receipts().await.len(), 1);
}

/// Who is past its term is named to the cleanup worker, once a day while it is there.
#[tokio::test(flavor = "multi_thread")]
async fn the_scheduler_asks_for_the_removal_of_what_is_past_its_term() {
    let scene = Scene::new().await;
    scene.logs([1]).await;
    let run = scene.archive_only().await;
    let (database, now) = (&scene.archive.database, SystemClock.now());
    assert_eq!(audit::expiry::follow(database, now).await.unwrap(), 0, "its term is not over");
    scene.expire().await;
    assert_eq!(audit::expiry::follow(database, now).await.unwrap(), 1);
    let soon = now + TimeDelta::hours(23);
    assert_eq!(audit::expiry::follow(database, soon).await.unwrap(), 0, "it was told");
    let later = now + TimeDelta::hours(25);
    assert_eq!(audit::expiry::follow(database, later).await.unwrap(), 1, "it is still there");
    let told = scene.archive.outbox("audit-cleanup").await;
    assert_eq!(told.len(), 2);
    let message: CleanupExpired = serde_json::from_value(told[0]["body"].clone()).unwrap();
    let unit = scene.archive.units(run.new.id).await.remove(0);
    assert_eq!(message, expired_message(&unit, scene.archive.policy));
    scene.handle(CleanupMessage::Expired(message)).await.unwrap();
    assert_eq!(scene.receipts().await.len(), 1);
    let much_later = now + TimeDelta::days(9);
    assert_eq!(audit::expiry::follow(database, much_later).await.unwrap(), 0, "it is gone");
    // While the store has it locked, nobody is asked in vain.
    let locked = "UPDATE archive_objects SET removed_at = NULL, expiry_told_at = NULL,
                         locked_until = now() + interval '10 days'";
    sqlx::query(locked).execute(scene.archive.owner().pool()).await.unwrap();
    assert_eq!(audit::expiry::follow(database, much_later).await.unwrap(), 0);
    let after = now + TimeDelta::days(11);
    assert_eq!(audit::expiry::follow(database, after).await.unwrap(), 1);
}

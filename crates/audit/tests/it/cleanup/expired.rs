//! Objects past their own term: removed with a receipt, unless a lock or a hold keeps them.

use audit::lifecycle::Run;
use audit::store::holds;
use contracts::audit::lifecycle::{CleanupMessage, Then};
use evidence::Codec;
use evidence::document::Scope;
use queue_core::Failure;
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
}

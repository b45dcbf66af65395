//! Deleting without an archive: only where the very version of the policy says so.

use audit::lifecycle::{Run, RunState};
use contracts::audit::lifecycle::{CleanupByPolicy, CleanupMessage, Then};
use evidence::Codec;
use queue_core::Failure;
use serde_json::json;

use super::scene::{Scene, ids};
use crate::archive::scene::acme;
use crate::retention;

impl Scene {
    /// Version 3 of the policy says that.
    pub(super) async fn policy(&self, then: Then) {
        let mut spec = retention::new(1, "old ones", &json!({})).spec;
        spec.then = then;
        let owner = self.archive.owner();
        sqlx::query("INSERT INTO policies VALUES ($1, $2, 'old ones', 3, 'active')")
            .bind(acme().as_str())
            .bind(self.archive.policy)
            .execute(owner.pool())
            .await
            .unwrap();
        sqlx::query("INSERT INTO policy_versions VALUES ($1, $2, 3, $3, now(), '{}', now())")
            .bind(acme().as_str())
            .bind(self.archive.policy)
            .bind(serde_json::to_value(&spec).unwrap())
            .execute(owner.pool())
            .await
            .unwrap();
    }

    pub(super) async fn delete(&self, run: &Run) -> Result<(), Failure> {
        for unit in self.archive.units(run.new.id).await {
            self.handle(CleanupMessage::ByPolicy(CleanupByPolicy {
                run_id: run.new.id,
                unit_id: unit.id,
                policy_id: self.archive.policy,
                policy_version: 3,
            }))
            .await?;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_says_delete_deletes_with_a_receipt_and_no_manifest() {
    let scene = Scene::new().await;
    let logs = scene.logs([1, 2, 3]).await;
    scene.policy(Then::Delete).await;
    let (run, _) = scene.archive.run(Then::Delete, Codec::Zstd).await;
    // Of the next run.
    let later = scene.logs([2]).await;
    scene.archive.erase(logs[0].key.id).await;
    scene.delete(&run).await.unwrap();
    assert_eq!((scene.stored().await, scene.found(&logs).await), (ids(&later), 1));
    let receipt = scene.receipts().await.remove(0);
    assert_eq!((receipt.manifest, receipt.deleted, receipt.already_gone), (None, 2, 1));
    scene.ended(&run, RunState::Done).await;
    scene.audited().await;
    scene.delete(&run).await.unwrap();
    assert_eq!(scene.receipts().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_word_nothing_is_deleted() {
    for says in [None, Some(Then::ArchiveAndDelete), Some(Then::Archive)] {
        let scene = Scene::new().await;
        let logs = scene.logs([1]).await;
        if let Some(says) = says {
            scene.policy(says).await;
        }
        let (run, _) = scene.archive.run(Then::Delete, Codec::Zstd).await;
        let refused = scene.delete(&run).await;
        let Err(Failure::Reject(reason)) = refused else { panic!("{refused:?}") };
        assert_eq!(reason.code.code, "cleanup-refused");
        assert_eq!(scene.stored().await, ids(&logs));
    }
}

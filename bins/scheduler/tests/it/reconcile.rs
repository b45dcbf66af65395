//! Reconciliation by the hour: a published chain that is not PostgreSQL's rings, and is over when it is
//! one again; without an archive there is nothing to compare.

use std::time::Duration;

use database::Role;
use database::sqlx::{self, PgPool};
use scheduler::SchedulerConfig;
use sinks::objects::ArchiveConfig;
use testkit::{TestDatabase, eventually};

use crate::duties::{Hands, quick, run_by};

const DEADLINE: Duration = Duration::from_secs(120);
/// The key of the signed-note package's own documentation.
const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const HEAD: &str = "proof/acme/heads/20260131T230000Z-000000000017.checkpoint";

/// Title and text of the open alert, and whether it was found to be over.
async fn alert(pool: &PgPool) -> Option<(String, String, bool)> {
    sqlx::query_as(
        "SELECT title, text, quiet_since IS NOT NULL FROM alerts
          WHERE tenant = 'acme' AND name = 'chain-broken/published' AND closed_at IS NULL",
    )
    .fetch_optional(pool)
    .await
    .expect("asks")
}

#[tokio::test]
async fn a_published_chain_that_is_another_rings_and_is_over_when_it_is_one_again() {
    let database = TestDatabase::new().await;
    let owner = database.connect(Role::Owner);
    sqlx::query(
        "INSERT INTO signing_keys (key_id, public_key, reason, created_by)
         VALUES ('PeterNeumann+c74f20a3', $1, 'first', 'test')",
    )
    .bind(KEY)
    .execute(owner.pool())
    .await
    .expect("a key");
    sqlx::query("INSERT INTO tenants (id) VALUES ('acme')")
        .execute(owner.pool())
        .await
        .expect("a tenant");
    let directory = tempfile::tempdir().expect("a directory");
    let head = directory.path().join(HEAD);
    std::fs::create_dir_all(head.parent().expect("a folder")).expect("makes it");
    std::fs::write(&head, "no head").expect("writes");
    let config = SchedulerConfig {
        archive: ArchiveConfig {
            archive_dir: Some(directory.path().to_owned()),
            ..ArchiveConfig::default()
        },
        scheduler_reconcile_secs: 1,
        ..quick(database.url())
    };
    let scheduler = run_by(config, Hands::ahead(0)).await;
    let (title, text, _) =
        eventually(DEADLINE, "it rings", async || alert(owner.pool()).await).await;
    assert_eq!(title, "The archive's chain of acme is broken");
    assert!(
        text.contains("head-unreadable") && text.contains("fleetctl audit reconcile"),
        "{text}"
    );
    std::fs::remove_file(head).expect("removes");
    eventually(DEADLINE, "it is over", async || {
        alert(owner.pool()).await.filter(|(_, _, over)| *over).map(drop)
    })
    .await;
    let status = scheduler.context.status().document();
    assert!(status["sections"]["scheduler"]["reconciled_at"].is_string(), "{status}");
    scheduler.drained().await;
}

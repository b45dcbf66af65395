//! What the reconciler's tests stand on: PostgreSQL that is restored to an earlier point, as a snapshot of
//! its tables, beside a store and a search engine that are not.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use audit::reconcile::{
    Author, Detail, Findings, Mended, Parts, ReconcileError, Reconciler, Window,
};
use chrono::TimeDelta;
use contracts::Tenant;
use database::Database;
use queue_core::SystemClock;
use sinks::objects::SharedObjects;
use sinks::search::SharedSearch;
use sqlx::AssertSqlSafe;

use crate::cleanup::scene::Scene;

/// Everything that the archive and the logs have in PostgreSQL, in an order that foreign keys allow.
const TABLES: [&str; 14] = [
    "logs",
    "log_revisions",
    "tombstones",
    "archived_logs",
    "archive_objects",
    "archive_units",
    "archive_hours",
    "retention_runs",
    "cleanups",
    "cleanup_batches",
    "outbox",
    "chain_checkpoints",
    "chain_documents",
    "chain_heads",
];

/// Keeps what the tables hold now.
pub(crate) async fn snapshot(owner: &Database) {
    for table in TABLES.into_iter().chain(["signing_keys"]) {
        let sql = format!("CREATE TABLE earlier_{table} AS TABLE {table}");
        sqlx::query(AssertSqlSafe(sql)).execute(owner.pool()).await.unwrap();
    }
}

/// The tables hold what they held then, and nothing else.
pub(crate) async fn restore(owner: &Database) {
    for table in TABLES {
        let sql = format!("DELETE FROM {table}");
        sqlx::query(AssertSqlSafe(sql)).execute(owner.pool()).await.unwrap();
    }
    sqlx::query("DELETE FROM signing_keys").execute(owner.pool()).await.unwrap();
    let keys =
        "INSERT INTO signing_keys OVERRIDING SYSTEM VALUE SELECT * FROM earlier_signing_keys";
    sqlx::query(keys).execute(owner.pool()).await.unwrap();
    for table in TABLES {
        let sql = format!("INSERT INTO {table} SELECT * FROM earlier_{table}");
        sqlx::query(AssertSqlSafe(sql)).execute(owner.pool()).await.unwrap();
    }
}

pub(crate) fn reconciler(
    database: &Database,
    owner: Option<Database>,
    objects: SharedObjects,
    search: SharedSearch,
) -> Reconciler {
    Reconciler::new(Parts {
        database: database.clone(),
        owner,
        objects: Some(objects),
        heads: None,
        search,
        clock: Arc::new(SystemClock),
        keys: Vec::new(),
    })
}

pub(crate) fn of(scene: &Scene) -> Reconciler {
    let (store, search) = (scene.archive.store.clone(), scene.search.clone());
    reconciler(&scene.archive.database, None, store, search)
}

pub(crate) fn author() -> Author {
    Author { by: "ann".into(), reason: "a restore".into() }
}

/// The hour of the scene's logs.
pub(crate) fn window(scene: &Scene) -> Window {
    let hour = scene.archive.hour;
    Window::new(hour, hour + TimeDelta::hours(1), Detail::Hours)
}

pub(crate) async fn mend(
    reconciler: &Reconciler,
    tenant: &Tenant,
) -> Result<Option<Mended>, ReconcileError> {
    reconciler.mend(tenant, &author(), &mut Findings::default(), &|_, _| ()).await
}

/// Polls it so many times and drops it then: it died between two awaits. Nothing when it did.
pub(crate) async fn dies_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

//! The cleanup worker: what a verified object of the archive holds, what a policy says to delete, and
//! objects past their own term go, each with a receipt in the tenant's chain.
//!
//! A deletion that can never be done has failed and says why; a database, search or an object store that
//! is away is waited out, at no cost to the message. It deletes nothing that a hold keeps, and archives
//! nothing.

mod config;

use std::sync::Arc;

use contracts::audit::lifecycle::{CleanupArchived, CleanupMessage, RunId};
use contracts::errors::{MALFORMED_MESSAGE, RUN_UNKNOWN};
use contracts::{ErrorCode, Tenant};
use database::{Database, PostgresAttempts, classify};
use evidence::document::ManifestRef;
use queue_core::{AttemptStore, Clock, Delivery, Failure, Probe, Reason, Worker};
use sinks::objects::SharedObjects;
use sinks::search::SharedSearch;

use super::archive::StoreProbe;
use crate::cleanup::{Cleaner, Obstacle, Survivors};
use crate::crash::{CrashPoint, reach};
use crate::lifecycle::Run;
use crate::store::{self, Large};

pub use config::CleanupWorkerConfig;

/// What the worker stands on.
pub struct Parts {
    /// On a pool under the worker's role.
    pub database: Database,
    /// The archive's store.
    pub objects: SharedObjects,
    /// The search engine.
    pub search: SharedSearch,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// What receipts say of copies elsewhere.
    pub survivors: Survivors,
}

/// Handles `CLEANUP_ARCHIVED`, `CLEANUP_BY_POLICY` and `CLEANUP_EXPIRED`.
pub struct CleanupWorker {
    cleaner: Cleaner,
    database: Database,
    probes: Vec<Arc<dyn Probe>>,
    attempts: Arc<PostgresAttempts>,
}

fn reject(code: ErrorCode, message: impl Into<String>) -> Failure {
    Failure::Reject(Reason { code, message: message.into() })
}

fn manifest(message: &CleanupArchived) -> Result<ManifestRef, Failure> {
    let sha256 = message
        .manifest_sha256
        .parse()
        .map_err(|error| reject(MALFORMED_MESSAGE, format!("manifest_sha256: {error}")))?;
    Ok(ManifestRef { sequence: message.manifest_sequence, sha256 })
}

impl CleanupWorker {
    /// A worker on those parts.
    pub fn new(parts: Parts) -> Self {
        let Parts { database, objects, search, clock, survivors } = parts;
        let probes: Vec<Arc<dyn Probe>> = vec![
            Arc::new(database.clone()),
            Arc::new(StoreProbe::of(&objects)),
            Arc::<dyn sinks::search::Search>::clone(&search),
        ];
        Self {
            attempts: Arc::new(PostgresAttempts::new(&database)),
            cleaner: Cleaner::new(&database, objects, search, clock, survivors),
            database,
            probes,
        }
    }

    async fn run(&self, tenant: &Tenant, id: RunId) -> Result<Run, Failure> {
        let asked = async {
            let mut connection = self.database.pool().acquire().await?;
            store::run_with(&mut connection, tenant, id, Large::Rules).await
        };
        let run = asked.await.map_err(|error| classify(&error).failure(error.to_string()))?;
        run.ok_or_else(|| reject(RUN_UNKNOWN, format!("there is no run {id} of tenant {tenant}")))
    }

    pub(super) fn attempt_store(&self) -> Arc<dyn AttemptStore> {
        Arc::clone(&self.attempts) as Arc<dyn AttemptStore>
    }
}

impl Worker for CleanupWorker {
    const NAME: &'static str = "cleanup-worker";
    /// Each holds the keys of a unit, 64 MiB at most, and a batch of rows.
    const CONCURRENCY: usize = 4;
    type Message = CleanupMessage;

    async fn handle(&self, delivery: Delivery<CleanupMessage>) -> Result<(), Failure> {
        let (header, progress) = (&delivery.header, || delivery.progress());
        let tenant = &header.tenant;
        let done = match &delivery.message {
            CleanupMessage::Archived(message) => {
                let (run, of) = (self.run(tenant, message.run_id).await?, manifest(message)?);
                let unit = (&run, message.unit_id);
                Box::pin(self.cleaner.archived(unit, of, header, &progress)).await
            }
            CleanupMessage::ByPolicy(message) => {
                let run = self.run(tenant, message.run_id).await?;
                Box::pin(self.cleaner.by_policy(&run, message, header, &progress)).await
            }
            CleanupMessage::Expired(message) => {
                let run = self.run(tenant, message.run_id).await?;
                Box::pin(self.cleaner.expired(&run, message, &progress)).await
            }
        };
        done.map_err(Obstacle::failure)?;
        reach(CrashPoint::BeforeSettle);
        Ok(())
    }

    fn probes(&self) -> Vec<Arc<dyn Probe>> {
        self.probes.clone()
    }
}

impl std::fmt::Debug for CleanupWorker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CleanupWorker").field("cleaner", &self.cleaner).finish_non_exhaustive()
    }
}

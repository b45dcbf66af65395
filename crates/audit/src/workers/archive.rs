//! The archive worker: units of a policy's run, the logs of a time, and single logs become objects of the
//! archive, are read back whole and enter the tenant's chain. Only then is anything told to delete.
//!
//! A unit that can never be archived has failed and says why; an object store, a database or a signing
//! key that is away is waited out, at no cost to the message. It deletes no log.

pub(super) mod config;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use contracts::audit::lifecycle::{
    ArchiveByDate, ArchiveByPolicy, ArchiveMessage, BulkArchive, RunId, Then,
};
use contracts::errors::{ARCHIVE_UNIT_FAILED, MALFORMED_MESSAGE, RUN_UNKNOWN};
use contracts::{ErrorCode, Header, Tenant};
use database::{Database, PostgresAttempts, classify};
use queue_core::{AttemptStore, Clock, Delivery, Failure, Probe, Reason, Worker};
use sinks::objects::{ArchiveConfig, SharedObjects};

use crate::archive::{Archivist, Done, Obstacle, outgoing::Cause, requests};
use crate::crash::{CrashPoint, reach};
use crate::lifecycle::{Run, RunState};
use crate::store::{self, Large};

pub use config::ArchiveWorkerConfig;

/// Units of a run that are looked up at once.
const UNITS_PAGE: i64 = 200;
/// A message that comes before its run is started waits for so long.
const NOT_YET: Duration = Duration::from_secs(30);

/// What the worker stands on.
pub struct Parts {
    /// On a pool under the worker's role.
    pub database: Database,
    /// The archive's store.
    pub objects: SharedObjects,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// How objects lie in the store.
    pub stored_as: ArchiveConfig,
    /// Where larger objects wait before they are stored.
    pub spool: PathBuf,
}

/// Handles `ARCHIVE_BY_POLICY`, `ARCHIVE_BY_DATE` and `BULK_ARCHIVE`.
#[derive(Clone)]
pub struct ArchiveWorker {
    archivist: Archivist,
    database: Database,
    clock: Arc<dyn Clock>,
    probes: Vec<Arc<dyn Probe>>,
    attempts: Arc<PostgresAttempts>,
}

fn reject(code: ErrorCode, message: impl Into<String>) -> Failure {
    Failure::Reject(Reason { code, message: message.into() })
}

fn database(error: &sqlx::Error) -> Failure {
    classify(error).failure(error.to_string())
}

impl ArchiveWorker {
    /// A worker on those parts.
    pub fn new(parts: Parts) -> Self {
        let Parts { database, objects, clock, stored_as, spool } = parts;
        let probes: Vec<Arc<dyn Probe>> =
            vec![Arc::new(database.clone()), Arc::new(StoreProbe::of(&objects))];
        Self {
            attempts: Arc::new(PostgresAttempts::new(&database)),
            archivist: Archivist::new(&database, objects, Arc::clone(&clock), stored_as, spool),
            database,
            clock,
            probes,
        }
    }

    async fn run(&self, tenant: &Tenant, id: RunId, large: Large) -> Result<Run, Failure> {
        let mut connection =
            self.database.pool().acquire().await.map_err(|error| database(&error))?;
        let run = store::run_with(&mut connection, tenant, id, large)
            .await
            .map_err(|error| database(&error))?;
        run.ok_or_else(|| reject(RUN_UNKNOWN, format!("there is no run {id} of tenant {tenant}")))
    }

    async fn by_policy(
        &self,
        header: &Header,
        message: &ArchiveByPolicy,
        progress: &(dyn Fn() + Sync),
    ) -> Result<(), Failure> {
        let run = self.run(&header.tenant, message.run_id, Large::Rules).await?;
        if matches!(run.state, RunState::Planning | RunState::Braked) {
            return Err(Failure::Snooze(NOT_YET));
        }
        let done = self.archivist.archive(&run, message.unit_id, header, progress).await;
        match done.map_err(Obstacle::failure)? {
            Done::Sealed | Done::Empty | Done::Over => Ok(()),
            Done::Busy(left) => Err(Failure::Snooze(left)),
            Done::Missing => {
                let text = format!("run {} has no unit {}", message.run_id, message.unit_id);
                Err(reject(RUN_UNKNOWN, text))
            }
        }
    }

    /// Plans a request's run where that is not done, then archives its units one after the other.
    async fn by_request(
        &self,
        header: &Header,
        id: RunId,
        then: Then,
        progress: &(dyn Fn() + Sync),
    ) -> Result<(), Failure> {
        let run = self.run(&header.tenant, id, Large::Both).await?;
        if then == Then::Delete || run.new.then != then {
            let text =
                format!("run {id} is not to be {then:?}; a request deletes what was archived");
            return Err(reject(MALFORMED_MESSAGE, text));
        }
        let run = match run.state {
            RunState::Planning => {
                let cause = Cause::of(&run, header);
                let planned =
                    requests::plan(&self.database, &self.clock, &run, &cause, progress).await;
                if let Err(obstacle) = &planned
                    && obstacle.is_final()
                {
                    self.give_up(&header.tenant, id, &obstacle.to_string()).await?;
                }
                planned.map_err(Obstacle::failure)?;
                self.run(&header.tenant, id, Large::Rules).await?
            }
            RunState::Braked => return Err(Failure::Snooze(NOT_YET)),
            _ => run,
        };
        self.units(header, &run, progress).await
    }

    async fn units(
        &self,
        header: &Header,
        run: &Run,
        progress: &(dyn Fn() + Sync),
    ) -> Result<(), Failure> {
        let (mut after, mut busy, mut failed) = (0, None, None);
        loop {
            let units = {
                let mut connection =
                    self.database.pool().acquire().await.map_err(|error| database(&error))?;
                let (tenant, id) = (&run.new.tenant, run.new.id);
                store::units_of(&mut connection, tenant, id, after, UNITS_PAGE).await
            };
            let units = units.map_err(|error| database(&error))?;
            let Some(last) = units.last() else { break };
            after = last.number;
            for unit in units.iter().filter(|unit| !unit.state.ended()) {
                match self.archivist.archive(run, unit.id, header, progress).await {
                    Ok(Done::Busy(left)) => busy = busy.max(Some(left)),
                    Ok(_) => {}
                    // The unit has failed; the others are none the worse for it.
                    Err(obstacle) if obstacle.is_final() => failed = Some(obstacle.to_string()),
                    Err(obstacle) => return Err(obstacle.failure()),
                }
            }
        }
        match (busy, failed) {
            (Some(left), _) => Err(Failure::Snooze(left)),
            (None, Some(why)) => Err(reject(ARCHIVE_UNIT_FAILED, why)),
            (None, None) => Ok(()),
        }
    }

    /// Removes objects that units have written and do without; how many. A unit does it at once: this is
    /// for what was down then.
    pub async fn sweep(&self) -> Result<u64, Failure> {
        self.archivist.sweep().await.map_err(Obstacle::failure)
    }

    /// Writes objects again that hold erased logs; how many.
    pub async fn supersede(&self) -> Result<u64, Failure> {
        self.archivist.supersede().await.map_err(Obstacle::failure)
    }

    /// A request that cannot be planned has failed, and says why.
    async fn give_up(&self, tenant: &Tenant, id: RunId, why: &str) -> Result<(), Failure> {
        let stop = async {
            let mut transaction = self.database.pool().begin().await?;
            store::stop_run(&mut transaction, tenant, id, RunState::Failed, why).await?;
            transaction.commit().await
        };
        stop.await.map_err(|error| database(&error))
    }
}

impl Worker for ArchiveWorker {
    const NAME: &'static str = "archive-worker";
    /// Each holds some 40 MiB at most: chunks of rows, blocks, a part.
    const CONCURRENCY: usize = 8;
    type Message = ArchiveMessage;

    async fn handle(&self, delivery: Delivery<ArchiveMessage>) -> Result<(), Failure> {
        let (header, progress) = (&delivery.header, || delivery.progress());
        match &delivery.message {
            ArchiveMessage::ByPolicy(message) => {
                Box::pin(self.by_policy(header, message, &progress)).await
            }
            ArchiveMessage::ByDate(ArchiveByDate { run_id, then, .. })
            | ArchiveMessage::Bulk(BulkArchive { run_id, then, .. }) => {
                Box::pin(self.by_request(header, *run_id, *then, &progress)).await
            }
        }?;
        reach(CrashPoint::BeforeSettle);
        Ok(())
    }

    fn probes(&self) -> Vec<Arc<dyn Probe>> {
        self.probes.clone()
    }
}

impl ArchiveWorker {
    pub(super) fn attempt_store(&self) -> Arc<dyn AttemptStore> {
        Arc::clone(&self.attempts) as Arc<dyn AttemptStore>
    }
}

impl std::fmt::Debug for ArchiveWorker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ArchiveWorker").field("archivist", &self.archivist).finish_non_exhaustive()
    }
}

/// The store as a probe of its own: a shared store is none by itself.
#[derive(Debug)]
pub(super) struct StoreProbe(SharedObjects);

impl StoreProbe {
    pub(super) fn of(objects: &SharedObjects) -> Self {
        Self(SharedObjects::clone(objects))
    }
}

#[async_trait::async_trait]
impl Probe for StoreProbe {
    fn name(&self) -> &'static str {
        "objects"
    }

    async fn probe(&self) -> Result<(), String> {
        self.0.probe().await
    }
}

//! Deleting what a policy or a request says, with a receipt. The steps of a unit, and why a death after
//! any of them does no harm:
//!
//! | Step | A death after it |
//! |---|---|
//! | the manifest is sealed and in the store; the object is read whole and is what it says | nothing happened; done again |
//! | per batch one transaction: holds, tombstones, rows, marks, counters, the pending receipt's ids and leaves | the batch is all there or not at all; the next attempt goes on after its last id |
//! | search forgets the deleted logs | forgetting again changes nothing |
//! | search is counted to none of them, and that is noted | counted again until it is noted |
//! | the list of ids is stored where there is none of its name | the same list is found there |
//! | one transaction: receipt into the chain, unit, run, notification | all of it or none; the list names the same ids |
//!
//! So there is no receipt without a deletion, since it is made from what the deleting transactions left; and
//! no deletion without a receipt, since those leave it pending, also where the unit fails halfway. A
//! log is deleted only while its row is, byte for byte, what the object holds; only if no hold that was
//! placed before keeps it; and never comes back, since its tombstone outlives every redelivery.
//!
//! It writes no archive, and takes nobody's word for what one holds.

mod batch;
mod end;
mod events;
mod expired;
mod listing;
mod search;
mod survivors;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use contracts::audit::lifecycle::{CleanupByPolicy, RunId, Then, UnitId};
use contracts::errors::{CLEANUP_REFUSED, CLEANUP_UNIT_FAILED, RUN_UNKNOWN};
use contracts::{ErrorCode, Header, Tenant};
use database::{Database, DbErrorClass, classify};
use evidence::document::{ManifestRef, Scope};
use queue_core::{Clock, Failure, Reason};
use sinks::SinkError;
use sinks::objects::SharedObjects;
use sinks::search::SharedSearch;

use self::events::{UnitEnded, UnitFailed};
use crate::archive::AppendError;
use crate::archive::outgoing::{self, Cause, PutError};
use crate::crash::{CrashPoint, reach};
use crate::lifecycle::{Basis, Run, RunState, Unit, UnitState, Work};
use crate::store::{self, UnitError};

pub use survivors::{InvalidSurvivor, Survivors};

/// A manifest that is not in the store yet is looked for again after this.
const UNSEALED: Duration = Duration::from_secs(10);
/// A unit that is not so far is looked for again after this.
const NOT_YET: Duration = Duration::from_secs(30);

/// What stands in a deletion's way.
#[derive(Debug)]
pub(crate) enum Obstacle {
    /// The object store, or search.
    Sink(SinkError),
    /// PostgreSQL.
    Database(sqlx::Error),
    /// The tenant's chain.
    Chain(AppendError),
    /// Something has to happen first.
    NotYet(Duration),
    /// It will never succeed.
    Poison(ErrorCode, String),
}

impl From<SinkError> for Obstacle {
    fn from(error: SinkError) -> Self {
        Self::Sink(error)
    }
}

impl From<sqlx::Error> for Obstacle {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<AppendError> for Obstacle {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Database(error) => Self::Database(error),
            other => Self::Chain(other),
        }
    }
}

impl From<PutError> for Obstacle {
    fn from(error: PutError) -> Self {
        match error {
            PutError::Database(error) => Self::Database(error),
            other => wrong(other.to_string()),
        }
    }
}

impl From<UnitError> for Obstacle {
    fn from(error: UnitError) -> Self {
        match error {
            UnitError::Database(error) => Self::Database(error),
            // It moved without us: the next attempt sees where it stands.
            UnitError::Lost(_) | UnitError::State { .. } => Self::NotYet(NOT_YET),
        }
    }
}

/// The unit cannot be deleted as it stands.
fn wrong(message: impl Into<String>) -> Obstacle {
    Obstacle::Poison(CLEANUP_UNIT_FAILED, message.into())
}

/// The message asks for what nobody may have.
fn refused(message: impl Into<String>) -> Obstacle {
    Obstacle::Poison(CLEANUP_REFUSED, message.into())
}

impl Obstacle {
    /// Why it would be so again however often it is tried; nothing where it may pass. As the answer to
    /// it: a message that is rejected comes no more, and its unit must not stay open for ever.
    fn final_reason(&self) -> Option<String> {
        match self {
            Self::Poison(_, why) => Some(why.clone()),
            Self::Database(error) => {
                let class = classify(error);
                let ends = matches!(class, DbErrorClass::Data | DbErrorClass::Fault);
                ends.then(|| error.to_string())
            }
            _ => None,
        }
    }

    /// What a handler answers to it.
    pub(crate) fn failure(self) -> Failure {
        match self {
            Self::Sink(error) => error.into(),
            Self::Database(error) => classify(&error).failure(error.to_string()),
            Self::Chain(error) => error.failure(),
            Self::NotYet(pause) => Failure::Snooze(pause),
            Self::Poison(code, message) => Failure::Reject(Reason { code, message }),
        }
    }
}

/// What became of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// It is gone, and the receipt is in the chain.
    Deleted,
    /// All of it stays, or none of it was there.
    Spared,
    /// It had been done before.
    Over,
}

/// Deletes units of rows, and objects of the archive.
#[derive(Clone)]
pub struct Cleaner {
    database: Database,
    objects: SharedObjects,
    search: SharedSearch,
    clock: Arc<dyn Clock>,
    survivors: Survivors,
}

impl std::fmt::Debug for Cleaner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cleaner").field("objects", &self.objects).finish_non_exhaustive()
    }
}

/// A unit in hand.
struct Job<'a> {
    run: &'a Run,
    unit: Unit,
    /// Whose object holds its logs; none where they go without one.
    manifest: Option<ManifestRef>,
    cause: Cause,
    progress: &'a (dyn Fn() + Sync),
}

impl Job<'_> {
    fn tenant(&self) -> &Tenant {
        &self.unit.tenant
    }
}

impl Cleaner {
    /// On a pool under the worker's role. `survivors` is what every receipt says of other copies.
    pub fn new(
        database: &Database,
        objects: SharedObjects,
        search: SharedSearch,
        clock: Arc<dyn Clock>,
        survivors: Survivors,
    ) -> Self {
        Self { database: database.clone(), objects, search, clock, survivors }
    }

    /// The time, as documents and PostgreSQL write it.
    fn now(&self) -> DateTime<Utc> {
        self.clock.now().trunc_subsecs(6)
    }

    /// Deletes the logs that the object of a unit holds and that are due by the unit's run.
    pub(crate) async fn archived(
        &self,
        (run, id): (&Run, UnitId),
        manifest: ManifestRef,
        cause: &Header,
        progress: &(dyn Fn() + Sync),
    ) -> Result<Done, Obstacle> {
        let unit = self.unit(run, id).await?;
        if unit.work == Work::Delete || run.new.then == Then::Archive {
            return Err(refused(format!("unit {id} is not to be deleted from an archive")));
        }
        match unit.state {
            UnitState::Planned | UnitState::Written => return Err(Obstacle::NotYet(NOT_YET)),
            _ if unit.manifest == Some(manifest) => {}
            _ => {
                let text = format!(
                    "unit {id}: its manifest is not number {} of that hash",
                    manifest.sequence
                );
                return Err(refused(text));
            }
        }
        let cause = Cause::of(run, cause);
        self.carry(Job { run, unit, manifest: Some(manifest), cause, progress }).await
    }

    /// Deletes the logs of a unit without an archive, where the very version of the policy says so.
    pub(crate) async fn by_policy(
        &self,
        run: &Run,
        message: &CleanupByPolicy,
        cause: &Header,
        progress: &(dyn Fn() + Sync),
    ) -> Result<Done, Obstacle> {
        let unit = self.unit(run, message.unit_id).await?;
        self.says_delete(run, message).await?;
        if unit.work != Work::Delete {
            let text = format!("unit {} is to be archived before it is deleted", unit.id);
            return Err(refused(text));
        }
        if matches!(run.state, RunState::Planning | RunState::Braked) {
            return Err(Obstacle::NotYet(NOT_YET));
        }
        let cause = Cause::of(run, cause);
        self.carry(Job { run, unit, manifest: None, cause, progress }).await
    }

    /// Run, message and policy agree, and the policy deletes in so many words.
    async fn says_delete(&self, run: &Run, message: &CleanupByPolicy) -> Result<(), Obstacle> {
        let (id, number) = (message.policy_id, message.policy_version);
        let named = matches!(run.new.basis, Basis::Policy { id: of, version, .. }
            if of == id && version == number);
        let mut connection = self.database.pool().acquire().await?;
        let tenant = &run.new.tenant;
        let policy = store::policies::version(&mut connection, tenant, id, number).await?;
        let says = policy.is_some_and(|policy| policy.spec.then == Then::Delete);
        if named && says && run.new.then == Then::Delete {
            return Ok(());
        }
        Err(refused(format!(
            "run {}: version {number} of policy {id} does not say `delete`; without an archive nothing is deleted",
            run.new.id
        )))
    }

    async fn unit(&self, run: &Run, id: UnitId) -> Result<Unit, Obstacle> {
        let mut connection = self.database.pool().acquire().await?;
        let unit = store::unit(&mut connection, &run.new.tenant, id).await?;
        unit.filter(|unit| unit.run_id == run.new.id).ok_or_else(|| unknown(run.new.id, id))
    }

    async fn carry(&self, job: Job<'_>) -> Result<Done, Obstacle> {
        if job.unit.state.ended() {
            return Ok(Done::Over);
        }
        let begun = matches!(job.unit.state, UnitState::Deleting);
        if !begun && !matches!(job.run.state, RunState::Running) {
            return self.leave(&job).await;
        }
        let known = self.known(&job).await?;
        if !known.as_ref().is_some_and(|cleanup| cleanup.rows_done)
            && let Err(obstacle) = self.delete_rows(&job).await
        {
            let Some(why) = obstacle.final_reason() else { return Err(obstacle) };
            UnitFailed { unit: job.unit.id, why: &why }.emit();
            self.stop(&job, &why).await?;
            self.finish(&job).await?;
            return Err(obstacle);
        }
        reach(CrashPoint::AfterRowsDeleted);
        let done = self.finish(&job).await?;
        UnitEnded { done }.emit();
        Ok(done)
    }

    async fn known(&self, job: &Job<'_>) -> Result<Option<store::Cleanup>, Obstacle> {
        let mut connection = self.database.pool().acquire().await?;
        let (tenant, unit) = (job.tenant(), job.unit.id);
        Ok(store::cleanup(&mut connection, tenant, (unit, Scope::Rows, "")).await?)
    }

    /// The run was stopped before anything of the unit was deleted: its rows stay.
    async fn leave(&self, job: &Job<'_>) -> Result<Done, Obstacle> {
        if !job.run.state.ended() {
            return Err(Obstacle::NotYet(NOT_YET));
        }
        self.mark(job).await?;
        let mut transaction = self.database.pool().begin().await?;
        let moved = store::keep_unit(&mut transaction, job.tenant(), job.unit.id).await?;
        outgoing::tell(&mut transaction, &job.cause, moved.run.as_ref(), self.now()).await?;
        transaction.commit().await?;
        Ok(Done::Spared)
    }

    /// The archive holds the rows that stay: no later run archives them again. Where the object cannot be
    /// read they are archived once more, which does no harm.
    async fn mark(&self, job: &Job<'_>) -> Result<(), Obstacle> {
        if job.unit.state != UnitState::Sealed || job.unit.work != Work::Archive {
            return Ok(());
        }
        let listing = match self.list(job).await {
            Ok(listing) => listing,
            Err(Obstacle::Poison(_, why)) => {
                tracing::warn!(unit = %job.unit.id, why, "what its object holds is not known");
                return Ok(());
            }
            Err(obstacle) => return Err(obstacle),
        };
        let mut left = listing.entries.as_slice();
        while !left.is_empty() {
            let (now, later) = left.split_at(listing::batch(left));
            self.mark_batch(job, now).await?;
            (job.progress)();
            left = later;
        }
        Ok(())
    }

    async fn mark_batch(&self, job: &Job<'_>, entries: &[listing::Entry]) -> Result<(), Obstacle> {
        let (tenant, class) = (job.tenant(), job.unit.range.class);
        let keys: Vec<_> = entries.iter().map(|entry| (entry.recorded_at, entry.id)).collect();
        let mut transaction = self.database.pool().begin().await?;
        let rows = store::cleanup::rows_of(&mut transaction, tenant, class, &keys).await?;
        let stored: Vec<_> = rows.iter().map(|row| (row.recorded_at, row.id)).collect();
        store::mark_archived(&mut transaction, tenant, job.unit.id, &stored).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// No further row goes. What was deleted before still gets its receipt.
    async fn stop(&self, job: &Job<'_>, why: &str) -> Result<(), Obstacle> {
        let (tenant, unit) = (job.tenant(), job.unit.id);
        let mut transaction = self.database.pool().begin().await?;
        let key = (unit, Scope::Rows, "");
        store::cleanup::begin_cleanup(&mut transaction, tenant, key, job.run.new.id).await?;
        store::cleanup::stop_rows(&mut transaction, tenant, unit, Some(why)).await?;
        transaction.commit().await?;
        Ok(())
    }
}

fn unknown(run: RunId, unit: UnitId) -> Obstacle {
    Obstacle::Poison(RUN_UNKNOWN, format!("run {run} has no unit {unit}"))
}

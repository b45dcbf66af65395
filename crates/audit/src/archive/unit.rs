//! One unit from rows to a sealed object. Each step leaves something that the next attempt goes on
//! from, whoever makes it: the claim, the part number, the upload, the object, the manifest. What died
//! in between is done again or found done; an object is counted when it was read back whole, and once.

pub(super) mod events;
mod seal;
mod write;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use contracts::Header;
use contracts::audit::lifecycle::UnitId;
use contracts::errors::{ARCHIVE_UNIT_FAILED, INTERNAL};
use database::{Database, DbErrorClass, classify};
use queue_core::{Clock, Failure, Reason, Trouble};
use serde_json::Value;
use sinks::SinkError;
use sinks::objects::{ArchiveConfig, SharedObjects};
use uuid::Uuid;

use self::events::{UnitEnded, UnitFailed, WrittenAgain};
use super::chain::AppendError;
use super::discard;
use super::outgoing::{self, Cause, PutError};
use super::pack::PackError;
use crate::crash::{CrashPoint, reach};
use crate::lifecycle::{Run, RunState, Unit, UnitState, Work};
use crate::store::{self, Claim, Claimed, UnitError};

/// Seconds that a unit is claimed for; renewed with every chunk, part and stretch that is read.
pub(super) const CLAIM_SECS: f64 = 60.0;
/// Objects that turn out not to be what was written, in a row.
const WRONG_MAX: u32 = 3;

/// What stands in a unit's way.
#[derive(Debug)]
pub(crate) enum Obstacle {
    /// The object store.
    Store(SinkError),
    /// PostgreSQL.
    Database(sqlx::Error),
    /// The disk that larger objects wait on.
    Spool(String),
    /// The tenant's chain.
    Chain(AppendError),
    /// Another worker has the unit by now.
    Lost,
    /// It will never succeed: the unit has failed.
    Poison(String),
}

impl From<SinkError> for Obstacle {
    fn from(error: SinkError) -> Self {
        Self::Store(error)
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
            AppendError::TooLarge(_) => Self::Poison(error.to_string()),
            other => Self::Chain(other),
        }
    }
}

impl From<PutError> for Obstacle {
    fn from(error: PutError) -> Self {
        match error {
            PutError::Database(error) => Self::Database(error),
            other => Self::Poison(other.to_string()),
        }
    }
}

impl From<PackError> for Obstacle {
    fn from(error: PackError) -> Self {
        match error {
            PackError::Line(text) => Self::Poison(text),
            PackError::Spool(_) | PackError::Broken(_) => Self::Spool(error.to_string()),
        }
    }
}

impl From<UnitError> for Obstacle {
    fn from(error: UnitError) -> Self {
        match error {
            UnitError::Database(error) => Self::Database(error),
            // It moved without us: whoever moved it knows more.
            UnitError::Lost(_) | UnitError::State { .. } => Self::Lost,
        }
    }
}

impl Obstacle {
    /// What a handler answers to it.
    pub(crate) fn failure(self) -> Failure {
        match self {
            Self::Store(error) => error.into(),
            Self::Database(error) => classify(&error).failure(error.to_string()),
            Self::Spool(text) => Trouble::Unavailable.failure(INTERNAL, text, None),
            Self::Chain(error) => error.failure(),
            Self::Lost => Failure::Snooze(Duration::from_secs_f64(CLAIM_SECS)),
            Self::Poison(message) => Failure::Reject(Reason { code: ARCHIVE_UNIT_FAILED, message }),
        }
    }

    /// Whether it would be so again, however often it is tried.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Poison(_) => true,
            // What the handler's answer to it says: a message that is rejected comes no more, and its
            // unit must not stay open for ever.
            Self::Database(error) => {
                matches!(classify(error), DbErrorClass::Data | DbErrorClass::Fault)
            }
            _ => false,
        }
    }
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Database(error) => error.fmt(f),
            Self::Spool(text) | Self::Poison(text) => f.write_str(text),
            Self::Chain(error) => error.fmt(f),
            Self::Lost => f.write_str("the unit is in other hands"),
        }
    }
}

/// What became of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// Its object is in the chain.
    Sealed,
    /// Nothing of it was there any more.
    Empty,
    /// It had been done before, or its run was stopped.
    Over,
    /// Another worker has it for at most so long.
    Busy(Duration),
    /// There is no such unit to be archived.
    Missing,
}

/// Writes units into the archive.
#[derive(Clone)]
pub struct Archivist {
    pub(super) database: Database,
    pub(super) objects: SharedObjects,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) stored_as: ArchiveConfig,
    pub(super) spool: PathBuf,
}

impl std::fmt::Debug for Archivist {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archivist").field("objects", &self.objects).finish_non_exhaustive()
    }
}

/// A unit in hand, with what every step of it needs.
pub(super) struct Hand<'a> {
    pub(super) database: &'a Database,
    pub(super) objects: &'a SharedObjects,
    pub(super) clock: &'a Arc<dyn Clock>,
    pub(super) claim: &'a Claim,
    pub(super) cause: &'a Cause,
    progress: &'a (dyn Fn() + Sync),
}

impl Hand<'_> {
    /// Says that the work goes on, and keeps the claim.
    pub(super) async fn beat(&self) -> Result<(), Obstacle> {
        (self.progress)();
        let mut connection = self.database.pool().acquire().await?;
        Ok(store::renew_claim(&mut connection, self.claim, CLAIM_SECS).await?)
    }

    pub(super) async fn note_upload(&self, upload: Option<&Value>) -> Result<(), Obstacle> {
        let mut connection = self.database.pool().acquire().await?;
        Ok(store::note_upload(&mut connection, self.claim, upload).await?)
    }
}

impl Archivist {
    /// On a pool under the worker's role and a store; larger objects wait in `spool` before they are
    /// stored.
    pub fn new(
        database: &Database,
        objects: SharedObjects,
        clock: Arc<dyn Clock>,
        stored_as: ArchiveConfig,
        spool: PathBuf,
    ) -> Self {
        Self { database: database.clone(), objects, clock, stored_as, spool }
    }

    /// Takes one unit to its manifest, or finds that it is there. `progress` is called as it goes.
    pub(crate) async fn archive(
        &self,
        run: &Run,
        id: UnitId,
        cause: &Header,
        progress: &(dyn Fn() + Sync),
    ) -> Result<Done, Obstacle> {
        let tenant = run.new.tenant.clone();
        let claim = Claim { tenant, unit: id, token: Uuid::new_v4() };
        let mut connection = self.database.pool().acquire().await?;
        let claimed = store::claim_unit(&mut connection, &claim, CLAIM_SECS).await?;
        drop(connection);
        let unit = match claimed {
            Claimed::Ours(unit) if unit.work == Work::Archive && unit.run_id == run.new.id => *unit,
            Claimed::Busy(left) => return Ok(Done::Busy(Duration::from_secs_f64(left + 1.0))),
            Claimed::Over(_) => return Ok(Done::Over),
            Claimed::Ours(_) | Claimed::Missing => return Ok(Done::Missing),
        };
        let cause = Cause::of(run, cause);
        let (database, objects, clock) = (&self.database, &self.objects, &self.clock);
        let hand = Hand { database, objects, clock, claim: &claim, cause: &cause, progress };
        reach(CrashPoint::AfterClaim);
        let outcome = match run.state {
            RunState::Running => self.carry(&hand, run, unit).await,
            _ => self.leave(&hand).await,
        };
        match &outcome {
            Ok(done) => UnitEnded { done: *done }.emit(),
            Err(obstacle) if obstacle.is_final() => {
                self.fail(&hand, &obstacle.to_string()).await?;
            }
            Err(Obstacle::Lost) => {}
            Err(_) => self.give_back(&claim).await,
        }
        outcome
    }

    /// Removes what units have written and do without, where that was not done at once; how many objects.
    pub(crate) async fn sweep(&self) -> Result<u64, Obstacle> {
        discard::sweep(&self.database, &self.objects, None, self.clock.now()).await
    }

    async fn carry(&self, hand: &Hand<'_>, run: &Run, unit: Unit) -> Result<Done, Obstacle> {
        let (mut unit, mut wrong) = (unit, 0);
        loop {
            if unit.state == UnitState::Planned {
                match self.write(hand, run, &unit).await? {
                    Some(written) => unit = written,
                    None => return Ok(Done::Empty),
                }
            }
            match self.seal(hand, run, &unit).await? {
                None => return Ok(Done::Sealed),
                Some(why) => {
                    WrittenAgain { unit: unit.id, why: &why }.emit();
                    wrong += 1;
                    if wrong >= WRONG_MAX {
                        let text = format!("{wrong} objects in a row were not as written: {why}");
                        return Err(Obstacle::Poison(text));
                    }
                    unit = self.again(hand).await?;
                }
            }
        }
    }

    /// The unit does without its object, which is discarded: it is planned again, under another name.
    async fn again(&self, hand: &Hand<'_>) -> Result<Unit, Obstacle> {
        let mut transaction = self.database.pool().begin().await?;
        store::unwrite_unit(&mut transaction, hand.claim).await?;
        let (tenant, id) = (&hand.claim.tenant, hand.claim.unit);
        let unit = store::unit(&mut transaction, tenant, id).await?;
        transaction.commit().await?;
        self.discard(hand).await;
        unit.ok_or(Obstacle::Lost)
    }

    /// The run was stopped: the unit's rows stay, and no object that nobody knows of is left.
    async fn leave(&self, hand: &Hand<'_>) -> Result<Done, Obstacle> {
        let mut transaction = self.database.pool().begin().await?;
        let (tenant, id) = (&hand.claim.tenant, hand.claim.unit);
        let moved = store::keep_unit(&mut transaction, tenant, id).await?;
        outgoing::tell(&mut transaction, hand.cause, moved.run.as_ref(), hand.clock.now()).await?;
        transaction.commit().await?;
        self.discard(hand).await;
        Ok(Done::Over)
    }

    async fn fail(&self, hand: &Hand<'_>, why: &str) -> Result<(), Obstacle> {
        UnitFailed { unit: hand.claim.unit, why }.emit();
        let mut transaction = self.database.pool().begin().await?;
        let (tenant, id) = (&hand.claim.tenant, hand.claim.unit);
        let moved = store::fail_unit(&mut transaction, tenant, id, why).await?;
        outgoing::tell(&mut transaction, hand.cause, moved.run.as_ref(), hand.clock.now()).await?;
        transaction.commit().await?;
        self.discard(hand).await;
        Ok(())
    }

    /// So that the next attempt need not wait for the claim to end; where this fails, it waits.
    async fn give_back(&self, claim: &Claim) {
        if let Ok(mut connection) = self.database.pool().acquire().await
            && let Err(error) = store::release_claim(&mut connection, claim).await
        {
            tracing::debug!(%error, "a claim was not given back; it ends by itself");
        }
    }
}

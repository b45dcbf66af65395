//! The scheduler's duty towards units that stand still: the message that would bring one on is lost, or
//! died before its cause was mended. It is put into the outbox once more, in one transaction with the note
//! that it was, each unit's at most once in [`IDLE`] and a bounded number in a round. Where the first
//! message only waits for its turn, handlers meet the unit a second time, which changes nothing.
//!
//! It does no unit's work and ends none: whoever handles the message looks at unit and run once more.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use contracts::Tenant;
use contracts::audit::Requester;
use contracts::audit::lifecycle::{
    ArchiveByDate, ArchiveByPolicy, ArchiveMessage, BulkArchive, CleanupByPolicy, CleanupMessage,
    RunId,
};
use database::Database;
use sqlx::PgConnection;

use crate::archive::outgoing::{self, Cause, PutError};
use crate::lifecycle::request::Request;
use crate::lifecycle::{Basis, Run, Unit, UnitState, Work};
use crate::store::{self, Large};

/// A unit stands still when nothing happened to it for so long; a message may wait for its turn as well.
pub const IDLE: Duration = Duration::from_secs(3_600);
/// Units of one round at most.
pub const ROUND_MAX: i64 = 500;
/// Units of one transaction.
const PAGE: i64 = 50;

/// What a round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attended {
    /// Units that stood still.
    pub units: u64,
    /// Of them, those that no message can be made for; the log says why.
    pub failed: u64,
    /// The round was full: there may be more at once.
    pub more: bool,
}

/// One round. Needs the worker's role.
pub async fn attend(database: &Database, now: DateTime<Utc>) -> Result<Attended, PutError> {
    let now = now.trunc_subsecs(6);
    let mut attended = Attended::default();
    for _ in 0..ROUND_MAX / PAGE {
        let (units, failed) = attend_page(database, now).await?;
        attended.units += units;
        attended.failed += failed;
        if units < PAGE.cast_unsigned() {
            return Ok(attended);
        }
    }
    Ok(Attended { more: true, ..attended })
}

/// Answers how many units there were, and how many of them cannot be told.
async fn attend_page(database: &Database, now: DateTime<Utc>) -> Result<(u64, u64), PutError> {
    let mut transaction = database.pool().begin().await?;
    let units = store::attend_units(&mut transaction, IDLE.as_secs_f64(), PAGE).await?;
    let (count, mut failed) = (units.len() as u64, 0);
    let mut page = Page::default();
    for unit in units {
        let told = match unit {
            Ok(unit) => page.tell(&mut transaction, &unit, now).await,
            Err(error) => Err(error.into()),
        };
        match told {
            Ok(()) => {}
            Err(error) if of_the_unit(&error) => {
                tracing::error!(%error, "a unit stands still, and no message can be made for it");
                failed += 1;
            }
            Err(error) => return Err(error),
        }
    }
    transaction.commit().await?;
    Ok((count, failed))
}

/// The unit's own trouble, or its run's, and no other unit's: the transaction is as it was.
fn of_the_unit(error: &PutError) -> bool {
    use sqlx::Error::{ColumnDecode, Decode, Encode, RowNotFound};
    match error {
        PutError::Unwritable(_) | PutError::TooLarge(_) => true,
        PutError::Database(error) => {
            matches!(error, ColumnDecode { .. } | Decode(_) | Encode(_) | RowNotFound)
        }
    }
}

/// What units of one transaction have in common.
#[derive(Default)]
struct Page {
    runs: BTreeMap<(Tenant, RunId), Run>,
    /// Requests whose message was put: it is about all of a run's units.
    asked: BTreeSet<(Tenant, RunId)>,
}

impl Page {
    async fn tell(
        &mut self,
        transaction: &mut PgConnection,
        unit: &Unit,
        now: DateTime<Utc>,
    ) -> Result<(), PutError> {
        let key = (unit.tenant.clone(), unit.run_id);
        let run: &Run = match self.runs.entry(key.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let (tenant, id) = (&unit.tenant, unit.run_id);
                let run = store::run_with(transaction, tenant, id, Large::Neither).await?;
                place.insert(run.ok_or(sqlx::Error::RowNotFound)?)
            }
        };
        let archived = !matches!(unit.state, UnitState::Planned | UnitState::Written);
        let cause = outgoing::begin(&unit.tenant, &run.new.correlation_id, now);
        match (&run.new.basis, unit.work) {
            (Basis::Request(request), Work::Archive) if !archived => {
                if self.asked.insert(key) {
                    let message = asked(run, request)?;
                    outgoing::put(transaction, &cause, &message, now).await?;
                }
                Ok(())
            }
            _ => tell(transaction, &cause, (run, unit), now).await,
        }
    }
}

/// The message that brings a unit on from where it stands: to be archived, to be deleted, or to be deleted
/// by what an object of the archive holds of it.
pub(crate) async fn tell(
    transaction: &mut PgConnection,
    cause: &Cause,
    (run, unit): (&Run, &Unit),
    now: DateTime<Utc>,
) -> Result<(), PutError> {
    let (run_id, unit_id) = (run.new.id, unit.id);
    match (unit.work, &run.new.basis, unit.manifest) {
        (Work::Archive | Work::Again, _, Some(manifest)) => {
            outgoing::clean_up(transaction, cause, unit, manifest, now).await
        }
        (Work::Archive, Basis::Policy { id, version, .. }, None) => {
            let (policy_id, policy_version) = (*id, *version);
            let by = ArchiveByPolicy { run_id, unit_id, policy_id, policy_version };
            outgoing::put(transaction, cause, &ArchiveMessage::ByPolicy(by), now).await
        }
        (Work::Delete, Basis::Policy { id, version, .. }, _) => {
            let (policy_id, policy_version) = (*id, *version);
            let by = CleanupByPolicy { run_id, unit_id, policy_id, policy_version };
            outgoing::put(transaction, cause, &CleanupMessage::ByPolicy(by), now).await
        }
        (work, ..) => {
            let (work, state) = (work.as_str(), unit.state.as_str());
            Err(unwritable(format!(
                "unit {unit_id} of run {run_id} is {state}, is to {work}, and names neither a policy \
                 nor a manifest for it"
            )))
        }
    }
}

/// A request's message once more, as it was.
fn asked(run: &Run, request: &serde_json::Value) -> Result<ArchiveMessage, PutError> {
    let unread = |error: serde_json::Error| unwritable(format!("run {}: {error}", run.new.id));
    let request: Request = serde_json::from_value(request.clone()).map_err(unread)?;
    let requester: Requester = serde_json::from_value(run.new.requester.clone()).map_err(unread)?;
    let (run_id, then) = (run.new.id, run.new.then);
    Ok(match request {
        Request::Time { from, to, .. } => {
            ArchiveMessage::ByDate(ArchiveByDate { run_id, from, to, then, requester })
        }
        Request::Logs { ids: log_ids } => {
            ArchiveMessage::Bulk(BulkArchive { run_id, log_ids, then, requester })
        }
    })
}

fn unwritable(why: String) -> PutError {
    PutError::Database(sqlx::Error::Encode(why.into()))
}

//! Units of work: added by a plan, claimed by one worker at a time, moved step by step. Each step takes
//! the caller's transaction, moves the run's counters with the unit's, is guarded by the state it may
//! come from, and done twice it changes nothing. Locked in one order: chain, unit, run.
//!
//! Steps of the archive are in `units::archiving`, those of a cleanup in `units::deleting`; who stands
//! still is found by `units::attending`.

mod archiving;
mod attending;
mod claims;
mod deleting;
mod rows;

use chrono::{DateTime, Utc};
use contracts::audit::lifecycle::{PolicyId, RunId, UnitId};
use contracts::{RetentionClass, Tenant};
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use self::claims::ours;
use self::rows::{COLUMNS, range, read};
use super::discards::give_up;
use super::runs::{RunEnd, Step, end_if_over};
use crate::lifecycle::unit::NewWork;
use crate::lifecycle::{
    Counters, KeyRange, NewUnit, RunState, Tally, Unit, UnitState, Work, bounded,
};

pub use archiving::{
    Sealing, allot_part, empty_unit, index_object, next_part, note_upload, seal_unit, unwrite_unit,
    write_unit,
};
pub use attending::attend_units;
pub use claims::{Claim, Claimed, claim_unit, release_claim, renew_claim};
pub use deleting::{
    Deletion, delete_some, delete_unit, finish_unit, keep_unit, note_receipt, spare_unit,
};
pub(super) use rows::{codec_word, decoded, json, manifest, tally};

/// Units that one [`add_units`] takes at most.
pub const UNITS_ADDED_MAX: usize = 1_000;
/// Open ranges that [`open_ranges`] answers at most.
pub const OPEN_RANGES_MAX: i64 = 100_000;

/// Why a step did not happen.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    /// The database's own.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// Another worker has the unit by now: leave it alone.
    #[error("unit {0} is in other hands")]
    Lost(UnitId),
    /// The step cannot follow on where the unit stands.
    #[error("unit {unit} is {}, which {step} cannot follow on", state.as_str())]
    State {
        /// The unit.
        unit: UnitId,
        /// What was tried.
        step: &'static str,
        /// Where it stands.
        state: UnitState,
    },
}

/// Adds units of a run that is being planned; those whose number is there already stay as they are.
/// At most [`UNITS_ADDED_MAX`]. A plan makes no range that leaves its hour; here nothing looks at that.
/// Answers whether any is new.
pub async fn add_units(
    connection: &mut PgConnection,
    tenant: &Tenant,
    run: RunId,
    units: &[NewUnit],
) -> Result<Step<RunState>, sqlx::Error> {
    let state: RunState = {
        let row = sqlx::query(
            "SELECT state FROM retention_runs WHERE tenant = $1 AND id = $2 FOR UPDATE",
        )
        .bind(tenant.as_str())
        .bind(run)
        .fetch_one(&mut *connection)
        .await?;
        decoded(&row, "state")?
    };
    if state != RunState::Planning {
        return Ok(Step::Refused(state));
    }
    let (mut count, mut planned) = (0_i64, Tally::default());
    for unit in units.iter().take(UNITS_ADDED_MAX) {
        if let Some(tally) = add_unit(connection, tenant, run, unit).await? {
            (count, planned) = (count + 1, planned.and(tally));
        }
    }
    sqlx::query(
        "UPDATE retention_runs
            SET units = units + $3, units_open = units_open + $3,
                planned_events = planned_events + $4, planned_bytes = planned_bytes + $5
          WHERE tenant = $1 AND id = $2",
    )
    .bind(tenant.as_str())
    .bind(run)
    .bind(count)
    .bind(planned.events.cast_signed())
    .bind(planned.bytes.cast_signed())
    .execute(connection)
    .await?;
    Ok(if count > 0 { Step::Now } else { Step::Already })
}

/// Units that begin sealed take over the object of the earlier one, unless it is gone by now.
async fn add_unit(
    connection: &mut PgConnection,
    tenant: &Tenant,
    run: RunId,
    unit: &NewUnit,
) -> Result<Option<Tally>, sqlx::Error> {
    let (work, codec, object) = match &unit.work {
        NewWork::Archive(codec) => (Work::Archive, Some(codec_word(*codec)), None),
        NewWork::Delete => (Work::Delete, None, None),
        NewWork::Again(object) => (Work::Again, None, Some(object)),
    };
    let KeyRange { class, first, last } = unit.range;
    let hour = unit.range.hour().unwrap_or(first.0);
    let added = sqlx::query(
        "INSERT INTO archive_units
                (tenant, id, run_id, number, work, retention_class, hour, first_at, first_id,
                 last_at, last_id, planned_events, planned_bytes, codec,
                 state, object, manifest_sequence, manifest_sha256)
         SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14,
                CASE WHEN $15::text IS NULL THEN 'planned' ELSE 'sealed' END,
                o.object, o.manifest_sequence, o.manifest_sha256
           FROM (SELECT 1) one LEFT JOIN archive_objects o
             ON o.tenant = $1 AND o.object = $15 AND o.removed_at IS NULL
          WHERE $15::text IS NULL OR o.object IS NOT NULL
         ON CONFLICT DO NOTHING",
    )
    .bind(tenant.as_str())
    .bind(unit.id)
    .bind(run)
    .bind(i32::try_from(unit.number).unwrap_or(i32::MAX))
    .bind(work.as_str())
    .bind(class.as_str())
    .bind(hour)
    .bind(first.0)
    .bind(first.1)
    .bind(last.0)
    .bind(last.1)
    .bind(unit.planned.events.cast_signed())
    .bind(unit.planned.bytes.cast_signed())
    .bind(codec)
    .bind(object)
    .execute(connection)
    .await?;
    Ok((added.rows_affected() > 0).then_some(unit.planned))
}

/// A unit; nothing when the tenant has none of that id.
pub async fn unit(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: UnitId,
) -> Result<Option<Unit>, sqlx::Error> {
    let sql = format!("SELECT {COLUMNS} FROM archive_units WHERE tenant = $1 AND id = $2");
    let row = sqlx::query(AssertSqlSafe(sql)).bind(tenant.as_str()).bind(id);
    row.fetch_optional(connection).await?.as_ref().map(read).transpose()
}

/// Up to `limit` units of a run after that number, by number.
pub async fn units_of(
    connection: &mut PgConnection,
    tenant: &Tenant,
    run: RunId,
    after: u32,
    limit: i64,
) -> Result<Vec<Unit>, sqlx::Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM archive_units
          WHERE tenant = $1 AND run_id = $2 AND number > $3 ORDER BY number LIMIT $4"
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(tenant.as_str())
        .bind(run)
        .bind(i32::try_from(after).unwrap_or(i32::MAX))
        .bind(limit)
        .fetch_all(connection)
        .await?
        .iter()
        .map(read)
        .collect()
}

/// Ranges that units of running and planned runs are at, of the policy itself and of requests, by their
/// first key: a plan of the policy leaves their rows out, and the next one finds what was left of them.
/// Another policy's units take none of its rows. At most [`OPEN_RANGES_MAX`]: where there are more, the
/// last one has no end.
pub async fn open_ranges(
    connection: &mut PgConnection,
    tenant: &Tenant,
    policy: PolicyId,
) -> Result<Vec<KeyRange>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT u.retention_class, u.first_at, u.first_id, u.last_at, u.last_id
           FROM archive_units u JOIN retention_runs r ON r.tenant = u.tenant AND r.id = u.run_id
          WHERE u.tenant = $1 AND (r.policy_id = $2 OR r.policy_id IS NULL)
            AND u.state IN ('planned', 'written', 'sealed', 'deleting')
            AND (r.state IN ('planning', 'braked', 'running')
                 -- Of a run that was stopped: what is in the archive, and what may yet come there.
                 OR u.state IN ('sealed', 'deleting') OR u.claimed_until > clock_timestamp())
          ORDER BY u.first_at, u.first_id LIMIT $3",
    )
    .bind(tenant.as_str())
    .bind(policy)
    .bind(OPEN_RANGES_MAX)
    .fetch_all(connection)
    .await?;
    let mut ranges = rows.iter().map(range).collect::<Result<Vec<_>, _>>()?;
    if ranges.len() >= usize::try_from(OPEN_RANGES_MAX).unwrap_or(usize::MAX)
        && let Some(last) = ranges.last().copied()
    {
        // Which classes the rest is of is not known: it may be any.
        let end = (DateTime::<Utc>::MAX_UTC, Uuid::max());
        ranges.extend(RetentionClass::ALL.map(|class| KeyRange { class, last: end, ..last }));
    }
    Ok(ranges)
}

/// Ends a unit that cannot be done, from any state: what is accounted for nowhere else has failed.
pub async fn fail_unit(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: UnitId,
    why: &str,
) -> Result<Moved, UnitError> {
    let unit = locked(connection, tenant, id).await?;
    if unit.state == UnitState::Failed {
        return Ok(Moved { now: false, run: None });
    }
    give_up(connection, &unit).await?;
    let mut counters = unit.counters;
    if matches!(unit.state, UnitState::Planned | UnitState::Written) {
        (counters.archived, counters.gone) = (Tally::default(), Tally::default());
    }
    counters.failed = counters.open();
    sqlx::query(
        "WITH why AS (UPDATE archive_units SET error = $4 WHERE tenant = $1 AND id = $3)
         UPDATE retention_runs SET failure = coalesce(failure, $4) WHERE tenant = $1 AND id = $2",
    )
    .bind(tenant.as_str())
    .bind(unit.run_id)
    .bind(id)
    .bind(bounded(why))
    .execute(&mut *connection)
    .await?;
    advance(connection, &unit, "a failure", UnitState::Failed, counters).await
}

/// What a step did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// It happened by this call, not by an earlier one.
    pub now: bool,
    /// The run ended with it.
    pub run: Option<RunEnd>,
}

/// The unit under its row lock, whoever has it.
async fn locked(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: UnitId,
) -> Result<Unit, sqlx::Error> {
    let sql =
        format!("SELECT {COLUMNS} FROM archive_units WHERE tenant = $1 AND id = $2 FOR UPDATE");
    let row = sqlx::query(AssertSqlSafe(sql)).bind(tenant.as_str()).bind(id);
    read(&row.fetch_one(connection).await?)
}

/// Moves a locked unit and its run's counters together. An end takes the claim away and, with the last
/// unit, ends the run.
async fn advance(
    connection: &mut PgConnection,
    unit: &Unit,
    step: &'static str,
    to: UnitState,
    counters: Counters,
) -> Result<Moved, UnitError> {
    if !to.from().contains(&unit.state) {
        return Err(UnitError::State { unit: unit.id, step, state: unit.state });
    }
    let figures = figures(&counters);
    let mut query = sqlx::query(
        "UPDATE archive_units
            SET state = $3, updated_at = now(),
                claimed_by = CASE WHEN $4 THEN NULL ELSE claimed_by END,
                claimed_until = CASE WHEN $4 THEN NULL ELSE claimed_until END,
                archived_events = $5, archived_bytes = $6, verified_events = $7,
                verified_bytes = $8, deleted_events = $9, deleted_bytes = $10, held_events = $11,
                held_bytes = $12, gone_events = $13, gone_bytes = $14, failed_events = $15,
                failed_bytes = $16
          WHERE tenant = $1 AND id = $2",
    )
    .bind(unit.tenant.as_str())
    .bind(unit.id)
    .bind(to.as_str())
    .bind(!matches!(to, UnitState::Planned | UnitState::Written));
    for figure in figures {
        query = query.bind(figure);
    }
    query.execute(&mut *connection).await?;
    let run = count(connection, unit, to, figures).await?;
    Ok(Moved { now: true, run })
}

/// Adds to the run what the unit's counters have changed by.
async fn count(
    connection: &mut PgConnection,
    unit: &Unit,
    to: UnitState,
    after: [i64; 12],
) -> Result<Option<RunEnd>, sqlx::Error> {
    let before = figures(&unit.counters);
    let mut query = sqlx::query(
        "UPDATE retention_runs
            SET units_open = units_open - $3, units_failed = units_failed + $4,
                archived_events = archived_events + $5, archived_bytes = archived_bytes + $6,
                verified_events = verified_events + $7, verified_bytes = verified_bytes + $8,
                deleted_events = deleted_events + $9, deleted_bytes = deleted_bytes + $10,
                held_events = held_events + $11, held_bytes = held_bytes + $12,
                gone_events = gone_events + $13, gone_bytes = gone_bytes + $14,
                failed_events = failed_events + $15, failed_bytes = failed_bytes + $16
          WHERE tenant = $1 AND id = $2",
    )
    .bind(unit.tenant.as_str())
    .bind(unit.run_id)
    .bind(i64::from(to.ended()))
    .bind(i64::from(to == UnitState::Failed));
    for (after, before) in after.into_iter().zip(before) {
        query = query.bind(after - before);
    }
    query.execute(&mut *connection).await?;
    if to.ended() { end_if_over(connection, &unit.tenant, unit.run_id).await } else { Ok(None) }
}

/// The counters that change, in the order of the columns.
fn figures(counters: &Counters) -> [i64; 12] {
    let Counters { planned: _, archived, verified, deleted, held, gone, failed } = counters;
    let mut figures = [0; 12];
    let tallies = [archived, verified, deleted, held, gone, failed];
    for (place, tally) in figures.chunks_exact_mut(2).zip(tallies) {
        place.copy_from_slice(&[tally.events.cast_signed(), tally.bytes.cast_signed()]);
    }
    figures
}

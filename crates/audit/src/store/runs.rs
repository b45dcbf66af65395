//! Runs: begun once, planned, braked, started, ended. Each step is one statement that is guarded by the
//! state it may come from, inside the caller's transaction; done twice it says so and changes nothing.

pub(super) mod evaluation;
mod rows;

use chrono::{DateTime, Utc};
use contracts::Tenant;
use contracts::audit::lifecycle::{PolicyId, RunId};
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use self::rows::{columns, read, then_word};
use super::alarms;
use super::units::decoded;
use crate::lifecycle::{self, Basis, NewRun, Run, RunState};

pub use rows::Large;
pub(super) use rows::counters;

/// Runs on a page of [`runs`] at most.
pub const RUNS_PAGE_MAX: i64 = 200;

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<S> {
    /// It happened.
    Now,
    /// It had happened before.
    Already,
    /// It cannot follow on this state.
    Refused(S),
}

/// What beginning a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It is there now.
    New,
    /// It was there, under this id: of the same start, or of the same policy and slot.
    There(RunId),
}

/// The end of a run, for whoever tells people about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunEnd {
    /// The run.
    pub id: RunId,
    /// The policy by which it was, if any.
    pub policy: Option<PolicyId>,
    /// How it ended.
    pub state: RunState,
    /// Targets of the policy that are told.
    pub notify: u32,
    /// Its plan did not cover everything that was due, and what it did cover has gone on: there is more for
    /// a further run. A run that got nowhere is followed by none, which would get nowhere either.
    pub more: bool,
}

/// Begins a run in the state `planning`, unless it is there.
pub async fn begin_run(connection: &mut PgConnection, run: &NewRun) -> Result<Begun, sqlx::Error> {
    let (policy, version, slot, request) = match &run.basis {
        Basis::Policy { id, version, slot } => (Some(*id), Some(*version), *slot, None),
        Basis::Request(request) => (None, None, None, Some(request)),
    };
    let made = sqlx::query(
        "INSERT INTO retention_runs
                (tenant, id, policy_id, policy_version, slot, request, requester, then_do, archive,
                 rules, as_of, correlation_id, notify)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
         ON CONFLICT DO NOTHING",
    )
    .bind(run.tenant.as_str())
    .bind(run.id)
    .bind(policy)
    .bind(version.map(u64::cast_signed))
    .bind(slot)
    .bind(request)
    .bind(&run.requester)
    .bind(then_word(run.then))
    .bind(&run.archive)
    .bind(&run.rules)
    .bind(run.as_of)
    .bind(&run.correlation_id)
    .bind(i32::try_from(run.notify).unwrap_or(i32::MAX))
    .execute(&mut *connection)
    .await?;
    if made.rows_affected() > 0 {
        return Ok(Begun::New);
    }
    sqlx::query_scalar(
        "SELECT id FROM retention_runs
          WHERE tenant = $1 AND (id = $2 OR (policy_id = $3 AND slot = $4))
          ORDER BY id = $2 DESC LIMIT 1",
    )
    .bind(run.tenant.as_str())
    .bind(run.id)
    .bind(policy)
    .bind(slot)
    .fetch_one(connection)
    .await
    .map(Begun::There)
}

/// A run, whole; nothing when there is none of the tenant's.
pub async fn run(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: RunId,
) -> Result<Option<Run>, sqlx::Error> {
    run_with(connection, tenant, id, Large::Both).await
}

/// The same, without the rules or the plan where they are not asked for: `None`, as if there were none yet.
pub async fn run_with(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: RunId,
    large: Large,
) -> Result<Option<Run>, sqlx::Error> {
    let columns = columns(large);
    let sql = format!("SELECT {columns} FROM retention_runs WHERE tenant = $1 AND id = $2");
    sqlx::query(AssertSqlSafe(sql))
        .bind(tenant.as_str())
        .bind(id)
        .fetch_optional(connection)
        .await?
        .as_ref()
        .map(read)
        .transpose()
}

/// Up to `limit` runs of a policy, or of the tenant, begun before a time, the newest first, without their
/// rules and plans: a page of those could be a gigabyte.
pub async fn runs(
    connection: &mut PgConnection,
    tenant: &Tenant,
    policy: Option<PolicyId>,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Run>, sqlx::Error> {
    let columns = columns(Large::Neither);
    let sql = format!(
        "SELECT {columns} FROM retention_runs
          WHERE tenant = $1 AND ($2::uuid IS NULL OR policy_id = $2) AND created_at < $3
          ORDER BY created_at DESC, id DESC LIMIT $4"
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(tenant.as_str())
        .bind(policy)
        .bind(before)
        .bind(limit.clamp(0, RUNS_PAGE_MAX))
        .fetch_all(connection)
        .await?
        .iter()
        .map(read)
        .collect()
}

/// What a plan says of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// The rules that it was made with.
    pub rules: Value,
    /// The plan itself.
    pub plan: Value,
    /// Of the rules.
    pub fingerprint: [u8; 32],
    /// Rows of transactions below it are the run's.
    pub snapshot_xmin: u64,
}

/// Keeps the plan of a run that has none: the first one stands, so that a planning which is done again
/// goes by it.
pub async fn keep_plan(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: RunId,
    planned: &Planned,
) -> Result<Step<RunState>, sqlx::Error> {
    let kept = sqlx::query(
        "UPDATE retention_runs
            SET rules = $3, plan = $4, fingerprint = $5, snapshot_xmin = $6::text::xid8
          WHERE tenant = $1 AND id = $2 AND state = 'planning' AND plan IS NULL",
    )
    .bind(tenant.as_str())
    .bind(id)
    .bind(&planned.rules)
    .bind(&planned.plan)
    .bind(&planned.fingerprint[..])
    .bind(planned.snapshot_xmin.to_string())
    .execute(&mut *connection)
    .await?;
    if kept.rows_affected() > 0 {
        return Ok(Step::Now);
    }
    let state = state_of(connection, tenant, id).await?;
    Ok(if state == RunState::Planning { Step::Already } else { Step::Refused(state) })
}

/// Holds a planned run back until somebody approves it.
pub async fn brake_run(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: RunId,
    why: &str,
) -> Result<Step<RunState>, sqlx::Error> {
    step(connection, tenant, id, RunState::Braked, Some(why)).await
}

/// Lets a braked run go on: notes who said so. It is started by whoever starts runs.
pub async fn approve_run(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: RunId,
    approval: &Value,
) -> Result<Step<RunState>, sqlx::Error> {
    let noted = sqlx::query(
        "UPDATE retention_runs SET approvals = approvals || jsonb_build_array($3::jsonb)
          WHERE tenant = $1 AND id = $2 AND state = 'braked'",
    )
    .bind(tenant.as_str())
    .bind(id)
    .bind(approval)
    .execute(&mut *connection)
    .await?;
    if noted.rows_affected() > 0 {
        return Ok(Step::Now);
    }
    state_of(connection, tenant, id).await.map(Step::Refused)
}

/// Starts a planned run; from `braked` only after an approval. One without units is done at once.
pub async fn start_run(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: RunId,
) -> Result<(Step<RunState>, Option<RunEnd>), sqlx::Error> {
    let unapproved: bool = sqlx::query_scalar(
        "SELECT state = 'braked' AND approvals = '[]' FROM retention_runs
          WHERE tenant = $1 AND id = $2 FOR UPDATE",
    )
    .bind(tenant.as_str())
    .bind(id)
    .fetch_one(&mut *connection)
    .await?;
    if unapproved {
        return Ok((Step::Refused(RunState::Braked), None));
    }
    let step = step(connection, tenant, id, RunState::Running, None).await?;
    let end = if step == Step::Now { end_if_over(connection, tenant, id).await? } else { None };
    Ok((step, end))
}

/// Ends a run that could not be planned, or that somebody stopped ([`RunState::Cancelled`]). Units that
/// nobody has begun are kept; those in hand are ended by whoever has them.
pub async fn stop_run(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: RunId,
    to: RunState,
    why: &str,
) -> Result<Step<RunState>, sqlx::Error> {
    let stopped = step(connection, tenant, id, to, Some(why)).await?;
    if stopped == Step::Now {
        keep_planned(connection, tenant, id).await?;
        if to == RunState::Failed {
            alarms::run_ended(connection, tenant, id).await?;
        }
    }
    Ok(stopped)
}

/// Units of a stopped run that nobody has begun stay as they are. The run is locked, so none is added
/// meanwhile; others lock the unit first, so this waits for no unit: one that is locked is being begun.
async fn keep_planned(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: RunId,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "WITH idle AS (
           SELECT id FROM archive_units
            WHERE tenant = $1 AND run_id = $2 AND state = 'planned'
              AND (claimed_until IS NULL OR claimed_until <= clock_timestamp())
              FOR UPDATE SKIP LOCKED),
         kept AS (
           UPDATE archive_units u
              SET state = 'kept', updated_at = now(), held_events = u.planned_events,
                  held_bytes = u.planned_bytes
             FROM idle WHERE u.tenant = $1 AND u.id = idle.id
           RETURNING u.id, u.object, u.planned_events, u.planned_bytes),
         discarded AS (
           INSERT INTO archive_discards (tenant, object, unit_id)
           SELECT $1, object, id FROM kept WHERE object IS NOT NULL ON CONFLICT DO NOTHING)
         UPDATE retention_runs r
            SET units_open = r.units_open - k.units, held_events = r.held_events + k.events,
                held_bytes = r.held_bytes + k.bytes
           FROM (SELECT count(*) AS units, coalesce(sum(planned_events), 0)::bigint AS events,
                        coalesce(sum(planned_bytes), 0)::bigint AS bytes FROM kept) k
          WHERE r.tenant = $1 AND r.id = $2",
    )
    .bind(tenant.as_str())
    .bind(id)
    .execute(connection)
    .await
    .map(|_| ())
}

async fn step(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: RunId,
    to: RunState,
    why: Option<&str>,
) -> Result<Step<RunState>, sqlx::Error> {
    let moved = sqlx::query(
        "UPDATE retention_runs
            SET state = $3, failure = coalesce($5, failure),
                started_at = CASE WHEN $3 = 'running' THEN coalesce(started_at, now())
                                  ELSE started_at END,
                ended_at = CASE WHEN $6 THEN now() END
          WHERE tenant = $1 AND id = $2 AND state = ANY ($4)",
    )
    .bind(tenant.as_str())
    .bind(id)
    .bind(to.as_str())
    .bind(words(to.from()))
    .bind(why.map(lifecycle::bounded))
    .bind(to.ended())
    .execute(&mut *connection)
    .await?;
    if moved.rows_affected() > 0 {
        return Ok(Step::Now);
    }
    let state = state_of(connection, tenant, id).await?;
    Ok(if state == to { Step::Already } else { Step::Refused(state) })
}

fn words(states: &[RunState]) -> Vec<&'static str> {
    states.iter().map(|state| state.as_str()).collect()
}

async fn state_of(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: RunId,
) -> Result<RunState, sqlx::Error> {
    let row = sqlx::query("SELECT state FROM retention_runs WHERE tenant = $1 AND id = $2")
        .bind(tenant.as_str())
        .bind(id)
        .fetch_one(connection)
        .await?;
    decoded(&row, "state")
}

/// Ends a running run whose last unit has ended.
pub(super) async fn end_if_over(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: RunId,
) -> Result<Option<RunEnd>, sqlx::Error> {
    let ended = sqlx::query(
        "UPDATE retention_runs
            SET state = CASE WHEN units_failed > 0 THEN 'failed' ELSE 'done' END, ended_at = now()
          WHERE tenant = $1 AND id = $2 AND state = 'running' AND units_open = 0
         RETURNING policy_id, state, notify,
                   plan -> 'complete' = 'false' AND verified_events + deleted_events > 0 AS more",
    )
    .bind(tenant.as_str())
    .bind(id)
    .fetch_optional(&mut *connection)
    .await?;
    if ended.is_some() {
        alarms::run_ended(connection, tenant, id).await?;
    }
    let end = |row: PgRow| {
        Ok(RunEnd {
            id,
            policy: row.try_get("policy_id")?,
            state: decoded(&row, "state")?,
            notify: u32::try_from(row.try_get::<i32, _>("notify")?).unwrap_or(0),
            more: row.try_get::<Option<bool>, _>("more")?.unwrap_or(false),
        })
    };
    ended.map(end).transpose()
}

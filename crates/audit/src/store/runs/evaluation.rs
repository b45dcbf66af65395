//! What evaluating a policy asks of its runs: which ones are before it, what the last one deleted, how
//! far a run's units are told.

use std::time::Duration;

use chrono::{DateTime, Utc};
use contracts::Tenant;
use contracts::audit::lifecycle::{PolicyId, RunId, UnitId};
use sqlx::{PgConnection, Row};

use crate::lifecycle::RunState;
use crate::store::units::decoded;

/// Whether an earlier run of the policy is being planned or worked on.
pub async fn active_before(
    connection: &mut PgConnection,
    tenant: &Tenant,
    policy: PolicyId,
    (created_at, id): (DateTime<Utc>, RunId),
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM retention_runs
                         WHERE tenant = $1 AND policy_id = $2 AND state IN ('planning', 'running')
                           AND (created_at, id) < ($3, $4))",
    )
    .bind(tenant.as_str())
    .bind(policy)
    .bind(created_at)
    .bind(id)
    .fetch_one(connection)
    .await
}

/// Notes that the run's evaluation comes again after that time; whether nobody had noted it before. In the
/// transaction of the message that brings it.
pub async fn come_again(
    connection: &mut PgConnection,
    tenant: &Tenant,
    run: RunId,
    delay: Duration,
) -> Result<bool, sqlx::Error> {
    // A message is visible no sooner than its delay says, by another clock.
    let noted = sqlx::query(
        "UPDATE retention_runs SET again_at = clock_timestamp() + make_interval(secs => $3)
          WHERE tenant = $1 AND id = $2 AND state IN ('planning', 'braked')
            AND (again_at IS NULL OR again_at < clock_timestamp() + interval '2 seconds')",
    )
    .bind(tenant.as_str())
    .bind(run)
    .bind(delay.as_secs_f64())
    .execute(connection)
    .await?;
    Ok(noted.rows_affected() > 0)
}

/// What the last finished run of the policy that deleted anything has deleted.
pub async fn last_deleted(
    connection: &mut PgConnection,
    tenant: &Tenant,
    policy: PolicyId,
) -> Result<Option<u64>, sqlx::Error> {
    let deleted: Option<i64> = sqlx::query_scalar(
        "SELECT deleted_events FROM retention_runs
          WHERE tenant = $1 AND policy_id = $2 AND state = 'done' AND deleted_events > 0
          ORDER BY created_at DESC LIMIT 1",
    )
    .bind(tenant.as_str())
    .bind(policy)
    .fetch_optional(connection)
    .await?;
    Ok(deleted.map(i64::cast_unsigned))
}

/// The object that a unit made, and the times that its events lie between, both included.
pub async fn object_of_unit(
    connection: &mut PgConnection,
    tenant: &Tenant,
    unit: UnitId,
) -> Result<Option<(String, DateTime<Utc>, DateTime<Utc>)>, sqlx::Error> {
    sqlx::query_as(
        "SELECT object, first_at, last_at FROM archive_objects
          WHERE tenant = $1 AND unit_id = $2 AND removed_at IS NULL
          ORDER BY superseded_by NULLS FIRST, object LIMIT 1",
    )
    .bind(tenant.as_str())
    .bind(unit)
    .fetch_optional(connection)
    .await
}

/// How far a run's units are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Telling {
    /// Where the run stands.
    pub state: RunState,
    /// Number of the last unit whose message is in the outbox; 0 for none.
    pub told: u32,
}

/// Asks how far, and keeps others from going on until the transaction ends.
pub async fn telling(
    connection: &mut PgConnection,
    tenant: &Tenant,
    run: RunId,
) -> Result<Telling, sqlx::Error> {
    let row = sqlx::query(
        "SELECT state, units_told FROM retention_runs WHERE tenant = $1 AND id = $2 FOR UPDATE",
    )
    .bind(tenant.as_str())
    .bind(run)
    .fetch_one(connection)
    .await?;
    let told: i32 = row.try_get("units_told")?;
    Ok(Telling { state: decoded(&row, "state")?, told: u32::try_from(told).unwrap_or(0) })
}

/// Notes how far, in the transaction of the messages.
pub async fn tell_up_to(
    connection: &mut PgConnection,
    tenant: &Tenant,
    run: RunId,
    told: u32,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE retention_runs SET units_told = $3 WHERE tenant = $1 AND id = $2")
        .bind(tenant.as_str())
        .bind(run)
        .bind(i32::try_from(told).unwrap_or(i32::MAX))
        .execute(connection)
        .await
        .map(|_| ())
}

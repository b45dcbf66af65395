//! How far each policy's schedule is followed. A policy's row is locked while its slot becomes a message,
//! and both are one transaction, so that of two schedulers one names it.

use chrono::{DateTime, Utc};
use contracts::Tenant;
use contracts::audit::lifecycle::PolicyId;
use sqlx::{PgConnection, Row};

use super::units::decoded;

/// Up to `limit` policies that are due, that were written since they were looked at, or whose last slot lies
/// after `ahead`, where no clock that is right can have put it; tenants take turns, and of each at most
/// `per_tenant` are named.
pub async fn due_policies(
    connection: &mut PgConnection,
    (now, ahead): (DateTime<Utc>, DateTime<Utc>),
    per_tenant: i64,
    limit: i64,
) -> Result<Vec<(Tenant, PolicyId)>, sqlx::Error> {
    sqlx::query(
        "SELECT tenant, id FROM (
           SELECT p.tenant, p.id, row_number() OVER (
                    PARTITION BY p.tenant ORDER BY s.due_at NULLS FIRST, p.id) AS turn
             FROM policies p
             LEFT JOIN policy_slots s ON s.tenant = p.tenant AND s.policy_id = p.id
            WHERE s.policy_id IS NULL OR s.version <> p.version OR s.due_at <= $1
               OR s.last_slot > $4) due
          WHERE turn <= $2 ORDER BY turn, tenant, id LIMIT $3",
    )
    .bind(now)
    .bind(per_tenant)
    .bind(limit)
    .bind(ahead)
    .fetch_all(connection)
    .await?
    .iter()
    .map(|row| Ok((decoded(row, "tenant")?, row.try_get("id")?)))
    .collect()
}

/// Locks a policy's row, made where it is missing, and answers up to when its slots are done. `None` while
/// another scheduler has it.
pub async fn lock_slots(
    connection: &mut PgConnection,
    tenant: &Tenant,
    policy: PolicyId,
    (version, since): (u64, DateTime<Utc>),
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    sqlx::query(
        "INSERT INTO policy_slots (tenant, policy_id, version, last_slot) VALUES ($1, $2, $3, $4)
         ON CONFLICT DO NOTHING",
    )
    .bind(tenant.as_str())
    .bind(policy)
    .bind(version.cast_signed())
    .bind(since)
    .execute(&mut *connection)
    .await?;
    sqlx::query_scalar(
        "SELECT last_slot FROM policy_slots WHERE tenant = $1 AND policy_id = $2
            FOR UPDATE SKIP LOCKED",
    )
    .bind(tenant.as_str())
    .bind(policy)
    .fetch_optional(connection)
    .await
}

/// Notes what was found: up to when slots are done, and when there is something to do next.
pub async fn note_slots(
    connection: &mut PgConnection,
    tenant: &Tenant,
    policy: PolicyId,
    version: u64,
    (last, due_at): (DateTime<Utc>, Option<DateTime<Utc>>),
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE policy_slots SET version = $3, last_slot = $4, due_at = $5
          WHERE tenant = $1 AND policy_id = $2",
    )
    .bind(tenant.as_str())
    .bind(policy)
    .bind(version.cast_signed())
    .bind(last)
    .bind(due_at)
    .execute(connection)
    .await
    .map(|_| ())
}

/// When the next version of the policy that is still to come takes effect.
pub async fn next_effective(
    connection: &mut PgConnection,
    tenant: &Tenant,
    policy: PolicyId,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT min(effective_from) FROM policy_versions
          WHERE tenant = $1 AND policy_id = $2 AND effective_from > $3",
    )
    .bind(tenant.as_str())
    .bind(policy)
    .bind(now)
    .fetch_one(connection)
    .await
}

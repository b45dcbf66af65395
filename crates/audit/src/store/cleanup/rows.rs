//! Rows that go: locked, read, buried and deleted by their exact keys.

use chrono::{DateTime, Utc};
use contracts::audit::lifecycle::UnitId;
use contracts::catalogue::redelivery_max_secs;
use contracts::{RetentionClass, Tenant};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::store::erase::TOMBSTONE_DAYS;
use crate::store::export::{self, ExportRow};
use crate::store::locks;

/// A tombstone outlives every redelivery of the message that brought the log.
const _: () = assert!(TOMBSTONE_DAYS as u64 * 86_400 > redelivery_max_secs());

/// Holds off inserts and erasures of the tenant until the transaction ends: an insert that looked for
/// tombstones before this transaction committed would bring a log back.
pub(crate) async fn alone(
    connection: &mut PgConnection,
    tenant: &Tenant,
) -> Result<(), sqlx::Error> {
    locks::alone(connection, tenant).await
}

/// Those of these rows that are there, locked in the order of their keys.
pub(crate) async fn rows_of(
    connection: &mut PgConnection,
    tenant: &Tenant,
    class: RetentionClass,
    keys: &[(DateTime<Utc>, Uuid)],
) -> Result<Vec<ExportRow>, sqlx::Error> {
    let (times, ids): (Vec<_>, Vec<_>) = keys.iter().copied().unzip();
    sqlx::query(
        "SELECT l.recorded_at, l.id, l.record, l.leaf_salt, l.revision, l.actor_type, l.actor_id,
                l.action, l.outcome, l.target_types
           FROM unnest($3::timestamptz[], $4::uuid[]) AS n (at, id)
           JOIN logs l ON l.tenant = $1 AND l.retention_class = $2
            AND l.recorded_at = n.at AND l.id = n.id
            AND l.recorded_at >= $5 AND l.recorded_at <= $6
          ORDER BY l.recorded_at, l.id FOR UPDATE OF l",
    )
    .bind(tenant.as_str())
    .bind(class.as_str())
    .bind(&times)
    .bind(ids)
    // Only their partitions.
    .bind(times.iter().min())
    .bind(times.iter().max())
    .fetch_all(connection)
    .await?
    .iter()
    .map(export::row)
    .collect()
}

/// Those of these logs that have a tombstone, in no order.
pub(crate) async fn tombstoned(
    connection: &mut PgConnection,
    tenant: &Tenant,
    ids: &[Uuid],
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar("SELECT id FROM tombstones WHERE tenant = $1 AND id = ANY ($2)")
        .bind(tenant.as_str())
        .bind(ids)
        .fetch_all(connection)
        .await
}

/// What tombstones say.
#[derive(Clone, Debug)]
pub(crate) struct Burial<'a> {
    pub(crate) class: RetentionClass,
    pub(crate) unit: UnitId,
    pub(crate) reason: &'a str,
    pub(crate) requester: &'a Value,
    pub(crate) now: DateTime<Utc>,
}

/// Leaves a tombstone for each of these logs.
pub(crate) async fn bury(
    connection: &mut PgConnection,
    tenant: &Tenant,
    burial: &Burial<'_>,
    keys: &[(DateTime<Utc>, Uuid)],
) -> Result<(), sqlx::Error> {
    let (times, ids): (Vec<_>, Vec<_>) = keys.iter().copied().unzip();
    sqlx::query(
        "INSERT INTO tombstones (tenant, id, reason, requester, operation_id, recorded_at,
                                 expires_at, erased_class, erased_recorded_at)
         SELECT $1, n.id, $4, $5, $6, $7, now() + make_interval(days => $8), $9, n.at
           FROM unnest($2::timestamptz[], $3::uuid[]) AS n (at, id)
         ON CONFLICT (tenant, id) DO NOTHING",
    )
    .bind(tenant.as_str())
    .bind(times)
    .bind(ids)
    .bind(burial.reason)
    .bind(burial.requester)
    .bind(burial.unit)
    .bind(burial.now)
    .bind(TOMBSTONE_DAYS)
    .bind(burial.class.as_str())
    .execute(connection)
    .await
    .map(|_| ())
}

/// Deletes these rows; how many there were.
pub(crate) async fn delete_rows(
    connection: &mut PgConnection,
    tenant: &Tenant,
    class: RetentionClass,
    keys: &[(DateTime<Utc>, Uuid)],
) -> Result<u64, sqlx::Error> {
    let (times, ids): (Vec<_>, Vec<_>) = keys.iter().copied().unzip();
    let deleted = sqlx::query(
        "DELETE FROM logs l USING unnest($3::timestamptz[], $4::uuid[]) AS n (at, id)
          WHERE l.tenant = $1 AND l.retention_class = $2
            AND l.recorded_at = n.at AND l.id = n.id
            AND l.recorded_at >= $5 AND l.recorded_at <= $6",
    )
    .bind(tenant.as_str())
    .bind(class.as_str())
    .bind(&times)
    .bind(ids)
    .bind(times.iter().min())
    .bind(times.iter().max())
    .execute(connection)
    .await?;
    Ok(deleted.rows_affected())
}

/// Deletes what was said about these logs afterwards.
pub(crate) async fn delete_revisions(
    connection: &mut PgConnection,
    tenant: &Tenant,
    ids: &[Uuid],
) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM log_revisions WHERE tenant = $1 AND log_id = ANY ($2)")
        .bind(tenant.as_str())
        .bind(ids)
        .execute(connection)
        .await
        .map(|_| ())
}

//! Logs as the reconciler counts and compares them, and tombstones that a published receipt proves.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use contracts::audit::lifecycle::UnitId;
use contracts::{RetentionClass, Tenant};
use serde_json::Value;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use crate::model::LogKey;
use crate::store::TOMBSTONE_DAYS;
use crate::store::locks;
use crate::store::read;
use crate::store::units::decoded;

/// Tenants after one, that have rows or a chain or are set up.
pub(crate) async fn tenants(
    connection: &mut PgConnection,
    after: &str,
    limit: i64,
) -> Result<Vec<Tenant>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT id AS tenant FROM tenants WHERE id > $1
         UNION SELECT tenant FROM chain_heads WHERE tenant > $1
         ORDER BY tenant LIMIT $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| decoded(row, "tenant")).collect()
}

/// An hour's logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HourCounts {
    /// Stored and not deleted.
    pub(crate) stored: u64,
    /// Stored although a tombstone says that they are deleted.
    pub(crate) buried: u64,
}

/// Logs recorded in that time, by hour (UTC).
pub(crate) async fn hours(
    connection: &mut PgConnection,
    tenant: &Tenant,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
) -> Result<BTreeMap<DateTime<Utc>, HourCounts>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT date_trunc('hour', l.recorded_at, 'UTC') AS hour,
                count(*) FILTER (WHERE t.id IS NULL) AS stored, count(t.id) AS buried
           FROM logs l LEFT JOIN tombstones t ON t.tenant = l.tenant AND t.id = l.id
          WHERE l.tenant = $1 AND l.recorded_at >= $2 AND l.recorded_at < $3
          GROUP BY 1",
    )
    .bind(tenant.as_str())
    .bind(from)
    .bind(to)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let count = |column: &str| row.try_get::<i64, _>(column).map(i64::cast_unsigned);
            let counts = HourCounts { stored: count("stored")?, buried: count("buried")? };
            Ok((row.try_get("hour")?, counts))
        })
        .collect()
}

/// Marks of that time, by hour (UTC).
pub(crate) async fn marks(
    connection: &mut PgConnection,
    tenant: &Tenant,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
) -> Result<BTreeMap<DateTime<Utc>, u64>, sqlx::Error> {
    let rows: Vec<(DateTime<Utc>, i64)> = sqlx::query_as(
        "SELECT date_trunc('hour', recorded_at, 'UTC'), count(*) FROM archived_logs
          WHERE tenant = $1 AND recorded_at >= $2 AND recorded_at < $3 GROUP BY 1",
    )
    .bind(tenant.as_str())
    .bind(from)
    .bind(to)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|(hour, count)| (hour, count.cast_unsigned())).collect())
}

/// A stored log, in the order of a search.
#[derive(Clone, Debug)]
pub(crate) struct StoredKey {
    pub(crate) key: LogKey,
    /// A tombstone says that it is deleted.
    pub(crate) buried: bool,
}

/// Logs recorded in that time, the newest first, strictly behind `after`.
pub(crate) async fn stored_keys(
    connection: &mut PgConnection,
    tenant: &Tenant,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
    after: Option<(DateTime<Utc>, Uuid)>,
    limit: i64,
) -> Result<Vec<StoredKey>, sqlx::Error> {
    let (at, id) = after.unzip();
    let rows = sqlx::query(
        "SELECT l.tenant, l.retention_class, l.recorded_at, l.id, t.id IS NOT NULL AS buried
           FROM logs l LEFT JOIN tombstones t ON t.tenant = l.tenant AND t.id = l.id
          WHERE l.tenant = $1 AND l.recorded_at >= $2 AND l.recorded_at < $3
            AND ($4::timestamptz IS NULL OR (l.recorded_at, l.id) < ($4, $5::uuid))
          ORDER BY l.recorded_at DESC, l.id DESC LIMIT $6",
    )
    .bind(tenant.as_str())
    .bind(from)
    .bind(to)
    .bind(at)
    .bind(id)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| Ok(StoredKey { key: read::key(row)?, buried: row.try_get("buried")? }))
        .collect()
}

/// What a receipt's tombstones say.
#[derive(Clone, Debug)]
pub(crate) struct Listed<'a> {
    pub(crate) unit: UnitId,
    pub(crate) reason: &'a str,
    pub(crate) requester: &'a Value,
    pub(crate) deleted_at: DateTime<Utc>,
}

/// A log that is to be buried, and where it is stored, if it is.
pub(crate) type Buried = (Uuid, Option<(RetentionClass, DateTime<Utc>)>);

/// Leaves a tombstone for each of these logs, stored or not.
pub(crate) async fn bury_listed(
    connection: &mut PgConnection,
    tenant: &Tenant,
    listed: &Listed<'_>,
    logs: &[Buried],
) -> Result<u64, sqlx::Error> {
    let ids: Vec<Uuid> = logs.iter().map(|log| log.0).collect();
    let classes: Vec<Option<&str>> =
        logs.iter().map(|log| log.1.map(|(class, _)| class.as_str())).collect();
    let times: Vec<Option<DateTime<Utc>>> =
        logs.iter().map(|log| log.1.map(|(_, at)| at)).collect();
    let done = sqlx::query(
        "INSERT INTO tombstones (tenant, id, reason, requester, operation_id, recorded_at,
                                 expires_at, erased_class, erased_recorded_at)
         SELECT $1, n.id, $5, $6, $7, $8, now() + make_interval(days => $9), n.class, n.at
           FROM unnest($2::uuid[], $3::text[], $4::timestamptz[]) AS n (id, class, at)
         ON CONFLICT (tenant, id) DO NOTHING",
    )
    .bind(tenant.as_str())
    .bind(ids)
    .bind(classes)
    .bind(times)
    .bind(listed.reason)
    .bind(listed.requester)
    .bind(listed.unit)
    .bind(listed.deleted_at)
    .bind(TOMBSTONE_DAYS)
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Reasons of tombstones that begin so and whose logs are stored all the same, with how many there are.
pub(crate) async fn buried_receipts(
    connection: &mut PgConnection,
    tenant: &Tenant,
    begins: &str,
    limit: i64,
) -> Result<Vec<(String, u64)>, sqlx::Error> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "SELECT t.reason, count(*) FROM tombstones t
           JOIN logs l ON l.tenant = t.tenant AND l.retention_class = t.erased_class
                      AND l.recorded_at = t.erased_recorded_at AND l.id = t.id
          WHERE t.tenant = $1 AND starts_with(t.reason, $2)
          GROUP BY 1 ORDER BY 1 LIMIT $3",
    )
    .bind(tenant.as_str())
    .bind(begins)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|(reason, count)| (reason, count.cast_unsigned())).collect())
}

/// Logs that are stored although tombstones of that reason say that they are deleted, by id.
pub(crate) async fn buried_rows(
    connection: &mut PgConnection,
    tenant: &Tenant,
    reason: &str,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<LogKey>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT l.tenant, l.retention_class, l.recorded_at, l.id FROM tombstones t
           JOIN logs l ON l.tenant = t.tenant AND l.retention_class = t.erased_class
                      AND l.recorded_at = t.erased_recorded_at AND l.id = t.id
          WHERE t.tenant = $1 AND t.reason = $2 AND ($3::uuid IS NULL OR t.id > $3)
          ORDER BY t.id LIMIT $4",
    )
    .bind(tenant.as_str())
    .bind(reason)
    .bind(after)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.iter().map(read::key).collect()
}

/// Locks the deletions of a unit until the transaction ends.
pub(crate) async fn lock_cleanup(
    connection: &mut PgConnection,
    tenant: &Tenant,
    unit: UnitId,
) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT FROM cleanups WHERE tenant = $1 AND unit_id = $2 ORDER BY scope FOR UPDATE")
        .bind(tenant.as_str())
        .bind(unit)
        .execute(connection)
        .await
        .map(|_| ())
}

/// Holds off erasures of these tenants until the transaction ends: what an insert needs.
pub(crate) async fn share(
    connection: &mut PgConnection,
    tenants: &[&Tenant],
) -> Result<(), sqlx::Error> {
    locks::share(connection, tenants.iter().copied()).await
}

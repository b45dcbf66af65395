//! Reading the table from end to end, for what operators do: rebuilding search from what Postgres
//! holds, and comparing what was accepted with what is stored. In pages, by key, so that it can take
//! as long as it needs beside the running workers.

use chrono::{DateTime, Utc};
use contracts::{LogId, RetentionClass, Tenant};
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::read;
use crate::model::LogKey;

/// Every class that holds logs, with the months of `recorded_at` it holds them for, oldest first:
/// `(class, first instant of the month)`. Reads the whole table once.
pub async fn months(
    connection: &mut PgConnection,
) -> Result<Vec<(RetentionClass, DateTime<Utc>)>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT DISTINCT retention_class, date_trunc('month', recorded_at, 'UTC') AS month
           FROM logs ORDER BY 2, 1",
    )
    .fetch_all(connection)
    .await?;
    let month = |row: &sqlx::postgres::PgRow| {
        let class: &str = row.try_get(0)?;
        let class = class.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        Ok((class, row.try_get(1)?))
    };
    rows.iter().map(month).collect()
}

/// Up to `limit` keys of a class with `from <= recorded_at < to`, in the order of the primary key,
/// strictly after `after`.
pub async fn keys_between(
    connection: &mut PgConnection,
    class: RetentionClass,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
    after: Option<&LogKey>,
    limit: i64,
) -> Result<Vec<LogKey>, sqlx::Error> {
    let start = DateTime::UNIX_EPOCH;
    let (tenant, at, id) = after
        .map_or(("", start, Uuid::nil()), |key| (key.tenant.as_str(), key.recorded_at, key.id.0));
    sqlx::query(
        "SELECT tenant, retention_class, recorded_at, id FROM logs
          WHERE retention_class = $1 AND recorded_at >= $2 AND recorded_at < $3
            AND (tenant, recorded_at, id) > ($4, $5, $6)
          ORDER BY tenant, recorded_at, id LIMIT $7",
    )
    .bind(class.as_str())
    .bind(from)
    .bind(to)
    .bind(tenant)
    .bind(at)
    .bind(id)
    .bind(limit)
    .fetch_all(connection)
    .await?
    .iter()
    .map(read::key)
    .collect()
}

/// How often each of these ids is stored for the tenant; an id that is not stored is absent. More
/// than once would be a fault of ours.
pub async fn times_stored(
    connection: &mut PgConnection,
    tenant: &Tenant,
    ids: &[LogId],
) -> Result<Vec<(LogId, i64)>, sqlx::Error> {
    let rows =
        sqlx::query("SELECT id, count(*) FROM logs WHERE tenant = $1 AND id = ANY($2) GROUP BY id")
            .bind(tenant.as_str())
            .bind(ids.iter().map(|id| id.0).collect::<Vec<Uuid>>())
            .fetch_all(connection)
            .await?;
    rows.iter().map(|row| Ok((LogId(row.try_get(0)?), row.try_get(1)?))).collect()
}

//! Reading the table from end to end, for what operators do: rebuilding search from what Postgres
//! holds, and comparing what was accepted with what is stored. In pages, by key, so that it can take
//! as long as it needs beside the running workers.

use std::collections::BTreeSet;

use chrono::{DateTime, Datelike, NaiveTime, Utc};
use contracts::{LogId, RetentionClass, Tenant};
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::read;
use crate::model::LogKey;

/// Every class that holds logs, with the months of `recorded_at` it holds them for, oldest first:
/// `(class, first instant of the month)`. The months come from the partitions' bounds, and each
/// partition is asked for one row at most, so the work grows with the partitions and not the logs.
pub async fn months(
    connection: &mut PgConnection,
) -> Result<Vec<(RetentionClass, DateTime<Utc>)>, sqlx::Error> {
    let partitions: Vec<(String, DateTime<Utc>, DateTime<Utc>)> = sqlx::query_as(
        "SELECT class, starts_at, ends_at FROM log_partitions ORDER BY starts_at, class",
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut months = BTreeSet::new();
    for (class, from, to) in partitions {
        let month: DateTime<Utc> =
            from.with_day(1).and_then(|day| day.with_time(NaiveTime::MIN).single()).unwrap_or(from);
        let class: RetentionClass =
            class.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        if !months.contains(&(month, class)) && has_logs(connection, class, from, to).await? {
            months.insert((month, class));
        }
    }
    Ok(months.into_iter().map(|(month, class)| (class, month)).collect())
}

/// Whether the class has a log in that time; the bounds lead to one partition.
async fn has_logs(
    connection: &mut PgConnection,
    class: RetentionClass,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM logs
          WHERE retention_class = $1 AND recorded_at >= $2 AND recorded_at < $3)",
    )
    .bind(class.as_str())
    .bind(from)
    .bind(to)
    .fetch_one(connection)
    .await
}

/// About how many logs there are, of one class or of all, by PostgreSQL's own statistics: for a
/// progress bar, never for a decision. Partitions that were not looked at yet count as empty.
pub async fn logs_estimated(
    connection: &mut PgConnection,
    class: Option<RetentionClass>,
) -> Result<u64, sqlx::Error> {
    let logs: i64 = sqlx::query_scalar(
        "SELECT coalesce(sum(greatest(of.reltuples, 0)), 0)::bigint
           FROM log_partitions JOIN pg_class of
             ON of.oid = to_regclass('public.' || quote_ident(partition))
          WHERE $1::text IS NULL OR class = $1",
    )
    .bind(class.map(RetentionClass::as_str))
    .fetch_one(connection)
    .await?;
    Ok(u64::try_from(logs).unwrap_or(0))
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

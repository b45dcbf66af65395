//! Reading logs back, each with what its revisions add up to: for the API's answers, for search
//! documents and for the live tail's backfill.

use bytes::Bytes;
use chrono::{DateTime, Duration, Utc};
use contracts::{LogId, Tenant};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{PgConnection, Postgres, Row};
use uuid::Uuid;

use crate::model::{LogKey, StoredLog};

/// The state of a log `l`: its row and the newest tags and annotation by acceptance. The two
/// sub-selects are empty for the many logs without revisions and cost them nothing.
macro_rules! state {
    () => {
        "l.tenant, l.id, l.retention_class, l.recorded_at, l.record,
       l.ingest_xid::text::bigint AS ingest_xid, l.revision,
       CASE WHEN l.revision > 0 THEN (SELECT r.tags FROM log_revisions r
           WHERE r.tenant = l.tenant AND r.log_id = l.id AND r.tags IS NOT NULL
           ORDER BY r.recorded_at DESC, r.envelope_id DESC LIMIT 1) END AS tags,
       CASE WHEN l.revision > 0 THEN (SELECT r.annotation FROM log_revisions r
           WHERE r.tenant = l.tenant AND r.log_id = l.id AND r.annotation IS NOT NULL
           ORDER BY r.recorded_at DESC, r.envelope_id DESC LIMIT 1) END AS annotation"
    };
}

const BY_KEYS: &str = concat!(
    "SELECT ",
    state!(),
    "
  FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::uuid[])
       AS k (tenant, class, recorded_at, id)
  JOIN logs l ON l.tenant = k.tenant AND l.retention_class = k.class
             AND l.recorded_at = k.recorded_at AND l.id = k.id
 WHERE l.recorded_at BETWEEN $5 AND $6"
);

/// The length of a `bytea` is read from its TOAST pointer: what is left out is not fetched.
const PAGE: &str = concat!(
    "SELECT * FROM (SELECT k.place,
       sum(octet_length(l.record)) OVER (ORDER BY k.place) AS bytes_so_far,
       sum(octet_length(l.record)) OVER () AS bytes_in_all, ",
    state!(),
    "
  FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::uuid[])
       WITH ORDINALITY AS k (tenant, class, recorded_at, id, place)
  JOIN logs l ON l.tenant = k.tenant AND l.retention_class = k.class
             AND l.recorded_at = k.recorded_at AND l.id = k.id
 WHERE l.recorded_at BETWEEN $5 AND $6) page
 WHERE bytes_so_far <= $7 ORDER BY place"
);

const BY_V7: &str = concat!(
    "SELECT ",
    state!(),
    " FROM logs l WHERE l.tenant = $1 AND l.id = $2 AND l.recorded_at >= $3 AND l.recorded_at < $4"
);

const BY_OTHER_ID: &str = concat!(
    "SELECT ",
    state!(),
    " FROM logs l WHERE l.tenant = $1 AND l.id = $2 AND (get_byte(uuid_send(l.id), 6) >> 4) <> 7"
);

const BACKFILL: &str = concat!(
    "SELECT ",
    state!(),
    " FROM logs l
 WHERE l.tenant = $1 AND (l.ingest_xid, l.id) > ($2::text::xid8, $3)
   AND l.ingest_xid < pg_snapshot_xmin(pg_current_snapshot())
 ORDER BY l.ingest_xid, l.id LIMIT $4"
);

/// A query over several keys: the keys as columns, then their bounds in time; none for no keys.
fn asking_for<'a>(
    sql: &'static str,
    keys: &'a [LogKey],
) -> Option<Query<'a, Postgres, PgArguments>> {
    // Bounds as plain parameters: the planner prunes partitions by them before the join.
    let first = keys.iter().map(|key| key.recorded_at).min()?;
    let last = keys.iter().map(|key| key.recorded_at).max()?;
    let query = sqlx::query(sql)
        .bind(keys.iter().map(|key| key.tenant.as_str()).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.class.as_str()).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.recorded_at).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.id.0).collect::<Vec<_>>())
        .bind(first)
        .bind(last);
    Some(query)
}

/// The logs of those keys that are stored, in no particular order; erased ones are absent.
pub async fn fetch_by_keys(
    connection: &mut PgConnection,
    keys: &[LogKey],
) -> Result<Vec<StoredLog>, sqlx::Error> {
    let Some(query) = asking_for(BY_KEYS, keys) else { return Ok(Vec::new()) };
    query.fetch_all(connection).await?.iter().map(stored).collect()
}

/// The first of those of the logs that are stored, in the order of `keys`, as many as have at most
/// `bytes_max` bytes of records together; and whether there are more.
pub async fn fetch_page(
    connection: &mut PgConnection,
    keys: &[LogKey],
    bytes_max: i64,
) -> Result<(Vec<StoredLog>, bool), sqlx::Error> {
    let Some(query) = asking_for(PAGE, keys) else { return Ok((Vec::new(), false)) };
    let rows = query.bind(bytes_max).fetch_all(connection).await?;
    let more = match rows.first() {
        Some(row) => row.try_get::<i64, _>("bytes_in_all")? > bytes_max,
        None => false,
    };
    Ok((rows.iter().map(stored).collect::<Result<_, _>>()?, more))
}

/// The log of that id, or nothing when it is not stored, erased or another tenant's.
pub async fn find(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: LogId,
) -> Result<Option<StoredLog>, sqlx::Error> {
    let query = match millisecond(id) {
        Some((from, to)) => sqlx::query(BY_V7).bind(tenant.as_str()).bind(id.0).bind(from).bind(to),
        None => sqlx::query(BY_OTHER_ID).bind(tenant.as_str()).bind(id.0),
    };
    query.fetch_optional(connection).await?.as_ref().map(stored).transpose()
}

/// The half-open millisecond that a `UUIDv7` carries; `None` for other ids.
pub(super) fn millisecond(id: LogId) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let from = id.recorded_millis()?;
    Some((from, from.checked_add_signed(Duration::milliseconds(1))?))
}

/// Up to `limit` logs of the tenant after `(xid, id)` in the order in which they became visible.
/// Only transactions that nothing running can still precede are read, so a reader that goes on from
/// the last one it got misses none.
pub async fn backfill_after(
    connection: &mut PgConnection,
    tenant: &Tenant,
    after: (u64, LogId),
    limit: i64,
) -> Result<Vec<StoredLog>, sqlx::Error> {
    sqlx::query(BACKFILL)
        .bind(tenant.as_str())
        .bind(after.0.to_string())
        .bind(after.1.0)
        .bind(limit)
        .fetch_all(connection)
        .await?
        .iter()
        .map(stored)
        .collect()
}

/// Where the live tail stands now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedPosition {
    /// Bumped after a restore; cursors of another epoch mean nothing.
    pub epoch: i64,
    /// Every transaction below it has ended: a cursor just below it misses nothing that comes.
    pub horizon: u64,
}

/// The epoch and the transaction below which nothing will appear any more.
pub async fn feed_position(connection: &mut PgConnection) -> Result<FeedPosition, sqlx::Error> {
    let row = sqlx::query(
        "SELECT epoch, pg_snapshot_xmin(pg_current_snapshot())::text::bigint FROM feed_epoch",
    )
    .fetch_one(connection)
    .await?;
    Ok(FeedPosition { epoch: row.try_get(0)?, horizon: row.try_get::<i64, _>(1)?.cast_unsigned() })
}

fn stored(row: &PgRow) -> Result<StoredLog, sqlx::Error> {
    Ok(StoredLog {
        key: key(row)?,
        record: Bytes::from(row.try_get::<Vec<u8>, _>("record")?),
        ingest_xid: row.try_get::<i64, _>("ingest_xid")?.cast_unsigned(),
        revision: row.try_get("revision")?,
        tags: row.try_get("tags")?,
        annotation: row.try_get("annotation")?,
    })
}

/// The columns `tenant`, `retention_class`, `recorded_at` and `id` as a key.
pub(super) fn key(row: &PgRow) -> Result<LogKey, sqlx::Error> {
    Ok(LogKey {
        tenant: parsed(row, "tenant")?,
        class: parsed(row, "retention_class")?,
        recorded_at: row.try_get("recorded_at")?,
        id: LogId(row.try_get::<Uuid, _>("id")?),
    })
}

fn parsed<T>(row: &PgRow, column: &str) -> Result<T, sqlx::Error>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    row.try_get::<&str, _>(column)?.parse().map_err(|error: T::Err| sqlx::Error::ColumnDecode {
        index: column.to_owned(),
        source: Box::new(error),
    })
}

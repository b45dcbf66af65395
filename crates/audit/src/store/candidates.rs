//! The stream that a plan is made of: a tenant's logs in the order of `(recorded_at, id)`, in chunks by
//! key, so that it can take as long as it needs beside everything else and its memory is that of a
//! chunk's columns. Records are read only where a rule asks for metadata, one at a time.

use contracts::{LogId, Tenant};
use futures_util::TryStreamExt;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::export::keys_of;
use crate::record::{Outcome, Record};
use crate::retention::plan::Place;
use crate::retention::{Candidate, Planner};

/// Rows of one chunk.
pub const CHUNK_ROWS: i64 = 5_000;

/// What a plan looks at of a log; `$1` is the tenant, `$2` whether records are read.
macro_rules! columns {
    () => {
        "SELECT logs.retention_class, logs.recorded_at, logs.id, octet_length(record) AS bytes, actor_type,
       actor_id, action, outcome, target_types,
       (SELECT a.unit_id FROM archived_logs a
          JOIN archive_objects o ON o.tenant = a.tenant AND o.unit_id = a.unit_id AND o.removed_at IS NULL
         WHERE a.tenant = logs.tenant AND a.recorded_at = logs.recorded_at AND a.id = logs.id
         LIMIT 1) AS archived,
       CASE WHEN $2 THEN record END AS record
  FROM logs"
    };
}

const CHUNK: &str = concat!(
    columns!(),
    " WHERE tenant = $1 AND recorded_at < $3 AND ingest_xid < $4::text::xid8
   AND recorded_at >= $5 AND (recorded_at, id) > ($5, $6)
 ORDER BY recorded_at, id LIMIT $7"
);

const THESE: &str = concat!(
    columns!(),
    " JOIN unnest($3::text[], $4::timestamptz[], $5::uuid[]) AS n (class, at, id)
      ON logs.retention_class = n.class AND logs.recorded_at = n.at AND logs.id = n.id
 WHERE tenant = $1 AND ingest_xid < $6::text::xid8
 ORDER BY logs.recorded_at, logs.id"
);

/// How far a chunk brought a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    /// There may be more after this place.
    More(Place),
    /// Every log was looked at.
    End,
    /// The plan takes no more.
    Full,
}

/// Feeds a plan with the logs after `after`, one chunk of at most [`CHUNK_ROWS`].
pub async fn feed(
    connection: &mut PgConnection,
    tenant: &Tenant,
    planner: &mut Planner,
    after: Option<Place>,
) -> Result<Fed, sqlx::Error> {
    let start = Place { recorded_at: chrono::DateTime::UNIX_EPOCH, id: LogId(Uuid::nil()) };
    let after = after.unwrap_or(start);
    let with_records = planner.needs_metadata();
    let mut rows = sqlx::query(CHUNK)
        .bind(tenant.as_str())
        .bind(with_records)
        .bind(planner.cutoff())
        .bind(planner.snapshot_xmin().to_string())
        .bind(after.recorded_at)
        .bind(after.id.0)
        .bind(CHUNK_ROWS)
        .fetch(connection);
    let (mut count, mut last) = (0, after);
    while let Some(row) = rows.try_next().await? {
        let log = candidate(&row)?;
        count += 1;
        last = Place { recorded_at: log.recorded_at, id: log.id };
        if !planner.add(&log) {
            return Ok(Fed::Full);
        }
    }
    Ok(if count < CHUNK_ROWS { Fed::End } else { Fed::More(last) })
}

/// Feeds a plan with these logs, those that are stored, in the plan's order. A request names a thousand at
/// most.
pub async fn feed_these(
    connection: &mut PgConnection,
    tenant: &Tenant,
    planner: &mut Planner,
    ids: &[LogId],
) -> Result<Fed, sqlx::Error> {
    let keys = keys_of(connection, tenant, ids).await?;
    let (mut classes, mut times, mut stored) = (Vec::new(), Vec::new(), Vec::new());
    for (class, at, id, _) in keys {
        classes.push(class.as_str());
        times.push(at);
        stored.push(id);
    }
    let with_records = planner.needs_metadata();
    let mut rows = sqlx::query(THESE)
        .bind(tenant.as_str())
        .bind(with_records)
        .bind(classes)
        .bind(times)
        .bind(stored)
        .bind(planner.snapshot_xmin().to_string())
        .fetch(connection);
    while let Some(row) = rows.try_next().await? {
        if !planner.add(&candidate(&row)?) {
            return Ok(Fed::Full);
        }
    }
    Ok(Fed::End)
}

fn candidate(row: &PgRow) -> Result<Candidate, sqlx::Error> {
    let class: &str = row.try_get("retention_class")?;
    let class = class.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    let record: Option<&[u8]> = row.try_get("record")?;
    let metadata = match record {
        Some(bytes) => {
            let record = Record::parse(bytes).map_err(|error| sqlx::Error::Decode(error.into()))?;
            record.event.metadata.map(sinks::search::fields::metadata)
        }
        None => None,
    };
    Ok(Candidate {
        class,
        recorded_at: row.try_get("recorded_at")?,
        id: LogId(row.try_get("id")?),
        bytes: u64::try_from(row.try_get::<i32, _>("bytes")?).unwrap_or(0),
        actor_type: row.try_get("actor_type")?,
        actor_id: row.try_get("actor_id")?,
        action: row.try_get("action")?,
        outcome: outcome(row.try_get("outcome")?),
        target_types: row.try_get("target_types")?,
        metadata,
        archived: row.try_get("archived")?,
    })
}

fn outcome(text: &str) -> Outcome {
    let known = [Outcome::Success, Outcome::Failure, Outcome::Denied];
    known.into_iter().find(|outcome| outcome.as_str() == text).unwrap_or_default()
}

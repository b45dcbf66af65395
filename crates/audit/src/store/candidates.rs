//! The stream that a plan is made of: a tenant's logs in the order of `(recorded_at, id)`, in chunks by
//! key, so that it can take as long as it needs beside everything else and its memory is that of a
//! chunk's columns. Records are read only where a rule asks for metadata, one at a time.

use contracts::{LogId, Tenant};
use futures_util::TryStreamExt;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use crate::record::{Outcome, Record};
use crate::retention::plan::Place;
use crate::retention::{Candidate, Planner};

/// Rows of one chunk.
pub const CHUNK_ROWS: i64 = 5_000;

const CHUNK: &str = "\
SELECT retention_class, recorded_at, id, octet_length(record) AS bytes, actor_type, actor_id, action,
       outcome, target_types,
       (SELECT a.unit_id FROM archived_logs a
          JOIN archive_objects o ON o.tenant = a.tenant AND o.unit_id = a.unit_id AND o.removed_at IS NULL
         WHERE a.tenant = logs.tenant AND a.recorded_at = logs.recorded_at AND a.id = logs.id
         LIMIT 1) AS archived,
       CASE WHEN $6 THEN record END AS record
  FROM logs
 WHERE tenant = $1 AND recorded_at < $2 AND ingest_xid < $3::text::xid8
   AND recorded_at >= $4 AND (recorded_at, id) > ($4, $5)
 ORDER BY recorded_at, id LIMIT $7";

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
        .bind(planner.cutoff())
        .bind(planner.snapshot_xmin().to_string())
        .bind(after.recorded_at)
        .bind(after.id.0)
        .bind(with_records)
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

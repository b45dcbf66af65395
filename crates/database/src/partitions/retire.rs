//! Partitions of `logs` that nothing is left in: detached when their time is long over, dropped days later, so
//! that the disk comes back.
//!
//! It never takes a row away: rows go one by one, each with a tombstone and in a receipt, and what is empty
//! after that goes here. PostgreSQL decides, by its own clock and under its own locks, whether a partition is old
//! and empty (migration 17); a scheduler with a wrong clock, or two of them, change nothing.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use contracts::RetentionClass;
use serde::Serialize;
use sqlx::{PgConnection, PgPool};

use super::DAYS_BEHIND;
use crate::error::timed;

/// Days since its end after which an empty partition may go. As long as a tombstone is kept, which is longer
/// than a message can come again. The function in PostgreSQL insists on the same.
pub const IDLE_DAYS: u32 = 60;
// What is made ahead of time is never what goes.
const _: () = assert!(IDLE_DAYS > DAYS_BEHIND, "a partition that is made again each round");

/// Detached by one round.
pub const DETACHED_MAX: usize = 32;
/// Looked at by one round.
pub const LOOKED_MAX: u32 = 1_000;
/// Dropped by one round.
pub const DROPPED_MAX: u32 = 200;
/// Locks that were not to be had, after which a round ends: each of them has kept the class waiting for as long
/// as its timeout, 200 ms.
pub const BUSY_MAX: u32 = 3;
/// For one call. The server's own statement timeout does not help when the network swallows the answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// A partition that went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gone {
    /// Its table.
    pub partition: String,
    /// Bytes on disk with its indexes, just before.
    pub bytes: u64,
}

/// What a round did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Retired {
    /// Detached now; their disk comes back when they are dropped.
    pub detached: Vec<Gone>,
    /// Dropped now.
    pub dropped: Vec<Gone>,
    /// Detached before, and due to be dropped, but somebody wrote into them by hand: they stay.
    pub occupied: Vec<String>,
    /// Locks that were not to be had, or looks that took too long; the next round tries again.
    pub busy: u32,
    /// What PostgreSQL refused, partition and reason; the others went on.
    pub failed: Vec<String>,
    /// Whether the next round should not be far: it was not all.
    pub more: bool,
}

/// Where the next round goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress(Option<(DateTime<Utc>, String)>);

enum Answer {
    Done(String, u64),
    /// A lock was not to be had in time, or the look took too long.
    Busy,
    Failed(String),
}

/// One round, bounded: drops what was detached `drop_after` ago or longer, then detaches what is empty. Every
/// step is a transaction; a death between any two is as if the round had ended there.
pub async fn round(
    pool: &PgPool,
    progress: &mut Progress,
    drop_after: TimeDelta,
) -> Result<Retired, sqlx::Error> {
    let mut retired = Retired::default();
    drop_due(pool, drop_after, &mut retired).await?;
    detach_empty(pool, progress, &mut retired).await?;
    Ok(retired)
}

async fn drop_due(
    pool: &PgPool,
    drop_after: TimeDelta,
    retired: &mut Retired,
) -> Result<(), sqlx::Error> {
    let term = seconds(drop_after);
    let due: Vec<String> = sqlx::query_scalar(
        "SELECT partition FROM detached_partitions
          WHERE dropped_at IS NULL AND detached_at <= now() - make_interval(secs => $1)
          ORDER BY occupied_at NULLS FIRST, detached_at LIMIT $2",
    )
    .bind(term)
    .bind(i64::from(DROPPED_MAX))
    .fetch_all(pool)
    .await?;
    retired.more |= due.len() >= DROPPED_MAX as usize;
    for partition in due {
        let call = sqlx::query_as(
            "SELECT outcome, bytes FROM flotilla_drop_partition($1, make_interval(secs => $2))",
        )
        .bind(&partition)
        .bind(term);
        match answer(timed(CALL_TIMEOUT, call.fetch_one(pool)).await)? {
            Answer::Done(outcome, bytes) if outcome == "dropped" => {
                retired.dropped.push(Gone { partition, bytes });
            }
            Answer::Done(outcome, _) if outcome == "occupied" => retired.occupied.push(partition),
            // Another was there first.
            Answer::Done(..) => {}
            Answer::Busy => retired.busy += 1,
            Answer::Failed(why) => retired.failed.push(format!("{partition}: {why}")),
        }
    }
    retired.more |= retired.busy > 0;
    Ok(())
}

async fn detach_empty(
    pool: &PgPool,
    progress: &mut Progress,
    retired: &mut Retired,
) -> Result<(), sqlx::Error> {
    let (ends_at, name) = progress.0.clone().unwrap_or((DateTime::UNIX_EPOCH, String::new()));
    let old: Vec<(DateTime<Utc>, String)> = sqlx::query_as(
        "SELECT ends_at, partition FROM log_partitions
          WHERE ends_at <= now() - make_interval(days => $1) AND (ends_at, partition) > ($2, $3)
          ORDER BY ends_at, partition LIMIT $4",
    )
    .bind(i32::try_from(IDLE_DAYS).unwrap_or(i32::MAX))
    .bind(ends_at)
    .bind(name)
    .bind(i64::from(LOOKED_MAX))
    .fetch_all(pool)
    .await?;
    let (mut left, mut busy) = (old.len() >= LOOKED_MAX as usize, 0);
    for place in old {
        if retired.detached.len() >= DETACHED_MAX || busy >= BUSY_MAX {
            left = true;
            break;
        }
        let partition = place.1.clone();
        let call = sqlx::query_as("SELECT outcome, bytes FROM flotilla_detach_partition($1)")
            .bind(&partition);
        let answered = answer(timed(CALL_TIMEOUT, call.fetch_one(pool)).await)?;
        progress.0 = Some(place);
        match answered {
            Answer::Done(outcome, bytes) if outcome == "detached" => {
                retired.detached.push(Gone { partition, bytes });
            }
            Answer::Done(..) => {}
            Answer::Busy => busy += 1,
            Answer::Failed(why) => retired.failed.push(format!("{partition}: {why}")),
        }
    }
    if !left {
        *progress = Progress::default();
    }
    retired.busy += busy;
    retired.more |= left || busy > 0;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a span of days in seconds, far below 2^52")]
const fn seconds(span: TimeDelta) -> f64 {
    span.num_seconds() as f64
}

/// What was answered; an error where nobody answered.
fn answer(called: Result<(String, Option<i64>), sqlx::Error>) -> Result<Answer, sqlx::Error> {
    match called {
        Ok((outcome, bytes)) => {
            Ok(Answer::Done(outcome, u64::try_from(bytes.unwrap_or(0)).unwrap_or(0)))
        }
        Err(sqlx::Error::Database(refused)) => Ok(match refused.code().as_deref() {
            // lock_not_available, deadlock_detected, query_canceled.
            Some("55P03" | "40P01" | "57014") => Answer::Busy,
            _ => Answer::Failed(refused.to_string()),
        }),
        Err(error) => Err(error),
    }
}

/// Makes the partition of a log that comes late anew, where there was one that is retired; `false` when there
/// was none. In the caller's transaction, which stores the log: until then the next round would find it empty.
pub async fn remake(
    connection: &mut PgConnection,
    class: RetentionClass,
    at: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let made: Option<bool> = sqlx::query_scalar(
        "SELECT flotilla_make_partition($1, $2) WHERE EXISTS
           (SELECT FROM detached_partitions WHERE class = $1 AND starts_at <= $2 AND ends_at > $2)",
    )
    .bind(class.as_str())
    .bind(at)
    .fetch_optional(connection)
    .await?;
    Ok(made.is_some())
}

/// What an operator sees of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Summary {
    /// Detached, and not dropped yet.
    pub waiting: i64,
    /// Their bytes when they were detached.
    pub waiting_bytes: i64,
    /// Of those, the ones that somebody wrote into by hand: nobody drops them.
    pub occupied: Vec<String>,
    /// Dropped in the last 30 days.
    pub dropped: i64,
    /// The bytes that came back by that.
    pub dropped_bytes: i64,
}

/// Counts what was retired, by PostgreSQL's clock.
pub async fn summary(pool: &PgPool) -> Result<Summary, sqlx::Error> {
    sqlx::query_as(
        "SELECT count(*) FILTER (WHERE dropped_at IS NULL) AS waiting,
                coalesce(sum(detached_bytes) FILTER (WHERE dropped_at IS NULL), 0)::bigint AS waiting_bytes,
                coalesce(array_agg(partition ORDER BY partition)
                         FILTER (WHERE dropped_at IS NULL AND occupied_at IS NOT NULL), '{}') AS occupied,
                count(*) FILTER (WHERE dropped_at > now() - interval '30 days') AS dropped,
                coalesce(sum(dropped_bytes) FILTER (WHERE dropped_at > now() - interval '30 days'), 0)::bigint
                  AS dropped_bytes
           FROM detached_partitions",
    )
    .fetch_one(pool)
    .await
}

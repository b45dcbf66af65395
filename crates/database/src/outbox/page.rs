//! The outbox's SQL. A relay takes a queue for a time, reads a page, sends it without a connection or a
//! transaction, and takes out what was sent in the transaction that gives the queue back. A queue whose
//! relay died is another's when that time is over.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgConnection, PgPool, Row};

/// Messages that are counted per queue at most.
pub const COUNT_MAX: i64 = 100_000;

/// What waits for a queue.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QueueFigures {
    /// The catalogue's key.
    pub queue: String,
    /// Messages, counted up to [`COUNT_MAX`].
    pub depth: i64,
    /// Those among them that the broker has refused.
    pub refused: i64,
    /// Seconds since the oldest was put; zero where there is none.
    pub oldest_age_secs: f64,
}

/// What waits for each of these queues, in their order.
pub async fn figures(pool: &PgPool, queues: &[&str]) -> Result<Vec<QueueFigures>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT q.queue,
                (SELECT count(*) FROM (SELECT FROM outbox o WHERE o.queue = q.queue LIMIT $2) AS c),
                (SELECT count(*) FROM (SELECT FROM outbox o WHERE o.queue = q.queue
                    AND o.not_before IS NOT NULL LIMIT $2) AS r),
                coalesce((SELECT extract(epoch FROM clock_timestamp() - o.created_at)::float8
                    FROM outbox o WHERE o.queue = q.queue ORDER BY o.id LIMIT 1), 0)
           FROM unnest($1::text[]) WITH ORDINALITY AS q (queue, place) ORDER BY q.place",
    )
    .bind(queues)
    .bind(COUNT_MAX)
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(QueueFigures {
                queue: row.try_get(0)?,
                depth: row.try_get(1)?,
                refused: row.try_get(2)?,
                oldest_age_secs: row.try_get(3)?,
            })
        })
        .collect()
}

/// Makes the rows that relays lock.
pub(super) async fn ensure(pool: &PgPool, queues: &[&str]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO outbox_queues (queue) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING",
    )
    .bind(queues)
    .execute(pool)
    .await
    .map(|_| ())
}

/// Those of the queues for which something waits that may be sent now.
pub(super) async fn due(pool: &PgPool, queues: &[&str]) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT q.queue FROM outbox_queues q
          WHERE q.queue = ANY ($1) AND (q.not_before IS NULL OR q.not_before <= clock_timestamp())
            AND EXISTS (SELECT FROM outbox o WHERE o.queue = q.queue
                          AND (o.not_before IS NULL OR o.not_before <= clock_timestamp()))
          ORDER BY q.queue",
    )
    .bind(queues)
    .fetch_all(pool)
    .await
}

/// A queue that a relay has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// Sends in a row that it did not answer.
    pub(super) failures: u32,
    /// By PostgreSQL's clock; what is done later is another relay's to do.
    until: DateTime<Utc>,
}

/// Takes the queue for a time, or nothing while another relay has it or it is left alone.
pub(super) async fn take(
    pool: &PgPool,
    queue: &str,
    lease: Duration,
) -> Result<Option<Held>, sqlx::Error> {
    let taken: Option<(i32, DateTime<Utc>)> = sqlx::query_as(
        "UPDATE outbox_queues SET not_before = clock_timestamp() + make_interval(secs => $2)
          WHERE queue = $1 AND (not_before IS NULL OR not_before <= clock_timestamp())
         RETURNING failures, not_before",
    )
    .bind(queue)
    .bind(lease.as_secs_f64())
    .fetch_optional(pool)
    .await?;
    Ok(taken.map(|(failures, until)| Held { failures: failures.unsigned_abs(), until }))
}

/// A message that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) id: i64,
    pub(super) group: String,
    /// Its place among those of its group, from 1.
    pub(super) turn: i64,
    pub(super) envelope: Vec<u8>,
    pub(super) frame: Vec<u8>,
    pub(super) refusals: u32,
}

/// Which messages make a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) queue: &'a str,
    /// Behind a refused message its group waits.
    pub(super) fifo: bool,
    /// At most so many.
    pub(super) rows: i64,
    /// At most about so many bytes, but one message in any case.
    pub(super) bytes: i64,
    /// Groups that come after this one; an empty name is before all.
    pub(super) after: &'a str,
}

/// Messages of the queue that may be sent now: the first of each group in turn, then the second of each,
/// and so on. A group's own are in the order of their ids, and one that has many keeps no other waiting.
pub(super) async fn read(pool: &PgPool, wanted: Wanted<'_>) -> Result<Vec<Waiting>, sqlx::Error> {
    let rows = sqlx::query(
        "WITH RECURSIVE groups (grp, n) AS (
           SELECT $5::text, 0
           UNION ALL
           SELECT (SELECT o.grp FROM outbox o WHERE o.queue = $1 AND o.grp > g.grp
                    ORDER BY o.grp LIMIT 1), g.n + 1
             FROM groups g WHERE g.grp IS NOT NULL AND g.n < $3),
         page AS (
           SELECT line.id, line.turn,
                  sum(line.bytes) OVER (ORDER BY line.turn, g.grp) - line.bytes AS before
             FROM groups g CROSS JOIN LATERAL (
               SELECT own.id, own.bytes, row_number() OVER (ORDER BY own.id) AS turn
                 FROM (SELECT id, octet_length(envelope) AS bytes FROM outbox AS one
                        WHERE one.queue = $1 AND one.grp = g.grp
                          AND (one.not_before IS NULL OR one.not_before <= clock_timestamp())
                          AND NOT ($2 AND EXISTS (
                            SELECT FROM outbox AS held
                             WHERE held.queue = one.queue AND held.grp = one.grp
                               AND held.id < one.id AND held.not_before > clock_timestamp()))
                        ORDER BY one.id LIMIT $3) AS own) AS line
            WHERE g.grp IS NOT NULL AND (g.n > 0 OR g.grp = '')
            ORDER BY line.turn, g.grp LIMIT $3)
         SELECT o.id, o.grp, page.turn, o.envelope, o.frame, o.refusals
           FROM page JOIN outbox o ON o.id = page.id
          WHERE page.before < $4 ORDER BY page.turn, o.grp",
    )
    .bind(wanted.queue)
    .bind(wanted.fifo)
    .bind(wanted.rows)
    .bind(wanted.bytes)
    .bind(wanted.after)
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Waiting {
                id: row.try_get("id")?,
                group: row.try_get("grp")?,
                turn: row.try_get("turn")?,
                envelope: row.try_get("envelope")?,
                frame: row.try_get("frame")?,
                refusals: row.try_get::<i32, _>("refusals")?.unsigned_abs(),
            })
        })
        .collect()
}

/// Takes out what the broker has.
pub(super) async fn forget(transaction: &mut PgConnection, ids: &[i64]) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM outbox WHERE id = ANY ($1)")
        .bind(ids)
        .execute(transaction)
        .await
        .map(|_| ())
}

/// The broker refused a message: it waits.
pub(super) async fn refused(
    transaction: &mut PgConnection,
    id: i64,
    wait: Duration,
    why: &str,
) -> Result<(), sqlx::Error> {
    // What a text column takes, and no more than somebody reads.
    let why: String = why.chars().filter(|c| *c != '\0').take(1_000).collect();
    sqlx::query(
        "UPDATE outbox SET refusals = refusals + 1, last_error = $3,
                not_before = clock_timestamp() + make_interval(secs => $2)
          WHERE id = $1",
    )
    .bind(id)
    .bind(wait.as_secs_f64())
    .bind(why)
    .execute(transaction)
    .await
    .map(|_| ())
}

/// How the queue answered: left alone for `wait`, or free at once. Nothing where another has it by now.
pub(super) async fn answered(
    transaction: &mut PgConnection,
    queue: &str,
    held: Held,
    failures: u32,
    wait: Option<Duration>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE outbox_queues SET failures = $3,
                not_before = clock_timestamp() + make_interval(secs => $4)
          WHERE queue = $1 AND not_before = $2",
    )
    .bind(queue)
    .bind(held.until)
    .bind(i32::try_from(failures).unwrap_or(i32::MAX))
    .bind(wait.map(|wait| wait.as_secs_f64()))
    .execute(transaction)
    .await
    .map(|_| ())
}

//! The outbox's SQL. A page is read, sent and taken out in one transaction that holds the queue's row
//! locked: one relay sends to a queue at a time, and its crash gives both back at once.

use std::time::Duration;

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

/// Takes the queue until the transaction ends: its failures so far, or `None` while another relay has
/// it or it is left alone.
pub(super) async fn take(
    transaction: &mut PgConnection,
    queue: &str,
) -> Result<Option<u32>, sqlx::Error> {
    let failures: Option<i32> = sqlx::query_scalar(
        "SELECT failures FROM outbox_queues
          WHERE queue = $1 AND (not_before IS NULL OR not_before <= clock_timestamp())
            FOR UPDATE SKIP LOCKED",
    )
    .bind(queue)
    .fetch_optional(transaction)
    .await?;
    Ok(failures.map(i32::unsigned_abs))
}

/// A message that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) id: i64,
    pub(super) group: String,
    pub(super) envelope: Vec<u8>,
    pub(super) frame: Vec<u8>,
    pub(super) refusals: u32,
}

/// The first messages of the queue that may be sent now, in order: at most `rows`, and about `bytes`,
/// but one in any case. Behind a refused message its group waits, where `fifo`.
pub(super) async fn read(
    transaction: &mut PgConnection,
    queue: &str,
    fifo: bool,
    rows: i64,
    bytes: i64,
) -> Result<Vec<Waiting>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT o.id, o.grp, o.envelope, o.frame, o.refusals
           FROM (SELECT c.id, sum(c.bytes) OVER (ORDER BY c.id) - c.bytes AS before
                   FROM (SELECT id, octet_length(envelope) AS bytes FROM outbox AS own
                          WHERE queue = $1
                            AND (not_before IS NULL OR not_before <= clock_timestamp())
                            AND NOT ($2 AND EXISTS (
                              SELECT FROM outbox AS held
                               WHERE held.queue = own.queue AND held.grp = own.grp
                                 AND held.id < own.id AND held.not_before > clock_timestamp()))
                          ORDER BY id LIMIT $3) AS c) AS page
           JOIN outbox o ON o.id = page.id
          WHERE page.before < $4 ORDER BY o.id",
    )
    .bind(queue)
    .bind(fifo)
    .bind(rows)
    .bind(bytes)
    .fetch_all(transaction)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Waiting {
                id: row.try_get("id")?,
                group: row.try_get("grp")?,
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

/// How the queue answered: left alone for `wait`, or not.
pub(super) async fn answered(
    transaction: &mut PgConnection,
    queue: &str,
    failures: u32,
    wait: Option<Duration>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE outbox_queues SET failures = $2,
                not_before = clock_timestamp() + make_interval(secs => $3)
          WHERE queue = $1",
    )
    .bind(queue)
    .bind(i32::try_from(failures).unwrap_or(i32::MAX))
    .bind(wait.map(|wait| wait.as_secs_f64()))
    .execute(transaction)
    .await
    .map(|_| ())
}

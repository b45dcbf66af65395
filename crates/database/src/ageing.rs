//! Ageing out of the small tables: rows whose term has ended, in bounded transactions.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;

use crate::alerts::ALERTS_TERM;

/// How long an idempotency key is remembered.
pub const INGEST_KEYS_TERM: Duration = Duration::from_hours(24);
/// How long a failure of a message that never ended is remembered: longer than a message can live,
/// 14 days in its queue and 14 in the dead-letter queue.
pub const ATTEMPTS_TERM: Duration = Duration::from_hours(30 * 24);
/// Rows per transaction.
pub const BATCH: i64 = 5_000;
/// Transactions per table and run; the next run goes on.
pub const BATCHES_MAX: u32 = 200;

/// Rows that went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Aged {
    /// Idempotency keys.
    pub ingest_keys: u64,
    /// Tombstones, each at its own `expires_at` (60 days after the erasure).
    pub tombstones: u64,
    /// Failures.
    pub attempts: u64,
    /// Tickets for the live tail that nobody used in their minute.
    pub live_tickets: u64,
    /// Effects, each at its own `expires_at` ([`crate::effects::EFFECTS_TERM`] after it).
    pub effects: u64,
    /// Operators' decisions over effects, each at its own `expires_at`
    /// ([`crate::effects::desk::DECISIONS_TERM`] after it).
    pub effect_decisions: u64,
    /// Alerts that are closed, [`crate::alerts::ALERTS_TERM`] after that.
    pub alerts: u64,
    /// What was told of alerts, as long.
    pub alert_notices: u64,
}

/// Deletes what has reached its term at `now`. Needs [`crate::Role::Worker`].
pub async fn run(pool: &PgPool, now: DateTime<Utc>) -> Result<Aged, sqlx::Error> {
    Ok(Aged {
        ingest_keys: in_batches(
            pool,
            "DELETE FROM ingest_keys WHERE (tenant, key_hash) IN
               (SELECT tenant, key_hash FROM ingest_keys WHERE created_at <= $1 LIMIT $2)",
            now - INGEST_KEYS_TERM,
        )
        .await?,
        tombstones: in_batches(
            pool,
            "DELETE FROM tombstones WHERE (tenant, id) IN
               (SELECT tenant, id FROM tombstones WHERE expires_at <= $1 LIMIT $2)",
            now,
        )
        .await?,
        attempts: in_batches(
            pool,
            "DELETE FROM attempts WHERE (queue, message) IN
               (SELECT queue, message FROM attempts WHERE updated_at <= $1 LIMIT $2)",
            now - ATTEMPTS_TERM,
        )
        .await?,
        live_tickets: in_batches(
            pool,
            "DELETE FROM live_tickets WHERE (tenant, ticket_sha256) IN
               (SELECT tenant, ticket_sha256 FROM live_tickets WHERE expires_at <= $1 LIMIT $2)",
            now,
        )
        .await?,
        effects: in_batches(
            pool,
            "DELETE FROM effects WHERE (tenant, scope, key) IN
               (SELECT tenant, scope, key FROM effects WHERE expires_at <= $1 LIMIT $2)",
            now,
        )
        .await?,
        effect_decisions: in_batches(
            pool,
            "DELETE FROM effect_decisions WHERE id IN
               (SELECT id FROM effect_decisions WHERE expires_at <= $1 LIMIT $2)",
            now,
        )
        .await?,
        alerts: in_batches(
            pool,
            "DELETE FROM alerts WHERE (tenant, name) IN
               (SELECT tenant, name FROM alerts WHERE closed_at <= $1 LIMIT $2)",
            now - ALERTS_TERM,
        )
        .await?,
        alert_notices: in_batches(
            pool,
            "DELETE FROM alert_notices WHERE id IN
               (SELECT id FROM alert_notices WHERE done_at <= $1 LIMIT $2)",
            now - ALERTS_TERM,
        )
        .await?,
    })
}

async fn in_batches(
    pool: &PgPool,
    delete: &'static str,
    until: DateTime<Utc>,
) -> Result<u64, sqlx::Error> {
    let mut total = 0;
    for _ in 0..BATCHES_MAX {
        let gone = sqlx::query(delete).bind(until).bind(BATCH).execute(pool).await?.rows_affected();
        total += gone;
        if gone < BATCH.unsigned_abs() {
            break;
        }
    }
    Ok(total)
}

//! The record of failures in PostgreSQL: one row per message that ever failed, gone when it ends.

use std::time::Duration;

use async_trait::async_trait;
use queue_core::attempts::{AttemptStoreError, History};
use queue_core::{AttemptStore, RecordedFailure};
use sqlx::PgPool;
use sqlx::types::Json;

use crate::error::timed;
use crate::pool::Database;

/// A call of the store ends within this; the message stays leased meanwhile.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// A row of `attempts`, or nothing where the message never failed.
type StoredHistory = (Option<i32>, Option<Json<Vec<RecordedFailure>>>);

/// [`AttemptStore`] on the table `attempts`. Needs [`crate::Role::Worker`].
#[derive(Clone, Debug)]
pub struct PostgresAttempts {
    pool: PgPool,
}

impl PostgresAttempts {
    /// A store on that database.
    pub fn new(database: &Database) -> Self {
        Self { pool: database.pool().clone() }
    }

    async fn add(
        &self,
        queue: &str,
        message: &str,
        failure: RecordedFailure,
    ) -> Result<History, sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        // The row is made first, so that two failures of one message at once queue up behind its lock.
        sqlx::query(
            "INSERT INTO attempts (queue, message, failures, attempts, updated_at)
             VALUES ($1, $2, 0, '[]', $3) ON CONFLICT DO NOTHING",
        )
        .bind(queue)
        .bind(message)
        .bind(failure.at)
        .execute(&mut *transaction)
        .await?;
        let (failures, Json(attempts)): (i32, Json<Vec<RecordedFailure>>) = sqlx::query_as(
            "SELECT failures, attempts FROM attempts WHERE queue = $1 AND message = $2 FOR UPDATE",
        )
        .bind(queue)
        .bind(message)
        .fetch_one(&mut *transaction)
        .await?;
        let mut history = History { failures: failures.unsigned_abs(), attempts };
        let at = failure.at;
        history.push(printable(failure));
        sqlx::query(
            "UPDATE attempts SET failures = $3, attempts = $4, updated_at = greatest(updated_at, $5)
             WHERE queue = $1 AND message = $2",
        )
        .bind(queue)
        .bind(message)
        .bind(i32::try_from(history.failures).unwrap_or(i32::MAX))
        .bind(Json(&history.attempts))
        .bind(at)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(history)
    }

    async fn histories(
        &self,
        queue: &str,
        messages: &[String],
    ) -> Result<Vec<History>, sqlx::Error> {
        let rows: Vec<StoredHistory> = sqlx::query_as(
            "SELECT failures, attempts FROM unnest($2::text[]) WITH ORDINALITY AS wanted (message, place)
             LEFT JOIN attempts ON attempts.queue = $1 AND attempts.message = wanted.message
             ORDER BY place",
        )
        .bind(queue)
        .bind(messages)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|(failures, attempts)| History {
                failures: failures.unwrap_or(0).unsigned_abs(),
                attempts: attempts.map(|Json(attempts)| attempts).unwrap_or_default(),
            })
            .collect())
    }
}

#[async_trait]
impl AttemptStore for PostgresAttempts {
    async fn record(
        &self,
        queue: &str,
        message: &str,
        failure: RecordedFailure,
    ) -> Result<History, AttemptStoreError> {
        timed(CALL_TIMEOUT, self.add(queue, message, failure)).await.map_err(store_error)
    }

    async fn load(
        &self,
        queue: &str,
        messages: &[String],
    ) -> Result<Vec<History>, AttemptStoreError> {
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        timed(CALL_TIMEOUT, self.histories(queue, messages)).await.map_err(store_error)
    }

    async fn forget(&self, queue: &str, messages: &[String]) -> Result<(), AttemptStoreError> {
        if messages.is_empty() {
            return Ok(());
        }
        let delete = sqlx::query("DELETE FROM attempts WHERE queue = $1 AND message = ANY ($2)")
            .bind(queue)
            .bind(messages)
            .execute(&self.pool);
        timed(CALL_TIMEOUT, delete).await.map(|_| ()).map_err(store_error)
    }
}

/// jsonb refuses NUL, and an error's text may quote one from a message.
fn printable(mut failure: RecordedFailure) -> RecordedFailure {
    for text in [&mut failure.code, &mut failure.error, &mut failure.worker] {
        if text.contains('\0') {
            *text = text.replace('\0', "\u{fffd}");
        }
    }
    failure
}

#[expect(clippy::needless_pass_by_value, reason = "the shape of map_err")]
fn store_error(error: sqlx::Error) -> AttemptStoreError {
    AttemptStoreError(crate::schema::explain(&error))
}

//! The store as a port, so that the worker's path can be measured with a stub and tested with
//! faults; and the one real store behind it. It retries what PostgreSQL itself asks to retry
//! (deadlocks, serialization failures), free of charge for the message, and nothing else. A log that comes so
//! late that its partition was retired gets it back.

use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use contracts::{LogId, Tenant};
use database::partitions::retire;
use database::{Database, DbErrorClass, classify};
use rand::Rng;

use crate::model::{
    Erasure, Inserted, LogKey, NewErasure, NewLog, NewRevision, Revised, StoredLog,
};

/// Attempts of one transaction while PostgreSQL says "again"; a sixth deadlock in a row is load, and
/// load is waited out with the message's own backoff.
const ATTEMPTS: u32 = 5;
/// Longest pause before the second attempt; doubles with each.
const PAUSE: Duration = Duration::from_millis(10);

/// A store's failure as the worker reads it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    /// What it means.
    pub class: DbErrorClass,
    /// The error chain as text.
    pub message: String,
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self { class: classify(&error), message: error.to_string() }
    }
}

/// What the index worker asks of the system of record. Each call is one transaction: all of it or
/// nothing, and repeating it changes nothing.
#[async_trait]
pub trait LogStore: Send + Sync + 'static {
    /// Stores logs that are sorted by key and without repeats; see [`super::insert_batch`].
    async fn insert(&self, logs: &[NewLog]) -> Result<Inserted, StoreError>;

    /// Those of the logs that are stored; see [`super::fetch_by_keys`].
    async fn fetch(&self, keys: &[LogKey]) -> Result<Vec<StoredLog>, StoreError>;

    /// Appends a revision; see [`super::append_revision`].
    async fn revise(
        &self,
        tenant: &Tenant,
        id: LogId,
        revision: &NewRevision,
    ) -> Result<Revised, StoreError>;

    /// Erases a log; see [`super::erase()`].
    async fn erase(&self, erasure: &NewErasure, audit: &[NewLog]) -> Result<Erasure, StoreError>;

    /// Positions of the erased ones; see [`super::erased_among`].
    async fn erased_among(&self, keys: &[(&Tenant, LogId)]) -> Result<Vec<usize>, StoreError>;
}

/// PostgreSQL as the store.
#[derive(Clone, Debug)]
pub struct PostgresLogs {
    database: Database,
}

impl PostgresLogs {
    /// On a pool under the worker's role.
    pub fn new(database: Database) -> Self {
        Self { database }
    }

    /// Makes the log's partition anew, where it had one that is retired, and stores it, in one transaction:
    /// between two, the next round would find the partition empty. `None` when it had none.
    async fn insert_late(&self, log: &NewLog) -> Result<Option<Inserted>, StoreError> {
        again(|| async {
            let mut transaction = self.database.pool().begin().await?;
            let key = &log.key;
            if !retire::remake(&mut transaction, key.class, key.recorded_at).await? {
                return Ok(None);
            }
            let inserted = super::insert_batch(&mut transaction, std::slice::from_ref(log)).await?;
            transaction.commit().await?;
            Ok(Some(inserted))
        })
        .await
    }
}

#[async_trait]
impl LogStore for PostgresLogs {
    async fn insert(&self, logs: &[NewLog]) -> Result<Inserted, StoreError> {
        let inserted = again(|| async {
            super::insert_batch(&mut *self.database.pool().acquire().await?, logs).await
        })
        .await;
        match (inserted, logs) {
            // Alone: now it is known whose partition is missing.
            (Err(error), [log]) if error.class == DbErrorClass::NoPartition => {
                self.insert_late(log).await?.ok_or(error)
            }
            (inserted, _) => inserted,
        }
    }

    async fn fetch(&self, keys: &[LogKey]) -> Result<Vec<StoredLog>, StoreError> {
        again(|| async {
            super::fetch_by_keys(&mut *self.database.pool().acquire().await?, keys).await
        })
        .await
    }

    async fn revise(
        &self,
        tenant: &Tenant,
        id: LogId,
        revision: &NewRevision,
    ) -> Result<Revised, StoreError> {
        again(|| async {
            let mut connection = self.database.pool().acquire().await?;
            super::append_revision(&mut connection, tenant, id, revision).await
        })
        .await
    }

    async fn erase(&self, erasure: &NewErasure, audit: &[NewLog]) -> Result<Erasure, StoreError> {
        again(|| async {
            super::erase(&mut *self.database.pool().acquire().await?, erasure, audit).await
        })
        .await
    }

    async fn erased_among(&self, keys: &[(&Tenant, LogId)]) -> Result<Vec<usize>, StoreError> {
        again(|| async {
            super::erased_among(&mut *self.database.pool().acquire().await?, keys).await
        })
        .await
    }
}

async fn again<T, F, Fut>(run: F) -> Result<T, StoreError>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<T, sqlx::Error>>,
{
    let mut attempt = 1;
    loop {
        let error = match run().await {
            Ok(value) => return Ok(value),
            Err(error) => StoreError::from(error),
        };
        if error.class != DbErrorClass::Retry || attempt == ATTEMPTS {
            return Err(error);
        }
        tracing::debug!(attempt, %error, "PostgreSQL asks to repeat the transaction");
        // Full jitter: two transactions that met once should not meet again.
        let ceiling = PAUSE * (1 << (attempt - 1));
        let pause = rand::rng().random_range(Duration::ZERO..=ceiling);
        tokio::time::sleep(pause).await;
        attempt += 1;
    }
}

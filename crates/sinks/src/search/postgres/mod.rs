//! Search in PostgreSQL: the embedded default, for the laptop and for installations that need no
//! cluster. A table of its own, which only this module writes and which can always be made again
//! from `logs`.

mod lexemes;
mod rows;

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use contracts::{LogId, RetentionClass, Tenant};
use database::{Database, DbErrorClass, classify, timed};
use queue_core::Probe;
use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use super::config::SearchConfig;
use super::document::{Document, DocumentRef};
use super::partition::Partition;
use super::query::{Query, TimeRange};
use super::terms::Terms;
use super::{Hit, Indexed, PAGE_MAX, Page, Rebuild, Rebuilt, Search, SortKey, admit_remaining};
use crate::error::{ItemError, SinkError, SinkErrorKind};

/// The sink's name in metrics and errors.
pub const NAME: &str = "postgres-search";
/// Rows that one transaction of a rebuild's end deletes at most.
const DROPPED_AT_ONCE: i64 = 5_000;

/// Search in the fleet's own database.
#[derive(Clone, Debug)]
pub struct PostgresSearch {
    database: Database,
    timeout: Duration,
}

impl PostgresSearch {
    /// On that pool. Searching needs the API's or the worker's role, writing the worker's.
    pub fn new(config: &SearchConfig, database: Database) -> Self {
        Self { database, timeout: config.timeout() }
    }

    /// A transaction whose statements end on the server, too, when the time is over.
    async fn begin(&self, tenant: &Tenant) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        let mut transaction = self.database.tenant(tenant).await?;
        sqlx::query("SELECT set_config('statement_timeout', $1, true)")
            .bind(self.timeout.as_millis().to_string())
            .execute(&mut *transaction)
            .await?;
        Ok(transaction)
    }
}

/// A failure that is nobody's row.
fn unavailable(error: &sqlx::Error) -> SinkError {
    let kind = match classify(error) {
        DbErrorClass::Retry | DbErrorClass::Unavailable => SinkErrorKind::Unavailable,
        _ => SinkErrorKind::Refused,
    };
    SinkError::new(NAME, kind, error.to_string())
}

/// A query in the form the functions take.
struct Arguments {
    words: Option<String>,
    terms: Option<String>,
    recorded: (Option<DateTime<Utc>>, Option<DateTime<Utc>>),
    occurred: (Option<DateTime<Utc>>, Option<DateTime<Utc>>),
}

impl Arguments {
    /// `None` when nothing can match.
    fn of(tenant: &Tenant, query: &Query) -> Option<Self> {
        let terms = Terms::of_query(query)?;
        let terms = (!terms.is_empty()).then(|| {
            let mut object = terms.to_json();
            object.insert("tenant".to_owned(), tenant.as_str().into());
            serde_json::Value::Object(object).to_string()
        });
        Some(Self {
            words: lexemes::tsquery(tenant, &query.words),
            terms,
            recorded: bounds(query.recorded_at),
            occurred: bounds(query.occurred_at),
        })
    }
}

fn bounds(range: TimeRange) -> (Option<DateTime<Utc>>, Option<DateTime<Utc>>) {
    (range.from.map(rows::micros), range.to.map(rows::micros))
}

#[async_trait]
impl Search for PostgresSearch {
    async fn ensure(&self) -> Result<(), SinkError> {
        Ok(())
    }

    async fn index(
        &self,
        documents: &[Document],
    ) -> Result<Vec<Result<Indexed, ItemError>>, SinkError> {
        rows::write(&self.database, self.timeout, documents, false).await
    }

    async fn erase(&self, logs: &[DocumentRef]) -> Result<Vec<Result<(), ItemError>>, SinkError> {
        rows::erase(&self.database, self.timeout, logs).await?;
        Ok(vec![Ok(()); logs.len()])
    }

    async fn search(
        &self,
        tenant: &Tenant,
        query: &Query,
        limit: usize,
        after: Option<SortKey>,
    ) -> Result<Page, SinkError> {
        let Some(arguments) = Arguments::of(tenant, query) else { return Ok(Page::default()) };
        let limit = limit.clamp(1, PAGE_MAX);
        let found = timed(self.timeout, async {
            let mut transaction = self.begin(tenant).await?;
            let rows: Vec<(Uuid, String, DateTime<Utc>)> = sqlx::query_as(
                "SELECT id, class, recorded_at FROM flotilla_search(
                   $1::text::tsquery, $2::text::jsonb, $3, $4, $5, $6, $7, $8, $9)",
            )
            .bind(arguments.words)
            .bind(arguments.terms)
            .bind(arguments.recorded.0)
            .bind(arguments.recorded.1)
            .bind(arguments.occurred.0)
            .bind(arguments.occurred.1)
            .bind(after.map(|key| rows::micros(key.recorded_at)))
            .bind(after.map(|key| key.id.0))
            .bind(i32::try_from(limit).unwrap_or(i32::MAX))
            .fetch_all(&mut *transaction)
            .await?;
            transaction.commit().await?;
            Ok(rows)
        });
        let found = found.await.map_err(|error| unavailable(&error))?;
        let hits: Result<Vec<Hit>, _> = found
            .into_iter()
            .map(|(id, class, recorded_at)| {
                let class: RetentionClass = class.parse()?;
                Ok(Hit { id: LogId(id), recorded_at, class })
            })
            .collect();
        let hits = hits.map_err(|error: contracts::retention::UnknownClass| {
            SinkError::new(NAME, SinkErrorKind::Refused, error.to_string())
        })?;
        let next = hits.last().filter(|_| hits.len() >= limit).map(Hit::sort_key);
        Ok(Page { hits, next })
    }

    async fn count(&self, tenant: &Tenant, query: &Query) -> Result<u64, SinkError> {
        let Some(arguments) = Arguments::of(tenant, query) else { return Ok(0) };
        let counted = timed(self.timeout, async {
            let mut transaction = self.begin(tenant).await?;
            let count: i64 = sqlx::query_scalar(
                "SELECT flotilla_search_count($1::text::tsquery, $2::text::jsonb, $3, $4, $5, $6)",
            )
            .bind(arguments.words)
            .bind(arguments.terms)
            .bind(arguments.recorded.0)
            .bind(arguments.recorded.1)
            .bind(arguments.occurred.0)
            .bind(arguments.occurred.1)
            .fetch_one(&mut *transaction)
            .await?;
            transaction.commit().await?;
            Ok(count)
        });
        let count = counted.await.map_err(|error| unavailable(&error))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    async fn remaining(&self, tenant: &Tenant, logs: &[LogId]) -> Result<u64, SinkError> {
        admit_remaining(NAME, logs)?;
        rows::remaining(&self.database, self.timeout, tenant, logs).await
    }

    async fn refresh(&self) -> Result<(), SinkError> {
        Ok(())
    }

    async fn begin_rebuild(&self, partition: Partition) -> Result<Rebuild, SinkError> {
        let now: Result<String, _> = timed(self.timeout, async {
            sqlx::query_scalar("SELECT clock_timestamp()::text")
                .fetch_one(self.database.pool())
                .await
        })
        .await;
        Ok(Rebuild { partition, target: now.map_err(|error| unavailable(&error))? })
    }

    async fn fill(
        &self,
        _rebuild: &Rebuild,
        documents: &[Document],
    ) -> Result<Vec<Result<Indexed, ItemError>>, SinkError> {
        rows::write(&self.database, self.timeout, documents, true).await
    }

    async fn finish_rebuild(&self, rebuild: Rebuild) -> Result<Rebuilt, SinkError> {
        let mut dropped = 0;
        loop {
            let rows = rows::drop_unwritten(
                &self.database,
                self.timeout,
                rebuild.partition,
                &rebuild.target,
                DROPPED_AT_ONCE,
            );
            match rows.await.map_err(|error| unavailable(&error))? {
                0 => break,
                rows => dropped += rows,
            }
        }
        Ok(Rebuilt { now: "search_documents".to_owned(), dropped: Some(dropped) })
    }

    async fn abandon_rebuild(&self, _rebuild: Rebuild) -> Result<(), SinkError> {
        // What was filled is right, whether or not the rest was.
        Ok(())
    }
}

#[async_trait]
impl Probe for PostgresSearch {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn probe(&self) -> Result<(), String> {
        self.database.probe().await
    }
}

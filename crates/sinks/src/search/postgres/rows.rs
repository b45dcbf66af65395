//! The table's writes: batches as column arrays, a poisoned row found by halving, deadlocks run
//! again. All SQL that changes `search_documents` is here.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::time::Duration;

use chrono::{DateTime, Utc};
use contracts::{LogId, Tenant};
use database::{Database, DbErrorClass, classify, timed};
use uuid::Uuid;

use super::lexemes;
use super::unavailable;
use crate::error::{ItemError, SinkError};
use crate::search::Indexed;
use crate::search::document::{Document, DocumentRef};
use crate::search::partition::Partition;
use crate::search::terms::Terms;
use crate::search::tokens::TokenStream;

/// Rows of one statement at most.
const ROWS_MAX: usize = 500;
/// Bytes of one statement's texts at most, unless one row alone is longer.
const BYTES_MAX: usize = 8 * 1024 * 1024;
/// A statement that deadlocks is run this often. Keys are sorted, so a second time is rare.
const DEADLOCKS_MAX: usize = 5;
/// The revision of what was erased: nothing is newer.
const ERASED: i64 = i64::MAX;

const UPSERT: &str = "
  INSERT INTO search_documents AS held
         (tenant, id, class, recorded_at, occurred_at, revision, words, terms)
  SELECT tenant, id, class, recorded_at, occurred_at, revision, words::tsvector, terms::jsonb
    FROM UNNEST($1::text[], $2::uuid[], $3::text[], $4::timestamptz[], $5::timestamptz[],
                $6::bigint[], $7::text[], $8::text[])
      AS new (tenant, id, class, recorded_at, occurred_at, revision, words, terms)
      ON CONFLICT (tenant, id) DO UPDATE
     SET class = excluded.class, recorded_at = excluded.recorded_at,
         occurred_at = excluded.occurred_at, revision = excluded.revision,
         words = excluded.words, terms = excluded.terms, written_at = clock_timestamp()
   WHERE held.revision < excluded.revision
      OR ($9 AND held.revision = excluded.revision AND NOT held.erased)
  RETURNING tenant, id";

const ERASE: &str = "
  INSERT INTO search_documents AS held
         (tenant, id, class, recorded_at, revision, erased, words, terms)
  SELECT tenant, id, class, recorded_at, $5, true, '', '{}'
    FROM UNNEST($1::text[], $2::uuid[], $3::text[], $4::timestamptz[])
      AS new (tenant, id, class, recorded_at)
      ON CONFLICT (tenant, id) DO UPDATE
     SET revision = excluded.revision, erased = true, occurred_at = NULL,
         words = excluded.words, terms = excluded.terms, written_at = clock_timestamp()
   WHERE NOT held.erased";

/// Marks outlive every redelivery (SQS keeps a message 14 days at most; tombstones stay 60).
const FORGET: &str = "
  DELETE FROM search_documents WHERE (tenant, id) IN (
    SELECT tenant, id FROM search_documents
     WHERE erased AND written_at < now() - interval '60 days'
     LIMIT 1000 FOR UPDATE SKIP LOCKED)";

type Outcome = Result<Indexed, ItemError>;

/// One row, ready to be sent.
struct Row<'a> {
    /// Where the caller has it.
    at: usize,
    document: &'a Document,
    revision: i64,
    words: String,
    terms: String,
}

impl<'a> Row<'a> {
    fn of(at: usize, document: &'a Document) -> Self {
        let mut terms = Terms::of_document(document).to_json();
        terms.insert("tenant".to_owned(), document.tenant.as_str().into());
        let tokens = TokenStream::of(&document.passages());
        Self {
            at,
            document,
            revision: i64::try_from(document.revision).unwrap_or(ERASED).min(ERASED - 1),
            words: lexemes::tsvector(&document.tenant, &tokens),
            terms: serde_json::Value::Object(terms).to_string(),
        }
    }

    fn key(&self) -> (&'a Tenant, LogId) {
        (&self.document.tenant, self.document.id)
    }

    fn bytes(&self) -> usize {
        self.words.len() + self.terms.len()
    }
}

/// Writes documents. With `again`, one of the revision that is held is written again, too.
pub(super) async fn write(
    database: &Database,
    limit: Duration,
    documents: &[Document],
    again: bool,
) -> Result<Vec<Outcome>, SinkError> {
    let mut outcomes = vec![Ok(Indexed::Superseded); documents.len()];
    let rows = newest_each(documents);
    let mut todo: Vec<Range<usize>> = chunks(&rows);
    while let Some(range) = todo.pop() {
        match upsert(database, limit, &rows[range.clone()], again).await {
            Ok(written) => {
                for row in &rows[range] {
                    if written
                        .contains(&(row.document.tenant.as_str().to_owned(), row.document.id.0))
                    {
                        outcomes[row.at] = Ok(Indexed::Written);
                    }
                }
            }
            Err(error) if is_data(&error) && range.len() > 1 => {
                let middle = range.start + range.len() / 2;
                todo.extend([range.start..middle, middle..range.end]);
            }
            Err(error) if is_data(&error) => {
                outcomes[rows[range.start].at] = Err(ItemError::Reject(error.to_string()));
            }
            Err(error) => return Err(unavailable(&error)),
        }
    }
    Ok(outcomes)
}

/// One row per log, its newest revision, in the order of the key, so that statements of other
/// processes take their locks in the same order.
fn newest_each(documents: &[Document]) -> Vec<Row<'_>> {
    let mut newest: HashMap<(&Tenant, LogId), usize> = HashMap::with_capacity(documents.len());
    for (at, document) in documents.iter().enumerate() {
        let held = newest.entry((&document.tenant, document.id)).or_insert(at);
        if documents[*held].revision < document.revision {
            *held = at;
        }
    }
    let mut rows: Vec<Row<'_>> =
        newest.into_values().map(|at| Row::of(at, &documents[at])).collect();
    rows.sort_unstable_by(|a, b| a.key().cmp(&b.key()));
    rows
}

fn chunks(rows: &[Row<'_>]) -> Vec<Range<usize>> {
    let mut chunks = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, row) in rows.iter().enumerate() {
        if at > start && (at - start == ROWS_MAX || bytes + row.bytes() > BYTES_MAX) {
            chunks.push(start..at);
            (start, bytes) = (at, 0);
        }
        bytes += row.bytes();
    }
    if start < rows.len() {
        chunks.push(start..rows.len());
    }
    chunks
}

async fn upsert(
    database: &Database,
    limit: Duration,
    rows: &[Row<'_>],
    again: bool,
) -> Result<HashSet<(String, Uuid)>, sqlx::Error> {
    let tenants: Vec<&str> = rows.iter().map(|row| row.document.tenant.as_str()).collect();
    let ids: Vec<Uuid> = rows.iter().map(|row| row.document.id.0).collect();
    let classes: Vec<&str> = rows.iter().map(|row| row.document.class.as_str()).collect();
    let recorded: Vec<_> = rows.iter().map(|row| micros(row.document.recorded_at)).collect();
    let occurred: Vec<_> = rows.iter().map(|row| row.document.occurred_at.map(micros)).collect();
    let revisions: Vec<i64> = rows.iter().map(|row| row.revision).collect();
    let words: Vec<&str> = rows.iter().map(|row| row.words.as_str()).collect();
    let terms: Vec<&str> = rows.iter().map(|row| row.terms.as_str()).collect();
    let written: Vec<(String, Uuid)> = persevere(limit, || {
        sqlx::query_as(UPSERT)
            .bind(&tenants)
            .bind(&ids)
            .bind(&classes)
            .bind(&recorded)
            .bind(&occurred)
            .bind(&revisions)
            .bind(&words)
            .bind(&terms)
            .bind(again)
            .fetch_all(database.pool())
    })
    .await?;
    Ok(written.into_iter().collect())
}

/// How many of these logs are found: those with a row that is no mark.
pub(super) async fn remaining(
    database: &Database,
    limit: Duration,
    tenant: &Tenant,
    logs: &[LogId],
) -> Result<u64, SinkError> {
    let ids: Vec<Uuid> = logs.iter().map(|log| log.0).collect();
    let counted: Result<i64, sqlx::Error> = timed(limit, async {
        sqlx::query_scalar(
            "SELECT count(*) FROM search_documents
              WHERE tenant = $1 AND id = ANY ($2) AND NOT erased",
        )
        .bind(tenant.as_str())
        .bind(ids)
        .fetch_one(database.pool())
        .await
    })
    .await;
    counted.map(i64::cast_unsigned).map_err(|error| unavailable(&error))
}

/// Marks logs as erased and forgets marks that nothing can need any more.
pub(super) async fn erase(
    database: &Database,
    limit: Duration,
    logs: &[DocumentRef],
) -> Result<(), SinkError> {
    let mut logs: Vec<&DocumentRef> = logs.iter().collect();
    logs.sort_unstable_by(|a, b| (&a.tenant, a.id).cmp(&(&b.tenant, b.id)));
    logs.dedup_by(|a, b| (&a.tenant, a.id) == (&b.tenant, b.id));
    for logs in logs.chunks(ROWS_MAX) {
        let tenants: Vec<&str> = logs.iter().map(|log| log.tenant.as_str()).collect();
        let ids: Vec<Uuid> = logs.iter().map(|log| log.id.0).collect();
        let classes: Vec<&str> = logs.iter().map(|log| log.class.as_str()).collect();
        let recorded: Vec<_> = logs.iter().map(|log| micros(log.recorded_at)).collect();
        persevere(limit, || {
            sqlx::query(ERASE)
                .bind(&tenants)
                .bind(&ids)
                .bind(&classes)
                .bind(&recorded)
                .bind(ERASED)
                .execute(database.pool())
        })
        .await
        .map_err(|error| unavailable(&error))?;
    }
    persevere(limit, || sqlx::query(FORGET).execute(database.pool()))
        .await
        .map_err(|error| unavailable(&error))?;
    Ok(())
}

/// Deletes up to `rows_max` rows of a partition that nothing has written since `since`, a time of
/// the database's clock; returns how many.
pub(super) async fn drop_unwritten(
    database: &Database,
    limit: Duration,
    partition: Partition,
    since: &str,
    rows_max: i64,
) -> Result<u64, sqlx::Error> {
    let done = persevere(limit, || {
        sqlx::query(
            "DELETE FROM search_documents WHERE (tenant, id) IN (
               SELECT tenant, id FROM search_documents
                WHERE class = $1 AND recorded_at >= $2 AND recorded_at < $3
                  AND written_at < $4::text::timestamptz AND NOT erased
                LIMIT $5 FOR UPDATE)",
        )
        .bind(partition.class.as_str())
        .bind(partition.month.start())
        .bind(partition.month.end())
        .bind(since)
        .bind(rows_max)
        .execute(database.pool())
    });
    Ok(done.await?.rows_affected())
}

/// Runs a statement again when it deadlocked, each time within the limit.
async fn persevere<T, S>(limit: Duration, statement: impl Fn() -> S) -> Result<T, sqlx::Error>
where
    S: Future<Output = Result<T, sqlx::Error>>,
{
    let mut tries = 1;
    loop {
        match timed(limit, statement()).await {
            Err(error) if classify(&error) == DbErrorClass::Retry && tries < DEADLOCKS_MAX => {
                tries += 1;
            }
            outcome => return outcome,
        }
    }
}

/// Whether the row is at fault: its values, or a limit of the server that it is over (class 54).
fn is_data(error: &sqlx::Error) -> bool {
    let over_limit = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .is_some_and(|code| code.starts_with("54"));
    over_limit || classify(error) == DbErrorClass::Data
}

/// PostgreSQL keeps microseconds; what is below them is cut, not rounded, as in the other engine.
pub(super) fn micros(at: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(at.timestamp_micros()).unwrap_or(at)
}

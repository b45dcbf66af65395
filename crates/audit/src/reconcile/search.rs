//! One hour's rows and one hour's search documents, side by side: both come in the same order, so memory is
//! that of a page of each. Rows that search lacks are indexed again where that is wanted.

use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta, Utc};
use contracts::{LogId, Tenant};
use sinks::search::{Document, Hit, PAGE_MAX, Query, SortKey, TimeRange};

use super::{EXAMPLES_MAX, FindingKind, Findings, ReconcileError, Reconciler};
use crate::model::LogKey;
use crate::projection;
use crate::store;
use crate::store::reconcile::StoredKey;

/// Rows of a page.
const ROWS: i64 = 1_000;
/// Logs that are indexed at once.
const INDEXED_AT_ONCE: usize = 500;

/// A span of time, the end not included.
type Span = (DateTime<Utc>, DateTime<Utc>);

/// What finds everything of a span.
pub(super) fn query((from, to): Span) -> Query {
    Query { recorded_at: TimeRange { from: Some(from), to: Some(to) }, ..Query::default() }
}

pub(super) fn hour_of(at: DateTime<Utc>) -> Span {
    (at, at + TimeDelta::hours(1))
}

/// Rows of a span, the newest first.
struct Rows {
    page: VecDeque<StoredKey>,
    after: Option<SortKey>,
    more: bool,
}

/// Hits of a span, the newest first.
struct Hits {
    page: VecDeque<Hit>,
    after: Option<SortKey>,
    more: bool,
}

fn place(key: &LogKey) -> SortKey {
    SortKey { recorded_at: key.recorded_at, id: key.id }
}

impl Reconciler {
    async fn next_row(
        &self,
        tenant: &Tenant,
        span: Span,
        rows: &mut Rows,
    ) -> Result<Option<StoredKey>, ReconcileError> {
        if rows.page.is_empty() && rows.more {
            let mut connection = self.database.pool().acquire().await?;
            let after = rows.after.map(|after| (after.recorded_at, after.id.0));
            let page =
                store::reconcile::stored_keys(&mut connection, tenant, span, after, ROWS).await?;
            rows.more = i64::try_from(page.len()).unwrap_or(0) == ROWS;
            rows.after = page.last().map(|row| place(&row.key));
            rows.page = page.into();
        }
        Ok(rows.page.pop_front())
    }

    async fn next_hit(
        &self,
        tenant: &Tenant,
        span: Span,
        hits: &mut Hits,
    ) -> Result<Option<Hit>, ReconcileError> {
        if hits.page.is_empty() && hits.more {
            let page = self.search.search(tenant, &query(span), PAGE_MAX, hits.after).await?;
            hits.more = page.next.is_some();
            hits.after = page.next;
            hits.page = page.hits.into();
        }
        Ok(hits.page.pop_front())
    }

    /// Names what one of the two lacks.
    pub(super) async fn by_ids(
        &self,
        tenant: &Tenant,
        hour: DateTime<Utc>,
        repair: bool,
        findings: &mut Findings,
    ) -> Result<(), ReconcileError> {
        let span = hour_of(hour);
        let mut rows = Rows { page: VecDeque::new(), after: None, more: true };
        let mut hits = Hits { page: VecDeque::new(), after: None, more: true };
        let mut row = self.next_row(tenant, span, &mut rows).await?;
        let mut hit = self.next_hit(tenant, span, &mut hits).await?;
        let mut lacking = Vec::new();
        loop {
            let at = (row.as_ref().map(|row| place(&row.key)), hit.map(|hit| hit.sort_key()));
            match at {
                (None, None) => break,
                (Some(one), Some(other)) if one == other => {
                    row = self.next_row(tenant, span, &mut rows).await?;
                    hit = self.next_hit(tenant, span, &mut hits).await?;
                }
                // The newer one comes first in both.
                (one, other) if one > other => {
                    lacking.extend(row.take().filter(|row| !row.buried).map(|row| row.key));
                    row = self.next_row(tenant, span, &mut rows).await?;
                }
                _ => {
                    if let Some(hit) = hit.take() {
                        self.not_stored(tenant, hour, hit.id, findings).await?;
                    }
                    hit = self.next_hit(tenant, span, &mut hits).await?;
                }
            }
            if lacking.len() >= INDEXED_AT_ONCE {
                self.not_searchable(hour, &lacking, repair, findings).await?;
                lacking.clear();
            }
        }
        self.not_searchable(hour, &lacking, repair, findings).await
    }

    async fn not_stored(
        &self,
        tenant: &Tenant,
        hour: DateTime<Utc>,
        id: LogId,
        findings: &mut Findings,
    ) -> Result<(), ReconcileError> {
        let kind = FindingKind::NotStored;
        if findings.found(kind) >= EXAMPLES_MAX as u64 {
            findings.add_uncounted(kind, 1);
            return Ok(());
        }
        let mut connection = self.database.pool().acquire().await?;
        let erased = store::erased_among(&mut connection, &[(tenant, id)]).await?;
        let archived = store::objects_holding(&mut connection, tenant, id.0, "").await?;
        let detail = match (erased.is_empty(), archived.first()) {
            (false, _) => "a tombstone says that it was deleted",
            (true, Some(_)) => "the archive may hold it, and no tombstone speaks of it",
            (true, None) => "nothing knows of it",
        };
        findings.add_at(kind, hour, &id, detail);
        Ok(())
    }

    async fn not_searchable(
        &self,
        hour: DateTime<Utc>,
        keys: &[LogKey],
        repair: bool,
        findings: &mut Findings,
    ) -> Result<(), ReconcileError> {
        let kind = FindingKind::NotSearchable;
        for key in keys {
            findings.add_at(kind, hour, &key.id, "PostgreSQL stores it");
        }
        if repair && !keys.is_empty() {
            let indexed = self.index_again(keys).await?;
            findings.repaired(kind, indexed);
        }
        Ok(())
    }

    /// Indexes stored logs as the index worker does; how many search has now. One that is deleted
    /// between its reading and its writing does not come back.
    async fn index_again(&self, keys: &[LogKey]) -> Result<u64, ReconcileError> {
        let mut connection = self.database.pool().acquire().await?;
        let logs = store::fetch_by_keys(&mut connection, keys).await?;
        drop(connection);
        let documents: Result<Vec<Document>, _> = logs.iter().map(projection::of_stored).collect();
        let documents = documents
            .map_err(|error| ReconcileError::Wrong(format!("a stored record: {error}")))?;
        let outcomes = self.search.index(&documents).await?;
        let indexed = outcomes.iter().filter(|outcome| outcome.is_ok()).count() as u64;
        let named: Vec<_> = documents.iter().map(|log| (&log.tenant, log.id)).collect();
        let mut connection = self.database.pool().acquire().await?;
        let erased = store::erased_among(&mut connection, &named).await?;
        drop(connection);
        let erased: Vec<_> = erased
            .into_iter()
            .filter_map(|at| documents.get(at))
            .map(Document::reference)
            .collect();
        if !erased.is_empty() {
            self.search.erase(&erased).await?;
        }
        Ok(indexed)
    }
}

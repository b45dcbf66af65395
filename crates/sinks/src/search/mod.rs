//! Full-text and field search over logs behind one trait, with the same answers from OpenSearch
//! and from PostgreSQL: tokens, keyword forms and metadata paths are made here, in Rust, and both
//! engines only store and match them. A search returns ids; what is shown comes from the database.

pub mod config;
pub mod document;
pub mod fields;
pub mod opensearch;
pub mod partition;
pub mod postgres;
pub mod query;
mod terms;
pub mod tokens;

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use contracts::{LogId, RetentionClass, Tenant};
use database::Database;
use queue_core::Probe;
use serde::{Deserialize, Serialize};

pub use self::opensearch::OpenSearchSink;
pub use crate::error::{ItemError, SinkError, SinkErrorKind};
use crate::events::ToldSearch;
pub use config::{SearchAuth, SearchConfig};
pub use document::{Document, DocumentRef, Entity};
pub use partition::{Month, Partition};
pub use postgres::PostgresSearch;
pub use query::{MetadataFilter, Query, QueryError, TimeRange, Word};

/// Hits per page at most; the engines' own limits are far above.
pub const PAGE_MAX: usize = 1_000;
/// Logs that one [`Search::remaining`] looks for at most.
pub const REMAINING_MAX: usize = 1_000;

/// What became of a document that was handed over for indexing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indexed {
    /// It is stored and will be found.
    Written,
    /// The engine already holds this revision, a newer one, or the document's erasure: as good as
    /// written, since a late write must not undo a newer one.
    Superseded,
}

/// A place in the order of results, newest first: `(recorded_at, id)` descending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SortKey {
    /// Microseconds are kept.
    pub recorded_at: DateTime<Utc>,
    /// Breaks ties.
    pub id: LogId,
}

/// One found log. The database knows the rest, and whether it still exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The log.
    pub id: LogId,
    /// With `class` and `id` the key of the row in `logs`.
    pub recorded_at: DateTime<Utc>,
    /// Its retention class.
    pub class: RetentionClass,
}

impl Hit {
    /// Where it stands in the order.
    pub fn sort_key(&self) -> SortKey {
        SortKey { recorded_at: self.recorded_at, id: self.id }
    }
}

/// One page of results, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// At most as many as asked for.
    pub hits: Vec<Hit>,
    /// Pass as `after` for the next page; `None` when this one was not full, so the last.
    pub next: Option<SortKey>,
}

/// A rebuild of one partition in progress; see [`Search::begin_rebuild`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuild {
    /// What is rebuilt.
    pub partition: Partition,
    /// The engine's own handle: the alias that is filled (OpenSearch) or the database's time at
    /// the start (PostgreSQL).
    pub(crate) target: String,
}

/// What a finished rebuild did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// What serves searches now: an index name, or the table.
    pub now: String,
    /// Entries of the old version that were dropped with it because nothing wrote them again;
    /// `None` where the engine drops a whole index and does not count.
    pub dropped: Option<u64>,
}

/// A search engine.
///
/// **Idempotent**: writing a document twice, or an older revision after a newer one, changes
/// nothing; nor does writing one that was erased. A write is found within a second (OpenSearch's
/// refresh) or at once (PostgreSQL).
#[async_trait]
pub trait Search: Probe {
    /// Makes what the engine needs before the first write (template, mappings). Idempotent; every
    /// write does it when it was not done yet, so a start need not wait for the engine.
    async fn ensure(&self) -> Result<(), SinkError>;

    /// Writes documents. One outcome per document, in their order.
    async fn index(
        &self,
        documents: &[Document],
    ) -> Result<Vec<Result<Indexed, ItemError>>, SinkError>;

    /// Takes logs out and keeps late writes from bringing them back. One outcome per log, in
    /// their order; one that is not there is a success.
    async fn erase(&self, logs: &[DocumentRef]) -> Result<Vec<Result<(), ItemError>>, SinkError>;

    /// The tenant's logs that match, newest first, at most `limit` (1 to [`PAGE_MAX`], clamped),
    /// strictly after `after`. The order does not move when logs are added.
    async fn search(
        &self,
        tenant: &Tenant,
        query: &Query,
        limit: usize,
        after: Option<SortKey>,
    ) -> Result<Page, SinkError>;

    /// How many of the tenant's logs match, exactly.
    async fn count(&self, tenant: &Tenant, query: &Query) -> Result<u64, SinkError>;

    /// How many of these logs of the tenant a search would still find, exactly, as of the last
    /// [`Self::refresh`]; at most [`REMAINING_MAX`]. Needs the worker's role.
    async fn remaining(&self, tenant: &Tenant, logs: &[LogId]) -> Result<u64, SinkError>;

    /// Makes everything written so far visible to searches now. For tests and checks; costly.
    async fn refresh(&self) -> Result<(), SinkError>;

    /// Starts to build a partition anew. From its return on, every write of every process goes to
    /// the old and the new version, so: read the database only after it returned, [`Self::fill`]
    /// everything the database holds, then [`Self::finish_rebuild`]. A rebuild of the same
    /// partition that was begun earlier and not finished is abandoned.
    async fn begin_rebuild(&self, partition: Partition) -> Result<Rebuild, SinkError>;

    /// Writes documents into the new version only.
    async fn fill(
        &self,
        rebuild: &Rebuild,
        documents: &[Document],
    ) -> Result<Vec<Result<Indexed, ItemError>>, SinkError>;

    /// Lets searches see the new version instead of the old one, at one instant, and drops the
    /// old one.
    async fn finish_rebuild(&self, rebuild: Rebuild) -> Result<Rebuilt, SinkError>;

    /// Drops the new version; nothing else happened.
    async fn abandon_rebuild(&self, rebuild: Rebuild) -> Result<(), SinkError>;
}

/// Refuses more logs than one call looks for.
fn admit_remaining(sink: &'static str, logs: &[LogId]) -> Result<(), SinkError> {
    if logs.len() <= REMAINING_MAX {
        return Ok(());
    }
    let text = format!("{} logs in one count, {REMAINING_MAX} fit", logs.len());
    Err(SinkError::new(sink, SinkErrorKind::Full, text))
}

/// A search engine that is shared.
pub type SharedSearch = Arc<dyn Search>;

/// The engine that the configuration names, its calls told as metrics; connects when first used. `database` is where
/// PostgreSQL search keeps its table: the API's or the worker's role to read, the worker's to write.
pub async fn open(config: &SearchConfig, database: &Database) -> Result<SharedSearch, SinkError> {
    if config.opensearch_url.is_some() {
        return Ok(Arc::new(ToldSearch(OpenSearchSink::new(config).await?)));
    }
    Ok(Arc::new(ToldSearch(PostgresSearch::new(config, database.clone()))))
}

//! The index worker: accepted logs go to PostgreSQL, then to search, then to the live tail; changes
//! and erasures follow the same order. Search shows what PostgreSQL holds and nothing else, so a
//! late, repeated or reordered message cannot undo newer state or bring an erased log back.
//!
//! **A dead Redis delays, it does not lose.** Publishing comes before settling, and Redis has a
//! breaker like the other sinks: while it is down the worker stops polling and messages wait on the
//! queue. Settling without having published would leave a hole in a live tail that nobody can see:
//! a reader's own connection may be fine, so nothing tells it to look into PostgreSQL. What was in
//! hand is stored and searchable already; only its settlement waits.

mod batches;
mod change;
mod config;
mod decode;
pub mod events;
mod failures;
mod ingest;

use std::sync::Arc;

use contracts::audit::{BulkIndex, IndexMessage, LogItem};
use contracts::{Header, Tenant};
use database::Database;
use queue_core::{
    Attempt, AttemptStore, ClaimStore, Clock, Delivery, Failure, Probe, RejectedPart, Worker,
};
use sinks::search::Search;

use crate::crash::{self, CrashPoint};
use crate::store::LogStore;

pub use batches::{Announce, BatchLimits, Batches, Origin, Searched, Stored};
pub use config::IndexConfig;
pub(super) use decode::part_header;

/// What the worker stands on; ports only, so that tests and measurements choose each.
pub struct Parts {
    /// The system of record.
    pub store: Arc<dyn LogStore>,
    /// The search engine.
    pub search: Arc<dyn Search>,
    /// The live tail.
    pub feed: Arc<dyn Announce>,
    /// Failures of messages.
    pub attempts: Arc<dyn AttemptStore>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Sinks without which nothing can be handled.
    pub probes: Vec<Arc<dyn Probe>>,
    /// Bounds of the batches.
    pub limits: BatchLimits,
    /// Tenants that messages of the legacy queue may name.
    pub legacy_tenants: Vec<Tenant>,
}

/// Handles `INDEX`, `BULK_INDEX`, `UPDATE` and `DELETE`.
pub struct IndexWorker {
    batches: Batches,
    store: Arc<dyn LogStore>,
    search: Arc<dyn Search>,
    feed: Arc<dyn Announce>,
    attempts: Arc<dyn AttemptStore>,
    probes: Vec<Arc<dyn Probe>>,
    legacy_tenants: Vec<Tenant>,
    claims: Option<Arc<dyn ClaimStore>>,
    outbox: Option<Database>,
}

impl IndexWorker {
    /// A worker on those parts.
    pub fn new(parts: Parts) -> Self {
        let Parts { store, search, feed, attempts, clock, probes, limits, legacy_tenants } = parts;
        let batches =
            Batches::new(limits, Arc::clone(&store), Arc::clone(&search), Arc::clone(&feed), clock);
        let (claims, outbox) = (None, None);
        Self { batches, store, search, feed, attempts, probes, legacy_tenants, claims, outbox }
    }

    /// The same, with a store for messages over the broker's limit.
    #[must_use]
    pub fn claiming(self, claims: Option<Arc<dyn ClaimStore>>) -> Self {
        Self { claims, ..self }
    }

    /// The same, with the database whose outbox takes what the legacy queue holds for other queues.
    #[must_use]
    pub fn forwarding(self, database: &Database) -> Self {
        Self { outbox: Some(database.clone()), ..self }
    }

    pub(super) fn outbox(&self) -> Option<&Database> {
        self.outbox.as_ref()
    }

    pub(super) fn legacy_tenants(&self) -> &[Tenant] {
        &self.legacy_tenants
    }

    pub(super) fn attempt_store(&self) -> Arc<dyn AttemptStore> {
        Arc::clone(&self.attempts)
    }

    /// Does a message's work; the parts that can never succeed come back as messages of their own.
    /// Repeating it, at any time and in any order with others, ends in the same state.
    pub async fn process(
        &self,
        header: &Header,
        message: IndexMessage,
        attempt: Attempt,
    ) -> Result<Vec<RejectedPart>, Failure> {
        match message {
            IndexMessage::Index(item) => self.index_one(header, item).await,
            IndexMessage::BulkIndex(bulk) => self.index_many(header, bulk.items).await,
            IndexMessage::Update(update) => {
                self.update(header, update, attempt).await.map(|()| Vec::new())
            }
            IndexMessage::Delete(delete) => {
                self.delete(header, delete, attempt).await.map(|()| Vec::new())
            }
        }
    }

    /// A message that is one log is rejected as it is: it needs no part.
    async fn index_one(
        &self,
        header: &Header,
        item: LogItem,
    ) -> Result<Vec<RejectedPart>, Failure> {
        match self.index_many(header, vec![item]).await?.pop() {
            Some(part) => Err(Failure::Reject(part.reason)),
            None => Ok(Vec::new()),
        }
    }

    async fn index_many(
        &self,
        header: &Header,
        items: Vec<LogItem>,
    ) -> Result<Vec<RejectedPart>, Failure> {
        let decoded = decode::items(header, items)?;
        crash::reach(CrashPoint::AfterDecode);
        let mut parts = decoded.bad;
        for refused in self.ingest(decoded.logs, decoded.bytes).await? {
            let index = decoded.places[refused.place];
            let salt = hex::encode(refused.origin.salt);
            let record = &refused.origin.record;
            parts.push(decode::part(header, index, record, salt, refused.reason)?);
        }
        Ok(parts)
    }
}

impl Worker for IndexWorker {
    const NAME: &'static str = "index-worker";
    /// Enough that a batch is full while another is on its way, also with 100 logs per message. The
    /// bytes of large bulks are bounded by [`Worker::BYTES_IN_HAND`]; their records and documents
    /// come on top, so where memory is short, lower `WORKER_BYTES_IN_HAND_MAX`.
    const CONCURRENCY: usize = 512;
    type Message = IndexMessage;

    async fn handle(&self, mut delivery: Delivery<IndexMessage>) -> Result<(), Failure> {
        let nothing = IndexMessage::BulkIndex(BulkIndex { items: Vec::new() });
        let message = std::mem::replace(&mut delivery.message, nothing);
        for part in self.process(&delivery.header, message, delivery.attempt).await? {
            delivery.reject_part(part);
        }
        crash::reach(CrashPoint::BeforeSettle);
        Ok(())
    }

    fn claims(&self) -> Option<Arc<dyn ClaimStore>> {
        self.claims.clone()
    }

    fn probes(&self) -> Vec<Arc<dyn Probe>> {
        self.probes.clone()
    }
}

impl std::fmt::Debug for IndexWorker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IndexWorker").field("batches", &self.batches).finish_non_exhaustive()
    }
}

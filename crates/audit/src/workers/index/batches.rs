//! The three stages that logs of many messages go through together: one insert, one search bulk,
//! one publish per batch, each stage with batches of its own. Every message gets the outcome of its
//! own logs back; nothing here knows envelopes, attempts or dead letters.

mod store;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use contracts::Tenant;
use queue_core::config::BYTES_IN_HAND_RANGE;
use queue_core::trace;
use queue_core::{Clock, CoalesceLimits, Coalescer, Failure};
use sinks::error::{ItemError, SinkError};
use sinks::pubsub::{Feed, FeedEvent};
use sinks::search::{Document, Search};
use tracing::{Instrument, Span, field};

use super::{events, failures};
use crate::crash::{self, CrashPoint};
use crate::model::NewLog;
use crate::store::{LogStore, StoreError};

pub(super) use store::event;
pub use store::{Origin, Stored};

/// Where stored logs are announced; a port, so that the path can be measured without Redis.
#[async_trait]
pub trait Announce: Send + Sync + 'static {
    /// Announces logs to whoever tails live. Readers drop repeats by id.
    async fn announce(&self, events: &[FeedEvent]) -> Result<(), SinkError>;
    /// Drops what is kept of a tenant's announcements for readers that come back; they read the
    /// database instead. Without a default: whoever keeps announcements has to drop them.
    async fn forget(&self, tenant: &Tenant) -> Result<(), SinkError>;
}

#[async_trait]
impl Announce for Feed {
    async fn announce(&self, events: &[FeedEvent]) -> Result<(), SinkError> {
        self.publish(events).await
    }

    async fn forget(&self, tenant: &Tenant) -> Result<(), SinkError> {
        Feed::forget(self, tenant).await
    }
}

/// Bounds of the three stages.
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    /// Messages per batch.
    pub messages_max: usize,
    /// Bytes of records per batch. A mebibyte is one to two thousand logs: beyond that a larger
    /// insert or bulk is slower, as `make bench` shows, and a lost connection costs more work.
    pub bytes_max: usize,
    /// Batches at a time, per stage; together below the pool's connections.
    pub in_flight_max: usize,
    /// Bulks to search at a time before only full ones start another: a bulk costs a search engine
    /// far more than the documents in it.
    pub search_in_flight_max: usize,
    /// Bytes admitted and not answered, per stage. Above what the worker can hold, so that it is
    /// the engine's budget of bytes in hand that pushes back: that of two queues at its largest
    /// setting. At the default of 16 MiB, legacy events may grow to four times their size as they
    /// become records.
    pub pending_bytes_max: usize,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self {
            messages_max: 1_024,
            bytes_max: 1 << 20,
            in_flight_max: 3,
            search_in_flight_max: 1,
            pending_bytes_max: 2 * *BYTES_IN_HAND_RANGE.end(),
        }
    }
}

impl BatchLimits {
    fn coalesce(self) -> CoalesceLimits {
        CoalesceLimits {
            items_max: self.messages_max,
            bytes_max: self.bytes_max,
            // What arrives while a batch runs is the next batch: nobody waits for company.
            linger: Duration::ZERO,
            batches_in_flight_max: self.in_flight_max,
            batches_in_flight_per_key_max: self.in_flight_max,
            pending_bytes_max: self.pending_bytes_max,
            pending_bytes_per_key_max: self.pending_bytes_max,
        }
    }
}

/// What became of one document.
#[derive(Clone, Debug)]
pub struct Searched {
    /// Whether search did what it was asked to: hold the document, or give it back.
    pub outcome: Result<(), ItemError>,
    /// Its log was erased meanwhile, so it was taken back: it must not be announced.
    pub erased: bool,
}

/// What one message gives to a batch, and the span that it is handled in.
#[derive(Debug)]
struct Part<T> {
    items: Vec<T>,
    origin: trace::Origin,
}

impl<T> Part<T> {
    fn of(items: Vec<T>) -> Self {
        Self { items, origin: trace::Origin::here() }
    }
}

/// The span of one batch, in traces only.
macro_rules! stage {
    ($name:literal) => {
        tracing::debug_span!(
            target: trace::TARGET,
            parent: None,
            $name,
            messages = field::Empty,
            logs = field::Empty
        )
    };
}

/// Ties a batch's span to the messages in it.
fn joined<T>(span: Span, parts: Vec<Part<T>>) -> (Span, Vec<Vec<T>>) {
    if !span.is_disabled() {
        trace::batch(&span, parts.iter().map(|part| &part.origin));
        span.record("messages", parts.len());
        span.record("logs", parts.iter().map(|part| part.items.len()).sum::<usize>());
    }
    (span, parts.into_iter().map(|part| part.items).collect())
}

type StoreOutcome = Result<Vec<Stored>, StoreError>;
type SearchOutcome = Result<Vec<Searched>, Failure>;

/// The stages.
#[derive(Debug)]
pub struct Batches {
    store: Coalescer<(), Part<NewLog>, StoreOutcome>,
    search: Coalescer<(), Part<Document>, SearchOutcome>,
    announce: Coalescer<(), Part<FeedEvent>, Result<(), Failure>>,
}

impl Batches {
    /// Stages on those sinks.
    pub fn new(
        limits: BatchLimits,
        store: Arc<dyn LogStore>,
        search: Arc<dyn Search>,
        feed: Arc<dyn Announce>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let for_search = CoalesceLimits {
            batches_in_flight_per_key_max: limits.search_in_flight_max,
            ..limits.coalesce()
        };
        let limits = limits.coalesce();
        let tombstones = Arc::clone(&store);
        let tombstones_after = Arc::clone(&store);
        Self {
            store: Coalescer::new(limits, move |(), parts| {
                let (store, clock) = (Arc::clone(&store), Arc::clone(&clock));
                let (span, messages) = joined(stage!("store logs"), parts);
                async move { store::flush(&*store, clock.now(), messages).await }.instrument(span)
            }),
            search: Coalescer::new(for_search, move |(), parts| {
                let (search, tombstones) = (Arc::clone(&search), Arc::clone(&tombstones));
                let (span, messages) = joined(stage!("make searchable"), parts);
                async move { flush_search(&*search, &*tombstones, messages).await }.instrument(span)
            }),
            announce: Coalescer::new(limits, move |(), parts| {
                let (feed, tombstones) = (Arc::clone(&feed), Arc::clone(&tombstones_after));
                let (span, messages) = joined(stage!("announce logs"), parts);
                let announced = async move {
                    let count = messages.len();
                    let events: Vec<FeedEvent> = messages.into_iter().flatten().collect();
                    vec![announce(&*feed, &*tombstones, &events).await; count]
                };
                announced.instrument(span)
            }),
        }
    }

    /// Stores a message's logs; one outcome per log, in their order.
    pub async fn store(&self, logs: Vec<NewLog>, bytes: usize) -> Result<Vec<Stored>, Failure> {
        if logs.is_empty() {
            return Ok(Vec::new());
        }
        let outcome = self.store.call((), Part::of(logs), bytes).await.map_err(failures::full)?;
        outcome.map_err(|error| failures::store(&error))
    }

    /// Makes documents searchable, unless their logs are erased meanwhile; one outcome per
    /// document, in their order.
    pub async fn search(
        &self,
        documents: Vec<Document>,
        bytes: usize,
    ) -> Result<Vec<Searched>, Failure> {
        if documents.is_empty() {
            return Ok(Vec::new());
        }
        self.search.call((), Part::of(documents), bytes).await.map_err(failures::full)?
    }

    /// Announces stored logs to the live tail, which forgets those that are erased meanwhile.
    pub async fn announce(&self, events: Vec<FeedEvent>, bytes: usize) -> Result<(), Failure> {
        if events.is_empty() {
            return Ok(());
        }
        self.announce.call((), Part::of(events), bytes).await.map_err(failures::full)?
    }
}

async fn flush_search(
    search: &dyn Search,
    tombstones: &dyn LogStore,
    messages: Vec<Vec<Document>>,
) -> Vec<SearchOutcome> {
    let sizes: Vec<usize> = messages.iter().map(Vec::len).collect();
    let documents: Vec<Document> = messages.into_iter().flatten().collect();
    match index(search, tombstones, &documents).await {
        Ok(mut outcomes) => {
            crash::reach(CrashPoint::AfterSearch);
            sizes.into_iter().map(|size| Ok(outcomes.drain(..size).collect())).collect()
        }
        Err(failure) => vec![Err(failure); sizes.len()],
    }
}

/// Writes documents, then takes back those whose logs were erased between the read that they were
/// built from and now. An erasure commits its tombstone before it erases from search, so whichever
/// of the two comes last removes the document.
async fn index(
    search: &dyn Search,
    tombstones: &dyn LogStore,
    documents: &[Document],
) -> Result<Vec<Searched>, Failure> {
    let outcomes = search.index(documents).await?;
    let mut outcomes: Vec<_> = outcomes
        .into_iter()
        .map(|outcome| Searched { outcome: outcome.map(|_| ()), erased: false })
        .collect();
    // A sink that answers short would shift every outcome behind it.
    let none = || Err(ItemError::Retry("no outcome for the document".into()));
    outcomes.resize_with(documents.len(), || Searched { outcome: none(), erased: false });
    let keys: Vec<_> = documents.iter().map(|document| (&document.tenant, document.id)).collect();
    let erased = tombstones.erased_among(&keys).await.map_err(|error| failures::store(&error))?;
    if !erased.is_empty() {
        events::TakenBack { documents: erased.len() }.emit();
        let references: Vec<_> = erased.iter().map(|place| documents[*place].reference()).collect();
        for (place, outcome) in erased.into_iter().zip(search.erase(&references).await?) {
            outcomes[place] = Searched { outcome, erased: true };
        }
    }
    Ok(outcomes)
}

/// Announces logs, then makes the feed forget the tenants of those that were erased between the look
/// for their tombstones and now. An erasure commits its tombstone before it makes the feed forget, so
/// whichever of the two comes last empties the stream.
async fn announce(
    feed: &dyn Announce,
    tombstones: &dyn LogStore,
    events: &[FeedEvent],
) -> Result<(), Failure> {
    feed.announce(events).await?;
    crash::reach(CrashPoint::AfterAnnounce);
    let keys: Vec<_> = events.iter().map(|event| (&event.tenant, event.id)).collect();
    let erased = tombstones.erased_among(&keys).await.map_err(|error| failures::store(&error))?;
    let tenants: BTreeSet<&Tenant> = erased.into_iter().map(|place| keys[place].0).collect();
    for tenant in tenants {
        feed.forget(tenant).await?;
    }
    Ok(())
}

//! What is told of each call to a sink: one value per call, whose `emit` writes the log line and the
//! metrics together, and the search engine that tells it of whatever engine is behind it. Labels are
//! sink, call and outcome, never a tenant.

use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use contracts::Tenant;
use metrics::{counter, histogram};
use queue_core::{Probe, trace};
use tokio::time::Instant;
use tracing::{Instrument, Span, debug};

use crate::error::{ItemError, SinkError, SinkErrorKind};
use crate::search::{
    Document, DocumentRef, Indexed, Page, Partition, Query, Rebuild, Rebuilt, Search, SortKey,
};

/// Time of a call to a sink, in seconds, by `sink` and `call`.
pub const SINK_CALL_SECONDS: &str = "flotilla_sink_call_seconds";
/// Calls to a sink, by `sink`, `call` and `outcome`: see [`Outcome`].
pub const SINK_CALLS_TOTAL: &str = "flotilla_sink_calls_total";

/// How a call to a sink ended; a closed vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done, every item of it.
    Ok,
    /// Done, but for some items.
    Partial,
    /// The sink could not be reached, or cannot work now.
    Unavailable,
    /// No answer in time.
    Timeout,
    /// It asks for fewer calls.
    Throttled,
    /// The sink refused the call as a whole.
    Refused,
    /// A bound of ours was reached; nothing was sent.
    Full,
    /// It may or may not have taken effect, and the sink cannot be asked.
    Unknown,
}

impl Outcome {
    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Partial => "partial",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Throttled => "throttled",
            Self::Refused => "refused",
            Self::Full => "full",
            Self::Unknown => "unknown",
        }
    }
}

impl From<&SinkError> for Outcome {
    fn from(error: &SinkError) -> Self {
        match error.kind {
            SinkErrorKind::Unavailable => Self::Unavailable,
            SinkErrorKind::Timeout => Self::Timeout,
            SinkErrorKind::Throttled => Self::Throttled,
            SinkErrorKind::Refused | SinkErrorKind::NeedsRestore => Self::Refused,
            SinkErrorKind::Full => Self::Full,
        }
    }
}

/// A call to a sink ended.
#[derive(Clone, Copy, Debug)]
pub struct SinkCalled {
    /// Which sink, e.g. `opensearch`, `redis`, `postgres`.
    pub sink: &'static str,
    /// What was asked, e.g. `index`, `erase`, `search`, `publish`, `insert`.
    pub call: &'static str,
    /// How long it took.
    pub took: Duration,
    /// How it ended.
    pub outcome: Outcome,
}

impl SinkCalled {
    /// Writes the log line and the metrics.
    pub fn emit(self) {
        let Self { sink, call, took, outcome } = self;
        let outcome = outcome.as_str();
        histogram!(SINK_CALL_SECONDS, "sink" => sink, "call" => call).record(took.as_secs_f64());
        counter!(SINK_CALLS_TOTAL, "sink" => sink, "call" => call, "outcome" => outcome)
            .increment(1);
        // Whoever handles a failure logs it.
        debug!(sink, call, outcome, ?took, "sink called");
    }
}

/// Runs a call to a sink and tells of it, its trace included; `outcome` reads how it ended.
pub async fn told<T>(
    sink: &'static str,
    call: &'static str,
    outcome: impl FnOnce(&T) -> Outcome,
    run: impl Future<Output = T>,
) -> T {
    let started = Instant::now();
    let span = span(sink, call);
    let answer = run.instrument(span.clone()).await;
    let outcome = outcome(&answer);
    if !matches!(outcome, Outcome::Ok | Outcome::Partial) {
        trace::failed(&span, outcome.as_str());
    }
    SinkCalled { sink, call, took: started.elapsed(), outcome }.emit();
    answer
}

/// The span of a call, in traces only.
fn span(sink: &'static str, call: &'static str) -> Span {
    if !trace::is_inside() {
        return Span::none();
    }
    tracing::debug_span!(
        target: trace::TARGET,
        "sink call",
        otel.kind = "client",
        otel.name = format_args!("{sink} {call}"),
        sink,
        call
    )
}

/// How a call without items ended.
pub(crate) fn whole<T>(answer: &Result<T, SinkError>) -> Outcome {
    answer.as_ref().map_or_else(Outcome::from, |_| Outcome::Ok)
}

type PerItem<T> = Result<Vec<Result<T, ItemError>>, SinkError>;

fn per_item<T>(answer: &PerItem<T>) -> Outcome {
    match answer {
        Ok(items) if items.iter().any(Result::is_err) => Outcome::Partial,
        answer => whole(answer),
    }
}

/// A search engine whose reads and writes are told.
#[derive(Clone, Debug)]
pub struct ToldSearch<S>(pub S);

#[async_trait]
impl<S: Search> Search for ToldSearch<S> {
    async fn ensure(&self) -> Result<(), SinkError> {
        self.0.ensure().await
    }

    async fn index(&self, documents: &[Document]) -> PerItem<Indexed> {
        told(self.name(), "index", per_item, self.0.index(documents)).await
    }

    async fn erase(&self, logs: &[DocumentRef]) -> PerItem<()> {
        told(self.name(), "erase", per_item, self.0.erase(logs)).await
    }

    async fn search(
        &self,
        tenant: &Tenant,
        query: &Query,
        limit: usize,
        after: Option<SortKey>,
    ) -> Result<Page, SinkError> {
        told(self.name(), "search", whole, self.0.search(tenant, query, limit, after)).await
    }

    async fn count(&self, tenant: &Tenant, query: &Query) -> Result<u64, SinkError> {
        told(self.name(), "count", whole, self.0.count(tenant, query)).await
    }

    async fn refresh(&self) -> Result<(), SinkError> {
        self.0.refresh().await
    }

    async fn begin_rebuild(&self, partition: Partition) -> Result<Rebuild, SinkError> {
        self.0.begin_rebuild(partition).await
    }

    async fn fill(&self, rebuild: &Rebuild, documents: &[Document]) -> PerItem<Indexed> {
        told(self.name(), "fill", per_item, self.0.fill(rebuild, documents)).await
    }

    async fn finish_rebuild(&self, rebuild: Rebuild) -> Result<Rebuilt, SinkError> {
        self.0.finish_rebuild(rebuild).await
    }

    async fn abandon_rebuild(&self, rebuild: Rebuild) -> Result<(), SinkError> {
        self.0.abandon_rebuild(rebuild).await
    }
}

#[async_trait]
impl<S: Search> Probe for ToldSearch<S> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    async fn probe(&self) -> Result<(), String> {
        self.0.probe().await
    }
}

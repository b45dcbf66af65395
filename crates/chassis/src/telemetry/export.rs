//! Ended spans on their way to the collector: a bounded buffer, and one task that posts batches. Work
//! is never held up: what does not fit, or is not taken, is dropped and counted; the log says once
//! that the collector fails, and once that it takes spans again.
//!
//! It does not try a batch again: what the collector may have taken would be there twice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::CONTENT_TYPE;
use metrics::Counter;
use opentelemetry::Context;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use prost::Message;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::TraceArgs;
use crate::service::BuildError;

/// Ended spans, by what became of them.
pub(super) const SPANS_TOTAL: &str = "flotilla_trace_spans_total";
/// Spans that wait at most: some seconds of a busy worker's, below 10 MiB.
const PENDING_MAX: usize = 8_192;
/// Spans per request (the SDK specification's default).
const BATCH_MAX: usize = 512;
/// A batch that is not full leaves after this.
const LINGER: Duration = Duration::from_secs(1);
/// Pause after a failure, so that a dead collector is asked rarely.
const PAUSE: Duration = Duration::from_secs(5);
/// Bytes of an answer that are read; it is nearly empty.
const ANSWER_MAX: usize = 64 * 1024;

/// The way to the collector. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub(super) struct Exporter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    pending: Mutex<Vec<SpanData>>,
    full: Notify,
    stop: CancellationToken,
    task: TaskTracker,
    collector: Collector,
    failing: AtomicBool,
    counts: Counts,
}

#[derive(Debug)]
struct Collector {
    client: reqwest::Client,
    url: reqwest::Url,
    timeout: Duration,
    resource: ResourceAttributesWithSchema,
}

struct Counts {
    exported: Counter,
    failed: Counter,
    dropped: Counter,
}

impl Exporter {
    /// An exporter with those options; `None` when they name no collector.
    pub(super) fn new(args: &TraceArgs, resource: &Resource) -> Result<Option<Self>, BuildError> {
        let Some(url) = args.url() else { return Ok(None) };
        let client = reqwest::Client::builder()
            .default_headers(args.headers())
            .pool_max_idle_per_host(1)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(BuildError::failed)?;
        let resource = resource.into();
        let collector = Collector { client, url, timeout: args.timeout(), resource };
        let count = |outcome| metrics::counter!(SPANS_TOTAL, "outcome" => outcome);
        Ok(Some(Self {
            shared: Arc::new(Shared {
                pending: Mutex::default(),
                full: Notify::new(),
                stop: CancellationToken::new(),
                task: TaskTracker::new(),
                collector,
                failing: AtomicBool::new(false),
                counts: Counts {
                    exported: count("exported"),
                    failed: count("failed"),
                    dropped: count("dropped"),
                },
            }),
        }))
    }

    /// Starts the task that exports; inside the runtime.
    pub(super) fn start(&self) {
        let shared = Arc::clone(&self.shared);
        self.shared.task.spawn(async move { shared.export_until_stopped().await });
        self.shared.task.close();
    }

    /// Exports what has ended so far, and nothing from now on; for at most `limit`.
    pub(super) async fn finish(&self, limit: Duration) {
        self.shared.stop.cancel();
        if tokio::time::timeout(limit, self.shared.task.wait()).await.is_err() {
            tracing::debug!("the last spans were not exported in time");
        }
    }
}

impl Shared {
    async fn export_until_stopped(&self) {
        loop {
            tokio::select! {
                () = self.full.notified() => {}
                () = tokio::time::sleep(LINGER) => {}
                () = self.stop.cancelled() => break,
            }
            if !self.export_pending().await {
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    () = self.stop.cancelled() => break,
                }
            }
        }
        self.export_pending().await;
    }

    /// Exports all that waits, a batch at a time; ends at the first batch that is not taken.
    async fn export_pending(&self) -> bool {
        loop {
            let batch = self.next_batch();
            if batch.is_empty() {
                return true;
            }
            let spans = batch.len() as u64;
            match self.collector.post(batch).await {
                Ok(rejected) => self.exported(spans, rejected),
                Err(why) => {
                    self.failed(spans, &why);
                    return false;
                }
            }
        }
    }

    fn next_batch(&self) -> Vec<SpanData> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.len() <= BATCH_MAX {
            return std::mem::take(&mut *pending);
        }
        let rest = pending.split_off(BATCH_MAX);
        std::mem::replace(&mut *pending, rest)
    }

    fn exported(&self, spans: u64, rejected: u64) {
        self.counts.exported.increment(spans.saturating_sub(rejected));
        self.counts.failed.increment(rejected);
        if self.failing.swap(false, Ordering::Relaxed) {
            tracing::info!("traces are exported again");
        }
    }

    fn failed(&self, spans: u64, why: &str) {
        self.counts.failed.increment(spans);
        if !self.failing.swap(true, Ordering::Relaxed) {
            let url = self.collector.url.as_str();
            tracing::warn!(url, why, "traces are not exported, only counted; said once");
        }
    }
}

impl Collector {
    /// Posts a batch; how many spans of it the collector refuses.
    async fn post(&self, batch: Vec<SpanData>) -> Result<u64, String> {
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let body = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        let request = self.client.post(self.url.clone()).body(body).timeout(self.timeout);
        let answer = request.header(CONTENT_TYPE, "application/x-protobuf").send().await;
        let mut answer = answer.map_err(|error| chain(&error.without_url()))?;
        if !answer.status().is_success() {
            return Err(format!("it answers {}", answer.status()));
        }
        let mut text = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| chain(&error))? {
            if text.len() + chunk.len() > ANSWER_MAX {
                return Ok(0);
            }
            text.extend_from_slice(&chunk);
        }
        // A collector that answers something else has taken the batch all the same.
        let answer = ExportTraceServiceResponse::decode(text.as_slice()).unwrap_or_default();
        let refused = answer.partial_success.map_or(0, |partial| partial.rejected_spans);
        Ok(u64::try_from(refused).unwrap_or_default())
    }
}

/// `a: b: c`.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}

impl SpanProcessor for Exporter {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        let waiting = {
            let mut pending = self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner);
            if pending.len() >= PENDING_MAX {
                drop(pending);
                self.shared.counts.dropped.increment(1);
                return;
            }
            pending.push(span);
            pending.len()
        };
        if waiting == BATCH_MAX {
            self.shared.full.notify_one();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl std::fmt::Debug for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Counts")
    }
}

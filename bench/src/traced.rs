//! What traces cost: the contender with a collector named and without, in pairs one after the other,
//! each message with a trace to continue; once one in ten of them is sampled, as by default, once all
//! are. The processor time of its process per message is compared, from the process's start to its end,
//! when the last span has been exported.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_sdk_sqs::types::MessageAttributeValue;
use axum::Router;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::routing::post;

use crate::books::Books;
use crate::median;
use crate::racer::{self, Variables};
use crate::report::{Figure, Report};
use crate::sqs::{Entry, SqsLocal};

/// Pairs of which the middle counts.
const PAIRS: usize = 7;
/// Of processor time per message, without traces being 1.
const GOAL: f64 = 1.05;

/// Gives a message a trace of its own, to be exported or not.
fn in_trace(entry: Entry, sampled: impl Fn(u8) -> bool) -> anyhow::Result<Entry> {
    let (trace, span) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4().simple().to_string());
    let flags = u8::from(sampled(trace.as_bytes()[0]));
    let context = format!("00-{}-{}-{flags:02x}", trace.simple(), &span[..16]);
    let value = MessageAttributeValue::builder().data_type("String").string_value(context);
    Ok(entry.message_attributes("traceparent", value.build()?))
}

fn all(entry: Entry) -> anyhow::Result<Entry> {
    in_trace(entry, |_| true)
}

/// 26 of 256.
fn a_tenth(entry: Entry) -> anyhow::Result<Entry> {
    in_trace(entry, |first| first < 26)
}

/// Takes the figures.
pub async fn run(report: &mut Report, count: usize) -> anyhow::Result<()> {
    let server = SqsLocal::start().await?;
    let (collector, taken) = collector().await?;
    let cost = Cost { server, collector, taken, count };
    cost.take(report, "cost of traces, a tenth sampled: with / without", a_tenth).await?;
    cost.take(report, "cost of traces, all sampled: with / without", all).await
}

struct Cost {
    server: SqsLocal,
    collector: String,
    taken: Arc<AtomicUsize>,
    count: usize,
}

impl Cost {
    async fn take(
        &self,
        report: &mut Report,
        name: &str,
        traced: fn(Entry) -> anyhow::Result<Entry>,
    ) -> anyhow::Result<()> {
        let count = self.count;
        let on: Variables = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", self.collector.clone())];
        let off = Variables::new();
        let (mut without, mut with, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        let mut books = Books::default();
        let before = self.taken.load(Ordering::Relaxed);
        for _ in 0..PAIRS {
            let bare = racer::run(&self.server, "contender", count, &off, traced).await?;
            let one = racer::run(&self.server, "contender", count, &on, traced).await?;
            books = books.and(bare.books).and(one.books);
            ratios.push(one.processor / bare.processor);
            without.push(bare.processor * 1e6 / count as f64);
            with.push(one.processor * 1e6 / count as f64);
        }
        let bytes = self.taken.load(Ordering::Relaxed) - before;
        anyhow::ensure!(bytes > 0, "no span was exported");
        let note = format!(
            "processor time per message, median of {PAIRS} pairs: {:.1} µs, {:.1} µs without; {}              bytes of spans per message",
            median(&with),
            median(&without),
            bytes / (PAIRS * count)
        );
        let figure = Figure::new(name, median(&ratios), "ratio");
        report.add(figure.below(GOAL).books(books).beside(note));
        Ok(())
    }
}

/// Takes every batch of spans; its endpoint, and the bytes it has taken.
async fn collector() -> anyhow::Result<(String, Arc<AtomicUsize>)> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&taken);
    let take = post(move |spans: Bytes| async move {
        counter.fetch_add(spans.len(), Ordering::Relaxed);
        [(CONTENT_TYPE, "application/x-protobuf")]
    });
    let router = Router::new().route("/v1/traces", take);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok((endpoint, taken))
}

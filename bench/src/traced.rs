//! What traces cost: the contender with a collector named and without, in pairs one after the other,
//! each message with a sampled trace to continue. The processor time of its process per message is
//! compared, from the process's start to its end, when the last span has been exported.

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

/// Gives a message a trace of its own, to be exported.
fn traced(entry: Entry) -> anyhow::Result<Entry> {
    let (trace, span) = (uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple().to_string());
    let context = format!("00-{trace}-{}-01", &span[..16]);
    let value = MessageAttributeValue::builder().data_type("String").string_value(context);
    Ok(entry.message_attributes("traceparent", value.build()?))
}

/// Takes the figures.
pub async fn run(report: &mut Report, count: usize) -> anyhow::Result<()> {
    let server = SqsLocal::start().await?;
    let (collector, taken) = collector().await?;
    let on: Variables = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", collector)];
    let off = Variables::new();
    let (mut without, mut with, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let mut books = Books::default();
    for _ in 0..PAIRS {
        let bare = racer::run(&server, "contender", count, &off, traced).await?;
        let one = racer::run(&server, "contender", count, &on, traced).await?;
        books = books.and(bare.books).and(one.books);
        ratios.push(one.processor / bare.processor);
        without.push(bare.processor * 1e6 / count as f64);
        with.push(one.processor * 1e6 / count as f64);
    }
    let bytes = taken.load(Ordering::Relaxed);
    anyhow::ensure!(bytes > 0, "no span was exported");
    let figure = Figure::new("cost of traces: with / without", median(&ratios), "ratio");
    let note = format!(
        "processor time per message, median of {PAIRS} pairs: {:.1} µs, {:.1} µs without; {} bytes \
         of spans per message",
        median(&with),
        median(&without),
        bytes / (PAIRS * count)
    );
    report.add(figure.below(GOAL).books(books).beside(note));
    Ok(())
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

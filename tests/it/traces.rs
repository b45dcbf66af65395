//! One trace from the client's request to the last sink, seen by a collector of OTLP; and what a
//! collector that is not there costs: a counter.

use std::time::Duration;

use reqwest::StatusCode;
use testkit::{Collector, SeenSpan, eventually};

use crate::scene::{PATIENCE, Scene};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CLIENT_SPAN: &str = "00f067aa0ba902b7";
const UNSAMPLED: &str = "00-11111111111111111111111111111111-2222222222222222-00";
/// OTLP's numbers.
const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const PRODUCER: i32 = 4;
const CONSUMER: i32 = 5;

fn sampled() -> String {
    format!("00-{TRACE}-{CLIENT_SPAN}-01")
}

/// The only span of that name among `spans`.
fn only<'a>(spans: &'a [SeenSpan], name: &str) -> &'a SeenSpan {
    let found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    let [span] = found[..] else { panic!("one span {name:?} among {spans:#?}") };
    span
}

fn of_trace(spans: &[SeenSpan], trace: &str) -> Vec<SeenSpan> {
    spans.iter().filter(|span| span.trace == trace).cloned().collect()
}

/// From the server's span down to each sink, each step the child of the one before.
fn leads_to_the_sinks(spans: &[SeenSpan], search: &str) {
    let request = only(spans, "POST /logs");
    assert_eq!((request.service.as_str(), request.kind), ("ingest-api", SERVER));
    assert_eq!(request.attributes["http.response.status_code"], "202");
    let publish = only(spans, "publish");
    assert_eq!((&publish.parent, publish.kind), (&request.id, PRODUCER));
    let message = only(spans, "message");
    assert_eq!((message.service.as_str(), message.kind), ("index-worker", CONSUMER));
    assert_eq!(message.parent, publish.id, "across the queue");
    for (stage, sink) in [
        ("store logs", "postgres insert"),
        ("make searchable", search),
        ("announce logs", "redis publish"),
    ] {
        let stage = only(spans, stage);
        assert_eq!((&stage.parent, stage.service.as_str()), (&message.id, "index-worker"));
        let call = only(spans, sink);
        assert_eq!((&call.parent, call.kind), (&stage.id, CLIENT), "{sink}");
    }
}

#[tokio::test]
async fn one_trace_leads_from_the_request_to_the_last_sink() {
    let Some(mut scene) = Scene::new(true).await else { return };
    let collector = Collector::start().await;
    scene.set("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint());
    scene.set("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b");
    scene.set("OTEL_TRACES_SAMPLER_ARG", "1");
    let (api, worker) = (scene.start("ingest-api"), scene.start("index-worker"));
    scene.listens().await;
    // One after the other, so that no two share a message or a batch.
    scene.send_until_accepted(0).await;
    scene.books_balance().await;
    for (n, traceparent) in [(1, sampled().as_str()), (2, UNSAMPLED)] {
        assert_eq!(scene.send_traced(n, traceparent).await, StatusCode::ACCEPTED);
        scene.books_balance().await;
    }
    // What waits is exported in the drain, not after it.
    tokio::join!(api.drain(), worker.drain());
    let spans = collector.spans();
    let followed = of_trace(&spans, TRACE);
    assert_eq!(only(&followed, "POST /logs").parent, CLIENT_SPAN);
    leads_to_the_sinks(&followed, "opensearch index");
    let began: Vec<_> = spans.iter().filter(|s| s.name == "message" && s.trace != TRACE).collect();
    let [first] = began[..] else {
        panic!("the first event's, and not the unsampled one's: {began:#?}")
    };
    let first = of_trace(&spans, &first.trace);
    assert_eq!(only(&first, "POST /logs").parent, "", "a trace that begins here");
    leads_to_the_sinks(&first, "opensearch index");
    assert!(of_trace(&spans, &UNSAMPLED[3..35]).is_empty(), "the client has decided");
    let requests = collector.http().seen();
    assert!(requests.iter().all(|request| request.header("api-key") == "a b"));
}

#[tokio::test]
async fn the_sampler_decides_about_what_begins_here_only() {
    let mut scene = Scene::new(false).await.unwrap();
    let collector = Collector::start().await;
    scene.set("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint());
    scene.set("OTEL_TRACES_SAMPLER_ARG", "0");
    scene.set("OTEL_SERVICE_NAME", "flotilla-eu");
    let (api, worker) = (scene.start("ingest-api"), scene.start("index-worker"));
    scene.listens().await;
    scene.send_until_accepted(0).await;
    assert_eq!(scene.send_traced(1, &sampled()).await, StatusCode::ACCEPTED);
    scene.books_balance().await;
    tokio::join!(api.drain(), worker.drain());
    let spans = collector.spans();
    assert!(!spans.is_empty());
    for span in &spans {
        assert_eq!(
            (span.trace.as_str(), span.service.as_str()),
            (TRACE, "flotilla-eu"),
            "{span:?}"
        );
    }
}

#[tokio::test]
async fn a_dead_collector_costs_a_counter_and_one_line() {
    let mut scene = Scene::new(false).await.unwrap();
    let nobody = testkit::free_port();
    scene.set("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{nobody}"));
    scene.set("OTEL_TRACES_SAMPLER_ARG", "1");
    let admin = testkit::free_port();
    let api = scene.start("ingest-api");
    scene.set("ADMIN_ADDR", format!("127.0.0.1:{admin}"));
    let worker = scene.start("index-worker");
    scene.listens().await;
    for n in 0..20 {
        scene.send_until_accepted(n).await;
    }
    scene.books_balance().await;
    let url = format!("http://127.0.0.1:{admin}/metrics");
    let lost = r#"flotilla_trace_spans_total{outcome="failed"}"#;
    eventually(PATIENCE, "spans that were not exported are counted", async || {
        let text = reqwest::get(&url).await.ok()?.text().await.ok()?;
        let line = text.lines().find(|line| line.starts_with(lost))?;
        line.rsplit(' ').next()?.parse::<u64>().ok().filter(|count| *count > 0)
    })
    .await;
    let begun = tokio::time::Instant::now();
    let said = worker.output();
    tokio::join!(api.drain(), worker.drain());
    assert!(begun.elapsed() < Duration::from_secs(15), "the collector does not hold up the drain");
    let lines = said.lines().filter(|line| line.contains("traces are not exported")).count();
    assert_eq!(lines, 1, "{said}");
}

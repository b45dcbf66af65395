//! What becomes of trace context: one operation for many messages is linked to each, and what no
//! message's trace is sampled for begins none of its own.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, Span, SpanData, SpanProcessor};
use queue_core::trace::{self, Origin, Remote, TARGET};
use tracing_subscriber::layer::SubscriberExt;

#[derive(Clone, Debug, Default)]
struct Ended(Arc<Mutex<Vec<SpanData>>>);

impl SpanProcessor for Ended {
    fn on_start(&self, _: &mut Span, _: &opentelemetry::Context) {}

    fn on_end(&self, span: SpanData) {
        self.0.lock().unwrap().push(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Runs `work` under a tracing process; the spans that ended, of name `name`.
fn traced(work: impl FnOnce()) -> impl Fn(&str) -> Vec<SpanData> {
    let ended = Ended::default();
    let provider = SdkTracerProvider::builder()
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
        .with_span_processor(ended.clone())
        .build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, work);
    move |name| {
        let ended = ended.0.lock().unwrap();
        ended.iter().filter(|span| span.name == name).cloned().collect()
    }
}

/// A message's handling that hands an item over; the trace's hex digits are all `digit`.
fn hand_over(digit: char, flags: &str) -> (tracing::Span, Origin) {
    let (trace, span) = (digit.to_string().repeat(32), digit.to_string().repeat(16));
    let message = tracing::info_span!(target: TARGET, parent: None, "message");
    let remote = Remote::of(Some(&format!("00-{trace}-{span}-{flags}"))).unwrap();
    assert!(remote.continue_in(&message));
    let origin = message.in_scope(Origin::here);
    (message, origin)
}

fn run_batch(origins: &[&Origin]) {
    let span = tracing::debug_span!(target: TARGET, parent: None, "batch");
    trace::batch(&span, origins.iter().copied());
    span.in_scope(|| tracing::debug_span!(target: TARGET, "sink call").in_scope(|| ()));
}

#[test]
fn a_batch_is_linked_to_all_of_its_messages_and_they_to_it() {
    let ended = traced(|| {
        let parts = [hand_over('a', "00"), hand_over('b', "01"), hand_over('c', "01")];
        run_batch(&[&parts[0].1, &parts[1].1, &parts[2].1]);
    });
    let (batch, messages) = (ended("batch").remove(0), ended("message"));
    let message = |digit: char| {
        let trace = digit.to_string().repeat(32);
        let same = |span: &&SpanData| span.span_context.trace_id().to_string() == trace;
        messages.iter().find(same).cloned()
    };
    assert!(message('a').is_none(), "its sender does not sample it");
    let (first, second) = (message('b').unwrap(), message('c').unwrap());
    assert_eq!(batch.parent_span_id, first.span_context.span_id());
    assert_eq!(batch.span_context.trace_id(), first.span_context.trace_id());
    let linked = |span: &SpanData| {
        span.links.iter().map(|link| link.span_context.span_id()).collect::<Vec<_>>()
    };
    assert_eq!(linked(&batch), [second.span_context.span_id()]);
    assert_eq!(linked(&second), [batch.span_context.span_id()]);
    assert_eq!(linked(&first), []);
    assert_eq!(ended("sink call").remove(0).parent_span_id, batch.span_context.span_id());
}

#[test]
fn a_batch_of_messages_that_are_not_sampled_is_not_either() {
    let ended = traced(|| {
        let (_message, origin) = hand_over('a', "00");
        run_batch(&[&origin, &Origin::here()]);
    });
    for name in ["message", "batch", "sink call"] {
        assert_eq!(ended(name).len(), 0, "{name}");
    }
}

#[test]
fn what_a_span_sends_continues_its_trace() {
    let ended = traced(|| {
        let (message, _) = hand_over('d', "01");
        let sent = trace::traceparent(&message).unwrap();
        assert!(sent.starts_with(&format!("00-{}-", "d".repeat(32))) && sent.ends_with("-01"));
        assert!(Remote::of(Some(&sent)).unwrap().is_sampled(), "{sent}");
        trace::failed(&message, "sink-timeout: slow");
    });
    let status = ended("message").remove(0).status;
    assert_eq!(status, opentelemetry::trace::Status::error("sink-timeout: slow"));
}

#[test]
fn without_an_exporter_nothing_is_traced_and_nothing_breaks() {
    let span = tracing::info_span!(target: TARGET, "message");
    let context = format!("00-{}-{}-01", "a".repeat(32), "a".repeat(16));
    assert!(!Remote::of(Some(&context)).unwrap().continue_in(&span));
    assert_eq!(trace::traceparent(&span), None);
    trace::batch(&span, [&Origin::here()]);
    trace::failed(&span, "no");
}

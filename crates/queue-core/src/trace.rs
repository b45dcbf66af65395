//! W3C trace context through the queue: the span that handles a message continues the trace that
//! the message came with, and one operation for many messages is linked to each of them. Without an
//! exporter in the process nothing here does anything.
//!
//! Spans that belong into a trace have the target [`TARGET`]. It exports nothing and decides nothing
//! about sampling: the process's telemetry does.

use opentelemetry::Context;
use opentelemetry::trace::{
    SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId, TraceState,
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Target of the spans that are exported. Those at `DEBUG` level appear in traces only, not in logs.
pub const TARGET: &str = "flotilla::trace";
/// The message attribute, and the HTTP header, that carries the context.
pub const TRACEPARENT: &str = "traceparent";

/// Reads `00-{32 hex}-{16 hex}-{2 hex}` in lower case, ids not all zero; anything else starts no
/// trace (W3C Trace Context, level 1, which leaves version 00 no further fields).
fn parse(text: &str) -> Option<SpanContext> {
    let mut parts = text.split('-');
    let mut hex = |length: usize| {
        parts.next().filter(|part| {
            part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        })
    };
    let (version, trace, span, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
    if version != "00" || parts.next().is_some() {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let context = SpanContext::new(trace, span, flags, true, TraceState::NONE);
    context.is_valid().then_some(context)
}

/// Whether `text` is a `traceparent` that can be continued.
pub fn is_valid(text: &str) -> bool {
    parse(text).is_some()
}

/// The trace that something came with.
#[derive(Clone, Debug)]
pub struct Remote(SpanContext);

impl Remote {
    /// What `traceparent` names; `None` where there is none that can be continued.
    pub fn of(traceparent: Option<&str>) -> Option<Self> {
        traceparent.and_then(parse).map(Self)
    }

    /// Whether its sender exports it. A span that continues one that is not costs more than a log span
    /// and is never seen.
    pub fn is_sampled(&self) -> bool {
        self.0.is_sampled()
    }

    /// Makes `span` continue it; tells whether it does. To be called before the span is entered.
    pub fn continue_in(self, span: &Span) -> bool {
        span.set_parent(Context::new().with_remote_span_context(self.0)).is_ok()
    }
}

/// What a message or a request that `span` sends carries on; `None` when nobody traces.
pub fn traceparent(span: &Span) -> Option<String> {
    let context = context(span)?;
    let flags = context.trace_flags().to_u8();
    Some(format!("00-{}-{}-{flags:02x}", context.trace_id(), context.span_id()))
}

/// Names `span` by what is known only when it has begun.
pub fn rename(span: &Span, name: impl FnOnce() -> String) {
    if !span.is_disabled() {
        span.context().span().update_name(name());
    }
}

/// Marks `span` as failed, with why.
pub fn failed(span: &Span, why: impl std::fmt::Display) {
    if !span.is_disabled() {
        span.set_status(Status::error(why.to_string()));
    }
}

fn context(span: &Span) -> Option<SpanContext> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context().span().span_context().clone();
    context.is_valid().then_some(context)
}

/// Whether the caller is in a span of [`TARGET`]: what it begins now belongs into that trace, and
/// would otherwise begin one of its own.
pub fn is_inside() -> bool {
    Span::current().metadata().is_some_and(|metadata| metadata.target() == TARGET)
}

/// The span in which an item was handed over to be done together with others.
#[derive(Clone, Debug)]
pub struct Origin(Span);

impl Origin {
    /// Where the caller is now.
    pub fn here() -> Self {
        Self(Span::current())
    }
}

/// Ties an operation to the items that it is for: it is a child of the first item that is traced, is
/// linked to the others, and they to it. So a trace leads from any of them to the operation, and back.
/// Where no item is traced, the operation is not either. To be called before `span` is entered; it
/// should be made with `parent: None`.
pub fn batch<'a>(span: &Span, origins: impl IntoIterator<Item = &'a Origin>) {
    if span.is_disabled() {
        return;
    }
    let mut own = None;
    for origin in origins {
        let Some(item) = context(&origin.0).filter(SpanContext::is_sampled) else { continue };
        match &own {
            None => {
                let _untraced = span.set_parent(origin.0.context());
                own = context(span);
            }
            Some(own) => {
                span.add_link(item);
                origin.0.add_link(own.clone());
            }
        }
    }
    if own.is_none() {
        let _untraced = span.set_parent(unsampled());
    }
}

/// A parent whose children are not sampled.
fn unsampled() -> Context {
    let (trace, span) = (TraceId::from(1_u128), SpanId::from(1_u64));
    let none = TraceState::NONE;
    let context = SpanContext::new(trace, span, TraceFlags::NOT_SAMPLED, true, none);
    Context::new().with_remote_span_context(context)
}

#[cfg(test)]
mod tests {
    use super::{Remote, is_valid};

    const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn only_well_formed_contexts_are_continued() {
        assert!(is_valid(SAMPLED));
        for bad in [
            "",
            "00",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-é",
        ] {
            assert!(!is_valid(bad), "{bad}");
        }
    }

    #[test]
    fn the_sender_s_decision_is_read_from_the_flags() {
        let sampled = |text: &str| Remote::of(Some(text)).map(|remote| remote.is_sampled());
        assert_eq!(sampled(SAMPLED), Some(true));
        assert_eq!(sampled(&SAMPLED.replace("b7-01", "b7-00")), Some(false));
        assert_eq!(sampled(&SAMPLED.replace("b7-01", "b7-02")), Some(false), "another flag");
        assert!(Remote::of(None).is_none() && sampled("no context").is_none(), "the root decides");
    }
}

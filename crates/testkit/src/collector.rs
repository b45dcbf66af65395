//! An OpenTelemetry collector by double: takes OTLP over HTTP as protobuf and gives the spans back,
//! decoded by the protocol's own types.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use crate::http_double::{Answer, HttpDouble, Seen};

/// A span as it was exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenSpan {
    /// `service.name` of the process that made it.
    pub service: String,
    /// Its name.
    pub name: String,
    /// 32 hex digits.
    pub trace: String,
    /// 16 hex digits.
    pub id: String,
    /// Id of its parent; empty for a root.
    pub parent: String,
    /// OTLP's number: 1 internal, 2 server, 3 client, 4 producer, 5 consumer.
    pub kind: i32,
    /// (trace, id) of the spans that it is linked to.
    pub links: Vec<(String, String)>,
    /// Its attributes as text.
    pub attributes: BTreeMap<String, String>,
    /// Why it failed; empty when it did not.
    pub failure: String,
}

/// The double.
#[derive(Debug)]
pub struct Collector {
    double: HttpDouble,
}

impl Collector {
    /// One that takes everything.
    pub async fn start() -> Self {
        let double = HttpDouble::start().await;
        double.always(Answer::status(200).header("content-type", "application/x-protobuf"));
        Self { double }
    }

    /// The value for `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        self.double.url()
    }

    /// The double itself, to misbehave and to look at requests.
    pub fn http(&self) -> &HttpDouble {
        &self.double
    }

    /// Every span so far, in the order of arrival.
    pub fn spans(&self) -> Vec<SeenSpan> {
        self.double.seen().iter().flat_map(spans).collect()
    }
}

fn spans(request: &Seen) -> Vec<SeenSpan> {
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/traces"));
    assert_eq!(request.header("content-type"), "application/x-protobuf");
    let whole = ExportTraceServiceRequest::decode(request.body.clone()).expect("an OTLP request");
    let mut seen = Vec::new();
    for resource in whole.resource_spans {
        let attributes = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
        let service = text_of(&attributes).remove("service.name").unwrap_or_default();
        let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        seen.extend(spans.map(|span| seen_span(service.clone(), span)));
    }
    seen
}

fn seen_span(service: String, span: Span) -> SeenSpan {
    let links = span.links.iter();
    SeenSpan {
        service,
        trace: hex::encode(&span.trace_id),
        id: hex::encode(&span.span_id),
        parent: hex::encode(&span.parent_span_id),
        kind: span.kind,
        links: links
            .map(|link| (hex::encode(&link.trace_id), hex::encode(&link.span_id)))
            .collect(),
        attributes: text_of(&span.attributes),
        failure: span
            .status
            .filter(|status| status.code == 2)
            .map_or_else(String::new, |s| s.message),
        name: span.name,
    }
}

fn text_of(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: Option<&AnyValue>| match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(yes)) => yes.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes.iter().map(|pair| (pair.key.clone(), text(pair.value.as_ref()))).collect()
}

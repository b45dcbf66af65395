//! Items to one outgoing message: envelope, attributes, group. Pure but for random ids.

use chrono::{DateTime, Utc};
use contracts::audit::{BulkIndex, IndexMessage, LogItem};
use contracts::{Body, Envelope, EnvelopeId, Header, Message, Tenant};
use queue_core::driver::Outgoing;
use queue_core::trace::TRACEPARENT;
use tracing::Span;

/// What ties a message to the request that caused it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The client's correlation id, or the request's own id.
    pub correlation_id: String,
    /// The request's id.
    pub causation_id: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
}

impl From<&edge::RequestInfo> for Trace {
    fn from(info: &edge::RequestInfo) -> Self {
        Self {
            correlation_id: info.correlation_id.clone(),
            causation_id: Some(info.request_id.clone()),
            traceparent: info.traceparent.clone(),
        }
    }
}

impl Trace {
    /// The same, sent inside `span`: the message continues that span's trace, where there is one.
    pub(super) fn within(&self, span: &Span) -> Self {
        let mut trace = self.clone();
        trace.traceparent = queue_core::trace::traceparent(span).or(trace.traceparent);
        trace
    }
}

/// A message of ours, new.
pub(super) fn new_envelope_id(now: DateTime<Utc>) -> EnvelopeId {
    EnvelopeId(contracts::ids::uuid_v7_at(now, rand::random()))
}

/// One log travels as `INDEX`, several as `BULK_INDEX`.
pub(super) fn bundle(mut items: Vec<LogItem>) -> IndexMessage {
    match items.pop() {
        Some(only) if items.is_empty() => IndexMessage::Index(only),
        last => {
            items.extend(last);
            IndexMessage::BulkIndex(BulkIndex { items })
        }
    }
}

/// The message, and what it travels with. The group is the tenant: on a standard queue SQS then
/// shares consumers fairly between tenants.
pub(super) fn outgoing(
    id: EnvelopeId,
    tenant: &Tenant,
    message: &IndexMessage,
    trace: &Trace,
    now: DateTime<Utc>,
) -> Result<(Envelope, Outgoing), serde_json::Error> {
    let header = Header {
        v: message.version(),
        kind: message.kind().into(),
        id,
        tenant: tenant.clone(),
        recorded_at: now,
        correlation_id: trace.correlation_id.clone(),
        causation_id: trace.causation_id.clone(),
        hops: 0,
        key: None,
        revision: None,
    };
    let mut attributes = vec![
        ("type".to_owned(), message.kind().to_owned()),
        ("version".to_owned(), message.version().to_string()),
    ];
    attributes
        .extend(trace.traceparent.iter().map(|parent| (TRACEPARENT.to_owned(), parent.clone())));
    let group = Some(tenant.as_str().to_owned());
    let frame = Outgoing { attributes, group, ..Outgoing::default() };
    Ok((Envelope::wrap(header, message)?, frame))
}

/// Bytes of a message before it is packed, but for its header.
#[expect(clippy::cast_precision_loss, reason = "a metric; messages are far below 2^52 bytes")]
pub(super) fn size(envelope: &Envelope, frame: &Outgoing) -> f64 {
    let body = match &envelope.body {
        Body::Inline(body) => body.get().len(),
        // Packed by nobody before it is sent.
        Body::Gzip(_) | Body::Claim(_) => 0,
    };
    (body + frame.size()) as f64
}

//! A message on a dead-letter queue as an operator sees it, whether the engine put it there with its
//! reason or SQS's own redrive did without one.

use chrono::{DateTime, Utc};
use contracts::catalogue::QueueKind;
use contracts::message::Bare;
use contracts::reading::Reader;
use contracts::{Body, Claimed, Envelope, Header, QueueSpec};
use queue_core::dead_letter::{DEAD_LETTER_VERSION, EnvelopeSummary, OnDeadLetterQueue};
use queue_core::send::SEND_BYTES_MAX;
use queue_core::trace::TRACEPARENT;
use queue_core::{DeadLetter, Outgoing, Received};
use serde::Serialize;
use serde_json::value::RawValue;

/// The code shown for a message that SQS moved by itself.
const MOVED_BY_SQS: &str = "moved-by-sqs";
/// Attributes with this prefix are the engine's remarks on an original too large to be wrapped.
const REMARK: &str = "flotilla-";

/// Attribute of a redriven message that an operator changed: who, and why.
const EDITED: &str = "flotilla-edited";
/// Bytes of it at most.
const EDITED_BYTES_MAX: usize = 512;
/// Attributes that SQS takes per message.
const ATTRIBUTES_MAX: usize = 10;

/// A message on a dead-letter queue, decoded.
pub(super) struct Letter {
    /// As it was received.
    pub(super) received: Received,
    /// What is in it.
    pub(super) content: OnDeadLetterQueue,
}

/// One line of a listing.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) queue: String,
    pub(super) code: String,
    pub(super) reason: String,
    pub(super) fingerprint: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) tenant: String,
    pub(super) failures: u32,
    /// Worker and version that gave up on it; empty when SQS moved it.
    pub(super) worker: String,
    pub(super) first_seen: Option<DateTime<Utc>>,
    pub(super) rejected_at: Option<DateTime<Utc>>,
    /// Envelope id of the bulk message that this was a part of.
    pub(super) parent: Option<String>,
}

impl Letter {
    pub(super) fn read(received: Received) -> Self {
        let content = DeadLetter::read(&received.body);
        Self { received, content }
    }

    /// What the listing shows.
    pub(super) fn row(&self, spec: &QueueSpec) -> Row {
        match &self.content {
            OnDeadLetterQueue::Letter(letter) => Row {
                id: self.received.message_id.clone(),
                queue: letter.queue.clone(),
                code: letter.code.clone(),
                reason: letter.message.clone(),
                fingerprint: letter.fingerprint.clone(),
                kind: letter.envelope.as_ref().map_or_else(String::new, |e| e.kind.clone()),
                tenant: letter.envelope.as_ref().map_or_else(String::new, |e| e.tenant.clone()),
                failures: letter.failures,
                worker: letter.worker.clone(),
                first_seen: Some(letter.first_seen),
                rejected_at: Some(letter.rejected_at),
                parent: letter.parent.as_ref().map(|parent| parent.id.clone()),
            },
            OnDeadLetterQueue::Raw(_) => self.raw_row(spec),
        }
    }

    fn raw_row(&self, spec: &QueueSpec) -> Row {
        let attribute = |name: &str| self.received.attribute(name).map(ToOwned::to_owned);
        let sent = self.first_seen();
        let header = self.header();
        let code = attribute("flotilla-code").unwrap_or_else(|| MOVED_BY_SQS.to_owned());
        Row {
            id: self.received.message_id.clone(),
            queue: spec.name.to_owned(),
            reason: attribute("flotilla-reason").unwrap_or_else(|| {
                "received too often without an outcome; see the worker's log".to_owned()
            }),
            fingerprint: attribute("flotilla-fingerprint").unwrap_or_else(|| code.clone()),
            kind: header
                .as_ref()
                .map(|header| header.kind.clone())
                .or_else(|| attribute("type"))
                .unwrap_or_default(),
            tenant: header.map_or_else(String::new, |header| header.tenant.to_string()),
            failures: 0,
            worker: attribute("flotilla-worker").unwrap_or_default(),
            first_seen: Some(sent),
            rejected_at: Some(sent),
            parent: None,
            code,
        }
    }

    /// When the original was first sent.
    pub(super) fn first_seen(&self) -> DateTime<Utc> {
        match &self.content {
            OnDeadLetterQueue::Letter(letter) => letter.first_seen,
            OnDeadLetterQueue::Raw(_) => {
                DateTime::from_timestamp_millis(self.received.sent_at_ms).unwrap_or_default()
            }
        }
    }

    /// The original's envelope without its body, where it can be read.
    pub(super) fn header(&self) -> Option<Header> {
        Envelope::from_json(self.body()).ok().map(|envelope| envelope.header)
    }

    /// What the original is known by, whatever broker's id it travels under.
    pub(super) fn identity(&self) -> String {
        let own = self.header().map(|header| header.id.to_string());
        own.unwrap_or_else(|| match &self.content {
            OnDeadLetterQueue::Letter(letter) => letter.message_id.clone(),
            OnDeadLetterQueue::Raw(_) => self.received.message_id.clone(),
        })
    }

    /// As a dead letter that explains, also where SQS moved it by itself.
    pub(super) fn explained(&self, spec: &QueueSpec) -> DeadLetter {
        if let OnDeadLetterQueue::Letter(letter) = &self.content {
            return (**letter).clone();
        }
        let row = self.raw_row(spec);
        let received = &self.received;
        let ours = |(name, _): &&(String, String)| !name.starts_with(REMARK);
        DeadLetter {
            flotilla_dead_letter: DEAD_LETTER_VERSION,
            queue: row.queue,
            worker: row.worker,
            code: row.code,
            message: row.reason,
            fingerprint: row.fingerprint,
            message_id: received.message_id.clone(),
            envelope: self.header().as_ref().map(EnvelopeSummary::from),
            parent: None,
            failures: 0,
            receives: received.receives,
            attempts: Vec::new(),
            first_seen: self.first_seen(),
            rejected_at: self.first_seen(),
            traceparent: received.attribute(TRACEPARENT).map(ToOwned::to_owned),
            group: received.group.clone(),
            edits: Vec::new(),
            attributes: received.attributes.iter().filter(ours).cloned().collect(),
            body: self.body().to_owned(),
        }
    }

    /// The original's body.
    pub(super) fn body(&self) -> &str {
        match &self.content {
            OnDeadLetterQueue::Letter(letter) => &letter.body,
            OnDeadLetterQueue::Raw(body) => body,
        }
    }

    /// What is sent again: the original as it is, with its attributes and group.
    pub(super) fn outgoing(&self, spec: &QueueSpec) -> Outgoing {
        let letter = self.explained(spec);
        let mut attributes = letter.attributes;
        if let Some(edit) = letter.edits.last()
            && attributes.len() < ATTRIBUTES_MAX
        {
            let who = format!("{}: {}", edit.by, edit.why);
            let plain = |c: &char| c.is_ascii_graphic() || *c == ' ';
            let who = who.chars().filter(plain).take(EDITED_BYTES_MAX).collect();
            attributes.push((EDITED.to_owned(), who));
        }
        // Equal for two tries to send this letter, so that a FIFO queue drops the second one; new for
        // every letter, since the original's own may be remembered still.
        let fifo = spec.kind == QueueKind::Fifo;
        let deduplication = fifo.then(|| format!("redrive-{}", self.received.message_id));
        let body = same_message(spec, &letter.body, &letter.message_id, letter.first_seen);
        Outgoing { body, attributes, group: letter.group, deduplication, delay: None }
    }
}

/// SQS gives what is sent again a new id, and a bare message is known by it alone: it travels in
/// an envelope that keeps the one it had. SQS's own redrive to this queue does not change it.
fn same_message(spec: &QueueSpec, body: &str, message_id: &str, sent_at: DateTime<Utc>) -> String {
    let enveloped =
        Reader::find(spec).and_then(|reader| reader.enveloped(body, &Bare { message_id, sent_at }));
    let fits = enveloped.filter(|enveloped| enveloped.len() <= SEND_BYTES_MAX);
    fits.unwrap_or_else(|| body.to_owned())
}

/// What a worker of this build makes of an original.
#[derive(Clone, Debug)]
pub(super) enum Reading {
    /// Its type and version, and the body as the type writes it.
    Typed { kind: String, version: u32, body: String },
    /// The body is an object elsewhere.
    Claimed(Box<(Header, Claimed)>),
    /// This build does not know the type or the version; a newer one may.
    Unknown(String),
    /// It can never be read.
    Broken(String),
}

impl Reading {
    /// Reads a body that lies on, or behind, that queue.
    pub(super) fn of(spec: &QueueSpec, body: &str, message_id: &str, sent: DateTime<Utc>) -> Self {
        let Some(reader) = Reader::find(spec) else {
            return Self::Unknown(format!("this build knows no message of {}", spec.name));
        };
        let bare = reader.enveloped(body, &Bare { message_id, sent_at: sent });
        let envelope = match Envelope::from_json(bare.as_deref().unwrap_or(body)) {
            Ok(envelope) => envelope,
            Err(error) => return Self::unread(body, error.to_string()),
        };
        let header = envelope.header;
        if header.hops > contracts::envelope::HOPS_MAX {
            let (hops, most) = (header.hops, contracts::envelope::HOPS_MAX);
            return Self::Broken(format!("relayed {hops} times, the limit is {most}"));
        }
        let body = match envelope.body {
            Body::Claim(claimed) => return Self::Claimed(Box::new((header, claimed))),
            Body::Inline(body) => body,
            Body::Gzip(gzipped) => match gzipped.unpack() {
                Ok(body) => body,
                Err(error) => return Self::Broken(error.to_string()),
            },
        };
        Self::of_body(spec, &header, &body)
    }

    /// Reads a body that is there.
    pub(super) fn of_body(spec: &QueueSpec, header: &Header, body: &RawValue) -> Self {
        let Some(reader) = Reader::find(spec) else {
            return Self::Unknown(format!("this build knows no message of {}", spec.name));
        };
        match reader.typed(header, body) {
            Ok(body) => Self::Typed { kind: header.kind.clone(), version: header.v, body },
            Err(contracts::DecodeError::Malformed { reason, .. }) => Self::Broken(reason),
            Err(error) => Self::Unknown(error.to_string()),
        }
    }
}

impl Reading {
    /// No envelope: broken, or written in a way that a newer build knows.
    fn unread(body: &str, error: String) -> Self {
        let value: Option<serde_json::Value> = serde_json::from_str(body).ok();
        let encoding = value.as_ref().and_then(|value| value["encoding"].as_str());
        match encoding.filter(|encoding| !contracts::Encoding::known(encoding)) {
            Some(encoding) => Self::Unknown(format!("unknown body encoding {encoding:?}")),
            None => Self::Broken(error),
        }
    }
}

impl Letter {
    /// What a worker of this build makes of it.
    pub(super) fn reading(&self, spec: &QueueSpec) -> Reading {
        let message_id = match &self.content {
            OnDeadLetterQueue::Letter(letter) => &letter.message_id,
            OnDeadLetterQueue::Raw(_) => &self.received.message_id,
        };
        Reading::of(spec, self.body(), message_id, self.first_seen())
    }
}

#[cfg(test)]
mod tests {
    use super::Letter;
    use contracts::Envelope;
    use contracts::catalogue::{AUDIT_INDEX, AUDIT_LEGACY};
    use contracts::legacy::legacy_id;
    use queue_core::Received;

    fn received(body: &str, attributes: &[(&str, &str)]) -> Received {
        Received {
            message_id: "m1".into(),
            receipt: "r1".into(),
            body: body.into(),
            receives: 1,
            sent_at_ms: 1_000,
            group: Some("acme".into()),
            sequence: None,
            attributes: attributes.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect(),
        }
    }

    #[test]
    fn a_raw_message_is_shown_and_sent_back_as_it_was() {
        let letter = Letter::read(received("not json", &[("type", "INDEX")]));
        let row = letter.row(&AUDIT_INDEX);
        assert_eq!((row.code.as_str(), row.kind.as_str()), ("moved-by-sqs", "INDEX"));
        let original = letter.outgoing(&AUDIT_INDEX);
        assert_eq!(original.body, "not json");
        assert_eq!(original.attributes, [("type".to_owned(), "INDEX".to_owned())]);
        assert_eq!(original.group.as_deref(), Some("acme"));
    }

    #[test]
    fn the_engines_remarks_are_shown_and_not_sent_back() {
        let remarks = [
            ("flotilla-code", "message-not-json"),
            ("flotilla-reason", "too large"),
            ("type", "INDEX"),
        ];
        let letter = Letter::read(received("…", &remarks));
        let row = letter.row(&AUDIT_INDEX);
        assert_eq!((row.code.as_str(), row.reason.as_str()), ("message-not-json", "too large"));
        assert_eq!(letter.outgoing(&AUDIT_INDEX).attributes.len(), 1);
    }
    #[test]
    fn a_bare_message_moved_by_sqs_goes_back_with_the_identity_it_had() {
        let bare = r#"{"type":"INDEX","tenant_id":"acme","data":{}}"#;
        let letter = Letter::read(received(bare, &[]));
        let sent = letter.outgoing(&AUDIT_LEGACY).body;
        let header = Envelope::from_json(&sent).unwrap().header;
        assert_eq!(header.id.0, legacy_id("m1"));
        assert_eq!(header.recorded_at.timestamp_millis(), 1_000);
        assert_eq!(letter.outgoing(&AUDIT_INDEX).body, bare, "of no other queue");
    }
}

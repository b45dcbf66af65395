//! A message on a dead-letter queue as an operator sees it, whether the engine put it there with its
//! reason or SQS's own redrive did without one.

use chrono::{DateTime, Utc};
use contracts::QueueSpec;
use contracts::catalogue::{AUDIT_LEGACY, QueueKind};
use contracts::legacy::BareMessage;
use contracts::message::{Bare, in_envelope};
use queue_core::dead_letter::OnDeadLetterQueue;
use queue_core::send::SEND_BYTES_MAX;
use queue_core::{DeadLetter, Outgoing, Received};
use serde::Serialize;

/// The code shown for a message that SQS moved by itself.
const MOVED_BY_SQS: &str = "moved-by-sqs";
/// Attributes with this prefix are the engine's remarks on an original too large to be wrapped.
const REMARK: &str = "flotilla-";

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
                first_seen: Some(letter.first_seen),
                rejected_at: Some(letter.rejected_at),
                parent: letter.parent.as_ref().map(|parent| parent.id.clone()),
            },
            OnDeadLetterQueue::Raw(_) => self.raw_row(spec),
        }
    }

    fn raw_row(&self, spec: &QueueSpec) -> Row {
        let attribute = |name: &str| {
            let mut attributes = self.received.attributes.iter();
            attributes.find(|(known, _)| known == name).map(|(_, value)| value.clone())
        };
        let sent = DateTime::from_timestamp_millis(self.received.sent_at_ms);
        Row {
            id: self.received.message_id.clone(),
            queue: spec.name.to_owned(),
            code: attribute("flotilla-code").unwrap_or_else(|| MOVED_BY_SQS.to_owned()),
            reason: attribute("flotilla-reason").unwrap_or_else(|| {
                "received too often without an outcome; see the worker's log".to_owned()
            }),
            fingerprint: String::new(),
            kind: attribute("type").unwrap_or_default(),
            tenant: String::new(),
            failures: 0,
            first_seen: sent,
            rejected_at: sent,
            parent: None,
        }
    }

    /// The original's body.
    pub(super) fn body(&self) -> &str {
        match &self.content {
            OnDeadLetterQueue::Letter(letter) => &letter.body,
            OnDeadLetterQueue::Raw(body) => body,
        }
    }

    /// What is sent again: the original as it was, or `mended` in its place, with its attributes and
    /// group.
    pub(super) fn outgoing(&self, spec: &QueueSpec, mended: Option<&str>) -> Outgoing {
        let (attributes, group) = match &self.content {
            OnDeadLetterQueue::Letter(letter) => (letter.attributes.clone(), letter.group.clone()),
            OnDeadLetterQueue::Raw(_) => {
                let ours = |(name, _): &(String, String)| name.starts_with(REMARK);
                let attributes = self.received.attributes.iter().filter(|a| !ours(a)).cloned();
                (attributes.collect(), self.received.group.clone())
            }
        };
        // A FIFO queue would drop the same id within five minutes of the first; this one is new.
        let fifo = spec.kind == QueueKind::Fifo;
        let deduplication = fifo.then(|| format!("redrive-{}", self.received.message_id));
        let body = self.same_message(spec, mended.unwrap_or_else(|| self.body()));
        Outgoing { body, attributes, group, deduplication, delay: None }
    }

    /// SQS gives what is sent again a new id, and a bare message is known by it alone: it travels in
    /// an envelope that keeps the one it had. SQS's own redrive to this queue does not change it.
    fn same_message(&self, spec: &QueueSpec, body: &str) -> String {
        let enveloped = if spec.name == AUDIT_LEGACY.name {
            let (message_id, sent_at) = match &self.content {
                OnDeadLetterQueue::Letter(letter) => (&letter.message_id, letter.first_seen),
                OnDeadLetterQueue::Raw(_) => {
                    let sent = DateTime::from_timestamp_millis(self.received.sent_at_ms);
                    (&self.received.message_id, sent.unwrap_or_default())
                }
            };
            in_envelope::<BareMessage>(body, &Bare { message_id, sent_at })
        } else {
            None
        };
        let fits = enveloped.filter(|enveloped| enveloped.len() <= SEND_BYTES_MAX);
        fits.unwrap_or_else(|| body.to_owned())
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
            first_received_at_ms: None,
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
        let original = letter.outgoing(&AUDIT_INDEX, None);
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
        assert_eq!(letter.outgoing(&AUDIT_INDEX, None).attributes.len(), 1);
    }
    #[test]
    fn a_bare_message_moved_by_sqs_goes_back_with_the_identity_it_had() {
        let bare = r#"{"type":"INDEX","tenant_id":"acme","data":{}}"#;
        let letter = Letter::read(received(bare, &[]));
        for body in [None, Some(bare)] {
            let sent = letter.outgoing(&AUDIT_LEGACY, body).body;
            let header = Envelope::from_json(&sent).unwrap().header;
            assert_eq!(header.id.0, legacy_id("m1"));
            assert_eq!(header.recorded_at.timestamp_millis(), 1_000);
        }
        assert_eq!(letter.outgoing(&AUDIT_INDEX, None).body, bare, "of no other queue");
    }
}

//! A dead letter: the JSON body of a message on a dead-letter queue. It keeps the original verbatim
//! and everything that explains why it ended here, so that a person can mend and redrive it with one
//! command. Additive changes only: readers ignore unknown fields; the golden file pins the shape.

mod fingerprint;

use chrono::{DateTime, Utc};
use contracts::Header;
use serde::{Deserialize, Serialize};

use crate::attempts::RecordedFailure;
pub use fingerprint::{fingerprint, normalised};

/// Version of the shape, in [`DeadLetter::flotilla_dead_letter`].
pub const DEAD_LETTER_VERSION: u32 = 1;

/// Where a part of a bulk message came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Envelope id of the bulk message; the broker's id where it carried no envelope.
    pub id: String,
    /// The broker's id of the bulk message.
    pub message_id: String,
    /// Position in the parent, from 0.
    pub index: usize,
}

/// What is known of the envelope inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopeSummary {
    /// Envelope id.
    pub id: String,
    /// Message type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Version of the body's shape.
    pub v: u32,
    /// Whose data it is.
    pub tenant: String,
    /// The request that started the chain.
    pub correlation_id: String,
}

impl From<&Header> for EnvelopeSummary {
    fn from(header: &Header) -> Self {
        Self {
            id: header.id.to_string(),
            kind: header.kind.clone(),
            v: header.v,
            tenant: header.tenant.to_string(),
            correlation_id: header.correlation_id.clone(),
        }
    }
}

/// A change that an operator made to a dead letter's original.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    /// When.
    pub at: DateTime<Utc>,
    /// Who, as they named themselves.
    pub by: String,
    /// Why, as they said it.
    pub why: String,
}

/// A message that will not be tried again by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// [`DEAD_LETTER_VERSION`]; its presence tells a dead letter from a raw message.
    pub flotilla_dead_letter: u32,
    /// Name of the queue it was on; redriving sends it back there.
    pub queue: String,
    /// Worker name and version that gave up on it.
    pub worker: String,
    /// Code from the registry.
    pub code: String,
    /// What was wrong, for a person.
    pub message: String,
    /// Equal for equal causes: [`fingerprint`].
    pub fingerprint: String,
    /// The broker's id of the original.
    pub message_id: String,
    /// The envelope inside, where it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envelope: Option<EnvelopeSummary>,
    /// The bulk message that this was an item of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// Failures that counted.
    pub failures: u32,
    /// How often the broker handed it out.
    pub receives: u32,
    /// The last attempts, oldest first.
    pub attempts: Vec<RecordedFailure>,
    /// When it was first sent.
    pub first_seen: DateTime<Utc>,
    /// When it was given up.
    pub rejected_at: DateTime<Utc>,
    /// W3C trace context it came with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// FIFO group, or the tenant on a fair queue; redriving keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// What operators changed in the original since, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edits: Vec<Edit>,
    /// String attributes of the original.
    pub attributes: Vec<(String, String)>,
    /// The original, verbatim; for a part, an envelope of its own; for a message without envelope,
    /// one around it that keeps its identity, which redriving would change.
    pub body: String,
}

/// What stands on a dead-letter queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnDeadLetterQueue {
    /// Put there by the engine, with its reason.
    Letter(Box<DeadLetter>),
    /// Put there by the queue's own redrive, or too large to be wrapped: the original as it was.
    Raw(String),
}

impl DeadLetter {
    /// The wire form, ASCII only.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        contracts::json::to_ascii(self)
    }

    /// Reads the wire form; unknown fields are ignored.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// Reads whatever stands on a dead-letter queue.
    pub fn read(text: &str) -> OnDeadLetterQueue {
        match Self::from_json(text) {
            Ok(letter) => OnDeadLetterQueue::Letter(Box::new(letter)),
            Err(_) => OnDeadLetterQueue::Raw(text.to_owned()),
        }
    }
}

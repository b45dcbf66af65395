//! Reading a body by the queue it lies on, for tools that meet every queue's messages. A worker knows
//! its types at compile time and never needs this.

use serde_json::value::RawValue;

use crate::audit::IndexMessage;
use crate::catalogue::QueueSpec;
use crate::envelope::Header;
use crate::legacy::BareMessage;
use crate::message::{self, Bare, DecodeError, Message};

/// How the messages of one queue are read.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    queue: &'static QueueSpec,
    typed: fn(&Header, &RawValue) -> Result<String, DecodeError>,
    enveloped: fn(&str, &Bare<'_>) -> Option<String>,
}

/// One per queue whose messages this build knows.
const READERS: &[Reader] = &[Reader::of::<IndexMessage>(), Reader::of::<BareMessage>()];

impl Reader {
    const fn of<M: Message>() -> Self {
        Self { queue: M::QUEUE, typed: typed::<M>, enveloped: message::in_envelope::<M> }
    }

    /// The reader of a queue's messages; `None` when this build knows none of them.
    pub fn find(queue: &QueueSpec) -> Option<Self> {
        READERS.iter().copied().find(|reader| reader.queue.name == queue.name)
    }

    /// The body as its type writes it: what a worker of this build would have in hand.
    pub fn typed(&self, header: &Header, body: &RawValue) -> Result<String, DecodeError> {
        (self.typed)(header, body)
    }

    /// A bare message in an envelope that keeps its identity: [`message::in_envelope`].
    pub fn enveloped(&self, text: &str, from: &Bare<'_>) -> Option<String> {
        (self.enveloped)(text, from)
    }
}

fn typed<M: Message>(header: &Header, body: &RawValue) -> Result<String, DecodeError> {
    let malformed = |error: serde_json::Error| DecodeError::Malformed {
        kind: header.kind.clone(),
        reason: error.to_string(),
    };
    M::decode(header, body)?.body_json().map_err(malformed)
}

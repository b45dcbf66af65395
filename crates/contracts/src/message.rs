//! What a type must offer to travel on a queue: its catalogue entry, its wire names and versions,
//! and the retry schedule that suits it. It never says how it is handled.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::catalogue::QueueSpec;
use crate::envelope::{Body, Envelope, Header};
use serde_json::value::RawValue;

/// Retry policy of a message type; the engine adds full jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Backoff before the second attempt.
    pub base: Duration,
    /// Ceiling of the backoff.
    pub ceiling: Duration,
    /// Recorded failures after which the message is rejected.
    pub failures_max: u32,
}

impl Schedule {
    /// One second doubling to five minutes, rejected at the third failure (the seed's figure).
    pub const STANDARD: Self =
        Self { base: Duration::from_secs(1), ceiling: Duration::from_secs(300), failures_max: 3 };
}

/// Why a body could not be understood. The first two may be a rolling deploy and are snoozed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No consumer of this build knows the type.
    #[error("unknown message type {0:?}")]
    UnknownType(String),
    /// The type is known, its version is not.
    #[error("unknown version {version} of message type {kind}")]
    UnknownVersion {
        /// Message type.
        kind: String,
        /// The version it carries.
        version: u32,
    },
    /// Known type and version, and yet the body does not fit.
    #[error("malformed {kind} body: {reason}")]
    Malformed {
        /// Message type.
        kind: String,
        /// What was wrong and where.
        reason: String,
    },
}

/// The types that travel on one queue; usually an enum.
pub trait Message: Sized + Send + Sync + 'static {
    /// The catalogue entry of the queue it travels on.
    const QUEUE: &'static QueueSpec;

    /// Wire name of the type, e.g. `INDEX`.
    fn kind(&self) -> &'static str;

    /// Version of the body's shape that this build writes.
    fn version(&self) -> u32;

    /// The body as compact ASCII JSON.
    fn body_json(&self) -> Result<String, serde_json::Error>;

    /// Reads the body that `header` announces.
    fn decode(header: &Header, body: &RawValue) -> Result<Self, DecodeError>;

    /// The retry schedule of this message.
    fn schedule(&self) -> Schedule {
        Schedule::STANDARD
    }

    /// Reads a message that carries no envelope, where the queue allows such. `None` when this queue
    /// knows no bare messages or the text is none.
    fn decode_bare(_text: &str, _from: &Bare<'_>) -> Option<Result<(Header, Self), DecodeError>> {
        None
    }
}

/// What the broker knows of a message without envelope: enough for a stable identity and time.
#[derive(Clone, Copy, Debug)]
pub struct Bare<'a> {
    /// The broker's message id; a redelivery has the same one.
    pub message_id: &'a str,
    /// When the broker took it.
    pub sent_at: DateTime<Utc>,
}

/// A bare message as an envelope around its own text, with the identity that `from` gives it: sent
/// again it has another broker's id, and by its envelope it is the same message still. `None` for
/// what travels in an envelope already and for what is no bare message of the queue.
pub fn in_envelope<M: Message>(text: &str, from: &Bare<'_>) -> Option<String> {
    if Envelope::from_json(text).is_ok() {
        return None;
    }
    let (header, _) = M::decode_bare(text, from)?.ok()?;
    let body = Body::Inline(RawValue::from_string(text.to_owned()).ok()?);
    Envelope { header, body }.to_json().ok()
}

//! From the broker's text to a typed message. Whatever stands in a queue becomes either a message or
//! a reason; nothing here panics, and a decoder that does is caught.

use std::panic::AssertUnwindSafe;

use chrono::DateTime;
use contracts::envelope::HOPS_MAX;
use contracts::message::{self, Bare};
use contracts::{Body, DecodeError, Encoding, Envelope, ErrorCode, Header, Message, errors};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::driver::Received;
use crate::send::SEND_BYTES_MAX;

/// A message that this build understands.
#[derive(Debug)]
pub(crate) struct Decoded<M> {
    pub(crate) header: Header,
    pub(crate) message: M,
}

/// A message that it does not.
#[derive(Debug)]
pub(crate) struct Undecodable {
    /// As far as it could be read.
    pub(crate) header: Option<Box<Header>>,
    pub(crate) why: Why,
    /// For a person.
    pub(crate) reason: String,
    /// A body that has to be unpacked first; the header is there then.
    pub(crate) packed: Option<Box<Body>>,
}

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// A newer build may know it.
    Unknown,
    /// It will stay so.
    Never(ErrorCode),
}

/// What a text may say of itself although it is no envelope of this build's.
#[derive(Deserialize)]
struct Hint {
    encoding: Option<String>,
}

/// Reads what was received.
pub(crate) fn decode<M: Message>(received: &Received) -> Result<Decoded<M>, Undecodable> {
    std::panic::catch_unwind(AssertUnwindSafe(|| read(received))).unwrap_or_else(|_| {
        Err(Undecodable::of(None, Why::Never(errors::MALFORMED_MESSAGE), "the decoder panicked"))
    })
}

fn read<M: Message>(received: &Received) -> Result<Decoded<M>, Undecodable> {
    let Envelope { header, body } = match Envelope::from_json(&received.body) {
        Ok(envelope) => envelope,
        Err(error) => return read_bare(received, &error.to_string()),
    };
    if header.hops > HOPS_MAX {
        let reason = format!("relayed {} times, the limit is {HOPS_MAX}", header.hops);
        return Err(Undecodable::of(Some(header), Why::Never(errors::LOOP), reason));
    }
    match body {
        Body::Inline(body) => typed(header, &body),
        packed => {
            let mut packed_one = Undecodable::of(Some(header), Why::Unknown, "its body is packed");
            packed_one.packed = Some(Box::new(packed));
            Err(packed_one)
        }
    }
}

/// Reads a body that has been unpacked.
pub(crate) fn unpacked<M: Message>(
    header: Header,
    body: &RawValue,
) -> Result<Decoded<M>, Undecodable> {
    std::panic::catch_unwind(AssertUnwindSafe(|| typed(header, body))).unwrap_or_else(|_| {
        Err(Undecodable::of(None, Why::Never(errors::MALFORMED_MESSAGE), "the decoder panicked"))
    })
}

fn typed<M: Message>(header: Header, body: &RawValue) -> Result<Decoded<M>, Undecodable> {
    match M::decode(&header, body) {
        Ok(message) => Ok(Decoded { header, message }),
        Err(error) => Err(Undecodable::of(Some(header), why(&error), error.to_string())),
    }
}

fn read_bare<M: Message>(received: &Received, error: &str) -> Result<Decoded<M>, Undecodable> {
    match M::decode_bare(&received.body, &bare(received)) {
        Some(Ok((header, message))) => Ok(Decoded { header, message }),
        Some(Err(error)) => Err(Undecodable::of(None, why(&error), error.to_string())),
        None => {
            let hint: Option<Hint> = serde_json::from_str(&received.body).ok();
            match hint.and_then(|hint| hint.encoding).filter(|encoding| !Encoding::known(encoding))
            {
                Some(encoding) => {
                    let reason = format!("unknown body encoding {encoding:?}");
                    Err(Undecodable::of(None, Why::Unknown, reason))
                }
                None => Err(Undecodable::of(None, Why::Never(errors::NOT_JSON), error)),
            }
        }
    }
}

fn bare(received: &Received) -> Bare<'_> {
    let sent_at = DateTime::from_timestamp_millis(received.sent_at_ms).unwrap_or_default();
    Bare { message_id: &received.message_id, sent_at }
}

/// What to send so that it is the same message again: the body as it came, a bare one in an
/// envelope with the identity that it has here. One that the envelope makes too large for the broker
/// stays bare.
pub(crate) fn resendable<M: Message>(received: &Received) -> String {
    std::panic::catch_unwind(|| message::in_envelope::<M>(&received.body, &bare(received)))
        .unwrap_or_default()
        .filter(|enveloped| enveloped.len() <= SEND_BYTES_MAX)
        .unwrap_or_else(|| received.body.clone())
}

fn why(error: &DecodeError) -> Why {
    match error {
        DecodeError::UnknownType(_) | DecodeError::UnknownVersion { .. } => Why::Unknown,
        DecodeError::Malformed { .. } => Why::Never(errors::MALFORMED_MESSAGE),
    }
}

impl Undecodable {
    fn of(header: Option<Header>, why: Why, reason: impl Into<String>) -> Self {
        Self { header: header.map(Box::new), why, reason: reason.into(), packed: None }
    }
}

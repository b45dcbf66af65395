//! From a message's items to logs that can be stored. One bad item of a bulk becomes a dead letter
//! of its own, with an envelope that redoes only this item; the others go on.

use bytes::Bytes;
use contracts::audit::{IndexMessage, LogItem};
use contracts::errors::{INTERNAL, MALFORMED_MESSAGE};
use contracts::{Envelope, EnvelopeId, Header};
use queue_core::{Error, Failure, Reason, RejectedPart};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::model::NewLog;
use crate::rules;

/// A message's items, sorted into good and bad.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    /// The good ones.
    pub(super) logs: Vec<NewLog>,
    /// Position of each good one in the message.
    pub(super) places: Vec<usize>,
    /// The bad ones.
    pub(super) bad: Vec<RejectedPart>,
    /// Bytes of the good ones' records.
    pub(super) bytes: usize,
}

/// Checks every item.
pub(super) fn items(header: &Header, items: Vec<LogItem>) -> Result<Decoded, Failure> {
    let mut decoded = Decoded {
        logs: Vec::with_capacity(items.len()),
        places: Vec::with_capacity(items.len()),
        ..Decoded::default()
    };
    for (index, LogItem { salt, record }) in items.into_iter().enumerate() {
        // The text moves; nothing is copied.
        let record = Bytes::from(Box::<str>::from(record).into_string());
        match rules::admit(&header.tenant, record.clone(), &salt) {
            Ok(log) => {
                decoded.bytes += log.record.len();
                decoded.logs.push(log);
                decoded.places.push(index);
            }
            Err(refusal) => {
                let reason = Reason { code: MALFORMED_MESSAGE, message: refusal.to_string() };
                decoded.bad.push(part(header, index, &record, salt, reason)?);
            }
        }
    }
    Ok(decoded)
}

/// One item as a message of its own. Its id follows from its parent's and its place, so that the
/// same item dead-lettered twice is one message.
pub(super) fn part(
    header: &Header,
    index: usize,
    record: &[u8],
    salt: String,
    reason: Reason,
) -> Result<RejectedPart, Failure> {
    let item = raw(record).map(|record| IndexMessage::Index(LogItem { salt, record }));
    let envelope = item
        .and_then(|item| Envelope::wrap(part_header(header, index), &item))
        .and_then(|envelope| envelope.to_json());
    match envelope {
        Ok(envelope_json) => Ok(RejectedPart { index, envelope_json, reason }),
        Err(error) => Err(Failure::Retry(Error::handling(
            INTERNAL,
            format!("item {index} cannot be written as a message of its own: {error}"),
        ))),
    }
}

fn raw(record: &[u8]) -> Result<Box<RawValue>, serde_json::Error> {
    RawValue::from_string(String::from_utf8_lossy(record).into_owned())
}

/// The header of an item that travels alone.
pub(in crate::workers) fn part_header(parent: &Header, index: usize) -> Header {
    Header {
        id: EnvelopeId(Uuid::new_v5(&parent.id.0, index.to_string().as_bytes())),
        causation_id: Some(parent.id.to_string()),
        key: None,
        revision: None,
        ..parent.clone()
    }
}

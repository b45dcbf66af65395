//! Effects as bytes: a tag, then the fields in order; numbers as LEB128, texts with their length. Tags
//! are never given another meaning: a new field means a new tag, so that old logs stay readable.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::{Effect, MoveTask, Stored};
use crate::broker::move_failure;
use crate::model::{AttributeValue, Message, MessageAttribute, QueueArn, QueueId};
use crate::operations::MoveStatus;
use crate::queue::{DedupKey, Kind};

const QUEUE_CREATED: u8 = 1;
const QUEUE_DELETED: u8 = 2;
const ATTRIBUTES_SET: u8 = 3;
const TAGS_SET: u8 = 4;
const PURGED: u8 = 5;
const STORED: u8 = 6;
const DEDUPLICATED: u8 = 7;
const LEASED: u8 = 8;
const VISIBILITY_CHANGED: u8 = 9;
const DELETED: u8 = 10;
const MOVE_TASK: u8 = 11;
const COUNTERS: u8 = 12;

/// Bytes that are no effects of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at} of the record is not what this version writes there")]
pub struct DecodeError {
    /// Where in the record.
    pub at: usize,
}

/// Appends an effect.
pub(crate) fn encode(effect: &Effect, out: &mut Vec<u8>) {
    match effect {
        Effect::QueueCreated { queue, arn, attributes, tags, at } => {
            head(out, QUEUE_CREATED, *queue);
            text(out, arn.as_str());
            texts(out, attributes);
            texts(out, tags);
            time(out, *at);
        }
        Effect::QueueDeleted { queue, at } => {
            head(out, QUEUE_DELETED, *queue);
            time(out, *at);
        }
        Effect::AttributesSet { queue, attributes, at } => {
            head(out, ATTRIBUTES_SET, *queue);
            texts(out, attributes);
            time(out, *at);
        }
        Effect::TagsSet { queue, tags } => {
            head(out, TAGS_SET, *queue);
            texts(out, tags);
        }
        Effect::Purged { queue, at } => {
            head(out, PURGED, *queue);
            time(out, *at);
        }
        Effect::Stored { queue, stored } => {
            head(out, STORED, *queue);
            encode_stored(stored, out);
        }
        Effect::Deduplicated { queue, key, id, seq, at } => {
            head(out, DEDUPLICATED, *queue);
            option(out, key.group.as_deref());
            text(out, &key.id);
            out.extend_from_slice(id.as_bytes());
            number(out, *seq);
            time(out, *at);
        }
        Effect::Leased { queue, seq, at, until, nonce } => {
            head(out, LEASED, *queue);
            number(out, *seq);
            time(out, *at);
            time(out, *until);
            out.extend_from_slice(&nonce.to_le_bytes());
        }
        Effect::VisibilityChanged { queue, seq, until } => {
            head(out, VISIBILITY_CHANGED, *queue);
            number(out, *seq);
            time(out, *until);
        }
        Effect::Deleted { queue, seq } => {
            head(out, DELETED, *queue);
            number(out, *seq);
        }
        Effect::MoveTask(task) => encode_task(task, out),
        Effect::Counters { queue, seq } => {
            head(out, COUNTERS, QueueId(*queue));
            number(out, *seq);
        }
    }
}

fn encode_stored(stored: &Stored, out: &mut Vec<u8>) {
    number(out, stored.seq);
    out.push(match stored.kind {
        Kind::Visible => 0,
        Kind::Delayed => 1,
        Kind::Leased => 2,
    });
    time(out, stored.sent_at);
    time(out, stored.visible_at);
    number(out, u64::from(stored.receives));
    out.push(u8::from(stored.first_received_at.is_some()));
    time(out, stored.first_received_at.unwrap_or(0));
    time(out, stored.leased_at);
    out.extend_from_slice(&stored.nonce.to_le_bytes());
    option(out, stored.source.as_deref());
    let message = &stored.message;
    out.extend_from_slice(message.id.as_bytes());
    text(out, &message.body);
    out.extend_from_slice(&message.md5_body);
    option(out, message.trace_header.as_deref());
    option(out, message.group.as_deref());
    option(out, message.deduplication.as_deref());
    text(out, &message.sender);
    number(out, message.attributes.len() as u64);
    for attribute in &message.attributes {
        text(out, &attribute.name);
        text(out, &attribute.data_type);
        let binary = matches!(attribute.value, Some(AttributeValue::Binary(_)));
        out.push(u8::from(binary));
        bytes(out, attribute.value.as_ref().map_or(&[], AttributeValue::as_bytes));
    }
}

fn encode_task(task: &MoveTask, out: &mut Vec<u8>) {
    out.push(MOVE_TASK);
    out.extend_from_slice(task.id.as_bytes());
    text(out, task.source.as_str());
    option(out, task.destination.as_ref().map(QueueArn::as_str));
    time(out, task.rate.unwrap_or(0));
    number(out, task.moved);
    number(out, task.to_move);
    out.push(match task.status {
        MoveStatus::Running => 0,
        MoveStatus::Completed => 1,
        MoveStatus::Cancelled => 2,
        MoveStatus::Failed => 3,
    });
    option(out, task.failure);
    time(out, task.started_at);
}

fn head(out: &mut Vec<u8>, tag: u8, queue: QueueId) {
    out.push(tag);
    number(out, queue.0);
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let [low, ..] = (value & 0x7F).to_le_bytes();
        value >>= 7;
        if value == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

/// Times are milliseconds since the epoch and may be negative under a test's clock.
fn time(out: &mut Vec<u8>, value: i64) {
    number(out, (value.wrapping_shl(1) ^ (value >> 63)).cast_unsigned());
}

fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    number(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn text(out: &mut Vec<u8>, value: &str) {
    bytes(out, value.as_bytes());
}

fn option(out: &mut Vec<u8>, value: Option<&str>) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        text(out, value);
    }
}

fn texts(out: &mut Vec<u8>, values: &BTreeMap<String, String>) {
    number(out, values.len() as u64);
    for (name, value) in values {
        text(out, name);
        text(out, value);
    }
}

/// Reads effects until the bytes end.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

type Read<T> = Result<T, DecodeError>;

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn next_effect(&mut self) -> Read<Option<Effect>> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let tag = self.byte()?;
        if tag == MOVE_TASK {
            return Ok(Some(Effect::MoveTask(Box::new(self.task()?))));
        }
        let queue = QueueId(self.number()?);
        Ok(Some(match tag {
            QUEUE_CREATED => Effect::QueueCreated {
                queue,
                arn: self.arn()?,
                attributes: self.texts()?,
                tags: self.texts()?,
                at: self.time()?,
            },
            QUEUE_DELETED => Effect::QueueDeleted { queue, at: self.time()? },
            ATTRIBUTES_SET => {
                Effect::AttributesSet { queue, attributes: self.texts()?, at: self.time()? }
            }
            TAGS_SET => Effect::TagsSet { queue, tags: self.texts()? },
            PURGED => Effect::Purged { queue, at: self.time()? },
            STORED => Effect::Stored { queue, stored: Box::new(self.stored()?) },
            DEDUPLICATED => Effect::Deduplicated {
                queue,
                key: DedupKey { group: self.option()?.map(Into::into), id: self.text()?.into() },
                id: self.uuid()?,
                seq: self.number()?,
                at: self.time()?,
            },
            LEASED => Effect::Leased {
                queue,
                seq: self.number()?,
                at: self.time()?,
                until: self.time()?,
                nonce: u64::from_le_bytes(self.array()?),
            },
            VISIBILITY_CHANGED => {
                Effect::VisibilityChanged { queue, seq: self.number()?, until: self.time()? }
            }
            DELETED => Effect::Deleted { queue, seq: self.number()? },
            COUNTERS => Effect::Counters { queue: queue.0, seq: self.number()? },
            _ => return Err(self.error()),
        }))
    }

    fn stored(&mut self) -> Read<Stored> {
        let seq = self.number()?;
        let kind = match self.byte()? {
            0 => Kind::Visible,
            1 => Kind::Delayed,
            2 => Kind::Leased,
            _ => return Err(self.error()),
        };
        let (sent_at, visible_at) = (self.time()?, self.time()?);
        let receives = u32::try_from(self.number()?).map_err(|_| self.error())?;
        let was_received = self.byte()? == 1;
        let first_received_at = Some(self.time()?).filter(|_| was_received);
        let leased_at = self.time()?;
        let nonce = u64::from_le_bytes(self.array()?);
        let source = self.option()?.map(Arc::from);
        let message = Arc::new(self.message()?);
        Ok(Stored {
            seq,
            message,
            kind,
            sent_at,
            visible_at,
            receives,
            first_received_at,
            leased_at,
            nonce,
            source,
        })
    }

    fn message(&mut self) -> Read<Message> {
        let id = self.uuid()?;
        let body = self.text()?.to_owned();
        let md5_body = self.array()?;
        let trace_header = self.option()?.map(str::to_owned);
        let group = self.option()?.map(Arc::from);
        let deduplication = self.option()?.map(str::to_owned);
        let sender = self.text()?.into();
        let count = self.number()?;
        let mut attributes = Vec::new();
        for _ in 0..count {
            let (name, data_type) = (self.text()?.to_owned(), self.text()?.to_owned());
            let value = if self.byte()? == 1 {
                AttributeValue::Binary(Bytes::copy_from_slice(self.slice()?))
            } else {
                AttributeValue::Text(self.text()?.to_owned())
            };
            attributes.push(MessageAttribute { name, data_type, value: Some(value) });
        }
        let md5_attributes = crate::digest::md5_attributes(attributes.iter());
        Ok(Message {
            id,
            body,
            md5_body,
            attributes,
            md5_attributes,
            trace_header,
            group,
            deduplication,
            sender,
        })
    }

    fn task(&mut self) -> Read<MoveTask> {
        Ok(MoveTask {
            id: self.uuid()?,
            source: self.arn()?,
            destination: match self.option()? {
                Some(text) => Some(QueueArn::parse(text).ok_or_else(|| self.error())?),
                None => None,
            },
            rate: Some(self.time()?).filter(|rate| *rate != 0),
            moved: self.number()?,
            to_move: self.number()?,
            status: match self.byte()? {
                0 => MoveStatus::Running,
                1 => MoveStatus::Completed,
                2 => MoveStatus::Cancelled,
                3 => MoveStatus::Failed,
                _ => return Err(self.error()),
            },
            failure: self.option()?.and_then(move_failure),
            started_at: self.time()?,
        })
    }

    fn error(&self) -> DecodeError {
        DecodeError { at: self.at }
    }

    fn take(&mut self, length: usize) -> Read<&'a [u8]> {
        let end = self.at.checked_add(length).ok_or_else(|| self.error())?;
        let taken = self.bytes.get(self.at..end).ok_or_else(|| self.error())?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| self.error())
    }

    fn byte(&mut self) -> Read<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn number(&mut self) -> Read<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.error())
    }

    fn time(&mut self) -> Read<i64> {
        let value = self.number()?;
        Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    fn slice(&mut self) -> Read<&'a [u8]> {
        let length = usize::try_from(self.number()?).map_err(|_| self.error())?;
        self.take(length)
    }

    fn text(&mut self) -> Read<&'a str> {
        let slice = self.slice()?;
        std::str::from_utf8(slice).map_err(|_| self.error())
    }

    fn option(&mut self) -> Read<Option<&'a str>> {
        Ok(if self.byte()? == 0 { None } else { Some(self.text()?) })
    }

    fn texts(&mut self) -> Read<BTreeMap<String, String>> {
        let count = self.number()?;
        let mut values = BTreeMap::new();
        for _ in 0..count {
            let name = self.text()?.to_owned();
            values.insert(name, self.text()?.to_owned());
        }
        Ok(values)
    }

    fn uuid(&mut self) -> Read<Uuid> {
        Ok(Uuid::from_bytes(self.array()?))
    }

    fn arn(&mut self) -> Read<QueueArn> {
        let text = self.text()?;
        QueueArn::parse(text).ok_or_else(|| self.error())
    }
}

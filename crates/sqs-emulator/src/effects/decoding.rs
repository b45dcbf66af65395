//! Bytes back to effects: the mirror of `encoding`. Whatever the bytes are, the result is effects or an
//! error that says where they stop making sense; never a panic, never more memory than the bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::encoding::{
    ATTRIBUTES_SET, COUNTERS, DEDUPLICATED, DELETED, LEASED, MOVE_TASK, PURGED, QUEUE_CREATED,
    QUEUE_DELETED, STORED, TAGS_SET, VISIBILITY_CHANGED,
};
use super::{Effect, MoveTask, Stored};
use crate::broker::move_failure;
use crate::model::{AttributeValue, Message, MessageAttribute, QueueArn, QueueId};
use crate::operations::MoveStatus;
use crate::queue::{DedupKey, Kind};

/// Bytes that are no effects of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at} of the record is not what this version writes there")]
pub struct DecodeError {
    /// Where in the record.
    pub at: usize,
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

//! Effects as bytes: a tag, then the fields in order; numbers as LEB128, texts with their length. Tags
//! are never given another meaning: a new field means a new tag, so that old logs stay readable.

use std::collections::BTreeMap;

use super::{Effect, MoveTask, Stored};
use crate::model::{AttributeValue, QueueArn, QueueId};
use crate::operations::MoveStatus;
use crate::queue::Kind;

pub(super) const QUEUE_CREATED: u8 = 1;
pub(super) const QUEUE_DELETED: u8 = 2;
pub(super) const ATTRIBUTES_SET: u8 = 3;
pub(super) const TAGS_SET: u8 = 4;
pub(super) const PURGED: u8 = 5;
pub(super) const STORED: u8 = 6;
pub(super) const DEDUPLICATED: u8 = 7;
pub(super) const LEASED: u8 = 8;
pub(super) const VISIBILITY_CHANGED: u8 = 9;
pub(super) const DELETED: u8 = 10;
pub(super) const MOVE_TASK: u8 = 11;
pub(super) const COUNTERS: u8 = 12;

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

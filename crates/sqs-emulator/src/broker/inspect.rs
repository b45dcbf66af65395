//! Looking without consuming: queues and messages as they stand, for the page and its JSON. Nothing
//! here leases, counts or moves anything; time passes, as it does for every call.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use uuid::Uuid;

use super::Broker;
use crate::model::{AttributeValue, Message, QueueArn, SequenceNumber};
use crate::queue::{Kind, Queue, Slot};

/// Which queues to show.
#[derive(Clone, Debug, Default)]
pub struct QueueWindow {
    /// Only names that contain this.
    pub name: Option<String>,
    /// Begins at this queue.
    pub from: Option<QueueArn>,
    /// At most so many.
    pub limit: usize,
}

/// A queue as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueueView {
    /// Which.
    pub arn: String,
    /// Its name.
    pub name: String,
    /// Whose.
    pub account: String,
    /// Where.
    pub region: String,
    /// Whether it is a FIFO queue.
    pub fifo: bool,
    /// Messages that can be received.
    pub visible: usize,
    /// Messages that are leased.
    pub in_flight: usize,
    /// Messages whose delay has not ended.
    pub delayed: usize,
    /// Milliseconds since the oldest message was sent.
    pub oldest_age_ms: Option<i64>,
    /// Where its dead letters go.
    pub dead_letter_queue: Option<String>,
    /// Whose dead letters come here.
    pub dead_letter_sources: Vec<String>,
    /// Attributes that have a value, counts left out.
    pub attributes: BTreeMap<&'static str, String>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

/// A page of queues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueuesView {
    /// In order of their ARNs.
    pub queues: Vec<QueueView>,
    /// Where the next page begins.
    pub next: Option<String>,
}

/// Which messages of a queue to show.
#[derive(Clone, Copy, Debug)]
pub struct MessageWindow {
    /// Begins at this number.
    pub from: u64,
    /// At most so many.
    pub limit: usize,
    /// Bytes of each body, cut at a character.
    pub body_bytes: usize,
}

/// What can be done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageState {
    /// Can be received.
    Visible,
    /// Leased.
    InFlight,
    /// Sent with a delay that has not ended.
    Delayed,
}

/// A message as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MessageView {
    /// Its place in the broker.
    pub number: u64,
    /// Its id.
    pub id: Uuid,
    /// What can be done with it.
    pub state: MessageState,
    /// When its delay or lease ends, milliseconds since the epoch; `None` when it is visible.
    pub visible_at_ms: Option<i64>,
    /// When it was sent, milliseconds since the epoch.
    pub sent_at_ms: i64,
    /// When it was first received.
    pub first_received_at_ms: Option<i64>,
    /// How often it was received.
    pub receives: u32,
    /// Who sent it.
    pub sender: String,
    /// Group, or tenant.
    pub group: Option<String>,
    /// Deduplication id.
    pub deduplication: Option<String>,
    /// FIFO only.
    pub sequence: Option<String>,
    /// The queue it was dead-lettered from.
    pub dead_letter_source: Option<String>,
    /// Trace header.
    pub trace_header: Option<String>,
    /// Message attributes.
    pub attributes: Vec<AttributeView>,
    /// The body, or its beginning.
    pub body: String,
    /// Bytes of the whole body.
    pub body_bytes: usize,
}

/// A message attribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AttributeView {
    /// Its name.
    pub name: String,
    /// Its type.
    pub data_type: String,
    /// Its value, or its beginning; of a binary one hexadecimal digits.
    pub value: String,
}

/// A page of messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MessagesView {
    /// The queue.
    pub queue: QueueView,
    /// The broker's time, milliseconds since the epoch.
    pub now_ms: i64,
    /// Oldest first.
    pub messages: Vec<MessageView>,
    /// The number at which the next page begins.
    pub next: Option<u64>,
}

/// A look at a queue that has not been copied yet: so that the lock is held for handles only.
#[derive(Debug)]
pub struct Look {
    queue: QueueView,
    now_ms: i64,
    slots: Vec<(u64, Slot)>,
    body_bytes: usize,
    next: Option<u64>,
}

impl Broker {
    /// Queues of every account and region.
    pub fn inspect_queues(&mut self, now_ms: i64, window: &QueueWindow) -> QueuesView {
        let named = |arn: &&QueueArn| {
            window.name.as_ref().is_none_or(|part| arn.name().contains(part.as_str()))
        };
        let begins = |arn: &&QueueArn| window.from.as_ref().is_none_or(|from| *arn >= from);
        let arns = self.names.keys().filter(begins).filter(named);
        let mut arns: Vec<QueueArn> = arns.take(window.limit + 1).cloned().collect();
        let next = if arns.len() > window.limit { arns.pop() } else { None };
        let queues = arns.iter().filter_map(|arn| self.inspect_queue(now_ms, arn)).collect();
        QueuesView { queues, next: next.map(|arn| arn.to_string()) }
    }

    /// Messages of a queue; `None` when there is no such queue. [`Look::copy`] makes it readable.
    pub fn inspect_messages(
        &mut self,
        now_ms: i64,
        arn: &QueueArn,
        window: MessageWindow,
    ) -> Option<Look> {
        let view = self.inspect_queue(now_ms, arn)?;
        let queue = self.queues.get(self.names.get(arn)?)?;
        let slots = queue.slots_from(window.from).take(window.limit + 1);
        let mut slots: Vec<(u64, Slot)> = slots.map(|(seq, slot)| (seq, slot.clone())).collect();
        let next = if slots.len() > window.limit { slots.pop() } else { None };
        Some(Look {
            queue: view,
            now_ms,
            slots,
            body_bytes: window.body_bytes,
            next: next.map(|(seq, _)| seq),
        })
    }

    fn inspect_queue(&mut self, now_ms: i64, arn: &QueueArn) -> Option<QueueView> {
        let sources = self.sources.get(arn).into_iter().flatten();
        let sources = sources.map(ToString::to_string).collect();
        let queue = self.queues.get_mut(self.names.get(arn)?)?;
        queue.advance(now_ms);
        Some(queue_view(queue, now_ms, sources))
    }
}

impl Look {
    /// Copies what was looked at.
    #[must_use]
    pub fn copy(self) -> MessagesView {
        let (fifo, body_bytes) = (self.queue.fifo, self.body_bytes);
        let view = |(seq, slot): (u64, Slot)| message_view(seq, &slot, fifo, body_bytes);
        let messages = self.slots.into_iter().map(view).collect();
        MessagesView { queue: self.queue, now_ms: self.now_ms, messages, next: self.next }
    }
}

fn queue_view(queue: &Queue, now_ms: i64, dead_letter_sources: Vec<String>) -> QueueView {
    let (visible, in_flight, delayed) = queue.depth();
    let redrive = queue.settings.redrive.as_ref();
    QueueView {
        arn: queue.arn.to_string(),
        name: queue.arn.name().to_owned(),
        account: queue.arn.account().to_owned(),
        region: queue.arn.region().to_owned(),
        fifo: queue.settings.fifo,
        visible,
        in_flight,
        delayed,
        oldest_age_ms: queue.oldest_at().map(|at| now_ms - at),
        dead_letter_queue: redrive.map(|policy| policy.target.to_string()),
        dead_letter_sources,
        attributes: queue.settings.texts().clone(),
        tags: queue.tags.clone(),
    }
}

fn message_view(seq: u64, slot: &Slot, fifo: bool, body_bytes: usize) -> MessageView {
    let message: &Message = &slot.message;
    let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
    MessageView {
        number: seq,
        id: message.id,
        state: match slot.kind {
            Kind::Visible => MessageState::Visible,
            Kind::Leased => MessageState::InFlight,
            Kind::Delayed => MessageState::Delayed,
        },
        visible_at_ms: (slot.kind != Kind::Visible).then_some(slot.visible_at),
        sent_at_ms: slot.sent_at,
        first_received_at_ms: slot.first_received_at,
        receives: slot.receives,
        sender: message.sender.to_string(),
        group: text(&message.group),
        deduplication: message.deduplication.clone(),
        sequence: fifo.then(|| SequenceNumber(seq).to_string()),
        dead_letter_source: text(&slot.source),
        trace_header: message.trace_header.clone(),
        attributes: message
            .attributes
            .iter()
            .map(|attribute| AttributeView {
                name: attribute.name.clone(),
                data_type: attribute.data_type.clone(),
                value: value(attribute.value.as_ref(), body_bytes),
            })
            .collect(),
        body: cut(&message.body, body_bytes).to_owned(),
        body_bytes: message.body.len(),
    }
}

fn value(value: Option<&AttributeValue>, bytes: usize) -> String {
    match value {
        Some(AttributeValue::Text(text)) => cut(text, bytes).to_owned(),
        Some(AttributeValue::Binary(binary)) => hex::encode(&binary[..binary.len().min(bytes / 2)]),
        None => String::new(),
    }
}

/// The beginning of a text, at most so many bytes, whole characters.
fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_at_a_character() {
        for (bytes, expected) in [(0, ""), (1, "a"), (2, "a"), (4, "a☃"), (5, "a☃b"), (99, "a☃b")]
        {
            assert_eq!(cut("a☃b", bytes), expected, "{bytes}");
        }
    }
}

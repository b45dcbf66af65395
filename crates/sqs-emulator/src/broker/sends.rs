//! `SendMessage` and `SendMessageBatch`.

use std::sync::Arc;

use super::{Broker, batches, checks};
use crate::digest::sha256_hex;
use crate::effects::{Effect, Stored};
use crate::errors::{ErrorKind, SqsError};
use crate::limits::{DELAY_SECONDS, MESSAGE_BYTES_MAX};
use crate::model::{Caller, Draft, Message, QueueId, SequenceNumber};
use crate::operations::{Entry, QueueRef, Response, Sent};
use crate::queue::{DedupKey, Kind};

impl Broker {
    pub(super) fn send(
        &mut self,
        now: i64,
        caller: &Caller,
        queue: &QueueRef,
        draft: Draft,
    ) -> Result<Response, SqsError> {
        let id = self.queue_at(now, queue)?.id;
        self.send_one(now, caller, id, draft, "are invalid").map(Response::Sent)
    }

    pub(super) fn send_batch(
        &mut self,
        now: i64,
        caller: &Caller,
        queue: &QueueRef,
        entries: Vec<(String, Draft)>,
    ) -> Result<Response, SqsError> {
        let queue = self.queue_at(now, queue)?;
        let (id, fifo, content) =
            (queue.id, queue.settings.fifo, queue.settings.content_deduplication);
        batches::check(&entries, "SendMessageBatchRequestEntry")?;
        let bytes: usize = entries.iter().map(|(_, draft)| draft.size()).sum();
        if bytes > MESSAGE_BYTES_MAX {
            return Err(SqsError::new(
                ErrorKind::BatchRequestTooLong,
                format!(
                    "Batch requests cannot be longer than {MESSAGE_BYTES_MAX} bytes. You have sent \
                     {bytes} bytes."
                ),
            ));
        }
        for (_, draft) in entries.iter().filter(|_| fifo) {
            if draft.group.is_none() {
                return Err(SqsError::invalid(
                    "The request must contain the parameter MessageGroupId.",
                ));
            }
            if draft.deduplication.is_none() && !content {
                return Err(no_deduplication());
            }
        }
        let send = |(name, draft)| -> Entry<Sent> {
            (name, self.send_one(now, caller, id, draft, "cannot be validated"))
        };
        Ok(Response::SentBatch(entries.into_iter().map(send).collect()))
    }

    fn send_one(
        &mut self,
        now: i64,
        caller: &Caller,
        id: QueueId,
        draft: Draft,
        size_text: &str,
    ) -> Result<Sent, SqsError> {
        let queue = self.queues.get(&id).ok_or_else(SqsError::no_such_queue)?;
        let settings = &queue.settings;
        let body = checks::body(draft.body.as_ref())?;
        if draft.size() > settings.bytes_max {
            return Err(SqsError::invalid(format!(
                "One or more parameters {size_text}. Reason: Message must be shorter than {} bytes.",
                settings.bytes_max
            )));
        }
        checks::attributes(&draft.attributes)?;
        checks::fifo_id(draft.group.as_ref(), "MessageGroupId")?;
        checks::fifo_id(draft.deduplication.as_ref(), "MessageDeduplicationId")?;
        let delay = delay(&draft, settings.fifo, settings.delay)?;

        let mut sent = Sent {
            id: uuid::Uuid::nil(),
            md5_body: draft.md5_body,
            md5_attributes: draft.md5_attributes,
            md5_system_attributes: draft.md5_system_attributes,
            sequence: None,
        };
        let group: Option<Arc<str>> = draft.group.as_deref().map(Into::into);
        let mut deduplication = draft.deduplication.clone();
        let mut key = None;
        if settings.fifo {
            if group.is_none() {
                return Err(SqsError::missing("MessageGroupId"));
            }
            if deduplication.is_none() && settings.content_deduplication {
                deduplication = Some(sha256_hex(body));
            }
            let text = deduplication.as_deref().ok_or_else(no_deduplication)?;
            let scope = group.clone().filter(|_| settings.deduplication_per_group);
            let wanted = DedupKey { group: scope, id: text.into() };
            if let Some(original) = queue.dedup.find(&wanted, now) {
                sent.id = original.id;
                sent.sequence = Some(SequenceNumber(original.seq));
                return Ok(sent);
            }
            key = Some(wanted);
        } else if let Some(text) = &deduplication {
            return Err(SqsError::value(
                text,
                "MessageDeduplicationId",
                "The request includes a parameter that is not valid for this queue type.",
            ));
        }
        sent.id = self.random.uuid();
        let seq =
            self.store_new(now, id, message(caller, draft, sent.id, group, deduplication), delay);
        if let Some(key) = key {
            sent.sequence = Some(SequenceNumber(seq));
            self.commit(Effect::Deduplicated { queue: id, key, id: sent.id, seq, at: now });
        }
        Ok(sent)
    }

    /// Puts a message that was never received into a queue.
    pub(super) fn store_new(
        &mut self,
        now: i64,
        queue: QueueId,
        message: Message,
        delay: i64,
    ) -> u64 {
        let seq = self.next_seq();
        let stored = Stored {
            seq,
            message: Arc::new(message),
            kind: if delay > 0 { Kind::Delayed } else { Kind::Visible },
            sent_at: now,
            visible_at: now + delay * 1_000,
            receives: 0,
            first_received_at: None,
            leased_at: 0,
            nonce: 0,
            source: None,
        };
        self.commit(Effect::Stored { queue, stored: Box::new(stored) });
        seq
    }
}

fn message(
    caller: &Caller,
    draft: Draft,
    id: uuid::Uuid,
    group: Option<Arc<str>>,
    deduplication: Option<String>,
) -> Message {
    Message {
        id,
        body: draft.body.unwrap_or_default(),
        md5_body: draft.md5_body,
        attributes: draft.attributes,
        md5_attributes: draft.md5_attributes,
        trace_header: draft.trace_header,
        group,
        deduplication,
        sender: Arc::clone(&caller.account),
    }
}

fn delay(draft: &Draft, fifo: bool, of_queue: i64) -> Result<i64, SqsError> {
    let Some(seconds) = draft.delay_seconds else { return Ok(of_queue) };
    if !DELAY_SECONDS.contains(&seconds) {
        let reason = "DelaySeconds must be >= 0 and <= 900.";
        return Err(SqsError::value(seconds, "DelaySeconds", reason));
    }
    if fifo && seconds > 0 {
        return Err(SqsError::value(
            seconds,
            "DelaySeconds",
            "The request include parameter that is not valid for this queue type.",
        ));
    }
    // A FIFO message's own zero says nothing: the queue's delay holds for all.
    Ok(if fifo { of_queue } else { seconds })
}

fn no_deduplication() -> SqsError {
    SqsError::invalid(
        "The queue should either have ContentBasedDeduplication enabled or \
         MessageDeduplicationId provided explicitly",
    )
}

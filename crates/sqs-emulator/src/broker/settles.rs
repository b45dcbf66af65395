//! `DeleteMessage`, `ChangeMessageVisibility` and their batches: what a receipt handle can still do.

use super::{Broker, batches};
use crate::effects::Effect;
use crate::errors::SqsError;
use crate::limits::VISIBILITY_SECONDS;
use crate::model::QueueId;
use crate::operations::{Entry, QueueRef, Response, VisibilityChange};
use crate::queue::Kind;
use crate::queue::receipts::Receipt;

impl Broker {
    pub(super) fn delete(
        &mut self,
        now: i64,
        queue: &QueueRef,
        receipt: Option<&str>,
    ) -> Result<Response, SqsError> {
        let id = self.queue_at(now, queue)?.id;
        self.delete_one(id, receipt)?;
        Ok(Response::Done)
    }

    pub(super) fn delete_batch(
        &mut self,
        now: i64,
        queue: &QueueRef,
        entries: Vec<(String, Option<String>)>,
    ) -> Result<Response, SqsError> {
        let id = self.queue_at(now, queue)?.id;
        batches::check(&entries, "DeleteMessageBatchRequestEntry")?;
        let delete = |(name, receipt): (String, Option<String>)| -> Entry<()> {
            (name, self.delete_one(id, receipt.as_deref()))
        };
        Ok(Response::DoneBatch(entries.into_iter().map(delete).collect()))
    }

    /// The latest handle deletes; an older one, or one of a message that is gone, has no effect and
    /// is no error. On FIFO queues the lease must not have ended.
    fn delete_one(&mut self, id: QueueId, handle: Option<&str>) -> Result<(), SqsError> {
        let (handle, receipt) = read(id, handle)?;
        let queue = self.queues.get(&id).ok_or_else(SqsError::no_such_queue)?;
        let Some(slot) = queue.slot(receipt.seq) else { return Ok(()) };
        if queue.settings.fifo && (slot.nonce != receipt.nonce || slot.kind != Kind::Leased) {
            return Err(expired(handle));
        }
        if slot.nonce == receipt.nonce {
            self.commit(Effect::Deleted { queue: id, seq: receipt.seq });
        }
        Ok(())
    }

    pub(super) fn change_visibility(
        &mut self,
        now: i64,
        queue: &QueueRef,
        change: &VisibilityChange,
    ) -> Result<Response, SqsError> {
        let id = self.queue_at(now, queue)?.id;
        self.change_one(now, id, change)?;
        Ok(Response::Done)
    }

    pub(super) fn change_visibility_batch(
        &mut self,
        now: i64,
        queue: &QueueRef,
        entries: Vec<(String, VisibilityChange)>,
    ) -> Result<Response, SqsError> {
        let id = self.queue_at(now, queue)?.id;
        batches::check(&entries, "ChangeMessageVisibilityBatchRequestEntry")?;
        let change = |(name, change): (String, VisibilityChange)| -> Entry<()> {
            (name, self.change_one(now, id, &change))
        };
        Ok(Response::DoneBatch(entries.into_iter().map(change).collect()))
    }

    /// On standard queues every handle of a message that is there works, also an older one and one
    /// whose lease has ended: it hides the message again (recorded from AWS, against its documents).
    /// On FIFO queues only that of the lease that holds.
    fn change_one(
        &mut self,
        now: i64,
        id: QueueId,
        change: &VisibilityChange,
    ) -> Result<(), SqsError> {
        let (handle, receipt) = read(id, change.receipt.as_deref())?;
        let seconds = change.seconds.ok_or_else(|| SqsError::missing("VisibilityTimeout"))?;
        if !VISIBILITY_SECONDS.contains(&seconds) {
            let reason = "VisibilityTimeout must be an integer between 0 and 43200";
            return Err(SqsError::value(seconds, "VisibilityTimeout", reason));
        }
        let queue = self.queues.get(&id).ok_or_else(SqsError::no_such_queue)?;
        let fifo = queue.settings.fifo;
        let slot = queue.slot(receipt.seq).filter(|slot| slot.nonce == receipt.nonce || !fifo);
        let slot = slot.ok_or_else(|| {
            let reason =
                "Message does not exist or is not available for visibility timeout change.";
            SqsError::value(handle, "ReceiptHandle", reason)
        })?;
        if fifo && slot.kind != Kind::Leased {
            return Err(expired(handle));
        }
        let until = now + seconds * 1_000;
        if until > slot.leased_at + VISIBILITY_SECONDS.end() * 1_000 {
            let reason =
                "Total VisibilityTimeout for the message is beyond the limit [43200 seconds]";
            return Err(SqsError::value(seconds, "VisibilityTimeout", reason));
        }
        self.commit(Effect::VisibilityChanged { queue: id, seq: receipt.seq, until });
        Ok(())
    }
}

/// The handle, when it is one of that queue.
fn read(id: QueueId, handle: Option<&str>) -> Result<(&str, Receipt), SqsError> {
    let handle = handle.filter(|handle| !handle.is_empty());
    let handle = handle.ok_or_else(|| SqsError::missing("ReceiptHandle"))?;
    let receipt = Receipt::decode(handle).filter(|receipt| receipt.queue == id);
    let receipt = receipt.ok_or_else(|| SqsError::bad_receipt(handle))?;
    Ok((handle, receipt))
}

fn expired(handle: &str) -> SqsError {
    SqsError::value(handle, "ReceiptHandle", "The receipt handle has expired.")
}

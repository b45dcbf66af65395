//! Dead letters: a message that was received too often moves, with its id, its content and its count.

use std::sync::Arc;

use super::Broker;
use crate::effects::{Effect, Stored};
use crate::model::QueueId;
use crate::queue::Kind;

impl Broker {
    /// Where a queue's dead letters go and after how many receives. A target that is gone keeps the
    /// messages where they are.
    pub(super) fn dead_letter_target(&self, id: QueueId) -> Option<(QueueId, u32)> {
        let policy = self.queues.get(&id)?.settings.redrive.as_ref()?;
        Some((*self.names.get(&policy.target)?, policy.receives_max))
    }

    /// Moves a message to a dead-letter queue. It keeps its receive count; the time its retention
    /// counts from stays on a standard queue and starts afresh on a FIFO one.
    pub(super) fn dead_letter(&mut self, now: i64, from: QueueId, seq: u64, to: QueueId) {
        let fresh_seq = self.next_seq();
        let Some(source) = self.queues.get(&from) else { return };
        let Some(slot) = source.slot(seq) else { return };
        let stored = Stored {
            seq: fresh_seq,
            message: Arc::clone(&slot.message),
            kind: Kind::Visible,
            sent_at: if source.settings.fifo { now } else { slot.sent_at },
            visible_at: now,
            receives: slot.receives,
            first_received_at: slot.first_received_at,
            leased_at: 0,
            nonce: 0,
            source: Some(source.arn.as_str().into()),
        };
        self.commit(Effect::Deleted { queue: from, seq });
        self.commit(Effect::Stored { queue: to, stored: Box::new(stored) });
    }
}

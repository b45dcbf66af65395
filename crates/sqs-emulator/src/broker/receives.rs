//! `ReceiveMessage`: leases what is visible, sends what was received too often to the dead-letter queue.

use std::sync::Arc;

use super::{Broker, checks};
use crate::effects::Effect;
use crate::errors::{ErrorKind, SqsError};
use crate::limits::{RECEIVE_MESSAGES, REDRIVES_PER_RECEIVE_MAX, VISIBILITY_SECONDS, WAIT_SECONDS};
use crate::model::{Delivery, QueueId, SequenceNumber};
use crate::operations::{Receive, Response};
use crate::queue::attempts::Taken;
use crate::queue::receipts::Receipt;
use crate::queue::{Kind, Queue};
use crate::selection::Selection;

/// System attributes that a receive may ask for.
const SYSTEM_ATTRIBUTES: [&str; 10] = [
    "All",
    "SenderId",
    "SentTimestamp",
    "ApproximateReceiveCount",
    "ApproximateFirstReceiveTimestamp",
    "SequenceNumber",
    "MessageDeduplicationId",
    "MessageGroupId",
    "AWSTraceHeader",
    "DeadLetterQueueSourceArn",
];

impl Broker {
    pub(super) fn receive(&mut self, now: i64, receive: &Receive) -> Result<Response, SqsError> {
        check(receive)?;
        let in_flight_max = self.config.in_flight_max;
        let queue = self.queue_at(now, &receive.queue)?;
        let id = queue.id;
        let visibility = receive.visibility_seconds.unwrap_or(queue.settings.visibility);
        let until = now + visibility * 1_000;
        let fifo = queue.settings.fifo;
        let attempt = receive.attempt.as_deref().filter(|_| fifo);
        if let Some(attempt) = attempt
            && let Some(again) = repeat(queue, attempt, now)
        {
            let deliveries = self.lease_again(id, attempt, now, until, &again);
            return Ok(Response::Received(deliveries, Arc::clone(&receive.selection)));
        }
        let room = in_flight_max.saturating_sub(queue.leased());
        if room == 0 && !fifo && receive.wait_seconds.unwrap_or(queue.settings.wait) == 0 {
            return Err(SqsError::new(
                ErrorKind::OverLimit,
                format!("The maximum number of in flight messages is reached: {in_flight_max}."),
            ));
        }
        let max = usize::try_from(receive.max.unwrap_or(1)).unwrap_or(1).min(room);
        let deliveries = self.lease_up_to(id, max, now, until);
        if let (Some(attempt), false) = (attempt, deliveries.is_empty()) {
            self.remember(id, attempt, now, until, &deliveries);
        }
        Ok(Response::Received(deliveries, Arc::clone(&receive.selection)))
    }

    fn lease_up_to(&mut self, id: QueueId, max: usize, now: i64, until: i64) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        let mut after: Option<(u64, Option<Arc<str>>)> = None;
        let mut redriven = 0;
        let target = self.dead_letter_target(id);
        while deliveries.len() < max && redriven < REDRIVES_PER_RECEIVE_MAX {
            let Some(queue) = self.queues.get(&id) else { break };
            let last = after.as_ref().and_then(|(seq, group)| Some((*seq, group.as_ref()?)));
            let Some(seq) = queue.next(last) else { break };
            let Some(slot) = queue.slot(seq) else { break };
            after = Some((seq, slot.message.group.clone().filter(|_| queue.settings.fifo)));
            match target {
                Some((target, receives_max)) if slot.receives >= receives_max => {
                    self.dead_letter(now, id, seq, target);
                    redriven += 1;
                    // A queue that is its own dead-letter queue would hand it back for ever.
                    if target == id {
                        break;
                    }
                }
                _ => {
                    let nonce = self.random.next();
                    self.commit(Effect::Leased { queue: id, seq, at: now, until, nonce });
                    deliveries.extend(self.queues.get(&id).and_then(|queue| delivery(queue, seq)));
                }
            }
        }
        deliveries
    }

    fn lease_again(
        &mut self,
        id: QueueId,
        attempt: &str,
        now: i64,
        until: i64,
        taken: &[Taken],
    ) -> Vec<Delivery> {
        for taken in taken {
            self.commit(Effect::VisibilityChanged { queue: id, seq: taken.seq, until });
        }
        let queue = self.queues.get(&id);
        let again = taken.iter().filter_map(|taken| delivery(queue?, taken.seq));
        let deliveries: Vec<Delivery> = again.collect();
        self.remember(id, attempt, now, until, &deliveries);
        deliveries
    }

    fn remember(&mut self, id: QueueId, attempt: &str, now: i64, until: i64, got: &[Delivery]) {
        let taken = got
            .iter()
            .filter_map(|delivery| Receipt::decode(&delivery.receipt))
            .map(|receipt| Taken { seq: receipt.seq, nonce: receipt.nonce, until })
            .collect();
        self.on(id, |queue| queue.attempts.insert(attempt, now, taken));
    }
}

/// What an attempt got, when all of it is still as that attempt left it.
fn repeat(queue: &mut Queue, attempt: &str, now: i64) -> Option<Vec<Taken>> {
    let taken = queue.attempts.find(attempt, now)?.to_vec();
    let unchanged = taken.iter().all(|taken| {
        queue.slot(taken.seq).is_some_and(|slot| {
            slot.nonce == taken.nonce && slot.kind == Kind::Leased && slot.visible_at == taken.until
        })
    });
    if unchanged {
        return Some(taken);
    }
    queue.attempts.forget(attempt);
    None
}

fn delivery(queue: &Queue, seq: u64) -> Option<Delivery> {
    let slot = queue.slot(seq)?;
    Some(Delivery {
        message: Arc::clone(&slot.message),
        receipt: Receipt { queue: queue.id, seq, nonce: slot.nonce }.encode(),
        receives: slot.receives,
        sent_at_ms: slot.sent_at,
        first_received_at_ms: slot.first_received_at.unwrap_or(slot.leased_at),
        sequence: queue.settings.fifo.then_some(SequenceNumber(seq)),
        dead_letter_source: slot.source.clone(),
    })
}

fn check(receive: &Receive) -> Result<(), SqsError> {
    let max = receive.max.filter(|max| !RECEIVE_MESSAGES.contains(max));
    if let Some(max) = max {
        let reason = "Must be between 1 and 10, if provided.";
        return Err(SqsError::value(max, "MaxNumberOfMessages", reason));
    }
    if let Some(wait) = receive.wait_seconds.filter(|wait| !WAIT_SECONDS.contains(wait)) {
        let reason = "Must be >= 0 and <= 20, if provided.";
        return Err(SqsError::value(wait, "WaitTimeSeconds", reason));
    }
    if let Some(lease) = receive.visibility_seconds.filter(|s| !VISIBILITY_SECONDS.contains(s)) {
        let reason = "Must be >= 0 and <= 43200, if provided.";
        return Err(SqsError::value(lease, "VisibilityTimeout", reason));
    }
    checks::fifo_id(receive.attempt.as_ref(), "ReceiveRequestAttemptId")?;
    let Selection { system, .. } = &*receive.selection;
    match system.iter().find(|name| !SYSTEM_ATTRIBUTES.contains(&name.as_str())) {
        Some(name) => Err(SqsError::unknown_attribute(name)),
        None => Ok(()),
    }
}

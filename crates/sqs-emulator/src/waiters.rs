//! Parked long polls. One is woken for messages that are there, oldest first and no more of them than
//! there is work for; nobody looks again by a timer of its own. A woken poll that goes away before it
//! took anything passes its turn on.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tokio::sync::oneshot;

use crate::broker::Broker;
use crate::model::QueueId;

#[derive(Debug, Default)]
struct Parked {
    /// By age.
    waiting: BTreeMap<u64, Poll>,
    /// Messages that woken polls may take and have not yet taken.
    promised: usize,
    /// Where it stands in the schedule.
    scheduled: Option<i64>,
}

#[derive(Debug)]
struct Poll {
    max: usize,
    wake: oneshot::Sender<()>,
}

/// The parked polls of every queue.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    parked: HashMap<QueueId, Parked>,
    /// When queues with waiting polls get a message by time alone.
    schedule: BTreeSet<(i64, QueueId)>,
    last: u64,
}

/// A poll's place in the queue of polls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) queue: QueueId,
    pub(crate) number: u64,
    pub(crate) max: usize,
}

impl Waiters {
    /// A new place, behind all others.
    pub(crate) fn place(&mut self, queue: QueueId, max: usize) -> Place {
        self.last += 1;
        Place { queue, number: self.last, max }
    }

    /// Parks a poll; the receiver hears when there may be something for it.
    pub(crate) fn park(&mut self, place: Place) -> oneshot::Receiver<()> {
        let (wake, woken) = oneshot::channel();
        let parked = self.parked.entry(place.queue).or_default();
        parked.waiting.insert(place.number, Poll { max: place.max, wake });
        woken
    }

    /// A poll comes back, woken or not.
    pub(crate) fn leave(&mut self, place: Place) {
        if let Some(parked) = self.parked.get_mut(&place.queue)
            && parked.waiting.remove(&place.number).is_none()
        {
            parked.promised = parked.promised.saturating_sub(place.max);
        }
    }

    /// Wakes as many polls of a queue as there is something for, and notes when to look next.
    pub(crate) fn settle(&mut self, now_ms: i64, queue: QueueId, broker: &mut Broker) {
        let Some(parked) = self.parked.get_mut(&queue) else { return };
        let gone = !broker.has_queue(queue);
        let mut free = broker.ready(now_ms, queue).saturating_sub(parked.promised);
        while free > 0 || gone {
            let Some((_, poll)) = parked.waiting.pop_first() else { break };
            // A poll whose caller has gone leaves no receiver and takes nothing.
            if poll.wake.send(()).is_ok() {
                parked.promised += poll.max;
                free = free.saturating_sub(poll.max);
            }
        }
        let idle = parked.waiting.is_empty();
        let next = if idle { None } else { broker.next_wake(queue) };
        if next != parked.scheduled {
            if let Some(at) = parked.scheduled {
                self.schedule.remove(&(at, queue));
            }
            if let Some(at) = next {
                self.schedule.insert((at, queue));
            }
            parked.scheduled = next;
        }
        if idle && parked.promised == 0 {
            self.parked.remove(&queue);
        }
    }

    /// When the first queue has to be looked at.
    pub(crate) fn next(&self) -> Option<i64> {
        self.schedule.first().map(|(at, _)| *at)
    }

    /// A queue whose time has come.
    pub(crate) fn due(&self, now_ms: i64) -> Option<QueueId> {
        self.schedule.first().filter(|(at, _)| *at <= now_ms).map(|(_, queue)| *queue)
    }

    /// Queues with parked polls.
    pub(crate) fn queues(&self) -> Vec<QueueId> {
        self.parked.keys().copied().collect()
    }
}

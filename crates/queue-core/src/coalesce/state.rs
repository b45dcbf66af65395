//! The books of a coalescer: what is pending per key, which keys are ready, how many flushes run.
//! Pure and synchronous; tasks and time are its owner's affair.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::ops::AddAssign;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{CoalesceLimits, Full};

/// Tasks that the owner must start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Work {
    pub(super) flushers: usize,
    pub(super) linger: bool,
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        self.flushers += other.flushers;
        self.linger |= other.linger;
    }
}

pub(super) struct Batch<K, I, O> {
    pub(super) key: K,
    pub(super) items: Vec<I>,
    pub(super) bytes: usize,
    pub(super) replies: Vec<oneshot::Sender<O>>,
}

struct Waiting<I, O> {
    item: I,
    bytes: usize,
    reply: oneshot::Sender<O>,
}

struct Lane<I, O> {
    waiting: VecDeque<Waiting<I, O>>,
    waiting_bytes: usize,
    /// Admitted and not answered, the batches in flight included.
    admitted_bytes: usize,
    /// Batches in flight.
    running: usize,
    /// Stands in `State::ready`.
    ready: bool,
    /// Would stand there, but has as many batches in flight as it may, and no full one waiting.
    due: bool,
    /// When the oldest waiting item has waited long enough.
    deadline: Option<Instant>,
}

impl<I, O> Lane<I, O> {
    /// Whether what waits is a batch that cannot grow.
    fn is_full(&self, limits: &CoalesceLimits) -> bool {
        self.waiting.len() >= limits.items_max || self.waiting_bytes >= limits.bytes_max
    }
}

pub(super) struct State<K, I, O> {
    limits: CoalesceLimits,
    lanes: HashMap<K, Lane<I, O>>,
    ready: VecDeque<K>,
    /// Deadlines of lanes in the order they were set; stale ones are skipped.
    deadlines: VecDeque<(Instant, K)>,
    admitted_bytes: usize,
    flushers: usize,
    linger_watched: bool,
    closed: bool,
}

impl<K: Clone + Eq + Hash, I, O> State<K, I, O> {
    pub(super) fn new(limits: CoalesceLimits) -> Self {
        Self {
            limits: CoalesceLimits {
                items_max: limits.items_max.max(1),
                batches_in_flight_max: limits.batches_in_flight_max.max(1),
                batches_in_flight_per_key_max: limits.batches_in_flight_per_key_max.max(1),
                ..limits
            },
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            deadlines: VecDeque::new(),
            admitted_bytes: 0,
            flushers: 0,
            linger_watched: false,
            closed: false,
        }
    }

    pub(super) fn pending_bytes(&self) -> usize {
        self.admitted_bytes
    }

    /// Whether `bytes` more of `key` fit.
    pub(super) fn admit(&self, key: &K, bytes: usize) -> Result<(), Full> {
        if self.closed {
            return Err(Full::Closed);
        }
        if self.admitted_bytes.saturating_add(bytes) > self.limits.pending_bytes_max {
            return Err(Full::Process);
        }
        let of_key = self.lanes.get(key).map_or(0, |lane| lane.admitted_bytes);
        if of_key.saturating_add(bytes) > self.limits.pending_bytes_per_key_max {
            return Err(Full::Key);
        }
        Ok(())
    }

    /// Takes an admitted item.
    pub(super) fn push(
        &mut self,
        key: K,
        item: I,
        bytes: usize,
        reply: oneshot::Sender<O>,
        now: Instant,
    ) -> Work {
        let lane = self.lanes.entry(key.clone()).or_insert_with(|| Lane {
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            admitted_bytes: 0,
            running: 0,
            ready: false,
            due: false,
            deadline: None,
        });
        lane.waiting.push_back(Waiting { item, bytes, reply });
        lane.waiting_bytes += bytes;
        lane.admitted_bytes += bytes;
        self.admitted_bytes += bytes;
        let full = lane.is_full(&self.limits);
        if lane.ready || (lane.due && !full) {
            return Work::default();
        }
        if full || self.limits.linger.is_zero() {
            return self.make_ready(key);
        }
        self.set_deadline(key, now)
    }

    fn set_deadline(&mut self, key: K, now: Instant) -> Work {
        let Some(lane) = self.lanes.get_mut(&key) else { return Work::default() };
        if lane.deadline.is_none() {
            let deadline = now + self.limits.linger;
            lane.deadline = Some(deadline);
            self.deadlines.push_back((deadline, key));
        }
        let linger = !std::mem::replace(&mut self.linger_watched, true);
        Work { flushers: 0, linger }
    }

    fn make_ready(&mut self, key: K) -> Work {
        self.put_in_line(key);
        self.start_flusher()
    }

    fn put_in_line(&mut self, key: K) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        if lane.ready {
            return;
        }
        lane.deadline = None;
        let may_start = lane.running < self.limits.batches_in_flight_per_key_max;
        lane.due = !may_start && !lane.is_full(&self.limits);
        lane.ready = !lane.due;
        if lane.ready {
            self.ready.push_back(key);
        }
    }

    /// One more flusher, where something is ready and a slot is free.
    fn start_flusher(&mut self) -> Work {
        let start = self.flushers < self.limits.batches_in_flight_max && !self.ready.is_empty();
        self.flushers += usize::from(start);
        Work { flushers: usize::from(start), linger: false }
    }

    /// The next batch to flush, and the tasks to start for what is left behind it; `None` ends the
    /// flusher that asks.
    pub(super) fn next_batch(&mut self, now: Instant) -> Option<(Batch<K, I, O>, Work)> {
        let (key, lane) = loop {
            let Some(key) = self.ready.pop_front() else {
                self.flushers -= 1;
                return None;
            };
            if self.lanes.contains_key(&key) {
                break (key.clone(), self.lanes.get_mut(&key)?);
            }
        };
        let mut batch =
            Batch { key: key.clone(), items: Vec::new(), bytes: 0, replies: Vec::new() };
        while let Some(next) = lane.waiting.front() {
            let over = batch.bytes.saturating_add(next.bytes) > self.limits.bytes_max;
            if batch.items.len() == self.limits.items_max || (over && !batch.items.is_empty()) {
                break;
            }
            if let Some(Waiting { item, bytes, reply }) = lane.waiting.pop_front() {
                batch.bytes += bytes;
                batch.items.push(item);
                batch.replies.push(reply);
            }
        }
        lane.waiting_bytes -= batch.bytes;
        lane.running += 1;
        lane.ready = false;
        let full = lane.is_full(&self.limits);
        let work = if lane.waiting.is_empty() {
            Work::default()
        } else if full || self.closed || self.limits.linger.is_zero() {
            self.make_ready(key)
        } else {
            // What is left over waits for company like any other.
            self.set_deadline(key, now)
        };
        Some((batch, work))
    }

    /// A batch of `key` has its outcomes. The flusher that says so takes what is in line next.
    pub(super) fn answered(&mut self, key: &K, bytes: usize) {
        self.admitted_bytes -= bytes;
        let Some(lane) = self.lanes.get_mut(key) else { return };
        lane.admitted_bytes -= bytes;
        lane.running -= 1;
        if lane.running == 0 && lane.waiting.is_empty() {
            self.lanes.remove(key);
        } else if lane.due {
            self.put_in_line(key.clone());
        }
    }

    /// When the next lane has waited long enough; `None` ends the linger task.
    pub(super) fn next_deadline(&mut self) -> Option<Instant> {
        while let Some((deadline, key)) = self.deadlines.front() {
            if self.lanes.get(key).is_some_and(|lane| lane.deadline == Some(*deadline)) {
                return Some(*deadline);
            }
            self.deadlines.pop_front();
        }
        self.linger_watched = false;
        None
    }

    /// Makes ready what has waited until `now`; everything when closing.
    pub(super) fn lingered(&mut self, now: Instant) -> Work {
        let mut work = Work::default();
        while let Some((deadline, key)) = self.deadlines.front().cloned() {
            if deadline > now && !self.closed {
                break;
            }
            self.deadlines.pop_front();
            if self.lanes.get(&key).is_some_and(|lane| lane.deadline == Some(deadline)) {
                work += self.make_ready(key);
            }
        }
        work
    }

    pub(super) fn close(&mut self) -> Work {
        self.closed = true;
        let waiting: Vec<K> = self.deadlines.drain(..).map(|(_, key)| key).collect();
        let mut work = Work::default();
        for key in waiting {
            if self.lanes.get(&key).is_some_and(|lane| !lane.waiting.is_empty()) {
                work += self.make_ready(key);
            }
        }
        work
    }
}

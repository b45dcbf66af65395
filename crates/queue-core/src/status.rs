//! What `/status` shows: the engine's figures, read without stopping it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::config::EngineConfig;
use crate::park::ParkFigures;

/// How one breaker stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BreakerStatus {
    /// The sink's name.
    pub sink: String,
    /// `closed`, `half-open` or `open`.
    pub state: String,
    /// Why it is open.
    pub reason: Option<String>,
}

/// Sums since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Messages handed over by the broker.
    pub received: u64,
    /// Deleted after success.
    pub settled: u64,
    /// Given back to be tried again.
    pub retried: u64,
    /// Given back without a failure: snoozed, released, or held behind another of its FIFO group.
    pub snoozed: u64,
    /// Sent to the dead-letter queue, parts included.
    pub dead_lettered: u64,
    /// Deleted without work: they had been done before.
    pub dropped: u64,
    /// Leases lost.
    pub leases_lost: u64,
    /// Called back when the outage that had postponed them was over.
    pub recalled: u64,
    /// Calls to the broker.
    pub broker_calls: u64,
}

/// The times that an engine runs with, whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// Lease taken at receipt and by each extension.
    pub lease_secs: u64,
    /// After so long without progress a handler is cancelled.
    pub progress_timeout_secs: u64,
    /// A long poll's wait.
    pub wait_secs: u64,
    /// A drain ends within this.
    pub drain_budget_secs: u64,
}

impl From<&EngineConfig> for Times {
    fn from(config: &EngineConfig) -> Self {
        Self {
            lease_secs: config.lease.as_secs(),
            progress_timeout_secs: config.progress_timeout.as_secs(),
            wait_secs: config.wait.as_secs(),
            drain_budget_secs: config.drain_budget.as_secs(),
        }
    }
}

/// One reading.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StatusSnapshot {
    /// Queue name.
    pub queue: String,
    /// Worker name.
    pub worker: String,
    /// Messages in hand: received and not yet settled.
    pub in_flight: usize,
    /// Bytes of those: bodies and attributes.
    pub bytes_in_hand: usize,
    /// Leases kept.
    pub leases: usize,
    /// Pollers that are polling now.
    pub pollers: usize,
    /// Since a poll last came back, in milliseconds; `None` before the first.
    pub last_poll_ms_ago: Option<u64>,
    /// Each sink's breaker.
    pub breakers: Vec<BreakerStatus>,
    /// Messages that an outage has postponed and that this process calls back when it is over.
    pub postponed: usize,
    /// What is parked of the queue, by whatever worker; counted every 10 s.
    pub parked: ParkFigures,
    /// A drain has begun.
    pub draining: bool,
    /// What it runs with; `None` before it was started.
    pub times: Option<Times>,
    /// Sums since the start.
    pub totals: Totals,
}

/// The engine's figures, updated by its parts and read by the admin port.
#[derive(Debug)]
pub struct EngineStatus {
    queue: String,
    worker: &'static str,
    started: Instant,
    pub(crate) times: OnceLock<Times>,
    pub(crate) in_flight: AtomicUsize,
    bytes_in_hand: AtomicUsize,
    pub(crate) leases: AtomicUsize,
    pub(crate) pollers: AtomicUsize,
    /// Milliseconds after `started`, plus one; zero before the first poll.
    last_poll: AtomicU64,
    pub(crate) postponed: AtomicUsize,
    pub(crate) breakers: Mutex<Vec<BreakerStatus>>,
    pub(crate) parked: Mutex<ParkFigures>,
    pub(crate) draining: AtomicBool,
    pub(crate) received: AtomicU64,
    pub(crate) settled: AtomicU64,
    pub(crate) retried: AtomicU64,
    pub(crate) snoozed: AtomicU64,
    pub(crate) dead_lettered: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) leases_lost: AtomicU64,
    pub(crate) recalled: AtomicU64,
    pub(crate) broker_calls: AtomicU64,
    /// Messages whose stay ended, whatever the outcome.
    pub(crate) ended: AtomicU64,
    /// Of those, given back by a drain.
    pub(crate) released: AtomicU64,
    /// Settles that the broker has not confirmed.
    pub(crate) unconfirmed: AtomicU64,
}

impl EngineStatus {
    pub(crate) fn new(queue: String, worker: &'static str) -> Self {
        Self {
            queue,
            worker,
            started: Instant::now(),
            times: OnceLock::new(),
            in_flight: AtomicUsize::new(0),
            bytes_in_hand: AtomicUsize::new(0),
            leases: AtomicUsize::new(0),
            pollers: AtomicUsize::new(0),
            last_poll: AtomicU64::new(0),
            postponed: AtomicUsize::new(0),
            breakers: Mutex::new(Vec::new()),
            parked: Mutex::default(),
            draining: AtomicBool::new(false),
            received: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            retried: AtomicU64::new(0),
            snoozed: AtomicU64::new(0),
            dead_lettered: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            leases_lost: AtomicU64::new(0),
            recalled: AtomicU64::new(0),
            broker_calls: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            released: AtomicU64::new(0),
            unconfirmed: AtomicU64::new(0),
        }
    }

    pub(crate) fn polled(&self) {
        self.last_poll.store(millis(self.started.elapsed()) + 1, Ordering::Relaxed);
    }

    /// A message of that many bytes is in hand.
    pub(crate) fn took(&self, bytes: usize) {
        self.bytes_in_hand.fetch_add(bytes, Ordering::Relaxed);
    }

    /// It is not any more.
    pub(crate) fn gave_back(&self, bytes: usize) {
        self.bytes_in_hand.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Reads everything; the figures are each right, but not of one instant.
    pub fn snapshot(&self) -> StatusSnapshot {
        let last_poll = self.last_poll.load(Ordering::Relaxed);
        let read = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        StatusSnapshot {
            queue: self.queue.clone(),
            worker: self.worker.to_owned(),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            bytes_in_hand: self.bytes_in_hand.load(Ordering::Relaxed),
            leases: self.leases.load(Ordering::Relaxed),
            pollers: self.pollers.load(Ordering::Relaxed),
            last_poll_ms_ago: last_poll
                .checked_sub(1)
                .map(|at| millis(self.started.elapsed()).saturating_sub(at)),
            breakers: self
                .breakers
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .clone(),
            postponed: self.postponed.load(Ordering::Relaxed),
            parked: *self.parked.lock().unwrap_or_else(std::sync::PoisonError::into_inner),
            draining: self.draining.load(Ordering::Relaxed),
            times: self.times.get().copied(),
            totals: Totals {
                received: read(&self.received),
                settled: read(&self.settled),
                retried: read(&self.retried),
                snoozed: read(&self.snoozed),
                dead_lettered: read(&self.dead_lettered),
                dropped: read(&self.dropped),
                leases_lost: read(&self.leases_lost),
                recalled: read(&self.recalled),
                broker_calls: read(&self.broker_calls),
            },
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

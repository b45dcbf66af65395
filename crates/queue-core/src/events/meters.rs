//! The names of the engine's metrics and their handles, taken once per engine, so that counting
//! costs an addition. What is counted when stands in `events`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};

use crate::park::ParkFigures;
use crate::status::{BreakerStatus, EngineStatus};

/// Messages handed over by the broker.
pub const RECEIVED_TOTAL: &str = "flotilla_messages_received_total";
/// Messages whose stay ended, by `outcome`: see [`Outcome`].
pub const SETTLED_TOTAL: &str = "flotilla_messages_settled_total";
/// Time in the handler, in seconds.
pub const HANDLE_SECONDS: &str = "flotilla_messages_handle_seconds";
/// Messages in hand.
pub const IN_FLIGHT: &str = "flotilla_messages_in_flight";
/// Leases lost while a handler ran.
pub const LEASE_LOST_TOTAL: &str = "flotilla_messages_lease_lost_total";
/// Age of the oldest message in hand, in seconds since it was sent.
pub const OLDEST_AGE_SECONDS: &str = "flotilla_messages_oldest_age_seconds";
/// Dead letters sent, by `reason` (a code of the registry), parts included.
pub const DLQ_TOTAL: &str = "flotilla_messages_dlq_total";
/// Objects of settled messages that could not be removed.
pub const OBJECTS_LEFT_TOTAL: &str = "flotilla_claim_objects_left_total";
/// Calls to the broker, by `call`.
pub const BROKER_CALLS_TOTAL: &str = "flotilla_broker_calls_total";
/// A sink's breaker: 0 closed, 1 half-open, 2 open.
pub const BREAKER_STATE: &str = "flotilla_breaker_state";
/// Failed attempts, by `code` and by whether they `counts`.
pub const FAILURES_TOTAL: &str = "flotilla_failures_total";
/// Polls that failed, and pollers that had to be replaced.
pub const POLL_FAILURES_TOTAL: &str = "flotilla_poll_failures_total";

/// Messages called back when the outage that had postponed them was over.
pub const RECALLED_TOTAL: &str = "flotilla_messages_recalled_total";
/// Messages that an outage has postponed and that this process would call back.
pub const POSTPONED: &str = "flotilla_messages_postponed";

/// FIFO groups that are parked, of the queue.
pub const PARKED_GROUPS: &str = "flotilla_parked_groups";
/// Messages in the lines of parked groups, of the queue.
pub const PARKED_MESSAGES: &str = "flotilla_parked_messages";
/// Times a group was parked, by `reason` (a code of the registry).
pub const GROUPS_PARKED_TOTAL: &str = "flotilla_groups_parked_total";
/// Messages that stay in the queue since a parked line or the store is full, each time.
pub const PARKING_FULL_TOTAL: &str = "flotilla_parking_full_total";

/// How a message's stay in this process ended; a closed vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Deleted after success.
    Settled,
    /// Given back after a failure.
    Retried,
    /// Given back for later without a failure.
    Snoozed,
    /// Given back by a drain or since a sink is down.
    Released,
    /// Given back unstarted, behind a message of its FIFO group.
    Held,
    /// In the dead-letter queue.
    DeadLettered,
    /// In the line of its parked FIFO group.
    Parked,
    /// Done before, deleted without work.
    Dropped,
    /// No longer ours.
    Lost,
}

impl Outcome {
    const ALL: [(Self, &'static str); 9] = [
        (Self::Settled, "settled"),
        (Self::Retried, "retried"),
        (Self::Snoozed, "snoozed"),
        (Self::Released, "released"),
        (Self::Held, "held"),
        (Self::DeadLettered, "dead_lettered"),
        (Self::Parked, "parked"),
        (Self::Dropped, "dropped"),
        (Self::Lost, "lost"),
    ];
}

/// The handles of the metrics of one engine, taken once, so that counting costs an addition.
pub(crate) struct Meters {
    pub(super) queue: String,
    worker: &'static str,
    pub(super) status: Arc<EngineStatus>,
    received: Counter,
    settled: [Counter; Outcome::ALL.len()],
    handle_seconds: Histogram,
    in_flight: Gauge,
    oldest_age: Gauge,
    pub(super) lease_lost: Counter,
    receives: Counter,
    settles: Counter,
    extends: Counter,
    pub(super) poll_failures: Counter,
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meters").field("queue", &self.queue).finish_non_exhaustive()
    }
}

pub(super) fn add(figure: &AtomicU64, count: u64) {
    figure.fetch_add(count, Ordering::Relaxed);
}

impl Meters {
    pub(crate) fn new(queue: &str, worker: &'static str, status: Arc<EngineStatus>) -> Self {
        let labels = [("queue", queue.to_owned()), ("worker", worker.to_owned())];
        let with = |key: &'static str, value: &'static str| {
            let [queue, worker] = labels.clone();
            [queue, worker, (key, value.to_owned())]
        };
        let call = |call| metrics::counter!(BROKER_CALLS_TOTAL, &with("call", call));
        Self {
            queue: queue.to_owned(),
            worker,
            received: metrics::counter!(RECEIVED_TOTAL, &labels),
            settled: Outcome::ALL
                .map(|(_, name)| metrics::counter!(SETTLED_TOTAL, &with("outcome", name))),
            handle_seconds: metrics::histogram!(HANDLE_SECONDS, &labels),
            in_flight: metrics::gauge!(IN_FLIGHT, &labels),
            oldest_age: metrics::gauge!(OLDEST_AGE_SECONDS, &labels),
            lease_lost: metrics::counter!(LEASE_LOST_TOTAL, &labels),
            receives: call("receive"),
            settles: call("settle"),
            extends: call("extend"),
            poll_failures: metrics::counter!(POLL_FAILURES_TOTAL, &labels),
            status,
        }
    }

    pub(super) fn labels(&self) -> [(&'static str, String); 2] {
        [("queue", self.queue.clone()), ("worker", self.worker.to_owned())]
    }

    pub(super) fn labels_and(&self, key: &'static str, value: &str) -> [(&'static str, String); 3] {
        let [queue, worker] = self.labels();
        [queue, worker, (key, value.to_owned())]
    }

    pub(crate) fn called(&self, call: &'static str) {
        add(&self.status.broker_calls, 1);
        match call {
            "receive" => self.receives.increment(1),
            "settle" => self.settles.increment(1),
            _ => self.extends.increment(1),
        }
    }

    pub(crate) fn received(&self, count: usize) {
        let sum = u64::try_from(count).unwrap_or(u64::MAX);
        self.received.increment(sum);
        add(&self.status.received, sum);
    }

    pub(crate) fn taken(&self, count: usize) {
        self.status.in_flight.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn handled(&self, took: Duration) {
        self.handle_seconds.record(took.as_secs_f64());
    }

    /// A message's stay ended.
    pub(crate) fn ended(&self, outcome: Outcome) {
        self.status.in_flight.fetch_sub(1, Ordering::Relaxed);
        let at = Outcome::ALL.iter().position(|(other, _)| *other == outcome).unwrap_or(0);
        self.settled[at].increment(1);
        add(&self.status.ended, 1);
        if outcome == Outcome::Released {
            add(&self.status.released, 1);
        }
        let figure = match outcome {
            Outcome::Settled => &self.status.settled,
            Outcome::Retried => &self.status.retried,
            Outcome::Snoozed | Outcome::Released | Outcome::Held => &self.status.snoozed,
            Outcome::Dropped => &self.status.dropped,
            // Counted where they happen: a part is a dead letter, too, and a lease may be lost by a
            // message that is settled all the same.
            Outcome::DeadLettered | Outcome::Lost | Outcome::Parked => return,
        };
        add(figure, 1);
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge of at most 10,000")]
    pub(crate) fn in_hand(&self, leases: usize, oldest: Duration) {
        self.status.leases.store(leases, Ordering::Relaxed);
        self.in_flight.set(leases as f64);
        self.oldest_age.set(oldest.as_secs_f64());
    }

    /// What is parked of the queue, by whatever worker.
    #[expect(clippy::cast_precision_loss, reason = "a gauge of at most 100,000")]
    pub(crate) fn parked(&self, figures: ParkFigures) {
        let labels = self.labels();
        metrics::gauge!(PARKED_GROUPS, &labels).set(figures.groups as f64);
        metrics::gauge!(PARKED_MESSAGES, &labels).set(figures.messages as f64);
        *self.status.parked.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = figures;
    }

    /// Messages that would be called back.
    #[expect(clippy::cast_precision_loss, reason = "a gauge of at most 10,000")]
    pub(crate) fn postponed(&self, messages: usize) {
        if self.status.postponed.swap(messages, Ordering::Relaxed) != messages {
            metrics::gauge!(POSTPONED, &self.labels()).set(messages as f64);
        }
    }

    pub(crate) fn recalled(&self, messages: usize) {
        let sum = u64::try_from(messages).unwrap_or(u64::MAX);
        add(&self.status.recalled, sum);
        metrics::counter!(RECALLED_TOTAL, &self.labels()).increment(sum);
    }

    pub(crate) fn idle(&self) {
        self.in_hand(0, Duration::ZERO);
    }

    pub(crate) fn breakers(&self, all: Vec<BreakerStatus>) {
        for breaker in &all {
            let labels = self.labels_and("sink", &breaker.sink);
            let level = match breaker.state.as_str() {
                "closed" => 0.0,
                "half-open" => 1.0,
                _ => 2.0,
            };
            metrics::gauge!(BREAKER_STATE, &labels).set(level);
        }
        let mut status =
            self.status.breakers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *status = all;
    }
}

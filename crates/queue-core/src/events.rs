//! Every event of the engine: one struct each, whose `emit` writes the log line and the metric
//! together. Nothing else in the engine logs or counts. Labels are queue and worker, never a tenant.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};
use tracing::{debug, error, info, warn};

use crate::attempts::{AttemptStoreError, RecordedFailure};
use crate::driver::{DriverError, EntryError};
use crate::engine::DrainReport;
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
/// Calls to the broker, by `call`.
pub const BROKER_CALLS_TOTAL: &str = "flotilla_broker_calls_total";
/// A sink's breaker: 0 closed, 1 half-open, 2 open.
pub const BREAKER_STATE: &str = "flotilla_breaker_state";
/// Failed attempts, by `code` and by whether they `counts`.
pub const FAILURES_TOTAL: &str = "flotilla_failures_total";
/// Polls that failed, and pollers that had to be replaced.
pub const POLL_FAILURES_TOTAL: &str = "flotilla_poll_failures_total";

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
    /// In the dead-letter queue.
    DeadLettered,
    /// Done before, deleted without work.
    Dropped,
    /// No longer ours.
    Lost,
}

impl Outcome {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Settled, "settled"),
        (Self::Retried, "retried"),
        (Self::Snoozed, "snoozed"),
        (Self::Released, "released"),
        (Self::DeadLettered, "dead_lettered"),
        (Self::Dropped, "dropped"),
        (Self::Lost, "lost"),
    ];
}

/// The handles of the metrics of one engine, taken once, so that counting costs an addition.
pub(crate) struct Meters {
    queue: String,
    worker: &'static str,
    status: Arc<EngineStatus>,
    received: Counter,
    settled: [Counter; Outcome::ALL.len()],
    handle_seconds: Histogram,
    in_flight: Gauge,
    oldest_age: Gauge,
    lease_lost: Counter,
    receives: Counter,
    settles: Counter,
    extends: Counter,
    poll_failures: Counter,
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meters").field("queue", &self.queue).finish_non_exhaustive()
    }
}

fn add(figure: &AtomicU64, count: u64) {
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

    fn labels(&self) -> [(&'static str, String); 2] {
        [("queue", self.queue.clone()), ("worker", self.worker.to_owned())]
    }

    fn labels_and(&self, key: &'static str, value: &str) -> [(&'static str, String); 3] {
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
            Outcome::Snoozed | Outcome::Released => &self.status.snoozed,
            Outcome::Dropped => &self.status.dropped,
            // Counted where they happen: a part is a dead letter, too, and a lease may be lost by a
            // message that is settled all the same.
            Outcome::DeadLettered | Outcome::Lost => return,
        };
        add(figure, 1);
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge of at most 10,000")]
    pub(crate) fn in_hand(&self, leases: usize, oldest: Duration) {
        self.status.leases.store(leases, Ordering::Relaxed);
        self.in_flight.set(leases as f64);
        self.oldest_age.set(oldest.as_secs_f64());
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

/// An attempt failed.
pub(crate) struct AttemptFailed<'a> {
    pub(crate) message: &'a str,
    pub(crate) failure: &'a RecordedFailure,
    pub(crate) failures: u32,
}

impl AttemptFailed<'_> {
    pub(crate) fn emit(self, meters: &Meters) {
        let Self { message, failure, failures } = self;
        let [queue, worker, code] = meters.labels_and("code", &failure.code);
        let counts = ("counts", failure.counts.to_string());
        metrics::counter!(FAILURES_TOTAL, &[queue, worker, code, counts]).increment(1);
        warn!(
            queue = meters.queue,
            message,
            code = failure.code,
            error = failure.error,
            counts = failure.counts,
            failures,
            "attempt failed"
        );
    }
}

/// The attempt store did not answer; what it should have recorded is kept here for a while.
pub(crate) struct RecordFailed<'a> {
    pub(crate) message: &'a str,
    pub(crate) error: &'a AttemptStoreError,
}

impl RecordFailed<'_> {
    pub(crate) fn emit(self, meters: &Meters) {
        let Self { message, error } = self;
        warn!(queue = meters.queue, message, %error, "attempt not recorded, kept in memory");
    }
}

/// A message or a part went to the dead-letter queue.
pub(crate) struct DeadLettered<'a> {
    pub(crate) message: &'a str,
    pub(crate) code: &'static str,
    pub(crate) reason: &'a str,
    pub(crate) fingerprint: &'a str,
    /// Position in its parent.
    pub(crate) part: Option<usize>,
}

impl DeadLettered<'_> {
    pub(crate) fn emit(self, meters: &Meters) {
        let Self { message, code, reason, fingerprint, part } = self;
        add(&meters.status.dead_lettered, 1);
        metrics::counter!(DLQ_TOTAL, &meters.labels_and("reason", code)).increment(1);
        warn!(queue = meters.queue, message, code, reason, fingerprint, part, "dead-lettered");
    }
}

/// The dead-letter queue did not take a message; it stays where it is.
pub(crate) struct NotDeadLettered<'a> {
    pub(crate) message: &'a str,
    pub(crate) error: &'a str,
}

impl NotDeadLettered<'_> {
    pub(crate) fn emit(self, meters: &Meters) {
        let Self { message, error } = self;
        error!(queue = meters.queue, message, error, "dead letter not accepted, tried again later");
    }
}

/// A message was received often without an outcome; it runs while nothing else does.
pub(crate) struct RunsAlone<'a> {
    pub(crate) message: &'a str,
    pub(crate) receives: u32,
}

impl RunsAlone<'_> {
    pub(crate) fn emit(self, meters: &Meters) {
        let Self { message, receives } = self;
        warn!(queue = meters.queue, message, receives, "no outcome so often: runs alone, once");
    }
}

/// The lease of a message went to somebody else.
pub(crate) struct LeaseLost<'a> {
    pub(crate) message: &'a str,
    pub(crate) why: &'a str,
}

impl LeaseLost<'_> {
    pub(crate) fn emit(self, meters: &Meters) {
        let Self { message, why } = self;
        add(&meters.status.leases_lost, 1);
        meters.lease_lost.increment(1);
        warn!(queue = meters.queue, message, why, "lease lost, handler cancelled");
    }
}

/// An extension call failed; it is tried again until the leases end.
pub(crate) struct ExtendFailed<'a> {
    pub(crate) messages: usize,
    pub(crate) error: &'a DriverError,
}

impl ExtendFailed<'_> {
    pub(crate) fn emit(self, meters: &Meters) {
        let Self { messages, error } = self;
        warn!(queue = meters.queue, messages, %error, "leases not extended, tried again");
    }
}

/// A settle was not confirmed before the lease ended.
pub(crate) struct Unsettled<'a> {
    pub(crate) message: &'a str,
    pub(crate) call: &'static str,
    pub(crate) error: &'a EntryError,
}

impl Unsettled<'_> {
    pub(crate) fn emit(self, meters: &Meters) {
        let Self { message, call, error } = self;
        add(&meters.status.unconfirmed, 1);
        warn!(queue = meters.queue, message, call, %error, "not confirmed, the message may return");
    }
}

/// A poll failed.
pub(crate) struct PollFailed<'a> {
    pub(crate) error: &'a DriverError,
    pub(crate) pause: Duration,
}

impl PollFailed<'_> {
    pub(crate) fn emit(self, meters: &Meters) {
        let Self { error, pause } = self;
        meters.poll_failures.increment(1);
        warn!(queue = meters.queue, %error, ?pause, "poll failed");
    }
}

/// A poller fell silent or died, and another took its place.
pub(crate) struct PollerReplaced {
    pub(crate) poller: usize,
    pub(crate) why: &'static str,
}

impl PollerReplaced {
    pub(crate) fn emit(self, meters: &Meters) {
        let Self { poller, why } = self;
        meters.poll_failures.increment(1);
        error!(queue = meters.queue, poller, why, "poller replaced");
    }
}

/// A breaker changed its state.
pub(crate) struct BreakerChanged<'a> {
    pub(crate) breaker: &'a BreakerStatus,
}

impl BreakerChanged<'_> {
    pub(crate) fn emit(self, meters: &Meters) {
        let BreakerStatus { sink, state, reason } = self.breaker;
        warn!(queue = meters.queue, sink, state, reason, "breaker");
    }
}

/// The queue's own figures could not be read; the configured ones stand in.
pub(crate) struct AttributesUnread<'a> {
    pub(crate) error: &'a DriverError,
}

impl AttributesUnread<'_> {
    pub(crate) fn emit(self, meters: &Meters) {
        debug!(queue = meters.queue, error = %self.error, "queue attributes not read");
    }
}

/// A drain began.
pub(crate) struct DrainStarted {
    pub(crate) in_hand: usize,
    pub(crate) budget: Duration,
}

impl DrainStarted {
    pub(crate) fn emit(self, meters: &Meters) {
        let Self { in_hand, budget } = self;
        meters.status.draining.store(true, Ordering::Relaxed);
        info!(queue = meters.queue, in_hand, ?budget, "drain started");
    }
}

/// A drain ended.
pub(crate) struct DrainEnded<'a> {
    pub(crate) report: &'a DrainReport,
}

impl DrainEnded<'_> {
    pub(crate) fn emit(self, meters: &Meters) {
        let DrainReport { finished, released, cancelled, unsettled, took, within_budget, .. } =
            self.report;
        info!(
            queue = meters.queue,
            finished,
            released,
            cancelled,
            unsettled,
            ?took,
            within_budget,
            "drain ended"
        );
    }
}

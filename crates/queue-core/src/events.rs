//! Every event of the engine: one struct each, whose `emit` writes the log line and the metric
//! together. Nothing else in the engine logs or counts. Labels are queue and worker, never a tenant.

mod meters;
mod parking;

use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::{debug, error, info, warn};

use crate::attempts::{AttemptStoreError, RecordedFailure};
use crate::claim::ClaimError;
use crate::driver::{DriverError, EntryError};
use crate::engine::DrainReport;
use crate::status::BreakerStatus;

pub(crate) use meters::Meters;
use meters::add;
pub use meters::{
    BREAKER_STATE, BROKER_CALLS_TOTAL, DLQ_TOTAL, FAILURES_TOTAL, GROUPS_PARKED_TOTAL,
    HANDLE_SECONDS, IN_FLIGHT, LEASE_LOST_TOTAL, OBJECTS_LEFT_TOTAL, OLDEST_AGE_SECONDS, Outcome,
    PARKED_GROUPS, PARKED_MESSAGES, PARKING_FULL_TOTAL, POLL_FAILURES_TOTAL, POSTPONED,
    RECALLED_TOTAL, RECEIVED_TOTAL, SETTLED_TOTAL,
};
pub(crate) use parking::{
    GroupOpened, GroupParked, MessageParked, NotReleased, ParkingFailed, ParkingFull, Released,
};

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

/// Messages that an outage had postponed were made visible again; some may have been out of reach.
pub(crate) struct CalledBack<'a> {
    pub(crate) messages: usize,
    pub(crate) left: usize,
    pub(crate) error: Option<&'a DriverError>,
}

impl CalledBack<'_> {
    pub(crate) fn emit(self, meters: &Meters) {
        let Self { messages, left, error } = self;
        meters.recalled(messages);
        let error = error.map(ToString::to_string);
        info!(queue = meters.queue, messages, left, error, "called back after an outage");
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

/// A message is settled, and the object that held its body could not be removed.
pub(crate) struct ObjectLeft<'a> {
    pub(crate) key: &'a str,
    pub(crate) error: &'a ClaimError,
}

impl ObjectLeft<'_> {
    pub(crate) fn emit(self, meters: &Meters) {
        let Self { key, error } = self;
        metrics::counter!(OBJECTS_LEFT_TOTAL, &meters.labels()).increment(1);
        warn!(queue = meters.queue, key, %error, "an object is left to its store's lifecycle rule");
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

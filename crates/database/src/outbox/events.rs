//! Every event of the outbox: one struct each, whose `emit` writes the log line and the metric.

use metrics::{counter, gauge};
use tracing::{debug, warn};

use super::QueueFigures;

/// Messages that wait to be sent, by `queue`; alarm when it grows.
pub const DEPTH: &str = "flotilla_outbox_depth";
/// Seconds since the oldest of them was put, by `queue`.
pub const OLDEST_AGE: &str = "flotilla_outbox_oldest_age_seconds";
/// Those that the broker has refused, by `queue`: each needs a person.
pub const REFUSED: &str = "flotilla_outbox_refused";
/// Messages sent, by `queue`; one that was sent twice is counted twice.
pub const PUBLISHED_TOTAL: &str = "flotilla_outbox_published_total";
/// Sends that failed, by `queue` and `cause`: `unavailable` or `refused`.
pub const FAILURES_TOTAL: &str = "flotilla_outbox_failures_total";

pub(super) struct Published {
    pub(super) queue: &'static str,
    pub(super) messages: u64,
}

impl Published {
    pub(super) fn emit(&self) {
        debug!(queue = self.queue, messages = self.messages, "sent from the outbox");
        counter!(PUBLISHED_TOTAL, "queue" => self.queue).increment(self.messages);
    }
}

pub(super) struct Unavailable<'a> {
    pub(super) queue: &'static str,
    pub(super) messages: u64,
    pub(super) error: &'a str,
}

impl Unavailable<'_> {
    pub(super) fn emit(&self) {
        warn!(
            queue = self.queue,
            messages = self.messages,
            error = self.error,
            "the queue does not take messages of the outbox; they stay and are sent again"
        );
        counter!(FAILURES_TOTAL, "queue" => self.queue, "cause" => "unavailable")
            .increment(self.messages);
    }
}

pub(super) struct Refused<'a> {
    pub(super) queue: &'static str,
    pub(super) id: i64,
    pub(super) error: &'a str,
}

impl Refused<'_> {
    pub(super) fn emit(&self) {
        warn!(
            queue = self.queue,
            id = self.id,
            error = self.error,
            "the queue refuses a message of the outbox; it stays and is tried again ever more rarely"
        );
        counter!(FAILURES_TOTAL, "queue" => self.queue, "cause" => "refused").increment(1);
    }
}

pub(super) struct PassFailed<'a> {
    pub(super) error: &'a sqlx::Error,
}

impl PassFailed<'_> {
    pub(super) fn emit(&self) {
        warn!(error = %self.error, "failed to read the outbox; what it holds waits");
    }
}

pub(super) fn counted(figures: &[QueueFigures]) {
    for QueueFigures { queue, depth, refused, oldest_age_secs } in figures {
        #[expect(clippy::cast_precision_loss, reason = "at most COUNT_MAX")]
        let (depth, refused) = (*depth as f64, *refused as f64);
        gauge!(DEPTH, "queue" => queue.clone()).set(depth);
        gauge!(REFUSED, "queue" => queue.clone()).set(refused);
        gauge!(OLDEST_AGE, "queue" => queue.clone()).set(*oldest_age_secs);
    }
}

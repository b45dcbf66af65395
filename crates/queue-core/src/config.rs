//! The engine's figures, where each comes from, and how they must relate. A configuration that
//! contradicts itself is refused before anything is received.

use std::time::Duration;

use contracts::QueueSpec;
use contracts::catalogue::QueueKind;

use crate::worker::Worker;

/// A whole long poll (SQS allows 20 s).
pub const WAIT_MAX: Duration = Duration::from_secs(20);
/// From receipt to the last extension's end, at most (SQS).
pub const LEASE_CEILING: Duration = Duration::from_secs(43_200);
/// An attempt of a receive may take this much longer than its wait.
pub const POLL_MARGIN: Duration = Duration::from_secs(5);
/// Of a drain's budget, kept for settling what was cancelled.
pub const SETTLE_RESERVE: Duration = Duration::from_secs(3);
/// Messages in hand at most, per process.
pub const CONCURRENCY_MAX: usize = 10_000;
/// Bytes of messages in hand, where a worker says nothing else: 64 messages packed to the API's
/// 256 KiB, or any number of small ones, and with what handling adds still a small process.
pub const BYTES_IN_HAND: usize = 16 << 20;
/// The least and the most that may be configured. Nothing is polled on top of a message larger than
/// the budget; beyond the most, another task serves better than a larger one.
pub const BYTES_IN_HAND_RANGE: std::ops::RangeInclusive<usize> = (64 << 10)..=(256 << 20);

/// How one engine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Long polls at most; one when idle.
    pub pollers_max: usize,
    /// Messages in hand at most: received and not yet settled.
    pub concurrency: usize,
    /// Bytes of those at most; a larger message is in hand alone. Polls stop where one more message
    /// of the broker's limit, 1 MiB, would not fit.
    pub bytes_in_hand_max: usize,
    /// Long-poll wait, whole seconds.
    pub wait: Duration,
    /// Lease taken at receipt and by each extension, whole seconds.
    pub lease: Duration,
    /// A handler that makes no progress for this long is cancelled.
    pub progress_timeout: Duration,
    /// How long an acknowledgement may wait for company.
    pub linger_settle: Duration,
    /// A drain ends within this; it has to fit into the platform's stop timeout.
    pub drain_budget: Duration,
    /// How long the queue keeps a message, until the queue itself has said so.
    pub retention: Duration,
    /// Seed of the retry jitter; `None` draws one.
    pub seed: Option<u64>,
}

/// Two figures that cannot both hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}: {rule}")]
pub struct InvalidConfig {
    /// The field.
    pub field: &'static str,
    /// Its value.
    pub value: String,
    /// What must hold, with a valid example.
    pub rule: &'static str,
}

impl EngineConfig {
    /// The catalogue's figures for a queue.
    pub fn for_queue(spec: &QueueSpec) -> Self {
        Self {
            pollers_max: usize::try_from(spec.latency.targets().pollers_max).unwrap_or(1),
            concurrency: 256,
            bytes_in_hand_max: BYTES_IN_HAND,
            wait: WAIT_MAX,
            lease: Duration::from_secs(u64::from(spec.visibility_secs)),
            progress_timeout: Duration::from_secs(120),
            linger_settle: match spec.kind {
                QueueKind::Standard => Duration::from_millis(100),
                // On FIFO the delete unlocks the group.
                QueueKind::Fifo => Duration::ZERO,
            },
            drain_budget: Duration::from_secs(60),
            retention: Duration::from_secs(u64::from(spec.retention_dev_secs)),
            seed: None,
        }
    }

    /// The figures of a worker: its queue's, and its own constants.
    pub fn for_worker<W: Worker>() -> Self {
        Self {
            concurrency: W::CONCURRENCY,
            bytes_in_hand_max: W::BYTES_IN_HAND,
            progress_timeout: W::PROGRESS_TIMEOUT,
            ..Self::for_queue(<W::Message as contracts::Message>::QUEUE)
        }
    }

    /// Checks every figure and every relation between two.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let whole = |d: Duration| d.subsec_nanos() == 0;
        let rules: [(&'static str, String, bool, &'static str); 9] = [
            (
                "pollers_max",
                self.pollers_max.to_string(),
                (1..=64).contains(&self.pollers_max),
                "1 to 64 long polls, e.g. 8",
            ),
            (
                "concurrency",
                self.concurrency.to_string(),
                (1..=CONCURRENCY_MAX).contains(&self.concurrency),
                "1 to 10000 messages in hand, e.g. 256",
            ),
            (
                "bytes_in_hand_max",
                self.bytes_in_hand_max.to_string(),
                BYTES_IN_HAND_RANGE.contains(&self.bytes_in_hand_max),
                "65536 to 268435456 bytes in hand, e.g. 67108864",
            ),
            (
                "wait",
                format!("{:?}", self.wait),
                self.wait <= WAIT_MAX && whole(self.wait),
                "whole seconds, 0 to 20 (SQS), e.g. 20 s",
            ),
            (
                "lease",
                format!("{:?}", self.lease),
                self.lease >= Duration::from_secs(2)
                    && self.lease <= LEASE_CEILING
                    && whole(self.lease),
                "whole seconds, 2 s to 12 h (SQS), e.g. 30 s",
            ),
            (
                "progress_timeout",
                format!("{:?}", self.progress_timeout),
                self.progress_timeout >= Duration::from_secs(1)
                    && self.progress_timeout < LEASE_CEILING,
                "1 s or more and under 12 h, e.g. 120 s",
            ),
            (
                "linger_settle",
                format!("{:?}", self.linger_settle),
                self.linger_settle <= self.lease / 4,
                "at most a quarter of the lease, e.g. 100 ms",
            ),
            (
                "drain_budget",
                format!("{:?}", self.drain_budget),
                self.drain_budget >= self.wait + POLL_MARGIN + SETTLE_RESERVE,
                "at least the wait plus 8 s, since an aborted long poll strands messages, e.g. 60 s",
            ),
            (
                "retention",
                format!("{:?}", self.retention),
                self.retention >= Duration::from_secs(60),
                "at least 60 s (SQS), e.g. 7 days",
            ),
        ];
        match rules.into_iter().find(|(_, _, holds, _)| !holds) {
            Some((field, value, _, rule)) => Err(InvalidConfig { field, value, rule }),
            None => Ok(()),
        }
    }
}

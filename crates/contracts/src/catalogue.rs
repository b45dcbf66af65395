//! The queue catalogue: every queue's name, variable, figures and reasons, as data in one place.
//! `cargo xtask gen` derives Terraform, LocalStack, compose and docs from it; nothing else lists
//! queues.

/// How soon a message of the queue should be handled; sets scaling, alarms and pollers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LatencyClass {
    /// Under a second: somebody waits for it.
    High,
    /// Seconds to minutes.
    Medium,
    /// Scheduled work.
    Low,
}

/// What a latency class means in figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatencyTargets {
    /// Backlog per task that scaling aims at, in messages.
    pub backlog_per_task: u32,
    /// Age of the oldest message that raises the alarm, in seconds.
    pub oldest_age_alarm_secs: u32,
    /// Long polls at most, per worker process.
    pub pollers_max: u32,
}

impl LatencyClass {
    /// The figures of the class.
    pub const fn targets(self) -> LatencyTargets {
        match self {
            Self::High => LatencyTargets {
                backlog_per_task: 1_000,
                oldest_age_alarm_secs: 60,
                pollers_max: 8,
            },
            Self::Medium => {
                LatencyTargets { backlog_per_task: 100, oldest_age_alarm_secs: 900, pollers_max: 4 }
            }
            Self::Low => LatencyTargets {
                backlog_per_task: 10,
                oldest_age_alarm_secs: 7_200,
                pollers_max: 1,
            },
        }
    }

    /// The seed's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::High => "High",
            Self::Medium => "Medium",
            Self::Low => "Low",
        }
    }
}

/// Standard or FIFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueKind {
    /// At least once, no order.
    Standard,
    /// Ordered by message group; the name ends in `.fifo`.
    Fifo,
}

impl QueueKind {
    /// What SQS is told when a queue of this kind, or its dead-letter queue, is made.
    ///
    /// Every FIFO queue is a high-throughput one: its limits count per message group, and so does
    /// deduplication, which that requires. Otherwise the whole queue has 300 calls a second.
    pub const fn attributes(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Standard => &[],
            Self::Fifo => &[
                ("FifoQueue", "true"),
                ("DeduplicationScope", "messageGroup"),
                ("FifoThroughputLimit", "perMessageGroupId"),
            ],
        }
    }

    /// Receives after which SQS itself moves a message to the dead-letter queue. On FIFO as rarely as
    /// it allows: those that wait behind a failing message are received with it.
    pub const fn receives_max(self) -> u32 {
        match self {
            Self::Standard => 25,
            Self::Fifo => 1_000,
        }
    }
}

/// One queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSpec {
    /// Subsystem that owns it, e.g. `audit`.
    pub subsystem: &'static str,
    /// Short name used in metrics, commands and Terraform keys, e.g. `audit-index`.
    pub key: &'static str,
    /// SQS name.
    pub name: &'static str,
    /// Environment variable that carries its URL.
    pub env: &'static str,
    /// Standard or FIFO.
    pub kind: QueueKind,
    /// Lease length in seconds; extended while the handler makes progress.
    pub visibility_secs: u32,
    /// Retention on a laptop, in seconds (the seed's figure).
    pub retention_dev_secs: u32,
    /// Retention in production, in seconds.
    pub retention_prod_secs: u32,
    /// Recorded failures after which a message is rejected.
    pub failures_max: u32,
    /// SQS's own redrive count: only the net for a crash loop.
    pub receives_max: u32,
    /// Name of its dead-letter queue.
    pub dlq: &'static str,
    /// Retention of the dead-letter queue, in seconds.
    pub dlq_retention_secs: u32,
    /// The worker binary that owns it.
    pub worker: &'static str,
    /// How soon.
    pub latency: LatencyClass,
    /// What it is for and why its figures are as they are.
    pub why: &'static str,
}

const HOUR: u32 = 3_600;
const DAY: u32 = 24 * HOUR;

const fn audit(spec: QueueSpec) -> QueueSpec {
    QueueSpec {
        subsystem: "audit",
        kind: QueueKind::Standard,
        retention_prod_secs: 7 * DAY,
        failures_max: 3,
        receives_max: QueueKind::Standard.receives_max(),
        dlq_retention_secs: 14 * DAY,
        ..spec
    }
}

/// Fast indexing.
pub const AUDIT_INDEX: QueueSpec = audit(QueueSpec {
    key: "audit-index",
    name: "audit-log-index-queue",
    env: "AWS_SQS_INDEX_QUEUE_URL",
    visibility_secs: 30,
    retention_dev_secs: DAY,
    dlq: "audit-log-index-queue-dlq",
    worker: "index-worker",
    latency: LatencyClass::High,
    why: "Accepted logs on their way to Postgres and search; somebody is waiting to find them.",
    ..BLANK
});

/// Archival by policy.
pub const AUDIT_ARCHIVE: QueueSpec = audit(QueueSpec {
    key: "audit-archive",
    name: "audit-log-archive-queue",
    env: "AWS_SQS_ARCHIVE_QUEUE_URL",
    visibility_secs: 60,
    retention_dev_secs: DAY,
    dlq: "audit-log-archive-queue-dlq",
    worker: "archive-worker",
    latency: LatencyClass::Medium,
    why: "Units of work for the archive; the lease is extended while a unit makes progress.",
    ..BLANK
});

/// Deletion of what is archived and verified.
pub const AUDIT_CLEANUP: QueueSpec = audit(QueueSpec {
    key: "audit-cleanup",
    name: "audit-log-cleanup-queue",
    env: "AWS_SQS_CLEANUP_QUEUE_URL",
    visibility_secs: 60,
    retention_dev_secs: DAY,
    dlq: "audit-log-cleanup-queue-dlq",
    worker: "cleanup-worker",
    latency: LatencyClass::Medium,
    why: "Deletes only what a verified archive holds, or what a policy says to delete.",
    ..BLANK
});

/// Retention policies.
pub const AUDIT_RETENTION: QueueSpec = audit(QueueSpec {
    key: "audit-retention",
    name: "audit-log-retention-queue",
    env: "AWS_SQS_RETENTION_QUEUE_URL",
    visibility_secs: 120,
    retention_dev_secs: 2 * DAY,
    dlq: "audit-log-retention-queue-dlq",
    worker: "retention-worker",
    latency: LatencyClass::Low,
    why: "Scheduled evaluation of policies; long queries, no one waiting.",
    ..BLANK
});

/// The old single queue.
pub const AUDIT_LEGACY: QueueSpec = audit(QueueSpec {
    key: "audit-legacy",
    name: "audit-log-queue",
    env: "AWS_SQS_QUEUE_URL",
    visibility_secs: 30,
    retention_dev_secs: DAY,
    dlq: "audit-log-queue-dlq",
    worker: "index-worker",
    latency: LatencyClass::Medium,
    why: "Producers that have not moved yet; bare messages, tenants by allow-list.",
    ..BLANK
});

/// Every queue, in the order in which docs list them.
pub const QUEUES: &[&QueueSpec] =
    &[&AUDIT_INDEX, &AUDIT_ARCHIVE, &AUDIT_CLEANUP, &AUDIT_RETENTION, &AUDIT_LEGACY];

/// The longest that a message can still be handed out after it was sent, in seconds, over all queues:
/// its queue's retention, then its dead-letter queue's, then once more its queue's after a redrive.
/// What is remembered so that nothing happens twice is remembered longer.
pub const fn redelivery_max_secs() -> u64 {
    let (mut longest, mut at) = (0, 0);
    while at < QUEUES.len() {
        let spec = QUEUES[at];
        let life = spec.retention_prod_secs as u64 * 2 + spec.dlq_retention_secs as u64;
        longest = if life > longest { life } else { longest };
        at += 1;
    }
    longest
}

/// Only the ground that entries are written on: every entry overrides what is empty here.
const BLANK: QueueSpec = QueueSpec {
    subsystem: "",
    key: "",
    name: "",
    env: "",
    kind: QueueKind::Standard,
    visibility_secs: 0,
    retention_dev_secs: 0,
    retention_prod_secs: 0,
    failures_max: 0,
    receives_max: 0,
    dlq: "",
    dlq_retention_secs: 0,
    worker: "",
    latency: LatencyClass::Low,
    why: "",
};

impl QueueSpec {
    /// The entry of that key or SQS name.
    pub fn find(name: &str) -> Option<&'static Self> {
        QUEUES.iter().copied().find(|spec| spec.key == name || spec.name == name)
    }
}

/// A catalogue that contradicts itself does not compile.
const _: () = {
    let mut at = 0;
    while at < QUEUES.len() {
        let spec = QUEUES[at];
        assert!(
            spec.visibility_secs >= 1 && spec.visibility_secs <= 43_200,
            "SQS: 12 hours at most"
        );
        assert!(
            spec.retention_dev_secs >= 60 && spec.retention_prod_secs <= 14 * DAY,
            "SQS: 14 days"
        );
        assert!(
            spec.dlq_retention_secs >= spec.retention_prod_secs,
            "a dead letter outlives its queue"
        );
        assert!(
            spec.failures_max >= 1 && spec.receives_max > spec.failures_max,
            "redrive is the net"
        );
        let fifo = matches!(spec.kind, QueueKind::Fifo);
        assert!(
            fifo == ends_fifo(spec.name) && fifo == ends_fifo(spec.dlq),
            "SQS: FIFO names, and only those, end in .fifo"
        );
        assert!(spec.receives_max == spec.kind.receives_max(), "redrive is the net, by kind");
        assert!(spec.name.len() <= 80 && spec.dlq.len() <= 80, "SQS: names of 80 characters");
        assert!(!spec.why.is_empty() && !spec.env.is_empty() && !spec.worker.is_empty());
        let mut other = at + 1;
        while other < QUEUES.len() {
            let next = QUEUES[other];
            assert!(!same(spec.name, next.name) && !same(spec.env, next.env), "unique");
            assert!(!same(spec.key, next.key) && !same(spec.dlq, next.dlq), "unique");
            other += 1;
        }
        at += 1;
    }
};

/// `ends_with(".fifo")`, in a constant.
const fn ends_fifo(name: &str) -> bool {
    matches!(name.as_bytes(), [.., b'.', b'f', b'i', b'f', b'o'])
}

/// `==` on text, in a constant.
const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

//! The bootstrap script's calls: each dead-letter queue before the queue that redrives into it.

use contracts::QueueSpec;
use contracts::catalogue::QueueKind;

/// The file.
pub(super) const PATH: &str = "localstack/10-queues.sh";

/// One call per queue, with the development figures.
pub(super) fn calls(queues: &[&QueueSpec]) -> String {
    let mut out = Vec::new();
    for spec in queues {
        let kind = match spec.kind {
            QueueKind::Standard => "standard",
            QueueKind::Fifo => "fifo",
        };
        out.push(format!(
            "queue {kind} {name} {visibility} {retention} {dlq} {dlq_retention} {receives}\n",
            name = spec.name,
            visibility = spec.visibility_secs,
            retention = spec.retention_dev_secs,
            dlq = spec.dlq,
            dlq_retention = spec.dlq_retention_secs,
            receives = spec.receives_max,
        ));
    }
    out.concat()
}

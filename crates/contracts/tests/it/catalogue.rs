//! The seed's names, variables and figures, to the letter.

use contracts::catalogue::{LatencyClass, QUEUES};
use contracts::errors::CODES;

#[test]
fn the_audit_queues_are_the_seed_s() {
    const HOUR: u32 = 3_600;
    let seed = [
        ("audit-log-index-queue", "AWS_SQS_INDEX_QUEUE_URL", 30, 24, LatencyClass::High),
        ("audit-log-archive-queue", "AWS_SQS_ARCHIVE_QUEUE_URL", 60, 24, LatencyClass::Medium),
        ("audit-log-cleanup-queue", "AWS_SQS_CLEANUP_QUEUE_URL", 60, 24, LatencyClass::Medium),
        ("audit-log-retention-queue", "AWS_SQS_RETENTION_QUEUE_URL", 120, 48, LatencyClass::Low),
    ];
    for (name, env, visibility, hours, latency) in seed {
        let spec = contracts::QueueSpec::find(name).unwrap();
        assert_eq!((spec.env, spec.visibility_secs, spec.latency), (env, visibility, latency));
        assert_eq!(spec.retention_dev_secs, hours * HOUR);
        assert_eq!(spec.retention_prod_secs, 7 * 24 * HOUR, "a worker may be down over a weekend");
        assert_eq!(spec.dlq_retention_secs, 14 * 24 * HOUR);
        assert_eq!((spec.failures_max, spec.receives_max), (3, 25));
    }
    let legacy = contracts::QueueSpec::find("audit-log-queue").unwrap();
    assert_eq!(legacy.env, "AWS_SQS_QUEUE_URL");
    assert_eq!(QUEUES.iter().filter(|spec| spec.subsystem == "audit").count(), 5);
}

#[test]
fn error_codes_are_unique_and_say_what_to_do() {
    for (at, entry) in CODES.iter().enumerate() {
        assert!(CODES[at + 1..].iter().all(|other| other.code != entry.code), "{}", entry.code);
        assert!((400..600).contains(&entry.status), "{}", entry.code);
        assert!(entry.title.ends_with('.') && entry.hint.ends_with('.'), "{}", entry.code);
    }
}

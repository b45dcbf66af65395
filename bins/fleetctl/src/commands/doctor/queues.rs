//! The queues' part of the check-up: figures that lose messages when they are wrong, whether a drain
//! fits, and whether dead letters would fail again.

use std::time::Duration;

use chassis::{CommonArgs, WorkerArgs};
use contracts::QueueSpec;
use contracts::catalogue::{QUEUES, QueueKind};
use queue_core::config::WAIT_MAX;
use queue_core::driver::QueueAttributes;

use super::{Finding, times};
use crate::commands::dlq::{AdminPorts, prospects};
use crate::failure::Failure;
use crate::output::Output;
use crate::settings::Settings;

/// Receives that a message of a type that is not known yet is put off for (the engine's table).
const UNKNOWN_RECEIVES: u32 = 16;
/// What a drain needs after its last poll: handlers, and acknowledgements flushed.
const AFTER_POLL: u64 = 8;

/// Whether polls and handlers can end before the orchestrator kills the process, by the variables of
/// this environment.
pub(super) fn drain(settings: &Settings) -> Finding {
    let what = "drain";
    let read = settings.read::<CommonArgs>().and_then(|common| {
        let worker = settings.read::<WorkerArgs>()?;
        Ok((common, worker))
    });
    let (common, worker) = match read {
        Ok(read) => read,
        Err(failure) => return Finding::bad(what, failure.message, "mend the variable it names"),
    };
    if let Some(problem) = common.check().into_iter().find(|p| p.option == "DRAIN_BUDGET_SECS") {
        let hint = problem.example.unwrap_or_default();
        return Finding::bad(what, problem.reason, hint);
    }
    let (wait, budget) = (worker.worker_wait_secs, common.drain_budget_secs);
    if wait + AFTER_POLL > budget {
        let found = format!("a poll waits {wait} s, and the drain has {budget} s: it would be cut");
        return Finding::bad(
            what,
            found,
            format!("WORKER_WAIT_SECS={}", budget.saturating_sub(AFTER_POLL)),
        );
    }
    let stop = common.ecs_stop_timeout_secs;
    Finding::good(what, format!("polls {wait} s, drains in {budget} s, killed after {stop} s"))
}

/// Every queue of the catalogue: there, set as it should be, its dead letters redrivable.
pub(super) async fn all(settings: &Settings, ports: &AdminPorts, letters: usize) -> Vec<Finding> {
    let hint = "check AWS_REGION, AWS_ENDPOINT_URL and the credentials; Terraform or localstack/ makes the queues";
    let sqs = match settings.sqs().await {
        Ok(sqs) => sqs,
        Err(failure) => return vec![Finding::bad("SQS", failure.message, hint)],
    };
    let outlook = ports.outlook(settings).await;
    // A wrong one is told by `drain`.
    let (common, worker) = (settings.read::<CommonArgs>(), settings.read::<WorkerArgs>());
    let variables = (
        worker.map_or(WAIT_MAX.as_secs(), |args| args.worker_wait_secs),
        common.map_or(28, |args| args.drain_budget_secs),
    );
    let mut findings = Vec::new();
    for spec in QUEUES {
        let what = format!("queue {}", spec.key);
        let asked = async {
            let queue = settings.queue(&sqs, spec).await?;
            let own = queue.queue.attributes().await.map_err(|e| Failure::sqs(&e))?;
            let dead = queue.dead_letters.attributes().await.map_err(|e| Failure::sqs(&e))?;
            Ok::<_, Failure>((own, dead))
        };
        let (own, dead) = match asked.await {
            Ok(asked) => asked,
            Err(failure) => {
                findings.push(Finding::bad(what, failure.message, hint));
                continue;
            }
        };
        findings.push(judged(what, spec, &own, &dead));
        findings.extend(times::fit(spec, &own, &outlook.times(spec), variables));
        if letters > 0 && dead.depth.visible > 0 {
            let quiet = Output::new(true);
            let found = prospects(settings, spec, &outlook, letters, &quiet).await;
            findings.push(redrivable(spec, found));
        }
    }
    findings
}

/// The figures that lose messages when they are wrong.
fn judged(
    what: String,
    spec: &QueueSpec,
    own: &QueueAttributes,
    dead: &QueueAttributes,
) -> Finding {
    if let Some((found, hint)) = wrong(spec, own, dead) {
        return Finding::bad(what, found, hint);
    }
    let depth = own.depth;
    Finding::good(what, format!("{} waiting, {} in flight", depth.visible, depth.in_flight))
}

/// The first that is wrong, and the command that mends it.
fn wrong(
    spec: &QueueSpec,
    own: &QueueAttributes,
    dead: &QueueAttributes,
) -> Option<(String, String)> {
    let set = |queue: &str, attribute: String| {
        format!(
            "aws sqs set-queue-attributes --queue-url $(aws sqs get-queue-url --queue-name {queue} \
             --query QueueUrl --output text) --attributes {attribute}"
        )
    };
    let redrives = own.dead_letter_arn.as_deref().unwrap_or_default().ends_with(spec.dlq);
    if !redrives {
        let hint = "bring the queue to docs/QUEUES.md: with Terraform, or by making it anew";
        return Some((format!("does not redrive into {}", spec.dlq), hint.to_owned()));
    }
    if let Some(target) = &dead.dead_letter_arn {
        let found =
            format!("{} itself redrives into {target}: looking at letters moves them", spec.dlq);
        return Some((found, set(spec.dlq, "RedrivePolicy=".to_owned())));
    }
    let least = spec.failures_max.max(UNKNOWN_RECEIVES);
    if let Some(receives) = own.receives_max.filter(|receives| *receives <= least) {
        let found = format!(
            "redrives after {receives} receives, which are no failures: a type that is not known yet \
             is put off {UNKNOWN_RECEIVES} times"
        );
        let hint = "bring the queue to docs/QUEUES.md: with Terraform, or by making it anew";
        return Some((found, hint.to_owned()));
    }
    if dead.retention < own.retention {
        let (keeps, own) = (dead.retention.as_secs(), own.retention.as_secs());
        let found = format!(
            "{} keeps {keeps} s, less than the queue's {own} s: a dead letter keeps \
             the age of its message and would be deleted early",
            spec.dlq
        );
        let retention = spec.dlq_retention_secs;
        return Some((found, set(spec.dlq, format!("MessageRetentionPeriod={retention}"))));
    }
    if own.visibility < Duration::from_secs(spec.visibility_secs.into()) {
        let (is, wanted) = (own.visibility.as_secs(), spec.visibility_secs);
        let found = format!("leases {is} s by default, its worker counts on {wanted} s");
        return Some((found, set(spec.name, format!("VisibilityTimeout={wanted}"))));
    }
    fifo(spec, own).map(|found| {
        let attributes = "DeduplicationScope=messageGroup,FifoThroughputLimit=perMessageGroupId";
        (found, set(spec.name, attributes.to_owned()))
    })
}

fn fifo(spec: &QueueSpec, own: &QueueAttributes) -> Option<String> {
    match (spec.kind, own.fifo) {
        (QueueKind::Standard, None) => None,
        (QueueKind::Standard, Some(_)) => Some("is a FIFO queue, and should be none".to_owned()),
        (QueueKind::Fifo, None) => Some("is no FIFO queue: it keeps no order".to_owned()),
        (QueueKind::Fifo, Some(set)) if set.deduplicates_per_group && set.throughput_per_group => {
            None
        }
        (QueueKind::Fifo, Some(_)) => {
            Some("is limited to 300 calls a second for all groups together".to_owned())
        }
    }
}

/// Whether a queue's dead letters can be sent back.
fn redrivable(
    spec: &QueueSpec,
    found: Result<crate::commands::dlq::Prospects, Failure>,
) -> Finding {
    let what = format!("dead letters of {}", spec.key);
    let prospects = match found {
        Ok(prospects) => prospects,
        Err(failure) => {
            return Finding::bad(what, failure.message, failure.hint.unwrap_or_default());
        }
    };
    let (count, failing) = (prospects.count, prospects.failing);
    let doubts = prospects.doubts();
    let Some(first) = doubts.first() else {
        let found = format!("{count}; `fleetctl dlq redrive {} --yes` sends them back", spec.key);
        return Finding::good(what, found);
    };
    let reasons: Vec<String> = doubts
        .iter()
        .map(|doubted| format!("{} as {}", doubted.count, doubted.doubt.why))
        .collect();
    let found = format!("{failing} of {count} would fail again: {}", reasons.join("; "));
    Finding::bad(what, found, first.doubt.fix.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::catalogue::AUDIT_INDEX;
    use queue_core::driver::FifoAttributes;

    fn right() -> (QueueAttributes, QueueAttributes) {
        let own = QueueAttributes {
            visibility: Duration::from_secs(30),
            retention: Duration::from_secs(604_800),
            receives_max: Some(25),
            dead_letter_arn: Some(format!("arn:aws:sqs:eu-west-1:1:{}", AUDIT_INDEX.dlq)),
            ..QueueAttributes::default()
        };
        let dead = QueueAttributes { retention: own.retention, ..QueueAttributes::default() };
        (own, dead)
    }

    /// What is said of the index queue after a change.
    fn said(change: impl FnOnce(&mut QueueAttributes, &mut QueueAttributes)) -> Option<String> {
        let (mut own, mut dead) = right();
        change(&mut own, &mut dead);
        wrong(&AUDIT_INDEX, &own, &dead).map(|(found, hint)| {
            assert!(!hint.is_empty());
            found
        })
    }

    #[test]
    fn each_figure_that_loses_messages_is_named() {
        assert_eq!(said(|_, _| {}), None);
        let other = Some("arn:aws:sqs:eu-west-1:1:other".to_owned());
        for (found, begins) in [
            (said(|own, _| own.dead_letter_arn = None), "does not redrive into"),
            (said(|_, dead| dead.dead_letter_arn = other), "audit-log-index-queue-dlq itself"),
            (said(|own, _| own.receives_max = Some(16)), "redrives after 16 receives"),
            (
                said(|_, dead| dead.retention -= Duration::from_secs(1)),
                "audit-log-index-queue-dlq keeps",
            ),
            (said(|own, _| own.visibility = Duration::from_secs(29)), "leases 29 s"),
            (said(|own, _| own.fifo = Some(FifoAttributes::default())), "is a FIFO queue"),
        ] {
            assert!(found.as_deref().is_some_and(|found| found.starts_with(begins)), "{found:?}");
        }
        assert_eq!(said(|own, _| own.receives_max = Some(17)), None);
    }

    #[test]
    fn a_fifo_queue_is_set_for_many_groups() {
        let spec = QueueSpec { kind: QueueKind::Fifo, ..AUDIT_INDEX };
        let set = |dedup, throughput| {
            let fifo =
                FifoAttributes { deduplicates_per_group: dedup, throughput_per_group: throughput };
            self::fifo(&spec, &QueueAttributes { fifo: Some(fifo), ..QueueAttributes::default() })
        };
        assert_eq!(set(true, true), None);
        assert!(set(true, false).is_some() && set(false, true).is_some());
        assert!(self::fifo(&spec, &QueueAttributes::default()).is_some());
    }
}

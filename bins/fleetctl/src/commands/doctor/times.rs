//! Whether the times of a queue's workers fit each other and the queue: lease, handler's patience, drain.
//! By what running workers say of themselves; where none answers, by what this build's would run with.

use audit::workers::{IndexWorker, LegacyIndexWorker};
use contracts::QueueSpec;
use queue_core::config::SETTLE_RESERVE;
use queue_core::driver::{CALL_MAX, QueueAttributes};
use queue_core::{EngineConfig, Times, Worker};

use super::Finding;

/// What is found of each worker; of this build's where none answers, and of none where it has none.
/// `wait_secs` and `drain_budget_secs` are what the variables of this environment say.
pub(super) fn fit(
    spec: &QueueSpec,
    own: &QueueAttributes,
    running: &[Times],
    (wait_secs, drain_budget_secs): (u64, u64),
) -> Option<Finding> {
    let what = format!("times of {}", spec.key);
    let built = built(spec).map(|times| Times { wait_secs, drain_budget_secs, ..times });
    let whose = if running.is_empty() { ", as this build's worker (none answers)" } else { "" };
    let all: Vec<Times> = if running.is_empty() { vec![built?] } else { running.to_vec() };
    if let Some((found, hint)) = all.iter().find_map(|times| misfit(spec, own, times)) {
        return Some(Finding::bad(what, found, hint));
    }
    let Times { lease_secs, progress_timeout_secs, drain_budget_secs, .. } = *all.first()?;
    let share = drain_budget_secs.saturating_sub(SETTLE_RESERVE.as_secs());
    Some(Finding::good(
        what,
        format!(
            "leases {lease_secs} s and renews at half; cancels a handler that is silent for \
             {progress_timeout_secs} s, in a drain any after {share} s{whose}"
        ),
    ))
}

/// What the worker of this build runs with on that queue.
fn built(spec: &QueueSpec) -> Option<Times> {
    fn of<W: Worker>(spec: &QueueSpec) -> Option<Times> {
        let queue = <W::Message as contracts::Message>::QUEUE;
        (queue.name == spec.name).then(|| Times::from(&EngineConfig::for_worker::<W>()))
    }
    of::<IndexWorker>(spec).or_else(|| of::<LegacyIndexWorker>(spec))
}

/// The first two times that do not fit, and what to do.
fn misfit(spec: &QueueSpec, own: &QueueAttributes, times: &Times) -> Option<(String, String)> {
    let Times { lease_secs: lease, progress_timeout_secs: patience, .. } = *times;
    let renewal = CALL_MAX.as_secs();
    if lease / 2 <= renewal {
        let found = format!(
            "a lease of {lease} s is renewed with {} s left, and one call may take {renewal} s: a slow \
             one loses the lease, and the message is handled twice",
            lease / 2
        );
        return Some((found, format!("deploy a {} with a lease over 20 s", spec.worker)));
    }
    if own.visibility.as_secs() < lease {
        let found = format!(
            "the queue leases {} s by default, its worker {lease} s: whoever else reads it (SQS's \
             console, a redrive by hand) gives messages back too soon",
            own.visibility.as_secs()
        );
        return Some((found, format!("set VisibilityTimeout={lease} on {}", spec.name)));
    }
    if patience < lease {
        let found = format!(
            "a handler may be silent for {patience} s, less than the lease of {lease} s: a message \
             whose worker died comes back later than one whose worker hangs"
        );
        let hint = "deploy a worker with a PROGRESS_TIMEOUT of a lease or more, or a shorter lease";
        return Some((found, hint.to_owned()));
    }
    let (failures, kept) = (u64::from(spec.failures_max), own.retention.as_secs());
    // The other half is for the pauses between them, and for what waits in front.
    if patience.saturating_mul(failures) > kept / 2 {
        let found = format!(
            "a handler that hangs takes {failures} times {patience} s to be rejected, and the queue \
             deletes a message after {kept} s: it could be lost without a dead letter"
        );
        return Some((found, format!("raise MessageRetentionPeriod of {}", spec.name)));
    }
    let needed = times.wait_secs + SETTLE_RESERVE.as_secs();
    (times.drain_budget_secs <= needed).then(|| {
        let (wait, budget) = (times.wait_secs, times.drain_budget_secs);
        let found = format!(
            "a drain of {budget} s is over before a poll of {wait} s and its handlers are: what they \
             hold is handled twice, or hidden for a lease of {lease} s"
        );
        (found, format!("DRAIN_BUDGET_SECS={}", needed + 5))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use contracts::catalogue::{AUDIT_INDEX, AUDIT_LEGACY, AUDIT_RETENTION};

    const RIGHT: Times =
        Times { lease_secs: 30, progress_timeout_secs: 120, wait_secs: 20, drain_budget_secs: 28 };

    fn queue() -> QueueAttributes {
        let (visibility, retention) = (Duration::from_secs(30), Duration::from_secs(86_400));
        QueueAttributes { visibility, retention, ..QueueAttributes::default() }
    }

    #[test]
    fn each_pair_that_does_not_fit_is_named_and_its_neighbour_does() {
        let own = queue();
        let bad = |times: Times, own: &QueueAttributes| {
            misfit(&AUDIT_INDEX, own, &times).map(|(found, hint)| {
                assert!(!hint.is_empty());
                found
            })
        };
        assert_eq!(bad(RIGHT, &own), None);
        let lease = |lease_secs| Times { lease_secs, ..RIGHT };
        let patience = |progress_timeout_secs| Times { progress_timeout_secs, ..RIGHT };
        let drain = |drain_budget_secs| Times { drain_budget_secs, ..RIGHT };
        let shorter = QueueAttributes { visibility: Duration::from_secs(29), ..own.clone() };
        let brief = QueueAttributes { retention: Duration::from_secs(719), ..own.clone() };
        for (found, begins) in [
            (bad(lease(21), &own), "a lease of 21 s is renewed with 10 s left"),
            (bad(RIGHT, &shorter), "the queue leases 29 s by default"),
            (bad(patience(29), &own), "a handler may be silent for 29 s"),
            (bad(RIGHT, &brief), "a handler that hangs takes 3 times 120 s"),
            (bad(drain(23), &own), "a drain of 23 s is over"),
        ] {
            assert!(found.as_deref().is_some_and(|found| found.starts_with(begins)), "{found:?}");
        }
        let enough = QueueAttributes { retention: Duration::from_secs(720), ..own.clone() };
        let fits = [(lease(22), &own), (patience(30), &own), (RIGHT, &enough), (drain(24), &own)];
        for (times, own) in fits {
            assert_eq!(bad(times, own), None, "{times:?}");
        }
    }

    #[test]
    fn running_workers_are_believed_and_without_one_this_build_is() {
        let own = queue();
        let built = fit(&AUDIT_INDEX, &own, &[], (20, 28)).unwrap();
        assert!(built.ok && built.found.contains("none answers"), "{}", built.found);
        assert!(built.found.contains("any after 25 s"), "by the variables: {}", built.found);
        assert!(fit(&AUDIT_LEGACY, &own, &[], (20, 28)).unwrap().ok);
        assert!(
            fit(&AUDIT_RETENTION, &own, &[], (20, 28)).is_none(),
            "this build has no worker of it"
        );
        let running = fit(&AUDIT_INDEX, &own, &[RIGHT], (20, 60)).unwrap();
        assert!(
            running.ok && running.found.contains("in a drain any after 25 s"),
            "{}",
            running.found
        );
        let one_is_wrong = [RIGHT, Times { lease_secs: 10, ..RIGHT }];
        assert!(!fit(&AUDIT_INDEX, &own, &one_is_wrong, (20, 28)).unwrap().ok);
    }
}

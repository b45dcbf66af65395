//! The one decision table: what happened × failures × receives × age → what to do with the message.
//! Pure: it takes figures and answers an [`Action`]; jitter, calls and records are its caller's.
//! Nothing else in the engine decides over a message's fate.

use std::time::Duration;

use contracts::{ErrorCode, Schedule, errors};

use crate::backoff;
use crate::worker::ErrorClass;

/// Receives without a recorded outcome after which a message runs alone, once.
pub const UNACCOUNTED_RECEIVES_MAX: u32 = 8;
/// The first snoozes of a message of unknown type or version: a rolling deploy.
pub const UNKNOWN_SNOOZE_SHORT: Duration = Duration::from_secs(15 * 60);
/// How many of those.
pub const UNKNOWN_SNOOZES_SHORT: u32 = 4;
/// The later snoozes.
pub const UNKNOWN_SNOOZE_LONG: Duration = Duration::from_secs(2 * 3_600);
/// Receives after which a message of unknown type is rejected.
pub const UNKNOWN_RECEIVES_MAX: u32 = 16;
/// Age at which a message of unknown type is rejected, where the queue keeps it that long.
pub const UNKNOWN_AGE_MAX: Duration = Duration::from_secs(24 * 3_600);
/// A message is not given back when its queue would delete it within this; on a queue that keeps
/// less than four hours, within half of what it keeps.
pub const RETENTION_MARGIN: Duration = Duration::from_secs(2 * 3_600);

/// What happened to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It has been received and decoded; no handler has seen it.
    Arrived,
    /// Not ours to understand, and never will be: the code says why.
    Undecodable(ErrorCode),
    /// Its type or version is unknown to this build; a newer one may know it.
    Unknown,
    /// The handler said so.
    Succeeded,
    /// The handler failed, panicked or made no progress. `at_least` when the sink named a time.
    Failed {
        /// Who is to blame.
        class: ErrorClass,
        /// Not to be tried sooner.
        at_least: Duration,
    },
    /// The handler wants it later.
    Snoozed(Duration),
    /// The handler will never take it, or cannot tell whether it took effect.
    Rejected(ErrorCode),
    /// The handler wants it and what follows it in its group to wait for an operator.
    Parked(ErrorCode),
    /// The dead-letter queue did not take it.
    NotDeadLettered,
    /// The drain gave it back, started or not.
    Drained,
    /// A sink is down, the handler was stopped.
    SinkDown,
    /// The lease was lost: it is no longer ours.
    LeaseLost,
}

/// Where the message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Failures that count, this one included.
    pub failures: u32,
    /// Receives, this one included.
    pub receives: u32,
    /// Receives since the last recorded outcome, this one included.
    pub unaccounted: u32,
    /// It was run alone and nothing has been recorded since.
    pub ran_alone: bool,
    /// It was handled to the end before, and the delete did not come through.
    pub processed: bool,
    /// Since it was first sent.
    pub age: Duration,
    /// How long its queue keeps it.
    pub retention: Duration,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Hand it to the handler.
    Run,
    /// Hand it to the handler while no other handler runs.
    RunAlone,
    /// Delete it: done.
    Settle,
    /// Delete it without work: done before.
    Drop,
    /// Give it back for later; the delay is drawn between the two.
    Retry {
        /// Its ceiling, where the floor is not longer.
        interval: Duration,
        /// Its floor.
        at_least: Duration,
    },
    /// Give it back for exactly this long.
    Snooze(Duration),
    /// Send it to the dead-letter queue, then delete it.
    Reject(ErrorCode),
    /// Park its group with it as the first, then delete it; where there are no groups, as
    /// [`Action::Reject`].
    Park(ErrorCode),
    /// Nothing: it belongs to somebody else, or will.
    Leave,
}

/// The age from which a message is not given back, since its queue is about to delete it.
pub fn expiry(retention: Duration) -> Duration {
    retention.saturating_sub(RETENTION_MARGIN.min(retention / 2))
}

/// The table.
pub fn decide(event: Event, at: &Standing, schedule: &Schedule) -> Action {
    let expiry = expiry(at.retention);
    let expired = at.age >= expiry;
    // Not past the moment from which it could only be rejected.
    let left = backoff::whole_seconds(expiry.saturating_sub(at.age));
    let in_time = |delay: Duration| delay.min(left).max(SECOND);
    let retry = |interval: Duration, at_least: Duration| Action::Retry {
        interval: in_time(interval),
        at_least: at_least.min(left),
    };
    match event {
        Event::Arrived => arrived(at, schedule),
        Event::Succeeded => Action::Settle,
        Event::LeaseLost => Action::Leave,
        Event::Drained => Action::Snooze(Duration::ZERO),
        Event::Undecodable(code) | Event::Rejected(code) => Action::Reject(code),
        Event::Parked(code) => Action::Park(code),
        Event::Unknown => unknown(at, expiry),
        Event::Failed { class: ErrorClass::Handling, .. } if exhausted(at, schedule) => {
            Action::Reject(errors::FAILURES_EXHAUSTED)
        }
        Event::Failed { .. } | Event::Snoozed(_) | Event::SinkDown if expired => {
            Action::Reject(errors::EXPIRED)
        }
        Event::Failed { class: ErrorClass::Handling, at_least } => {
            retry(backoff::interval(schedule, at.failures), at_least)
        }
        Event::Failed { class: ErrorClass::Contention, at_least } => {
            retry(backoff::interval(&backoff::CONTENTION, at.receives), at_least)
        }
        Event::Failed { class: ErrorClass::Infrastructure, at_least } => {
            let (shortest, longest) = backoff::infrastructure(at.receives);
            retry(longest, at_least.max(shortest))
        }
        Event::SinkDown => {
            let (shortest, longest) = backoff::infrastructure(at.receives);
            retry(longest, shortest)
        }
        // Also when expired: the dead-letter queue is the only place left, so it is asked again.
        Event::NotDeadLettered => {
            let (at_least, interval) = backoff::infrastructure(at.receives);
            Action::Retry { interval, at_least }
        }
        Event::Snoozed(delay) => Action::Snooze(in_time(backoff::whole_seconds(delay))),
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn exhausted(at: &Standing, schedule: &Schedule) -> bool {
    at.failures >= schedule.failures_max
}

fn arrived(at: &Standing, schedule: &Schedule) -> Action {
    if at.processed {
        Action::Drop
    } else if exhausted(at, schedule) {
        // Its last failure was recorded, and its dead letter did not get through.
        Action::Reject(errors::FAILURES_EXHAUSTED)
    } else if at.ran_alone {
        Action::Reject(errors::CRASH_LOOP)
    } else if at.unaccounted >= UNACCOUNTED_RECEIVES_MAX {
        Action::RunAlone
    } else {
        Action::Run
    }
}

fn unknown(at: &Standing, expiry: Duration) -> Action {
    let limit = expiry.min(UNKNOWN_AGE_MAX);
    if at.receives >= UNKNOWN_RECEIVES_MAX || at.age >= limit {
        return Action::Reject(errors::UNKNOWN_TYPE);
    }
    let snooze = if at.receives <= UNKNOWN_SNOOZES_SHORT {
        UNKNOWN_SNOOZE_SHORT
    } else {
        UNKNOWN_SNOOZE_LONG
    };
    Action::Snooze(snooze.min(backoff::whole_seconds(limit.saturating_sub(at.age))).max(SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: Duration = Duration::from_secs(3_600);
    const DAY: Duration = Duration::from_secs(24 * 3_600);

    fn fresh() -> Standing {
        Standing {
            failures: 0,
            receives: 1,
            unaccounted: 1,
            ran_alone: false,
            processed: false,
            age: Duration::ZERO,
            retention: 7 * DAY,
        }
    }

    fn failed(class: ErrorClass) -> Event {
        Event::Failed { class, at_least: Duration::ZERO }
    }

    #[track_caller]
    fn check(event: Event, at: Standing, expected: Action) {
        assert_eq!(decide(event, &at, &Schedule::STANDARD), expected, "{event:?} {at:?}");
    }

    fn retry(secs: u64) -> Action {
        Action::Retry { interval: Duration::from_secs(secs), at_least: Duration::ZERO }
    }

    /// Never less than half.
    fn outage(secs: u64) -> Action {
        let interval = Duration::from_secs(secs);
        Action::Retry { interval, at_least: interval / 2 }
    }

    #[test]
    fn arrivals() {
        check(Event::Arrived, fresh(), Action::Run);
        check(Event::Arrived, Standing { processed: true, failures: 9, ..fresh() }, Action::Drop);
        check(Event::Arrived, Standing { unaccounted: 7, receives: 7, ..fresh() }, Action::Run);
        check(
            Event::Arrived,
            Standing { unaccounted: 8, receives: 8, ..fresh() },
            Action::RunAlone,
        );
        check(
            Event::Arrived,
            Standing { unaccounted: 1, receives: 9, ran_alone: true, ..fresh() },
            Action::Reject(errors::CRASH_LOOP),
        );
        // Many receives with outcomes on record are no crash loop: drains, releases, outages.
        check(Event::Arrived, Standing { receives: 24, ..fresh() }, Action::Run);
        check(
            Event::Arrived,
            Standing { failures: 3, receives: 4, ..fresh() },
            Action::Reject(errors::FAILURES_EXHAUSTED),
        );
        // What is known of it says more than that it ran alone.
        check(
            Event::Arrived,
            Standing { failures: 3, receives: 9, ran_alone: true, ..fresh() },
            Action::Reject(errors::FAILURES_EXHAUSTED),
        );
    }

    #[test]
    fn handling_failures_count_and_infrastructure_ones_never() {
        let handling = failed(ErrorClass::Handling);
        check(handling, Standing { failures: 1, ..fresh() }, retry(1));
        check(handling, Standing { failures: 2, ..fresh() }, retry(2));
        check(
            handling,
            Standing { failures: 3, ..fresh() },
            Action::Reject(errors::FAILURES_EXHAUSTED),
        );
        // Receives do not push a handling failure's interval or limit.
        check(handling, Standing { failures: 1, receives: 20, ..fresh() }, retry(1));
        let infrastructure = failed(ErrorClass::Infrastructure);
        check(infrastructure, fresh(), outage(5));
        check(infrastructure, Standing { receives: 24, ..fresh() }, outage(300));
        check(infrastructure, Standing { failures: 2, receives: 2, ..fresh() }, outage(10));
        check(Event::SinkDown, Standing { receives: 3, ..fresh() }, outage(20));
        let contention = failed(ErrorClass::Contention);
        check(contention, fresh(), retry(1));
        check(contention, Standing { receives: 24, ..fresh() }, retry(60));
    }

    #[test]
    fn the_sinks_own_time_is_a_floor() {
        let event = Event::Failed { class: ErrorClass::Infrastructure, at_least: HOUR };
        check(event, fresh(), Action::Retry { interval: Duration::from_secs(5), at_least: HOUR });
    }

    #[test]
    fn nothing_is_given_back_to_be_deleted_by_its_queue() {
        let close = Standing { age: 166 * HOUR, ..fresh() };
        let almost = Standing { age: Duration::from_secs((7 * 24 - 2) * 3_600 - 1), ..fresh() };
        for event in [
            failed(ErrorClass::Infrastructure),
            failed(ErrorClass::Handling),
            Event::SinkDown,
            Event::Snoozed(HOUR),
        ] {
            check(event, close, Action::Reject(errors::EXPIRED));
        }
        check(Event::Snoozed(HOUR), almost, Action::Snooze(SECOND));
        let last = Action::Retry { interval: SECOND, at_least: SECOND };
        check(failed(ErrorClass::Infrastructure), almost, last);
        check(Event::Arrived, close, Action::Run);
        check(Event::NotDeadLettered, close, outage(5));
        let exhausted = Standing { failures: 3, ..close };
        let reason = Action::Reject(errors::FAILURES_EXHAUSTED);
        check(failed(ErrorClass::Handling), exhausted, reason);
    }

    #[test]
    fn a_queue_that_keeps_little_gives_half_of_it() {
        let short = Standing { retention: 2 * HOUR, ..fresh() };
        let aged = |secs| Standing { age: Duration::from_secs(secs), ..short };
        check(Event::SinkDown, aged(3_599), Action::Retry { interval: SECOND, at_least: SECOND });
        check(Event::SinkDown, aged(3_600), Action::Reject(errors::EXPIRED));
    }

    #[test]
    fn unknown_types_wait_for_a_deploy_and_then_are_rejected() {
        let day = Standing { retention: DAY, ..fresh() };
        check(Event::Unknown, day, Action::Snooze(UNKNOWN_SNOOZE_SHORT));
        check(
            Event::Unknown,
            Standing { receives: 4, ..day },
            Action::Snooze(UNKNOWN_SNOOZE_SHORT),
        );
        check(Event::Unknown, Standing { receives: 5, ..day }, Action::Snooze(UNKNOWN_SNOOZE_LONG));
        check(
            Event::Unknown,
            Standing { receives: 15, ..day },
            Action::Snooze(UNKNOWN_SNOOZE_LONG),
        );
        let reject = Action::Reject(errors::UNKNOWN_TYPE);
        check(Event::Unknown, Standing { receives: 16, ..day }, reject);
        // Two hours before a one-day retention ends, and at 24 hours where it is longer.
        check(Event::Unknown, Standing { receives: 9, age: 22 * HOUR, ..day }, reject);
        let late = Standing { receives: 9, age: Duration::from_secs(22 * 3_600 - 1), ..day };
        check(Event::Unknown, late, Action::Snooze(SECOND));
        let week = Standing { receives: 9, age: Duration::from_secs(24 * 3_600 - 1), ..fresh() };
        check(Event::Unknown, week, Action::Snooze(SECOND));
        check(Event::Unknown, Standing { age: 24 * HOUR, ..week }, reject);
    }

    #[test]
    fn the_rest_of_the_table() {
        check(Event::Succeeded, fresh(), Action::Settle);
        check(Event::LeaseLost, fresh(), Action::Leave);
        check(Event::Drained, fresh(), Action::Snooze(Duration::ZERO));
        check(Event::Rejected(errors::INTERNAL), fresh(), Action::Reject(errors::INTERNAL));
        check(Event::Undecodable(errors::LOOP), fresh(), Action::Reject(errors::LOOP));
        check(Event::Parked(errors::INTERNAL), fresh(), Action::Park(errors::INTERNAL));
        check(Event::Snoozed(Duration::from_millis(1_200)), fresh(), Action::Snooze(2 * SECOND));
    }

    proptest! {
        /// An outage alone never rejects a message that is not about to expire.
        #[test]
        fn infrastructure_never_dead_letters(receives in 1u32..1_000, age_hours in 0u64..165) {
            let at = Standing { receives, age: HOUR * u32::try_from(age_hours).unwrap(), ..fresh() };
            for event in [failed(ErrorClass::Infrastructure), Event::SinkDown] {
                let action = decide(event, &at, &Schedule::STANDARD);
                prop_assert!(matches!(action, Action::Retry { .. }), "{:?}", action);
            }
        }

        /// Whatever happens, a message that is given back comes back before its queue deletes it.
        #[test]
        fn never_hidden_past_retention(
            receives in 1u32..30, failures in 0u32..4, age in 0u64..700_000, snooze in 0u64..50_000,
        ) {
            let at = Standing { receives, failures, age: Duration::from_secs(age), ..fresh() };
            prop_assume!(at.age + RETENTION_MARGIN < at.retention);
            for event in [Event::Unknown, Event::Snoozed(Duration::from_secs(snooze)),
                Event::SinkDown, failed(ErrorClass::Handling), failed(ErrorClass::Infrastructure)] {
                let delay = match decide(event, &at, &Schedule::STANDARD) {
                    Action::Snooze(delay) => delay,
                    Action::Retry { interval, at_least } => interval.max(at_least),
                    _ => Duration::ZERO,
                };
                prop_assert!(at.age + delay < at.retention, "{event:?} {delay:?}");
            }
        }
    }
}

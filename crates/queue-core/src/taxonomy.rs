//! The one table from what went wrong to what is done about it, the same for every sink. A sink maps
//! its own errors to a [`Trouble`] and decides nothing more; what each means stands here, once. It
//! computes no interval and carries nothing out: that is `backoff` and `decide`.

mod retry_after;

use std::time::Duration;

use contracts::{ErrorCode, Schedule};

use crate::backoff;
use crate::driver::DriverError;
use crate::send::SendError;
use crate::worker::{Error, ErrorClass, Failure, Reason};

pub use retry_after::{RETRY_AFTER_MAX, retry_after};

/// What went wrong between us and a sink; a closed vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// It asks for fewer calls (429, `SlowDown`, a bound of ours that is reached).
    Throttled,
    /// No answer in time. For what is idempotent only: else it is [`Trouble::UnknownOutcome`].
    Timeout,
    /// Not reachable, shutting down, refusing us as a whole: no message's fault.
    Unavailable,
    /// Somebody else was faster (deadlock, serialization, a version): the same may succeed at once.
    Conflict,
    /// It will never take this data.
    Invalid,
    /// A fault of ours that this message brings out; it may also kill the worker.
    Poison,
    /// It may or may not have happened, and nobody can be asked.
    UnknownOutcome,
}

/// What is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Tried again, at intervals of the engine's own.
    Later(&'static Schedule),
    /// Tried again by the message's own schedule, until its failures are used up.
    BySchedule,
    /// To the dead-letter queue now.
    Reject,
    /// To the dead-letter queue now, as a doubt for a person: never repeated by itself.
    Tell,
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Who is to blame; `None` where nothing is tried again.
    pub class: Option<ErrorClass>,
    /// What is done.
    pub next: Next,
    /// Not tried again sooner, unless the sink names a time.
    pub floor: Duration,
}

impl Trouble {
    /// Every kind, in the order of the table in the docs.
    pub const ALL: [Self; 7] = [
        Self::Throttled,
        Self::Timeout,
        Self::Unavailable,
        Self::Conflict,
        Self::Invalid,
        Self::Poison,
        Self::UnknownOutcome,
    ];

    /// The name in logs and docs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::Conflict => "conflict",
            Self::Invalid => "invalid",
            Self::Poison => "poison",
            Self::UnknownOutcome => "unknown outcome",
        }
    }

    /// The table.
    pub const fn rule(self) -> Rule {
        let (class, next, floor) = match self {
            Self::Throttled => {
                (Some(ErrorClass::Infrastructure), Next::Later(&backoff::INFRASTRUCTURE), 1)
            }
            Self::Timeout | Self::Unavailable => {
                (Some(ErrorClass::Infrastructure), Next::Later(&backoff::INFRASTRUCTURE), 0)
            }
            Self::Conflict => (Some(ErrorClass::Contention), Next::Later(&backoff::CONTENTION), 0),
            Self::Poison => (Some(ErrorClass::Handling), Next::BySchedule, 0),
            Self::Invalid => (None, Next::Reject, 0),
            Self::UnknownOutcome => (None, Next::Tell, 0),
        };
        Rule { class, next, floor: Duration::from_secs(floor) }
    }

    /// What an HTTP status means when it refuses one request about one message. `None` for a success
    /// and for 404, which means something else to everybody.
    pub const fn of_status(status: u16) -> Option<Self> {
        match status {
            408 | 504 => Some(Self::Timeout),
            429 => Some(Self::Throttled),
            409 | 412 | 423 | 425 => Some(Self::Conflict),
            // Our credentials or rights: no message's fault, and somebody will mend them.
            401 | 402 | 403 | 407 | 500.. => Some(Self::Unavailable),
            404 => None,
            400..=499 => Some(Self::Invalid),
            _ => None,
        }
    }

    /// The failure that a handler answers. `retry_after` is what the sink itself asked for.
    pub fn failure(
        self,
        code: ErrorCode,
        message: impl Into<String>,
        retry_after: Option<Duration>,
    ) -> Failure {
        let (rule, message) = (self.rule(), message.into());
        let Some(class) = rule.class else {
            let reason = Reason { code, message };
            return if rule.next == Next::Tell {
                Failure::Unknown(reason)
            } else {
                Failure::Reject(reason)
            };
        };
        let error = Error { code, class, message };
        match retry_after.unwrap_or(rule.floor) {
            Duration::ZERO => Failure::Retry(error),
            delay => Failure::RetryAfter(error, delay.min(RETRY_AFTER_MAX)),
        }
    }
}

impl DriverError {
    /// Its row in the table. A queue that refuses a call as a whole is set up wrongly: no message's
    /// fault.
    pub const fn trouble(&self) -> Trouble {
        match self {
            Self::Throttled(_) => Trouble::Throttled,
            Self::Timeout(_) => Trouble::Timeout,
            Self::Unavailable(_) | Self::Refused(_) => Trouble::Unavailable,
        }
    }
}

impl SendError {
    /// Its row in the table, for a handler that sends.
    pub const fn trouble(&self) -> Trouble {
        match self {
            Self::Full(_) => Trouble::Throttled,
            Self::TooLarge(_) => Trouble::Invalid,
            Self::Unavailable(_) | Self::Refused(_) => Trouble::Unavailable,
        }
    }
}

impl ErrorClass {
    /// Whether a failure of this class counts against the message's limit.
    pub const fn counts(self) -> bool {
        matches!(self, Self::Handling)
    }

    /// Whether it is a sign that a sink is down.
    pub const fn feeds_breaker(self) -> bool {
        matches!(self, Self::Infrastructure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::errors::INTERNAL;

    #[test]
    fn the_table() {
        let row = |trouble: Trouble| {
            let rule = trouble.rule();
            let class = rule.class.map(|class| (class.counts(), class.feeds_breaker()));
            (class, rule.next)
        };
        let outage = (Some((false, true)), Next::Later(&backoff::INFRASTRUCTURE));
        assert_eq!(row(Trouble::Throttled), outage);
        assert_eq!(row(Trouble::Timeout), outage);
        assert_eq!(row(Trouble::Unavailable), outage);
        assert_eq!(
            row(Trouble::Conflict),
            (Some((false, false)), Next::Later(&backoff::CONTENTION))
        );
        assert_eq!(row(Trouble::Invalid), (None, Next::Reject));
        assert_eq!(row(Trouble::Poison), (Some((true, false)), Next::BySchedule));
        assert_eq!(row(Trouble::UnknownOutcome), (None, Next::Tell));
    }

    #[test]
    fn what_a_handler_answers_is_what_the_table_says() {
        for trouble in Trouble::ALL {
            let named = Some(Duration::from_secs(7));
            for retry_after in [None, named] {
                let failure = trouble.failure(INTERNAL, "why", retry_after);
                let (rule, shown) = (trouble.rule(), format!("{trouble:?}: {failure:?}"));
                match failure {
                    Failure::Retry(error) => {
                        assert_eq!(Some(error.class), rule.class, "{shown}");
                        assert!(rule.floor.is_zero() && retry_after.is_none(), "{shown}");
                    }
                    Failure::RetryAfter(error, delay) => {
                        assert_eq!(Some(error.class), rule.class, "{shown}");
                        assert_eq!(delay, retry_after.unwrap_or(rule.floor), "{shown}");
                    }
                    Failure::Reject(reason) => {
                        assert_eq!((rule.next, reason.message.as_str()), (Next::Reject, "why"));
                    }
                    Failure::Unknown(_) => assert_eq!(rule.next, Next::Tell, "{shown}"),
                    Failure::Snooze(_) | Failure::Park(_) => panic!("{shown}"),
                }
            }
        }
        let forever = Trouble::Throttled.failure(INTERNAL, "", Some(Duration::from_secs(1 << 40)));
        assert!(matches!(forever, Failure::RetryAfter(_, delay) if delay == RETRY_AFTER_MAX));
    }

    #[test]
    fn every_status_has_its_row() {
        for (status, trouble) in [
            (200, None),
            (302, None),
            (400, Some(Trouble::Invalid)),
            (401, Some(Trouble::Unavailable)),
            (403, Some(Trouble::Unavailable)),
            (404, None),
            (408, Some(Trouble::Timeout)),
            (409, Some(Trouble::Conflict)),
            (413, Some(Trouble::Invalid)),
            (422, Some(Trouble::Invalid)),
            (429, Some(Trouble::Throttled)),
            (500, Some(Trouble::Unavailable)),
            (503, Some(Trouble::Unavailable)),
            (504, Some(Trouble::Timeout)),
        ] {
            assert_eq!(Trouble::of_status(status), trouble, "{status}");
        }
    }
}

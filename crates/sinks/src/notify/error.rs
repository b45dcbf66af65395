//! What can go wrong with a delivery: a row of the engine's table, whether the target is gone for good,
//! and the other side's own words.

use std::time::Duration;

use contracts::{ErrorCode, errors};
use queue_core::{Failure, Trouble};

use super::notification::{cut, one_line};
use crate::events::Outcome;

/// Characters of the other side's words that are kept.
const SAID_MAX: usize = 300;

/// A delivery that was not confirmed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sink}: {message}")]
pub struct NotifyError {
    /// Which sink, as in metrics: `slack`, `email`, `webhook`.
    pub sink: &'static str,
    /// Its row in the engine's table.
    pub trouble: Trouble,
    /// The target is gone for good (an archived channel, a 410, no such mailbox): whoever configured it
    /// should be told, and it should not be tried for further notifications.
    pub gone: bool,
    /// What happened; never a URL's secret part, a password or a key.
    pub message: String,
    /// When the other side said to come back.
    pub retry_after: Option<Duration>,
}

impl NotifyError {
    pub(super) fn new(sink: &'static str, trouble: Trouble, message: impl Into<String>) -> Self {
        Self { sink, trouble, gone: false, message: message.into(), retry_after: None }
    }

    /// The target is gone.
    pub(super) fn gone(sink: &'static str, message: impl Into<String>) -> Self {
        Self { gone: true, ..Self::new(sink, Trouble::Invalid, message) }
    }

    #[must_use]
    pub(super) fn retry_after(self, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..self }
    }

    /// The registry's entry for it.
    pub fn code(&self) -> ErrorCode {
        match self.trouble {
            Trouble::UnknownOutcome => errors::EFFECT_UNKNOWN,
            Trouble::Invalid if self.gone => errors::NOTIFY_TARGET_GONE,
            Trouble::Invalid => errors::NOTIFY_REFUSED,
            _ => errors::NOTIFY_UNAVAILABLE,
        }
    }

    pub(super) fn outcome(&self) -> Outcome {
        match self.trouble {
            Trouble::Throttled => Outcome::Throttled,
            Trouble::Timeout => Outcome::Timeout,
            Trouble::Invalid | Trouble::Poison => Outcome::Refused,
            Trouble::UnknownOutcome => Outcome::Unknown,
            Trouble::Unavailable | Trouble::Conflict => Outcome::Unavailable,
        }
    }
}

impl From<NotifyError> for Failure {
    fn from(error: NotifyError) -> Self {
        error.trouble.failure(error.code(), error.to_string(), error.retry_after)
    }
}

/// Another side's words, fit for a log line.
pub(super) fn quoted(said: &str) -> String {
    cut(&one_line(said), SAID_MAX)
}

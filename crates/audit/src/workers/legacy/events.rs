//! What became of the legacy queue's messages, for whoever wants to switch that queue off. Never a tenant as
//! a label, and of types only those that are known.

use metrics::counter;
use tracing::{debug, warn};

/// Legacy messages by their `type` (`UNKNOWN` for every other) and `outcome`: `handled`, `forwarded`,
/// `rejected`, or `later` for an attempt that is made again. A message that SQS delivers twice counts twice.
pub const MESSAGES_TOTAL: &str = "flotilla_legacy_messages_total";

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Its work is done.
    Handled,
    /// Its newer queue gets it.
    Forwarded,
    /// It is a dead letter.
    Rejected,
    /// It comes again.
    Later,
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Handled => "handled",
            Self::Forwarded => "forwarded",
            Self::Rejected => "rejected",
            Self::Later => "later",
        }
    }
}

/// A legacy message was taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    /// Its type.
    pub(super) kind: &'static str,
    /// What became of it.
    pub(super) outcome: Outcome,
}

impl Taken {
    pub(super) fn emit(self) {
        let Self { kind, outcome } = self;
        counter!(MESSAGES_TOTAL, "type" => kind, "outcome" => outcome.as_str()).increment(1);
        if outcome == Outcome::Rejected {
            warn!(kind, "a legacy message is rejected");
        } else {
            debug!(kind, outcome = outcome.as_str(), "a legacy message");
        }
    }
}

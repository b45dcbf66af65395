//! Partitions that nothing is left in: detached, and dropped later, at a pace of their own. A look at a table
//! full of dead rows may take long, and nothing else is to wait for it. What goes, and when, is decided in
//! PostgreSQL (`database::partitions::retire`); here is only who asks, and how often.

use std::sync::Arc;
use std::time::Duration;

use audit::retention::Term;
use chrono::{DateTime, TimeDelta, Utc};
use database::Database;
use database::partitions::retire::{self, Progress};
use queue_core::Clock;
use tokio_util::sync::CancellationToken;

use crate::State;
use crate::events::{DutyFailed, PartitionsRetired};

/// Between two rounds, but for one that left something over.
const EVERY: TimeDelta = TimeDelta::hours(1);
/// Longest time from detaching to dropping; a longer one would be never.
const DROP_AFTER_MAX_DAYS: i64 = 366;

/// Reads the option.
pub(crate) fn drop_after(text: &str) -> Result<Term, String> {
    let term = text.parse::<Term>().map_err(|error| error.to_string())?;
    if span(term) > TimeDelta::days(DROP_AFTER_MAX_DAYS) {
        return Err(format!("longer than {DROP_AFTER_MAX_DAYS} days; e.g. P7D"));
    }
    Ok(term)
}

/// A term as a span of time: what it is from a 1 January of no leap year on.
pub(crate) fn span(term: Term) -> TimeDelta {
    term.after(DateTime::UNIX_EPOCH) - DateTime::UNIX_EPOCH
}

/// Who asks.
pub(crate) struct Retirement<'a> {
    pub(crate) database: &'a Database,
    pub(crate) clock: &'a Arc<dyn Clock>,
    pub(crate) state: &'a State,
    /// What is detached is dropped after this.
    pub(crate) drop_after: TimeDelta,
}

impl Retirement<'_> {
    /// Looks once an `interval` whether a round is due, until `drain`. Dropping it between two statements
    /// leaves nothing half done: every statement is a transaction.
    pub(crate) async fn perform(&self, interval: Duration, drain: &CancellationToken) {
        let mut progress = Progress::default();
        let mut last: Option<DateTime<Utc>> = None;
        let rounds = async {
            loop {
                let now = self.clock.now();
                if last.is_none_or(|last| now - last >= EVERY) {
                    last = self.round(&mut progress, now).await.then_some(now);
                }
                tokio::time::sleep(interval).await;
            }
        };
        tokio::select! {
            () = drain.cancelled() => {}
            () = rounds => {}
        }
    }

    /// Whether it was all, so that the next round may be far.
    async fn round(&self, progress: &mut Progress, now: DateTime<Utc>) -> bool {
        match retire::round(self.database.pool(), progress, self.drop_after).await {
            Ok(retired) => {
                PartitionsRetired { retired: &retired }.emit();
                for error in &retired.failed {
                    DutyFailed { duty: "retirement", error }.emit();
                }
                self.state.change(|snapshot| snapshot.retirement_at = Some(now));
                !retired.more
            }
            Err(error) => {
                DutyFailed { duty: "retirement", error: &error }.emit();
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_of_a_year_at_most_is_read_and_nothing_else() {
        for (text, days) in [("PT0S", 0), ("P7D", 7), ("P2W", 14), ("P1M", 31), ("P1Y", 365)] {
            assert_eq!(drop_after(text).map(span), Ok(TimeDelta::days(days)), "{text}");
        }
        for text in ["P367D", "P2Y", "P100Y"] {
            assert!(drop_after(text).unwrap_err().contains("366 days"), "{text}");
        }
        for text in ["", "7", "7d", "P", "-P7D"] {
            assert!(drop_after(text).unwrap_err().contains("P90D"), "{text}");
        }
    }
}

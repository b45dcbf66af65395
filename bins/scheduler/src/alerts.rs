//! The duty that finds trouble and has it told: dead letters, partitions that run out. What others find
//! (a failed run, a broken chain) they raise themselves; here it is reminded of, closed and sent.

use chrono::{DateTime, Utc};
use database::Database;
use database::alerts::{AlertKey, Severity, raise, resolve, sweep};
use database::partitions::Remaining;
use database::sqlx;
use queue_core::DriverError;
use sinks::notify::alerts::{AlertSender, AlertTimes};
use tokio_util::sync::CancellationToken;

use crate::events::{AlertRaised, DutyFailed, QueueCounted};
use crate::queues::Watched;

/// Everything the duty needs; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Alerts {
    pub(crate) database: Database,
    pub(crate) queues: Vec<Watched>,
    pub(crate) sender: AlertSender,
    pub(crate) times: AlertTimes,
}

impl Alerts {
    /// Looks, tells, and answers whether all of it went well. Two at once tell nobody twice.
    pub(crate) async fn perform(
        &self,
        remaining: Option<&[Remaining]>,
        now: DateTime<Utc>,
        drain: &CancellationToken,
    ) -> bool {
        let mut well = true;
        for watched in &self.queues {
            well &= self.dead_letters(watched, now).await;
        }
        for left in remaining.unwrap_or_default() {
            well &= self.partitions(left, now).await;
        }
        let swept = sweep(self.database.pool(), self.times, now).await;
        let sent = self.sender.send_due(self.database.pool(), now, drain).await;
        for error in swept.err().into_iter().chain(sent.err()) {
            DutyFailed { duty: "alerts", error: &error }.emit();
            well = false;
        }
        well
    }

    /// Alerts while a dead-letter queue holds anything, in flight included: somebody is looking at it,
    /// and it is still there.
    async fn dead_letters(&self, watched: &Watched, now: DateTime<Utc>) -> bool {
        let Watched { spec, queue, dead_letters } = watched;
        let asked: Result<_, DriverError> =
            async { Ok((queue.attributes().await?.depth, dead_letters.attributes().await?.depth)) }
                .await;
        let (depth, dead) = match asked {
            Ok((depth, dead)) => (depth, dead.visible + dead.in_flight + dead.delayed),
            Err(error) => {
                // Not knowing is no reason to raise or to resolve anything.
                DutyFailed { duty: "dead-letters", error: &error }.emit();
                return false;
            }
        };
        QueueCounted { spec, depth: depth.visible + depth.in_flight + depth.delayed, dead }.emit();
        let key = AlertKey::dead_letters(spec.key);
        let title = format!("Dead letters of {}: {dead}", spec.key);
        let text = format!(
            "Messages of {} were rejected and wait in {}. Look at them by cause with `fleetctl dlq list \
             {}`, mend the cause, then `fleetctl dlq redrive {}`.",
            spec.name, spec.dlq, spec.key, spec.key
        );
        self.state(&key, dead > 0, [&title, &text], now).await
    }

    async fn partitions(&self, left: &Remaining, now: DateTime<Utc>) -> bool {
        let class = left.class.as_str();
        let title = format!("Partitions of {class} last {} more days", left.days);
        let text = format!(
            "Logs of the class {class} cannot be stored from {} on. The scheduler makes partitions ahead \
             of time; its log says why that fails (rights, disk, a lock).",
            left.until.format("%Y-%m-%d %H:%M UTC")
        );
        let key = AlertKey::partitions(class);
        self.state(&key, left.alarming(), [&title, &text], now).await
    }

    async fn state(
        &self,
        key: &AlertKey,
        wrong: bool,
        words: [&str; 2],
        now: DateTime<Utc>,
    ) -> bool {
        let put: Result<(), sqlx::Error> = async {
            let mut connection = self.database.pool().acquire().await?;
            if wrong {
                let raised = raise(&mut connection, key, Severity::Critical, words, now).await?;
                AlertRaised { key, title: words[0], raised }.emit();
            } else {
                resolve(&mut connection, key, now).await?;
            }
            Ok(())
        }
        .await;
        put.inspect_err(|error| DutyFailed { duty: "alerts", error }.emit()).is_ok()
    }
}

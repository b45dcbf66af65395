//! The scheduler's options.

use std::time::Duration;

use chassis::Problem;
use clap::Args;
use database::DatabaseConfig;
use queue_sqs::AwsConfig;
use sinks::notify::alerts::AlertConfig;
use sinks::notify::{InvalidNotifyConfig, NotifyConfig};
use sinks::objects::ClaimConfig;

use crate::queues::QueueUrls;

/// What a scheduler needs to know.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Scheduler")]
pub struct SchedulerConfig {
    /// PostgreSQL.
    #[command(flatten)]
    pub database: DatabaseConfig,

    /// Bodies over the broker's limit: of those in a directory it removes what nobody will ask for.
    #[command(flatten)]
    pub claims: ClaimConfig,

    /// Queues whose dead letters are an alert.
    #[command(flatten)]
    pub queues: QueueUrls,

    /// Where those are.
    #[command(flatten)]
    pub aws: AwsConfig,

    /// Whom to tell.
    #[command(flatten)]
    pub alerts: AlertConfig,

    /// How.
    #[command(flatten)]
    pub notify: NotifyConfig,

    /// Seconds that the lease lasts without renewal, 3 to 300: so long after a crash of the active
    /// scheduler another takes over.
    #[arg(long, env = "SCHEDULER_LEASE_SECS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(3..=300), value_name = "SECONDS", help_heading = "Scheduler")]
    pub scheduler_lease_secs: u64,

    /// Seconds between two rounds of its duties, 1 to 3600.
    #[arg(long, env = "SCHEDULER_INTERVAL_SECS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=3_600), value_name = "SECONDS", help_heading = "Scheduler")]
    pub scheduler_interval_secs: u64,
}

impl SchedulerConfig {
    /// What one option alone cannot show.
    pub(crate) fn check(&self) -> Vec<Problem> {
        let mut problems = self.queues.check(&self.aws);
        if let Some((option, reason, example)) = self.alerts.check(&self.notify) {
            problems.push(Problem {
                option: option.to_owned(),
                value: None,
                reason,
                example: Some(example.to_owned()),
            });
        }
        problems.extend(self.notify.check().err().map(invalid));
        problems
    }

    pub(crate) fn lease(&self) -> Duration {
        Duration::from_secs(self.scheduler_lease_secs)
    }
}

pub(crate) fn invalid(invalid: InvalidNotifyConfig) -> Problem {
    Problem {
        option: invalid.option.to_owned(),
        value: None,
        reason: invalid.reason,
        example: Some(invalid.example.to_owned()),
    }
}

//! The scheduler's options.

use std::time::Duration;

use audit::archive::HeadsConfig;
use audit::retention::Term;
use chassis::Problem;
use clap::Args;
use database::DatabaseConfig;
use queue_sqs::AwsConfig;
use sinks::notify::alerts::AlertConfig;
use sinks::notify::{InvalidNotifyConfig, NotifyConfig};
use sinks::objects::{ArchiveConfig, ClaimConfig};
use sinks::search::SearchConfig;

use crate::queues::QueueUrls;
use crate::retirement;

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

    /// The archive that is compared with PostgreSQL and search; without one nothing is.
    #[command(flatten)]
    pub archive: ArchiveConfig,

    /// Where signed heads are copied to; read here.
    #[command(flatten)]
    pub heads: HeadsConfig,

    /// The search engine.
    #[command(flatten)]
    pub search: SearchConfig,

    /// Seconds that the lease lasts without renewal, 3 to 300: so long after a crash of the active
    /// scheduler another takes over.
    #[arg(long, env = "SCHEDULER_LEASE_SECS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(3..=300), value_name = "SECONDS", help_heading = "Scheduler")]
    pub scheduler_lease_secs: u64,

    /// Seconds between two rounds of its duties, 1 to 3600.
    #[arg(long, env = "SCHEDULER_INTERVAL_SECS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=3_600), value_name = "SECONDS", help_heading = "Scheduler")]
    pub scheduler_interval_secs: u64,

    /// How long an empty partition of logs is kept after it was detached, before it is dropped and its disk is
    /// free: an ISO 8601 duration of days, weeks, months, a year at most.
    #[arg(long, env = "PARTITION_DROP_AFTER", default_value = "P7D", value_parser = retirement::drop_after, value_name = "TERM", help_heading = "Scheduler")]
    pub partition_drop_after: Term,

    /// Seconds between two reconciliations of PostgreSQL, search and the archive, 1 to 86400; only where an
    /// archive is configured.
    #[arg(long, env = "SCHEDULER_RECONCILE_SECS", default_value_t = 3_600, value_parser = clap::value_parser!(u64).range(1..=86_400), value_name = "SECONDS", help_heading = "Scheduler")]
    pub scheduler_reconcile_secs: u64,
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
        if let Err((option, reason)) = self.archive.check() {
            let (option, reason) = (option.to_owned(), reason.to_owned());
            problems.push(Problem { option, value: None, reason, example: None });
        }
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

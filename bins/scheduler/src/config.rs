//! The scheduler's options.

use std::time::Duration;

use clap::Args;
use database::DatabaseConfig;
use sinks::objects::ClaimConfig;

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

    /// Seconds that the lease lasts without renewal, 3 to 300: so long after a crash of the active
    /// scheduler another takes over.
    #[arg(long, env = "SCHEDULER_LEASE_SECS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(3..=300), value_name = "SECONDS", help_heading = "Scheduler")]
    pub scheduler_lease_secs: u64,

    /// Seconds between two rounds of its duties, 1 to 3600.
    #[arg(long, env = "SCHEDULER_INTERVAL_SECS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=3_600), value_name = "SECONDS", help_heading = "Scheduler")]
    pub scheduler_interval_secs: u64,
}

impl SchedulerConfig {
    pub(crate) fn lease(&self) -> Duration {
        Duration::from_secs(self.scheduler_lease_secs)
    }
}

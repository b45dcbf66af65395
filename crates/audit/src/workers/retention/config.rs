//! The retention worker's options, and how it is built from them: lazily, so that a database that is down
//! at start shows on `/readyz` instead of killing the process.

use std::ops::RangeInclusive;
use std::sync::Arc;

use chassis::{BuildError, Context, Problem, Service};
use database::{Database, DatabaseConfig, Role};
use queue_core::AttemptStore;
use sinks::notify::{Channels, InvalidNotifyConfig, NotifyConfig};

use super::{Parts, RetentionWorker, Targets};
use crate::retention::policy::Brake;

/// Options of the retention worker.
#[derive(Clone, Debug, clap::Args)]
pub struct RetentionWorkerConfig {
    /// PostgreSQL.
    #[command(flatten)]
    pub database: DatabaseConfig,

    /// How people are told.
    #[command(flatten)]
    pub notify: NotifyConfig,

    /// Slack and other webhooks that policies may name, as a JSON object
    ///
    /// Each is `slack`, or `webhook` and its signing `secret`; `tenants` says whose policies may name it.
    /// At most 1,000, in 256 KiB.
    ///
    /// Example: `{"ops": {"slack": "https://hooks.slack.com/services/T0/B0/XXXX", "tenants": ["acme"]}}`
    #[arg(long, env = "NOTIFY_TARGETS", hide_env_values = true)]
    pub notify_targets: Option<Targets>,

    /// Share of a tenant's logs, above 0 to 1, that a run may delete unapproved, whatever its policy says
    ///
    /// A policy's own brake may be narrower, and is where it says nothing; 1 leaves it to the policies.
    ///
    /// Example: `0.5`
    #[arg(long, env = "BRAKE_SHARE_MAX", help_heading = "Brake", value_name = "SHARE", default_value = "1", value_parser = share)]
    pub brake_share_max: f64,

    /// How many times as many logs as its policy's last run, 1 to 1000, a run may delete unapproved
    ///
    /// As above; 1000 leaves it to the policies.
    ///
    /// Example: `10`
    #[arg(long, env = "BRAKE_GROWTH_MAX", help_heading = "Brake", value_name = "TIMES", default_value = "1000", value_parser = growth)]
    pub brake_growth_max: f64,

    /// The step at which a debug build kills itself, for crash tests
    #[cfg(debug_assertions)]
    #[arg(long, env = "CRASH_POINT", hide = true)]
    pub crash_point: Option<crate::crash::CrashPoint>,
}

impl Service for RetentionWorker {
    type Config = RetentionWorkerConfig;

    fn check(config: &RetentionWorkerConfig) -> Vec<Problem> {
        config.notify.check().err().map(invalid).into_iter().collect()
    }

    async fn build(config: RetentionWorkerConfig, context: &Context) -> Result<Self, BuildError> {
        #[cfg(debug_assertions)]
        if let Some(point) = config.crash_point {
            crate::crash::arm(point);
        }
        let database =
            Database::connect(&config.database, Role::Worker).map_err(BuildError::failed)?;
        let notifier = Channels::new(&config.notify, context.clock())
            .map_err(|error| BuildError::from(invalid(error)))?;
        Ok(Self::new(Parts {
            database,
            clock: context.clock(),
            notifier: Arc::new(notifier),
            targets: config.notify_targets.unwrap_or_default(),
            ceiling: Brake {
                share_max: config.brake_share_max,
                growth_max: config.brake_growth_max,
            },
        }))
    }

    fn attempts(&self) -> Arc<dyn AttemptStore> {
        self.attempt_store()
    }
}

fn share(text: &str) -> Result<f64, String> {
    number(text, f64::MIN_POSITIVE..=Brake::WIDEST.share_max)
        .ok_or_else(|| "a number above 0, at most 1, is expected".to_owned())
}

fn growth(text: &str) -> Result<f64, String> {
    number(text, 1.0..=Brake::WIDEST.growth_max)
        .ok_or_else(|| "a number from 1 to 1000 is expected".to_owned())
}

fn number(text: &str, range: RangeInclusive<f64>) -> Option<f64> {
    text.parse().ok().filter(|number| range.contains(number))
}

fn invalid(invalid: InvalidNotifyConfig) -> Problem {
    Problem {
        option: invalid.option.to_owned(),
        value: None,
        reason: invalid.reason,
        example: Some(invalid.example.to_owned()),
    }
}

//! The retention worker's options, and how it is built from them: lazily, so that a database that is down
//! at start shows on `/readyz` instead of killing the process.

use std::sync::Arc;

use chassis::{BuildError, Context, Problem, Service};
use database::{Database, DatabaseConfig, Role};
use queue_core::AttemptStore;
use sinks::notify::{Channels, InvalidNotifyConfig, NotifyConfig};

use super::{Parts, RetentionWorker, Targets};

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
        }))
    }

    fn attempts(&self) -> Arc<dyn AttemptStore> {
        self.attempt_store()
    }
}

fn invalid(invalid: InvalidNotifyConfig) -> Problem {
    Problem {
        option: invalid.option.to_owned(),
        value: None,
        reason: invalid.reason,
        example: Some(invalid.example.to_owned()),
    }
}

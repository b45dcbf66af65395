//! A process that does nothing until it is told to stop: what the tests of signals, exit codes and
//! the admin port start. Its options say how it behaves in a drain.

use std::process::ExitCode;
use std::time::Duration;

use chassis::{App, BuildError, Context, Ended, Secret};
use tokio_util::sync::CancellationToken;

/// How it behaves.
#[derive(Clone, Debug, clap::Args)]
struct IdleConfig {
    /// What a drain does
    #[arg(long, env = "IDLE_DRAIN", default_value = "quick", value_parser = ["quick", "never", "late"])]
    idle_drain: String,

    /// A secret that has to be given
    ///
    /// Example: hunter2
    #[arg(long, env = "IDLE_SECRET", hide_env_values = true)]
    idle_secret: Secret,
}

struct Idle(IdleConfig);

impl App for Idle {
    const NAME: &'static str = "idle";
    const ABOUT: &'static str = "Does nothing until it is told to stop.";
    type Config = IdleConfig;

    async fn build(config: IdleConfig, context: &Context) -> Result<Self, BuildError> {
        let length = config.idle_secret.reveal().len();
        context.status().register("idle", move || serde_json::json!({ "secret_bytes": length }));
        Ok(Self(config))
    }

    async fn run(self, _context: Context, drain: CancellationToken) -> Result<Ended, BuildError> {
        drain.cancelled().await;
        match self.0.idle_drain.as_str() {
            "never" => std::future::pending().await,
            "late" => Ok(Ended::BudgetExceeded),
            _ => {
                tokio::time::sleep(Duration::from_millis(1)).await;
                Ok(Ended::Drained)
            }
        }
    }
}

fn main() -> ExitCode {
    chassis::serve_main::<Idle>()
}

//! The options that every binary has.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::Problem;
use crate::secret::Secret;
use crate::telemetry::{LogFormat, MetricsEmf, TraceArgs, parse_level};

/// Between the end of the drain budget and the kill: flushing logs, closing connections.
pub(crate) const STOP_MARGIN: Duration = Duration::from_secs(2);

/// Options of every binary.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Process")]
pub struct CommonArgs {
    /// Address of the admin port: /healthz, /readyz, /metrics, /status
    ///
    /// Off the loopback interface it needs `ADMIN_TOKEN`.
    #[arg(long, env = "ADMIN_ADDR", default_value = "127.0.0.1:9090")]
    pub admin_addr: SocketAddr,

    /// Bearer token that /metrics and /status ask for
    ///
    /// Example: 8f0c2f4e5d6b7a98
    #[arg(long, env = "ADMIN_TOKEN", hide_env_values = true)]
    pub admin_token: Option<Secret>,

    /// How log lines look; `auto` is human on a terminal and JSON otherwise
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value = "auto")]
    pub log_format: LogFormat,

    /// Log level, or directives per module
    ///
    /// Example: info,sqlx=warn
    #[arg(long, env = "LOG_LEVEL", default_value = "info", value_parser = parse_level)]
    pub log_level: String,

    /// Metrics by queue and worker on stdout too, in CloudWatch's embedded format
    ///
    /// One line each minute and one at the end, beside `/metrics`, from the same figures.
    #[arg(long, env = "METRICS_EMF", value_enum, default_value = "off")]
    pub metrics_emf: MetricsEmf,

    /// Seconds that a drain may take after SIGTERM
    ///
    /// At least two less than `ECS_STOP_TIMEOUT_SECS`, or the kill comes first.
    #[arg(long, env = "DRAIN_BUDGET_SECS", default_value = "28",
          value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub drain_budget_secs: u64,

    /// Seconds between SIGTERM and SIGKILL, as the orchestrator is configured
    ///
    /// ECS calls it stopTimeout: 30 by default, 120 at most on Fargate.
    #[arg(long, env = "ECS_STOP_TIMEOUT_SECS", default_value = "30",
          value_parser = clap::value_parser!(u64).range(3..=3_602))]
    pub ecs_stop_timeout_secs: u64,

    /// Check the configuration and exit: 0 when it is valid, 78 when not
    #[arg(long)]
    pub check_config: bool,

    /// Traces.
    #[command(flatten)]
    pub traces: TraceArgs,
}

impl CommonArgs {
    /// How long a drain may take.
    pub fn drain_budget(&self) -> Duration {
        Duration::from_secs(self.drain_budget_secs)
    }

    /// What is wrong between these values.
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let stop = Duration::from_secs(self.ecs_stop_timeout_secs);
        if self.drain_budget() + STOP_MARGIN > stop {
            let longest = stop.saturating_sub(STOP_MARGIN).as_secs();
            problems.push(Problem::new(
                "DRAIN_BUDGET_SECS",
                &self.drain_budget_secs,
                format!(
                    "the drain would be killed: ECS_STOP_TIMEOUT_SECS is {}, which leaves {longest}",
                    self.ecs_stop_timeout_secs
                ),
                format!("DRAIN_BUDGET_SECS={longest}"),
            ));
        }
        if !self.admin_addr.ip().is_loopback() && self.admin_token.is_none() {
            problems.push(Problem::new(
                "ADMIN_ADDR",
                &self.admin_addr,
                "it can be reached from other machines, so /metrics and /status need ADMIN_TOKEN",
                "ADMIN_TOKEN=8f0c2f4e5d6b7a98, or ADMIN_ADDR=127.0.0.1:9090",
            ));
        }
        problems
    }
}

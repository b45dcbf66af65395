//! Logs and metrics: JSON lines for machines, short lines for a person at a terminal, and one
//! Prometheus registry. Installed once, by the process; libraries only emit.
//!
//! Logs go to stderr, so that a command's own output stays clean. Correlation ids are fields of the
//! spans that the engine and the API open; the JSON lists every span of an event.

use std::io::IsTerminal;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::service::BuildError;

/// Upper bounds of latency histograms in seconds: from an insert to the seed's slowest archive.
const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0, 120.0];

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    Auto,
    /// One JSON object per line.
    Json,
    /// Short lines with colours where the terminal has them.
    Human,
}

/// The process's telemetry; keep it until the end.
#[derive(Clone)]
pub struct Telemetry {
    prometheus: PrometheusHandle,
}

impl Telemetry {
    /// Installs the log subscriber, the panic hook and the metrics recorder. Once per process: a
    /// second call is an error.
    pub fn install(format: LogFormat, level: &str) -> Result<Self, BuildError> {
        let filter = EnvFilter::try_new(level).map_err(BuildError::failed)?;
        let json = match format {
            LogFormat::Json => true,
            LogFormat::Human => false,
            LogFormat::Auto => !std::io::stderr().is_terminal(),
        };
        let registry = tracing_subscriber::registry().with(filter);
        let installed = if json {
            let layer = tracing_subscriber::fmt::layer()
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(true);
            registry.with(layer.with_writer(std::io::stderr)).try_init()
        } else {
            let layer = tracing_subscriber::fmt::layer().compact().with_target(false);
            let colours = std::io::stderr().is_terminal();
            registry.with(layer.with_ansi(colours).with_writer(std::io::stderr)).try_init()
        };
        installed.map_err(BuildError::failed)?;
        std::panic::set_hook(Box::new(|panic| {
            let at = panic.location().map(ToString::to_string);
            let said = panic.payload_as_str().unwrap_or("(no text)");
            tracing::error!(at, "panic: {said}");
        }));
        Ok(Self { prometheus: recorder()? })
    }

    /// The metrics in Prometheus's text format.
    pub fn render(&self) -> String {
        self.prometheus.render()
    }

    /// Drains what the histograms have gathered; to be called every few seconds, so that a process
    /// that nobody scrapes does not grow.
    pub fn upkeep(&self) {
        self.prometheus.run_upkeep();
    }

    /// Telemetry that only a test reads: nothing global is touched.
    pub fn detached() -> Self {
        Self { prometheus: PrometheusBuilder::new().build_recorder().handle() }
    }
}

fn recorder() -> Result<PrometheusHandle, BuildError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .map_err(BuildError::failed)?
        .install_recorder()
        .map_err(BuildError::failed)
}

/// Says whether `level` can be understood: `info`, or directives like `info,sqlx=warn`.
pub(crate) fn parse_level(level: &str) -> Result<String, String> {
    EnvFilter::try_new(level)
        .map(|_| level.to_owned())
        .map_err(|error| format!("not a log level: {error}"))
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Telemetry")
    }
}

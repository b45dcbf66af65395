//! Logs, metrics and traces: JSON lines for machines, short lines for a person at a terminal, one
//! Prometheus registry, and OTLP where a collector is named. Installed once, by the process;
//! libraries only emit.
//!
//! Logs go to stderr, so that a command's own output stays clean. Correlation ids are fields of the
//! spans that the engine and the API open; the JSON lists every span of an event.

mod args;
mod emf;
mod export;
mod fields;
mod filter;

use std::io::IsTerminal;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use queue_core::trace::TARGET;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::service::BuildError;
pub use args::{TraceArgs, TraceSampler};
pub(crate) use emf::Emf;
pub use emf::{DLQ_DEPTH, MetricsEmf, QUEUE_DEPTH};
use export::Exporter;
use fields::SpanFields;
use filter::LogFilter;

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
    exporter: Option<Exporter>,
}

/// What is to be installed.
#[derive(Clone, Copy, Debug)]
pub struct TelemetryOptions<'a> {
    /// The program's name, for traces.
    pub name: &'static str,
    /// How log lines look.
    pub format: LogFormat,
    /// Directives for what is logged.
    pub level: &'a str,
    /// Where traces go.
    pub traces: &'a TraceArgs,
}

impl Telemetry {
    /// Installs the log subscriber, the panic hook, the metrics recorder and, where a collector is
    /// named, the trace layer. Once per process: a second call is an error.
    pub fn install(options: TelemetryOptions<'_>) -> Result<Self, BuildError> {
        // First: the exporter's counters are taken from it.
        let prometheus = recorder()?;
        let filter = LogFilter::new(options.level).map_err(BuildError::failed)?;
        let json = match options.format {
            LogFormat::Json => true,
            LogFormat::Human => false,
            LogFormat::Auto => !std::io::stderr().is_terminal(),
        };
        let resource = resource(options.name, options.traces);
        let exporter = Exporter::new(options.traces, &resource)?;
        let installed = match &exporter {
            None => {
                tracing_subscriber::registry().with(filter.layer()).with(lines(json)).try_init()
            }
            Some(exporter) => {
                let provider = provider(options.traces, exporter.clone(), resource);
                tracing_subscriber::registry()
                    .with(spans(&provider))
                    .with(lines(json).with_filter(filter.of_one_layer()))
                    .try_init()
            }
        };
        installed.map_err(BuildError::failed)?;
        std::panic::set_hook(Box::new(|panic| {
            let at = panic.location().map(ToString::to_string);
            let said = panic.payload_as_str().unwrap_or("(no text)");
            tracing::error!(at, "panic: {said}");
        }));
        Ok(Self { prometheus, exporter })
    }

    /// Starts what runs beside the work; inside the runtime.
    pub fn start(&self) {
        if let Some(exporter) = &self.exporter {
            exporter.start();
        }
    }

    /// Exports the spans that have ended, for at most `limit`.
    pub async fn finish(&self, limit: Duration) {
        if let Some(exporter) = &self.exporter {
            exporter.finish(limit).await;
        }
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
        let prometheus = PrometheusBuilder::new().build_recorder().handle();
        Self { prometheus, exporter: None }
    }
}

/// Log lines on stderr.
fn lines<S>(json: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    if json {
        return json_lines(std::io::stderr);
    }
    let layer = tracing_subscriber::fmt::layer().compact().with_target(false);
    let colours = std::io::stderr().is_terminal();
    layer.with_ansi(colours).with_writer(std::io::stderr).boxed()
}

/// Log lines for machines, one JSON object each, to where `writer` says.
pub fn json_lines<S, W>(writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(true);
    layer.fmt_fields(SpanFields).with_writer(writer).boxed()
}

/// A filter for what `level` says: `info`, or directives like `info,sqlx=warn`.
pub fn log_filter<S: tracing::Subscriber>(
    level: &str,
) -> Result<Box<dyn Layer<S> + Send + Sync>, BuildError> {
    LogFilter::new(level).map(LogFilter::layer).map_err(BuildError::failed)
}

/// Spans of our own target, whatever the log level; events stay in the log, which names the span.
fn spans<S>(provider: &SdkTracerProvider) -> impl Layer<S>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let ours = filter_fn(|metadata| metadata.is_span() && metadata.target() == TARGET);
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("flotilla"))
        .with_location(false)
        .with_threads(false)
        .with_level(false)
        .with_target(false)
        .with_context_activation(false)
        .with_tracked_inactivity(false)
        .with_filter(ours.with_max_level_hint(LevelFilter::DEBUG))
}

fn provider(args: &TraceArgs, exporter: Exporter, resource: Resource) -> SdkTracerProvider {
    let root = match args.otel_traces_sampler {
        TraceSampler::AlwaysOn => Sampler::AlwaysOn,
        TraceSampler::AlwaysOff => Sampler::AlwaysOff,
        TraceSampler::Ratio => Sampler::TraceIdRatioBased(args.otel_traces_sampler_arg),
    };
    SdkTracerProvider::builder()
        .with_sampler(Sampler::ParentBased(Box::new(root)))
        .with_resource(resource)
        .with_span_processor(exporter)
        .build()
}

fn resource(name: &'static str, args: &TraceArgs) -> Resource {
    let attributes = args.resource_attributes().into_iter();
    let service = args.otel_service_name.clone().unwrap_or_else(|| name.to_owned());
    Resource::builder_empty()
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attributes(attributes.map(|(name, value)| KeyValue::new(name, value)))
        .with_service_name(service)
        .build()
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
    LogFilter::new(level)
        .map(|_| level.to_owned())
        .map_err(|error| format!("not a log level: {error}"))
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Telemetry")
    }
}

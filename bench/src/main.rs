//! Takes the project's figures beside bare baselines, in one run on one machine, and says which goals
//! hold. Everything here is for measuring; nothing of it ships.

mod api;
mod backends;
mod bare;
mod books;
mod bulk;
mod claims;
mod client;
mod drain;
mod emulator;
mod engine;
mod fleet;
mod ids;
mod ledger;
mod lifecycle;
mod load;
mod machine;
mod opensearch;
mod pile;
mod ping;
mod postgres;
mod process;
mod racer;
mod raw;
mod raw_http;
mod report;
mod samples;
mod searchable;
mod shove;
mod sqs;
mod stubs;
mod traced;
mod versus;
mod wake;
mod whole;
mod work_off;

use std::path::PathBuf;

use clap::Parser;

use lifecycle::Sizes;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use report::Report;

/// Of the product's latency histograms.
const BUCKETS: [f64; 8] = [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 30.0, 120.0];

/// Measures; prints a table and, with `BENCH_OUT`, JSON lines.
#[derive(Parser)]
struct Cli {
    /// Only the groups whose name contains one of these: api, engine, engine-slow, engine-wake,
    /// engine-shove, engine-ledger, engine-traces, engine-claims, emulator, emulator-localstack, stub, postgres, opensearch, whole, fleet,
    /// lifecycle-policies, lifecycle-pack, lifecycle-verify, lifecycle-messages, lifecycle-stream,
    /// lifecycle-cleanup, lifecycle-memory, lifecycle-fetch.
    only: Vec<String>,
    /// Where to write the figures as JSON lines.
    #[arg(long, env = "BENCH_OUT")]
    out: Option<PathBuf>,
    /// Size of the samples; 100 is what the README quotes.
    #[arg(long, default_value_t = 100)]
    scale: usize,
    /// Rows of the larger archive of lifecycle-memory; 20,000 by scale without it.
    #[arg(long, env = "BENCH_MEMORY_ROWS")]
    memory_rows: Option<usize>,
}

/// Spans, log lines and metrics as the product's processes have them, since they cost something; what
/// they write goes nowhere.
fn telemetry() -> anyhow::Result<()> {
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;
    let lines = chassis::json_lines(std::io::sink);
    tracing_subscriber::registry().with(chassis::log_filter("info")?).with(lines).try_init()?;
    let seconds = Matcher::Suffix("_seconds".to_owned());
    let recorder = PrometheusBuilder::new();
    let recorder = recorder.set_buckets_for_metric(seconds, &BUCKETS)?.install_recorder()?;
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(std::time::Duration::from_secs(5)).await;
            recorder.run_upkeep();
        }
    });
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    telemetry()?;
    let wanted = |group: &str| {
        let chosen =
            cli.only.is_empty() || cli.only.iter().any(|name| group.contains(name.as_str()));
        if chosen {
            eprintln!("{group}");
        }
        chosen
    };
    let seconds = (cli.scale as u64 / 20).max(2);
    let mut report = Report::default();
    if wanted("api") {
        api::run(&mut report, seconds).await?;
    }
    engines(&mut report, cli.scale, &wanted).await?;
    if wanted("emulator") {
        tokio::task::block_in_place(|| emulator::run(&mut report, 4_000 * cli.scale))?;
    }
    if wanted("emulator-localstack") {
        versus::run(&mut report, seconds.min(3)).await?;
    }
    if wanted("stub") {
        drain::stub(&mut report, cli.scale).await?;
    }
    if wanted("postgres") {
        postgres::run(&mut report, cli.scale).await?;
    }
    if wanted("opensearch") {
        opensearch::run(&mut report, cli.scale).await?;
    }
    if wanted("whole") {
        whole::run(&mut report, seconds * 2).await?;
    }
    if wanted("fleet") {
        fleet::run(&mut report, seconds).await?;
    }
    let sizes = Sizes { scale: cli.scale, memory_rows: cli.memory_rows };
    lifecycle::run(&mut report, sizes, &wanted).await?;
    report.finish(cli.out.as_deref())
}

/// Everything about the engine alone.
async fn engines(
    report: &mut Report,
    scale: usize,
    wanted: impl Fn(&str) -> bool,
) -> anyhow::Result<()> {
    if wanted("engine") {
        engine::fast(report, 1_000 * scale).await?;
    }
    if wanted("engine-slow") {
        engine::slow(report, 200 * scale).await?;
    }
    if wanted("engine-wake") {
        wake::run(report, 10 * scale).await?;
    }
    if wanted("engine-shove") {
        shove::run(report, 500 * scale).await?;
    }
    if wanted("engine-ledger") {
        ledger::run(report, 50 * scale).await?;
    }
    if wanted("engine-traces") {
        traced::run(report, 500 * scale).await?;
    }
    if wanted("engine-claims") {
        claims::run(report, 20 * scale).await?;
    }
    Ok(())
}

/// The middle one; of an even number the higher of the two.
fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

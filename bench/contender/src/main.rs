//! A contender for others to time: drains `N` messages from `QUEUE_URL` at `ENDPOINT` with a worker
//! that does nothing, on the whole engine, and prints `flotilla handled=N seconds=S rate=R`. Bodies may
//! be anything. It makes no queue, sends nothing and checks nothing of what it gets.

mod anything;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use chassis::{LogFormat, Telemetry, TelemetryOptions, TraceArgs};
use clap::{Args, CommandFactory, FromArgMatches, Parser};
use queue_core::engine::{Engine, EngineConfig, Ports};
use queue_core::{MemoryAttempts, SystemClock};
use queue_sqs::{AwsConfig, Sqs};
use tokio_util::sync::CancellationToken;

use anything::Nothing;

/// The configuration has to change first, as everywhere in the project.
const EXIT_CONFIG: u8 = 78;
/// How often it looks whether everything is settled.
const LOOK: Duration = Duration::from_millis(1);
/// For the last spans, where they are exported.
const LAST_SPANS: Duration = Duration::from_secs(5);

/// Drains N messages from a queue with a worker that does nothing; prints handled, seconds and rate.
#[derive(Parser)]
#[command(name = "contender", after_help = EXAMPLE)]
struct Options {
    /// The queue; one whose name ends in .fifo is worked off in order.
    #[arg(long, env = "QUEUE_URL")]
    queue_url: String,
    /// Where SQS is.
    #[arg(long, env = "ENDPOINT")]
    endpoint: String,
    /// Messages to handle: as many as are in the queue.
    #[arg(short, long = "messages", env = "N", value_parser = clap::value_parser!(u64).range(1..))]
    n: u64,
    /// Seconds after which it gives up.
    #[arg(long, env = "LIMIT_SECONDS", default_value_t = 600)]
    limit_seconds: u64,
    /// Long polls at most; they open one after the other while polls come back full.
    #[arg(long, env = "POLLERS")]
    pollers: Option<usize>,
    /// Messages in hand at most.
    #[arg(long, env = "CONCURRENCY")]
    concurrency: Option<usize>,
    /// Write the ids of the messages that were handled to this file, one a line.
    #[arg(long, env = "IDS", value_name = "FILE")]
    ids: Option<PathBuf>,
    /// What to log to the standard error.
    #[arg(long, env = "LOG_LEVEL", default_value = "info")]
    log_level: String,
    #[arg(long, env = "AWS_REGION", default_value = "us-east-1", hide = true)]
    aws_region: String,
    #[arg(long, env = "AWS_ACCESS_KEY_ID", default_value = "test", hide = true)]
    aws_access_key_id: String,
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", default_value = "test", hide = true)]
    aws_secret_access_key: String,
    #[command(flatten)]
    traces: TraceArgs,
}

const EXAMPLE: &str = "\
Example:
  QUEUE_URL=http://127.0.0.1:4566/000000000000/first ENDPOINT=http://127.0.0.1:4566 N=10000 contender

Exit codes: 0 N messages handled, 1 not all of them (the line says how many), 78 wrong or missing
options.";

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            // Help and version are no errors.
            let code = if error.use_stderr() { EXIT_CONFIG } else { 0 };
            error.print().ok();
            return ExitCode::from(code);
        }
    };
    let telemetry = Telemetry::install(TelemetryOptions {
        name: "contender",
        format: LogFormat::Auto,
        level: &options.log_level,
        traces: &options.traces,
    });
    let telemetry = match telemetry {
        Ok(telemetry) => telemetry,
        Err(error) => return wrong(&error),
    };
    let sqs = match aws(&options) {
        Ok(sqs) => sqs,
        Err(error) => return wrong(&error),
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return wrong(&error),
    };
    let outcome = runtime.block_on(async {
        telemetry.start();
        let outcome = if options.queue_url.ends_with(".fifo") {
            drain::<true>(&options, &sqs).await
        } else {
            drain::<false>(&options, &sqs).await
        };
        telemetry.finish(LAST_SPANS).await;
        outcome
    });
    // Polls that are still open are for messages beyond the N: nobody waits for them.
    runtime.shutdown_background();
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            complain(&format!("contender: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn complain(text: &str) {
    writeln!(std::io::stderr(), "{text}").ok();
}

fn wrong(error: &dyn std::fmt::Display) -> ExitCode {
    complain(&format!("contender cannot start: {error}"));
    ExitCode::from(EXIT_CONFIG)
}

/// The product's own options of SQS, with these values.
fn aws(options: &Options) -> anyhow::Result<AwsConfig> {
    let command =
        AwsConfig::augment_args(clap::Command::new(Options::command().get_name().to_owned()));
    let matches = command.try_get_matches_from([
        "contender",
        "--aws-endpoint-url-sqs",
        &options.endpoint,
        "--aws-region",
        &options.aws_region,
        "--aws-access-key-id",
        &options.aws_access_key_id,
        "--aws-secret-access-key",
        &options.aws_secret_access_key,
    ]);
    let matches =
        matches.map_err(|error| anyhow::anyhow!("ENDPOINT or a variable of AWS: {error}"))?;
    Ok(AwsConfig::from_arg_matches(&matches)?)
}

/// Works the queue off; says whether all of it was handled.
async fn drain<const FIFO: bool>(options: &Options, aws: &AwsConfig) -> anyhow::Result<bool> {
    let sqs = Sqs::connect(aws).await?;
    let url = &options.queue_url;
    let ports = Ports {
        queue: sqs.queue("contender", url),
        // Nothing is rejected, so nothing is sent there.
        dead_letters: sqs.queue("contender-dlq", &format!("{url}-dlq")),
        attempts: Arc::new(MemoryAttempts::default()),
        clock: Arc::new(SystemClock),
    };
    let mut config = EngineConfig::for_worker::<Nothing<FIFO>>();
    config.pollers_max = options.pollers.unwrap_or(config.pollers_max);
    config.concurrency = options.concurrency.unwrap_or(config.concurrency);
    let worker = Arc::new(Nothing::<FIFO>::new(options.ids.is_some()));
    let engine = Engine::new(Arc::clone(&worker), ports, config)?;
    let status = engine.status();
    let start = Instant::now();
    let limit = Duration::from_secs(options.limit_seconds);
    let settled = async {
        while status.snapshot().totals.settled < options.n && start.elapsed() < limit {
            tokio::time::sleep(LOOK).await;
        }
    };
    let fault = tokio::select! {
        report = engine.run(CancellationToken::new()) => report.fault,
        () = settled => None,
    };
    let seconds = start.elapsed().as_secs_f64();
    let handled = worker.handled();
    let rate = handled as f64 / seconds;
    writeln!(std::io::stdout(), "flotilla handled={handled} seconds={seconds:.3} rate={rate:.0}")?;
    if let Some(path) = &options.ids {
        std::fs::write(path, worker.ids()).with_context(|| format!("{}", path.display()))?;
    }
    if let Some(fault) = fault {
        anyhow::bail!("the engine stopped: {fault}");
    }
    let settled = status.snapshot().totals.settled;
    if settled < options.n {
        complain(&format!(
            "contender: {settled} of {} messages were handled and deleted within {} s; the queue may \
             hold fewer, or LIMIT_SECONDS is too short",
            options.n, options.limit_seconds
        ));
    }
    Ok(settled >= options.n)
}

//! Takes the project's figures beside bare baselines, in one run on one machine, and says which goals
//! hold. Everything here is for measuring; nothing of it ships.

mod api;
mod books;
mod drain;
mod engine;
mod load;
mod opensearch;
mod report;
mod samples;
mod sqs;
mod whole;

use std::path::PathBuf;

use clap::Parser;

use report::Report;
use sqs::SqsLocal;

/// Measures; prints a table and, with BENCH_OUT, JSON lines.
#[derive(Parser)]
struct Cli {
    /// Only the groups whose name contains one of these: api, engine, stub, postgres, opensearch,
    /// whole, memory.
    only: Vec<String>,
    /// Where to write the figures as JSON lines.
    #[arg(long, env = "BENCH_OUT")]
    out: Option<PathBuf>,
    /// Size of the samples; 100 is what the README quotes.
    #[arg(long, default_value_t = 100)]
    scale: usize,
}

/// The product's SQS driver on a bench server.
async fn product_sqs(server: &SqsLocal) -> anyhow::Result<queue_sqs::Sqs> {
    use clap::{Args, FromArgMatches};
    let command = queue_sqs::AwsConfig::augment_args(clap::Command::new("bench"));
    let matches = command.try_get_matches_from([
        "bench", "--aws-endpoint-url", &server.endpoint, "--aws-region", "us-east-1",
        "--aws-access-key-id", "test", "--aws-secret-access-key", "test",
    ])?;
    Ok(queue_sqs::Sqs::connect(&queue_sqs::AwsConfig::from_arg_matches(&matches)?).await?)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let wanted = |group: &str| cli.only.is_empty() || cli.only.iter().any(|name| group.contains(name.as_str()));
    let seconds = (cli.scale as u64 / 20).max(2);
    let mut report = Report::default();
    if wanted("api") {
        api::run(&mut report, seconds).await?;
    }
    if wanted("engine") {
        engine::run(&mut report, 1_000 * cli.scale).await?;
    }
    if wanted("stub") {
        drain::stub(&mut report, cli.scale).await?;
    }
    if wanted("postgres") {
        drain::postgres(&mut report, cli.scale).await?;
    }
    if wanted("opensearch") {
        opensearch::run(&mut report, cli.scale).await?;
    }
    if wanted("whole") || wanted("memory") {
        whole::run(&mut report, seconds * 2).await?;
    }
    report.finish(cli.out.as_deref())
}

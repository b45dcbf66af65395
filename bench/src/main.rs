//! Takes the project's figures beside bare baselines, in one run on one machine, and says which goals
//! hold. Everything here is for measuring; nothing of it ships.

mod api;
mod backends;
mod books;
mod bulk;
mod client;
mod drain;
mod engine;
mod fleet;
mod ids;
mod load;
mod machine;
mod opensearch;
mod postgres;
mod process;
mod report;
mod samples;
mod searchable;
mod sqs;
mod stubs;
mod whole;
mod work_off;

use std::path::PathBuf;

use clap::Parser;

use report::Report;

/// Measures; prints a table and, with `BENCH_OUT`, JSON lines.
#[derive(Parser)]
struct Cli {
    /// Only the groups whose name contains one of these: api, engine, stub, postgres, opensearch,
    /// whole, fleet.
    only: Vec<String>,
    /// Where to write the figures as JSON lines.
    #[arg(long, env = "BENCH_OUT")]
    out: Option<PathBuf>,
    /// Size of the samples; 100 is what the README quotes.
    #[arg(long, default_value_t = 100)]
    scale: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
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
    if wanted("engine") {
        engine::run(&mut report, 1_000 * cli.scale).await?;
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
    report.finish(cli.out.as_deref())
}

/// The middle one; of an even number the higher of the two.
fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

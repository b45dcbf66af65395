//! Chaos on real processes: the API, two workers, the emulator, PostgreSQL, Redis and OpenSearch are
//! killed, paused, restarted and cut off at random under load; then the books are compared. It
//! passes only where enough was accepted and every fault really happened.

#![expect(clippy::unwrap_used, reason = "a poisoned lock is a failed run")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command's voice")]

mod books;
mod faults;
mod fleet;
mod load;
mod report;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use clap::Parser;
use tokio::time::Instant;

use books::Books;
use faults::Tally;
use fleet::Fleet;
use load::Load;
use report::Report;

/// Until everything that was accepted is stored, found, and gone from the queue: the engine's longest
/// pause after errors of a sink is ten minutes, and a lease may come on top.
const SETTLED: Duration = Duration::from_secs(900);

/// Between two looks at the books.
const LOOK: Duration = Duration::from_secs(5);

/// Kills, pauses, restarts and cuts off every process of a real fleet under load, then compares the
/// books.
#[derive(Debug, Parser)]
#[command(after_help = "\
Examples:
  make chaos                                               ten minutes, as the report wants it
  cargo test -p flotilla-tests --test chaos -- --secs 60 --accepted 5000 --each 1
  cargo test -p flotilla-tests --test chaos -- --seed 7    the same faults again")]
struct Arguments {
    /// How long the storm rages, in seconds.
    #[arg(long, default_value_t = 600)]
    secs: u64,
    /// Fewer accepted events than this are no proof.
    #[arg(long, default_value_t = 100_000)]
    accepted: usize,
    /// Every fault has to happen to every process so often.
    #[arg(long, default_value_t = 5)]
    each: usize,
    /// What the faults are drawn from; a new one each time unless given.
    #[arg(long)]
    seed: Option<u64>,
    /// Also write the report to this file.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match runtime.block_on(run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let seed = arguments.seed.unwrap_or_else(rand::random);
    println!("chaos: seed {seed}, {} s; starting the fleet", arguments.secs);
    let fleet = Fleet::start().await?;
    let ended = storm(arguments, seed, &fleet).await;
    if ended.is_err() {
        eprintln!("{}", fleet.logs().await);
    }
    ended
}

async fn storm(arguments: &Arguments, seed: u64, fleet: &Fleet) -> anyhow::Result<()> {
    let (load, tally) = (Load::default(), Tally::default());
    let began = Instant::now();
    let until = began + Duration::from_secs(arguments.secs);
    let raging = async {
        let ended = faults::storm(fleet, seed, until, arguments.each, &tally).await;
        load.stop();
        ended
    };
    tokio::try_join!(raging, load.run(fleet, seed), progress(&load, &tally))?;
    let raged = began.elapsed();
    println!("chaos: the storm is over; waiting for the fleet to catch up");
    let calm = Instant::now();
    let books = settled(fleet, &load).await;
    let report = Report { seed, raged, settled: calm.elapsed(), tally: &tally, books: &books };
    let text = report.text(&load.notes());
    println!("{text}");
    if let Some(path) = &arguments.report {
        std::fs::write(path, &text)?;
    }
    books.agree(&load.notes())?;
    let accepted = load.notes().accepted.len();
    ensure!(accepted >= arguments.accepted, "{accepted} accepted: too few for a proof");
    let least = tally.least();
    ensure!(least >= arguments.each, "a fault happened only {least} times: run it longer");
    fleet.drain().await?;
    println!("chaos: the books agree");
    Ok(())
}

/// A line now and then, until the load is stopped.
async fn progress(load: &Load, tally: &Tally) -> anyhow::Result<()> {
    let began = Instant::now();
    while !load.stopped() {
        tokio::time::sleep(Duration::from_secs(15)).await;
        let accepted = load.notes().accepted.len();
        println!(
            "chaos: {:>4} s  {accepted:>7} accepted  {:>4} faults",
            began.elapsed().as_secs(),
            tally.all()
        );
    }
    Ok(())
}

/// The books once they agree; the last that were read where they do not in time.
async fn settled(fleet: &Fleet, load: &Load) -> Books {
    let until = Instant::now() + SETTLED;
    let mut last = Books::default();
    loop {
        match Books::read(fleet).await {
            Ok(books) => {
                let agreed = books.agree(&load.notes());
                last = books;
                match agreed {
                    Ok(()) if queue_is_empty(fleet).await => return last,
                    Ok(()) => println!("chaos: the books agree; the queue is not empty yet"),
                    Err(error) => println!("chaos: not yet: {error:#}"),
                }
            }
            Err(error) => eprintln!("chaos: {error:#}"),
        }
        if Instant::now() >= until {
            return last;
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn queue_is_empty(fleet: &Fleet) -> bool {
    let attributes = fleet.direct.queue.attributes().await;
    attributes.is_ok_and(|told| told.depth.visible + told.depth.in_flight + told.depth.delayed == 0)
}

//! `fleetctl import`: history into the fleet, through the public API like everybody else's events.
//! Batches carry idempotency keys made from their place and content, and a state file says how far the import
//! is, so it can be stopped at any point and started again without a second event.

mod batch;
mod cloudtrail;
mod git;
mod ndjson;
mod packages;
mod state;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use futures_util::StreamExt;
use indicatif::ProgressBar;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc;

use self::batch::{Batch, Outcome};
use self::state::State;
use crate::api::Api;
use crate::failure::Failure;
use crate::output::{Output, short};
use crate::settings::Settings;

/// Batches read ahead of those in flight.
const BATCHES_AHEAD: usize = 2;
/// Rejected events whose reasons are shown; the rest are counted.
const REASONS_SHOWN: usize = 5;

/// One event and what it stands for in the progress bar.
pub(crate) struct Item {
    /// In the API's shape.
    event: Value,
    /// Steps of the source (bytes, commits, records) that it completes.
    steps: u64,
}

/// Events in a fixed order, so that a position in it means the same on the next run.
pub(crate) struct Source {
    /// Names the source in the state file.
    name: String,
    /// All steps, where they can be known beforehand.
    total: Option<u64>,
    items: Box<dyn Iterator<Item = Result<Item, Failure>> + Send>,
}

/// Brings events in.
#[derive(Args)]
#[command(after_help = "\
Examples:
  fleetctl import git . --dry-run
  fleetctl import ndjson events.ndjson --state events.state
  fleetctl import cloudtrail logs/*.json.gz
An import that was stopped goes on when the same command is given again with the same --state.
Events older than 400 days need a key with the scope logs:import.")]
pub(crate) struct Import {
    #[command(subcommand)]
    from: From,
    /// Read and count, send nothing
    #[arg(long, global = true)]
    dry_run: bool,
    /// Remember here how far it is, and go on from there
    #[arg(long, global = true, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Append the id of every accepted event to this file, one per line
    #[arg(long, global = true, value_name = "FILE")]
    receipts: Option<PathBuf>,
    /// Events per request, 1 to 1000
    #[arg(long, global = true, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    batch: u32,
    /// Requests in flight, 1 to 16
    #[arg(long, global = true, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=16))]
    concurrency: u32,
    /// Between two tries of a batch, growing; no option.
    #[arg(skip = batch::PAUSE)]
    pause: Duration,
}

/// From where.
#[derive(Subcommand)]
enum From {
    /// A file of events in the API's own shape, one per line; `-` reads stdin
    #[command(after_help = "Example:\n  fleetctl import ndjson events.ndjson")]
    Ndjson {
        /// The file
        file: PathBuf,
    },
    /// AWS `CloudTrail` files, JSON or gzip
    #[command(after_help = "Example:\n  fleetctl import cloudtrail AWSLogs/2026/11/*.json.gz")]
    Cloudtrail {
        /// The files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// The history of a git repository: an event per commit and per changed file
    #[command(after_help = "Example:\n  fleetctl import git .")]
    Git {
        /// The work tree
        #[arg(default_value = ".")]
        path: PathBuf,
    },
    /// The machine's package log (dpkg)
    #[command(after_help = "Example:\n  fleetctl import packages /var/log/dpkg.log")]
    Packages {
        /// The log
        #[arg(default_value = "/var/log/dpkg.log")]
        file: PathBuf,
    },
}

/// What an import did.
#[derive(Default, Serialize)]
struct Summary {
    events: u64,
    accepted: u64,
    rejected: u64,
    /// Events that an earlier run had done.
    skipped: u64,
    reasons: Vec<String>,
}

impl Import {
    pub(crate) async fn run(self, settings: &Settings, output: &Output) -> Result<(), Failure> {
        let source = self.open()?;
        let state = State::load(self.state.as_deref(), &source.name)?;
        if self.dry_run {
            return count(source, &state, output);
        }
        let api = settings.api()?;
        api.bearer()?;
        let bar = output.bar(source.total);
        let summary = self.send(source, state, &api, &bar).await;
        bar.finish_and_clear();
        let summary = summary?;
        for reason in &summary.reasons {
            output.note(&format!("rejected: {reason}"));
        }
        output.value(&summary, || {
            let Summary { accepted, rejected, skipped, .. } = summary;
            format!("accepted {accepted}, rejected {rejected}, already done {skipped}")
        });
        if summary.rejected > 0 {
            return Err(Failure::new(format!("{} events were rejected", summary.rejected))
                .hint("the others are in; mend these at their source and import them alone"));
        }
        Ok(())
    }

    fn open(&self) -> Result<Source, Failure> {
        match &self.from {
            From::Ndjson { file } => ndjson::open(file),
            From::Cloudtrail { files } => Ok(cloudtrail::open(files)),
            From::Git { path } => git::open(path),
            From::Packages { file } => packages::open(file),
        }
    }

    async fn send(
        &self,
        source: Source,
        mut state: State,
        api: &Api,
        bar: &ProgressBar,
    ) -> Result<Summary, Failure> {
        let mut receipts = self.receipts.as_deref().map(append).transpose()?;
        let mut summary = Summary { skipped: state.done, ..Summary::default() };
        let (skip, size) = (state.done, u64::from(self.batch));
        let (name, pause) = (source.name.as_str(), self.pause);
        let (give, take) = mpsc::channel(BATCHES_AHEAD);
        // Reading blocks (files, a pipe), so it has a thread of its own; it ends with the channel.
        let reader =
            tokio::task::spawn_blocking(move || batch::read(source.items, skip, size, &give));
        let batches = futures_util::stream::unfold(take, |mut take| async move {
            take.recv().await.map(|batch: Batch| (batch, take))
        });
        // `buffered` keeps the order, so the state never runs ahead of an unfinished batch.
        let mut sent = std::pin::pin!(
            batches
                .map(|batch| async move { batch.send(api, name, pause).await })
                .buffered(self.concurrency as usize)
        );
        while let Some(outcome) = sent.next().await {
            let outcome = outcome?;
            record(&outcome, &mut summary, receipts.as_mut())?;
            state.advance(outcome.events)?;
            bar.inc(outcome.steps);
            bar.set_message(format!("{} accepted", summary.accepted));
        }
        reader.await.map_err(Failure::new)??;
        Ok(summary)
    }
}

/// Reads everything and sends nothing.
fn count(source: Source, state: &State, output: &Output) -> Result<(), Failure> {
    let (mut events, mut bytes, mut first) = (0_u64, 0_u64, None);
    for item in source.items {
        let event = item?.event;
        bytes += event.to_string().len() as u64;
        events += 1;
        first.get_or_insert(event);
    }
    let left = events.saturating_sub(state.done);
    let value = serde_json::json!({
        "events": events, "bytes": bytes, "already_done": state.done, "first": first,
    });
    output.value(&value, || {
        let first = first.map_or_else(String::new, |event| short(&event.to_string(), 200));
        format!("{events} events, {bytes} bytes; {left} would be sent\nfirst: {first}")
    });
    Ok(())
}

/// Counts a batch's outcome; its ids are on disk before the state says that it is done.
fn record(
    outcome: &Outcome,
    summary: &mut Summary,
    receipts: Option<&mut File>,
) -> Result<(), Failure> {
    summary.events += outcome.events;
    summary.accepted += outcome.accepted.len() as u64;
    summary.rejected += outcome.rejected.len() as u64;
    let room = REASONS_SHOWN.saturating_sub(summary.reasons.len());
    summary.reasons.extend(outcome.rejected.iter().take(room).cloned());
    if let Some(file) = receipts {
        let lines: String = outcome.accepted.iter().flat_map(|id| [id.as_str(), "\n"]).collect();
        file.write_all(lines.as_bytes())?;
    }
    Ok(())
}

fn append(path: &Path) -> Result<File, Failure> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}

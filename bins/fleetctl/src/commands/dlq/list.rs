//! `fleetctl dlq list`: what lies on the dead-letter queues and why, by cause or one by one.

use clap::Args;
use contracts::QueueSpec;
use contracts::catalogue::QUEUES;
use queue_core::{Clock, SystemClock};

use super::groups::{By, Groups};
use super::interrupt::Interrupt;
use super::letter::{Letter, Row};
use super::select::Select;
use super::sweep::{HELD_MAX, Sweep};
use crate::failure::Failure;
use crate::output::{Output, short, span};
use crate::settings::Settings;

/// Letters listed one by one where --limit does not say.
const LETTERS: u32 = 100;

/// Lists dead letters.
#[derive(Args)]
#[command(after_help = "\
Examples:
  fleetctl dlq list
  fleetctl dlq list audit-index --by tenant --older-than 1h
  fleetctl dlq list audit-index --letters --code failures-exhausted
  fleetctl dlq list --json | jq -r '[.count, .key, .sample.reason] | @tsv'")]
pub(crate) struct List {
    /// Key or name of the queue; every queue when left out
    #[arg(value_parser = super::spec)]
    queue: Option<&'static QueueSpec>,
    #[command(flatten)]
    select: Select,
    /// What they are grouped by
    #[arg(long, value_enum, default_value = "fingerprint")]
    by: By,
    /// One by one instead of in groups
    #[arg(long)]
    letters: bool,
    /// Letters at most, 1 to 100000; 100 with --letters, else as many as there are
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: Option<u32>,
}

impl List {
    pub(crate) async fn run(self, settings: &Settings, output: &Output) -> Result<(), Failure> {
        let specs = self.queue.map_or_else(|| QUEUES.to_vec(), |spec| vec![spec]);
        let limit =
            self.limit.or(self.letters.then_some(LETTERS)).map_or(usize::MAX, |n| n as usize);
        let (mut groups, mut rows, mut left) = (Groups::new(self.by), Vec::new(), limit);
        let mut interrupt = Interrupt::catch()?;
        for spec in specs {
            let seen = look(settings, spec, &self.select, left, &mut interrupt, output, |letter| {
                let row = letter.row(spec);
                if self.letters { rows.push(row) } else { groups.add(row) }
            });
            match seen.await {
                Ok(seen) => left -= seen.min(left),
                // Of all queues, some may not be made yet.
                Err(failure) if self.queue.is_none() && failure.exit == 1 && !interrupt.came() => {
                    output.note(&format!("{}: {}", spec.key, failure.message));
                }
                Err(failure) => return Err(failure),
            }
        }
        if rows.is_empty() && groups.count() == 0 {
            output.note("no dead letters");
        } else if self.letters {
            print(&rows, output);
        } else {
            groups.print(output);
        }
        if left == 0 {
            output.note(&format!("stopped at {limit}: --limit shows more"));
        }
        Ok(())
    }
}

/// Shows `take` every letter that is meant, `limit` at most, and gives each back; how many there were.
pub(super) async fn look(
    settings: &Settings,
    spec: &'static QueueSpec,
    select: &Select,
    limit: usize,
    interrupt: &mut Interrupt,
    output: &Output,
    mut take: impl FnMut(&Letter),
) -> Result<usize, Failure> {
    let sqs = settings.sqs().await?;
    let queue = settings.queue(&sqs, spec).await?;
    let mut sweep = Sweep::open(&*queue.dead_letters, spec, select).await?;
    let mut seen = 0;
    let outcome = loop {
        if interrupt.came() {
            break Err(Failure::new(format!("stopped after {seen}; what was held is given back")));
        }
        match sweep.next(limit - seen).await {
            Ok(Some(letters)) => {
                letters.iter().for_each(&mut take);
                seen += letters.len();
                sweep.keep(&letters);
            }
            Ok(None) => break Ok(()),
            Err(failure) => break Err(failure),
        }
    };
    if sweep.stopped_at_limit() {
        output.note(&format!("{}: looked at {HELD_MAX}, the rest is behind them", spec.dlq));
    }
    sweep.finish().await;
    outcome.map(|()| seen)
}

/// The letters as a table.
fn print(rows: &[Row], output: &Output) {
    let now = SystemClock.now();
    let heads = ["ID", "QUEUE", "TYPE", "TENANT", "CODE", "REJECTED", "REASON"];
    output.rows(rows, &heads, |row| {
        let ago = row
            .rejected_at
            .map_or_else(|| "-".to_owned(), |at| format!("{} ago", span((now - at).num_seconds())));
        vec![
            row.id.chars().take(8).collect(),
            row.queue.clone(),
            row.kind.clone(),
            row.tenant.clone(),
            row.code.clone(),
            ago,
            short(&row.reason, 80),
        ]
    });
}

//! `fleetctl dlq purge`: deletes dead letters, for good. It needs a filter or --all, shows what it
//! would delete and asks.

use clap::Args;
use contracts::QueueSpec;

use super::list;
use super::select::Select;
use super::sweep::{Sweep, verdict};
use crate::failure::Failure;
use crate::output::Output;
use crate::settings::{Queue, Settings, confirm};

/// Deletes dead letters.
#[derive(Args)]
#[command(after_help = "\
Examples:
  fleetctl dlq purge audit-index --fingerprint 9c1185a5c5e9fc54
  fleetctl dlq purge audit-index --all --older-than 7d --yes")]
pub(crate) struct Purge {
    /// Key or name of the queue
    #[arg(value_parser = super::spec)]
    queue: &'static QueueSpec,
    #[command(flatten)]
    select: Select,
    /// Everything that fits, also when nothing is filtered
    #[arg(long)]
    all: bool,
    /// At most this many, 1 to 10000
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Show what would be deleted, and stop
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

impl Purge {
    pub(crate) async fn run(self, settings: &Settings, output: &Output) -> Result<(), Failure> {
        if self.select.is_everything() && !self.all {
            return Err(Failure::usage("which? give a filter, or --all"));
        }
        let limit = self.limit as usize;
        let rows = list::matching(settings, self.queue, &self.select, limit).await?;
        if rows.is_empty() {
            let none = || "no dead letter fits: nothing to delete".to_owned();
            output.value(&serde_json::json!({ "deleted": 0 }), none);
            return Ok(());
        }
        if self.dry_run || !self.yes {
            list::print(&rows, output);
        }
        if self.dry_run {
            return Ok(());
        }
        let question = format!("Delete these {} from {} for good?", rows.len(), self.queue.dlq);
        confirm(output, self.yes, &question)?;
        let shown =
            Select { id: rows.into_iter().map(|row| row.id).collect(), ..Select::default() };
        let sqs = settings.sqs().await?;
        let queue = settings.queue(&sqs, self.queue).await?;
        let (deleted, failed) = self.delete(&queue, &shown).await?;
        output.value(&serde_json::json!({ "deleted": deleted }), || format!("deleted {deleted}"));
        verdict(shown.id.len(), deleted, &failed, "deleted")
    }

    /// How many were deleted, and why others could not be.
    async fn delete(&self, queue: &Queue, shown: &Select) -> Result<(usize, Vec<String>), Failure> {
        let mut sweep = Sweep::new(&*queue.dead_letters, self.queue, shown);
        let (mut deleted, mut failed) = (0, Vec::new());
        let outcome = loop {
            let letters = match sweep.next(shown.id.len() - deleted).await {
                Ok(Some(letters)) => letters,
                Ok(None) => break Ok(()),
                Err(failure) => break Err(failure),
            };
            let receipts: Vec<String> =
                letters.iter().map(|l| l.received.receipt.clone()).collect();
            match queue.dead_letters.settle(&receipts).await {
                Ok(results) => {
                    for (letter, result) in letters.iter().zip(results) {
                        match result {
                            Ok(()) => deleted += 1,
                            Err(error) => {
                                failed.push(format!("{}: {error}", letter.received.message_id));
                                sweep.keep([letter]);
                            }
                        }
                    }
                }
                Err(error) => {
                    sweep.keep(&letters);
                    break Err(Failure::sqs(&error));
                }
            }
        };
        sweep.finish().await;
        outcome.map(|()| (deleted, failed))
    }
}

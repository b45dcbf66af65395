//! `fleetctl dlq purge`: deletes dead letters, each only after it stands whole in a file. It needs a
//! filter or --all; without --yes it only says what it would delete.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use contracts::QueueSpec;
use serde_json::json;

use super::carry::delete;
use super::groups::{By, Groups};
use super::interrupt::Interrupt;
use super::letter::Letter;
use super::list::look;
use super::select::Select;
use super::sweep::Sweep;
use crate::failure::Failure;
use crate::output::Output;
use crate::settings::{Queue, Settings};

/// Deletes dead letters.
#[derive(Args)]
#[command(after_help = "\
Examples:
  fleetctl dlq purge audit-index --fingerprint 9c1185a5c5e9fc54             # what would happen
  fleetctl dlq purge audit-index --fingerprint 9c1185a5c5e9fc54 --export gone.ndjson --yes
  fleetctl dlq purge audit-index --all --older-than 7d --export gone.ndjson --yes")]
pub(crate) struct Purge {
    /// Key or name of the queue
    #[arg(value_parser = super::spec)]
    queue: &'static QueueSpec,
    #[command(flatten)]
    select: Select,
    /// Everything that fits, also when nothing is filtered
    #[arg(long)]
    all: bool,
    /// A new file that gets every letter, one JSON line each, before it is deleted
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,
    /// Letters at most; as many as there are when left out
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Delete them
    #[arg(long, short)]
    yes: bool,
}

impl Purge {
    pub(crate) async fn run(self, settings: &Settings, output: &Output) -> Result<(), Failure> {
        if self.select.is_everything() && !self.all {
            return Err(Failure::usage("which? give a filter, or --all"));
        }
        let limit = self.limit.map_or(usize::MAX, |limit| limit as usize);
        let mut interrupt = Interrupt::catch()?;
        if !self.yes {
            let mut groups = Groups::new(By::Fingerprint);
            let take = |letter: &Letter| groups.add(letter.row(self.queue));
            let spec = self.queue;
            let count =
                look(settings, spec, &self.select, limit, &mut interrupt, output, take).await?;
            if !output.json && count > 0 {
                groups.print(output);
            }
            let told = || format!("would delete {count}; --export FILE --yes does");
            output.value(&json!({ "would_delete": count }), told);
            return Ok(());
        }
        let Some(path) = &self.export else {
            return Err(Failure::usage("nothing is deleted without a copy: give --export FILE"));
        };
        let mut file = new_file(path)?;
        let sqs = settings.sqs().await?;
        let queue = settings.queue(&sqs, self.queue).await?;
        let (deleted, left) = self.delete(&queue, &mut file, limit, &mut interrupt).await?;
        output.value(&json!({ "deleted": deleted, "not_deleted": left, "export": path }), || {
            format!("deleted {deleted}, copied to {} before", path.display())
        });
        if left == 0 {
            return Ok(());
        }
        Err(Failure::new(format!("{left} were copied and not deleted")).hint("run it again"))
    }

    /// How many were deleted, and how many were not that should have been.
    async fn delete(
        &self,
        queue: &Queue,
        file: &mut std::fs::File,
        limit: usize,
        interrupt: &mut Interrupt,
    ) -> Result<(u64, u64), Failure> {
        let dead = &*queue.dead_letters;
        let mut sweep = Sweep::open(dead, self.queue, &self.select).await?;
        let (mut deleted, mut left, mut room) = (0, 0, limit);
        let outcome = loop {
            if interrupt.came() {
                break Err(Failure::new(format!("stopped after {deleted}")).hint("run it again"));
            }
            let letters = match sweep.next(room).await {
                Ok(Some(letters)) => letters,
                Ok(None) => break Ok(()),
                Err(failure) => break Err(failure),
            };
            if let Err(error) = export(file, &letters) {
                sweep.keep(&letters);
                break Err(Failure::new(format!("the copy cannot be written: {error}")));
            }
            let receipts: Vec<String> =
                letters.iter().map(|letter| letter.received.receipt.clone()).collect();
            let gone = delete(dead, &receipts).await;
            deleted += gone;
            left += receipts.len() as u64 - gone;
            room = room.saturating_sub(receipts.len());
        };
        sweep.finish().await;
        outcome.map(|()| (deleted, left))
    }
}

/// A file that is not there yet: an older copy must not be lost to a newer one.
fn new_file(path: &Path) -> Result<std::fs::File, Failure> {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    file.map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

/// Writes letters whole and waits until the disk has them.
fn export(file: &mut std::fs::File, letters: &[Letter]) -> std::io::Result<()> {
    let mut lines = String::new();
    for letter in letters {
        let received = &letter.received;
        let line = json!({
            "id": received.message_id,
            "sent_at_ms": received.sent_at_ms,
            "group": received.group,
            "attributes": received.attributes,
            "body": received.body,
        });
        lines.push_str(&line.to_string());
        lines.push('\n');
    }
    file.write_all(lines.as_bytes())?;
    file.sync_data()
}

//! `fleetctl dlq redrive`: originals back to their queue. The original is sent with its attributes,
//! and deleted here only after the queue has accepted it: a crash between the two leaves a
//! duplicate, which the envelope's id makes harmless, never a loss. A bare message gets an envelope
//! with the id that it had.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use contracts::QueueSpec;
use queue_core::Outgoing;
use queue_sqs::Admin;
use serde::Serialize;

use super::letter::Letter;
use super::select::Select;
use super::sweep::{Sweep, verdict};
use super::{list, select};
use crate::failure::Failure;
use crate::output::Output;
use crate::settings::{Queue, Settings, confirm};

/// Bytes of a message at most (SQS).
const BODY_MAX: u64 = 1024 * 1024;

/// Sends dead letters back.
#[derive(Args)]
#[command(after_help = "\
Examples:
  fleetctl dlq redrive audit-index --code failures-exhausted
  fleetctl dlq redrive audit-index --older-than 1h --rate 20 --yes
  fleetctl dlq show audit-index 5f2c --body > mended.json; $EDITOR mended.json
  fleetctl dlq redrive audit-index --id 5f2c --body mended.json
It shows what it would send and asks first.")]
pub(crate) struct Redrive {
    /// Key or name of the queue
    #[arg(value_parser = super::spec)]
    queue: &'static QueueSpec,
    #[command(flatten)]
    select: select::Select,
    /// Messages per second at most, 1 to 1000
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rate: u32,
    /// At most this many, 1 to 10000
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Send this file's text instead of the original body; needs one --id
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// Show what would be sent, and stop
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// How long a message is kept from others at a time; no option.
    #[arg(skip = super::sweep::LEASE)]
    pub(super) lease: Duration,
}

/// What a redrive did.
#[derive(Default, Serialize)]
pub(super) struct Done {
    pub(super) sent: usize,
    /// Sent, but still on the dead-letter queue too.
    not_deleted: usize,
    pub(super) failed: Vec<String>,
}

impl Done {
    fn has_failed(&self, letter: &Letter) -> bool {
        let id = letter.received.message_id.as_str();
        // Each one is "id: why".
        self.failed.iter().any(|why| why.split_once(": ").is_some_and(|(of, _)| of == id))
    }
}

impl Redrive {
    pub(crate) async fn run(self, settings: &Settings, output: &Output) -> Result<(), Failure> {
        let mended = self.mended()?;
        let limit = self.limit as usize;
        let rows = list::matching(settings, self.queue, &self.select, limit).await?;
        if rows.is_empty() {
            output.value(&Done::default(), || "no dead letter fits: nothing to send".to_owned());
            return Ok(());
        }
        if mended.is_some() && rows.len() != 1 {
            let count = rows.len();
            return Err(Failure::usage(format!("--body is for one message, and {count} fit"))
                .hint("name the one with --id"));
        }
        if self.dry_run || !self.yes {
            list::print(&rows, output);
        }
        if self.dry_run {
            return Ok(());
        }
        let question = format!("Send these {} back to {}?", rows.len(), self.queue.name);
        confirm(output, self.yes, &question)?;
        // Exactly what was shown: what came meanwhile is not meant.
        let shown =
            Select { id: rows.into_iter().map(|row| row.id).collect(), ..Select::default() };
        let sqs = settings.sqs().await?;
        let queue = settings.queue(&sqs, self.queue).await?;
        let done = self.send(&queue, &shown, mended.as_deref()).await?;
        output.value(&done, || format!("sent {} back to {}", done.sent, self.queue.name));
        if done.not_deleted > 0 {
            let count = done.not_deleted;
            output
                .note(&format!("{count} were sent and are still here too: delete them with purge"));
        }
        verdict(shown.id.len(), done.sent, &done.failed, "sent")
    }

    fn mended(&self) -> Result<Option<String>, Failure> {
        let Some(path) = &self.body else { return Ok(None) };
        let named = |why: String| Failure::usage(format!("{}: {why}", path.display()));
        let size = std::fs::metadata(path).map_err(|error| named(error.to_string()))?.len();
        if size == 0 || size > BODY_MAX {
            return Err(named(format!("a message has 1 to {BODY_MAX} bytes, this has {size}")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
        Ok(Some(text.trim_end_matches('\n').to_owned()))
    }

    pub(super) async fn send(
        &self,
        queue: &Queue,
        shown: &Select,
        mended: Option<&str>,
    ) -> Result<Done, Failure> {
        let mut sweep = Sweep::with_lease(&*queue.dead_letters, self.queue, shown, self.lease);
        let mut done = Done::default();
        let outcome = loop {
            let letters = match sweep.next(shown.id.len() - done.sent.min(shown.id.len())).await {
                Ok(Some(letters)) => letters,
                Ok(None) => break Ok(()),
                Err(failure) => break Err(failure),
            };
            if let Err(failure) = self.send_batch(queue, &letters, mended, &mut done).await {
                sweep.keep(&letters);
                break Err(failure);
            }
            sweep.keep(letters.iter().filter(|letter| done.has_failed(letter)));
            let pause = Duration::from_secs(letters.len() as u64) / self.rate;
            sweep.pause(pause).await;
        };
        sweep.finish().await;
        outcome.map(|()| done)
    }

    async fn send_batch(
        &self,
        queue: &Queue,
        letters: &[Letter],
        mended: Option<&str>,
        done: &mut Done,
    ) -> Result<(), Failure> {
        let original = |received: &queue_core::Received| -> Outgoing {
            let found = letters.iter().find(|l| l.received.message_id == received.message_id);
            found.map(|letter| letter.outgoing(self.queue, mended)).unwrap_or_default()
        };
        let batch: Vec<_> = letters.iter().map(|letter| letter.received.clone()).collect();
        let moved = Admin::redrive(&*queue.dead_letters, &*queue.queue, &batch, original).await;
        let moved = moved.map_err(|error| Failure::unavailable(format!("not sent: {error}")))?;
        done.sent += moved.moved + moved.sent_not_deleted;
        done.not_deleted += moved.sent_not_deleted;
        done.failed.extend(moved.failed);
        Ok(())
    }
}

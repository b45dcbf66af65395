//! Carrying letters back, a batch at a time: sent first, deleted after. On a FIFO queue one by one and
//! in order; where one of a group is not taken, those behind it stay.

use std::collections::HashSet;

use contracts::QueueSpec;
use contracts::catalogue::QueueKind;
use queue_core::driver::EntryResults;
use queue_core::send::SEND_BYTES_MAX;
use queue_core::{Driver, EntryError, Outgoing};
use serde::Serialize;

use super::letter::Letter;
use crate::failure::Failure;
use crate::output::Output;
use crate::settings::Queue;

/// Failures that are told one by one.
const FAILURES_TOLD: usize = 100;
/// Batches that fail one after the other before a run ends: the queue does not answer.
const BATCHES_FAILED_MAX: u32 = 3;

/// What a redrive did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Done {
    pub(super) sent: u64,
    /// Sent, but still on the dead-letter queue too.
    pub(super) not_deleted: u64,
    /// Left, since no worker of this build can handle them.
    pub(super) skipped: u64,
    /// Rejected again while this ran, and left.
    pub(super) came_back: u64,
    /// Not sent.
    pub(super) failed: u64,
    /// Why, the first hundred.
    pub(super) failures: Vec<String>,
    pub(super) interrupted: bool,
    pub(super) stopped_at_limit: bool,
}

/// The way back.
pub(super) struct Carrier<'a> {
    queue: &'a Queue,
    spec: &'static QueueSpec,
    pub(super) done: Done,
    /// FIFO groups of which something stays: nothing behind it may overtake it.
    stuck: HashSet<String>,
    failed_batches: u32,
}

impl<'a> Carrier<'a> {
    pub(super) fn new(queue: &'a Queue, spec: &'static QueueSpec) -> Self {
        let (done, stuck) = (Done::default(), HashSet::new());
        Self { queue, spec, done, stuck, failed_batches: 0 }
    }

    /// Whether the queue has not taken anything for a while.
    pub(super) fn gives_up(&self) -> bool {
        self.failed_batches >= BATCHES_FAILED_MAX
    }

    /// Letters that stay: on a FIFO queue what follows them in their group stays, too.
    pub(super) fn hold_behind(&mut self, letters: &[Letter]) {
        if self.spec.kind == QueueKind::Fifo {
            self.stuck.extend(letters.iter().filter_map(group));
        }
    }

    /// Sends letters and deletes those that were taken; the others come back.
    pub(super) async fn carry<'l>(&mut self, letters: &'l [Letter]) -> Vec<&'l Letter> {
        let mut kept = Vec::new();
        for batch in self.batches(letters) {
            let held =
                batch.iter().any(|letter| group(letter).is_some_and(|g| self.stuck.contains(&g)));
            if held {
                self.fail(batch, "one before it in its group stays");
                kept.extend(batch);
                continue;
            }
            kept.extend(self.carry_batch(batch).await);
        }
        kept
    }

    /// By bytes, since a batch has the limit of one message; on a FIFO queue each one for itself.
    fn batches<'l>(&self, letters: &'l [Letter]) -> Vec<&'l [Letter]> {
        if self.spec.kind == QueueKind::Fifo {
            return letters.chunks(1).collect();
        }
        let (mut batches, mut begin, mut bytes) = (Vec::new(), 0, 0);
        for (at, letter) in letters.iter().enumerate() {
            let size = letter.outgoing(self.spec).size();
            if at > begin && bytes + size > SEND_BYTES_MAX {
                batches.push(&letters[begin..at]);
                (begin, bytes) = (at, 0);
            }
            bytes += size;
        }
        batches.push(&letters[begin..]);
        batches.retain(|batch| !batch.is_empty());
        batches
    }

    async fn carry_batch<'l>(&mut self, batch: &'l [Letter]) -> Vec<&'l Letter> {
        let outgoing: Vec<Outgoing> =
            batch.iter().map(|letter| letter.outgoing(self.spec)).collect();
        let results = match self.queue.queue.send(&outgoing).await {
            Ok(results) => results,
            Err(error) => {
                self.failed_batches += 1;
                self.fail(batch, &error.to_string());
                self.hold_behind(batch);
                return batch.iter().collect();
            }
        };
        self.failed_batches = 0;
        let (taken, kept) = self.split(batch, results);
        let receipts: Vec<String> =
            taken.iter().map(|letter| letter.received.receipt.clone()).collect();
        self.done.sent += receipts.len() as u64;
        let deleted = delete(&*self.queue.dead_letters, &receipts).await;
        self.done.not_deleted += receipts.len() as u64 - deleted;
        kept
    }

    fn split<'l>(
        &mut self,
        batch: &'l [Letter],
        results: EntryResults,
    ) -> (Vec<&'l Letter>, Vec<&'l Letter>) {
        let (mut taken, mut kept) = (Vec::new(), Vec::new());
        for (letter, result) in batch.iter().zip(results) {
            match result {
                Ok(()) => taken.push(letter),
                Err(
                    EntryError::LeaseLost(why)
                    | EntryError::Transient(why)
                    | EntryError::Refused(why),
                ) => {
                    self.fail(std::slice::from_ref(letter), &why);
                    self.hold_behind(std::slice::from_ref(letter));
                    kept.push(letter);
                }
            }
        }
        (taken, kept)
    }

    fn fail(&mut self, letters: &[Letter], why: &str) {
        self.done.failed += letters.len() as u64;
        let room = FAILURES_TOLD.saturating_sub(self.done.failures.len());
        let told = letters.iter().take(room);
        self.done.failures.extend(told.map(|l| format!("{}: {why}", l.received.message_id)));
    }
}

fn group(letter: &Letter) -> Option<String> {
    letter.received.group.clone()
}

/// How many of the receipts were deleted; what fails is tried once more.
pub(super) async fn delete(queue: &dyn Driver, receipts: &[String]) -> u64 {
    let mut left = receipts.to_vec();
    for _ in 0..2 {
        if left.is_empty() {
            break;
        }
        let Ok(results) = queue.settle(&left).await else { continue };
        let failed = left.into_iter().zip(results).filter(|(_, result)| result.is_err());
        left = failed.map(|(receipt, _)| receipt).collect();
    }
    (receipts.len() - left.len()) as u64
}

impl Done {
    pub(super) fn told(&self, spec: &QueueSpec) -> String {
        let mut lines = vec![format!("sent {} back to {}", self.sent, spec.name)];
        for (count, what) in [
            (
                self.skipped,
                "left, since no worker of this build can handle them (--force sends them)",
            ),
            (self.came_back, "rejected again meanwhile, and left"),
            (
                self.not_deleted,
                "sent and still here too: the next run sends them once more, which the envelope's id makes harmless",
            ),
        ] {
            if count > 0 {
                lines.push(format!("{count} {what}"));
            }
        }
        lines.join("\n")
    }

    /// Whether everything that was to be sent was.
    pub(super) fn verdict(&self, output: &Output) -> Result<(), Failure> {
        if self.stopped_at_limit {
            output.note("stopped: too many letters that were not meant are in front");
        }
        if let Some(first) = self.failures.first() {
            return Err(Failure::new(format!("{} were not sent: {first}", self.failed))
                .hint("run it again: it goes on with what is left"));
        }
        if self.interrupted {
            return Err(Failure::new(format!("stopped after {}", self.sent))
                .hint("run it again: it goes on with what is left"));
        }
        Ok(())
    }
}

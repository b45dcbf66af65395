//! One pass over a dead-letter queue: every message is received under a lease; those that are meant are
//! handed over once, the others are given back at the end. It never calls itself done because of
//! messages that it has seen: on a long pass their leases end, and unseen ones are behind them.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use contracts::QueueSpec;
use queue_core::driver::{BATCH_ENTRIES_MAX, ReceiveRequest};
use queue_core::{Clock, Driver, SystemClock};

use super::letter::Letter;
use super::select::Select;
use crate::failure::Failure;

/// How long a pass may keep a message from others. What a crash leaves behind is back after this.
const LEASE: Duration = Duration::from_secs(120);
/// Waits this long for one more message: a short poll asks only some of the servers.
const WAIT: Duration = Duration::from_secs(1);
/// Times that every message may be met again, on average, before the pass ends without an empty
/// receive: a whole round of ended leases, and one more.
const ROUNDS_MAX: usize = 2;

/// A pass in progress.
pub(super) struct Sweep<'a> {
    dead_letters: &'a dyn Driver,
    spec: &'static QueueSpec,
    select: &'a Select,
    seen: HashSet<String>,
    /// Receipts to be given back, by message: only the latest one is good.
    held: HashMap<String, String>,
}

impl<'a> Sweep<'a> {
    pub(super) fn new(
        dead_letters: &'a dyn Driver,
        spec: &'static QueueSpec,
        select: &'a Select,
    ) -> Self {
        Self { dead_letters, spec, select, seen: HashSet::new(), held: HashMap::new() }
    }

    /// The next letters that are meant, `max` and ten at most; `None` when the pass is over: nothing
    /// is left, or what comes was seen before [`ROUNDS_MAX`] times over.
    pub(super) async fn next(&mut self, max: usize) -> Result<Option<Vec<Letter>>, Failure> {
        let max = max.min(BATCH_ENTRIES_MAX);
        if max == 0 {
            return Ok(None);
        }
        let mut again = 0;
        loop {
            let request = ReceiveRequest { max, wait: WAIT, lease: LEASE };
            let batch = self.dead_letters.receive(request).await;
            let batch = batch.map_err(|error| Failure::sqs(&error))?;
            if batch.is_empty() {
                return Ok(None);
            }
            let now = SystemClock.now();
            let mut taken = Vec::new();
            for received in batch {
                let first = self.seen.insert(received.message_id.clone());
                again = if first { 0 } else { again + 1 };
                let letter = Letter::read(received);
                if first && self.select.takes(&letter.row(self.spec), now) {
                    taken.push(letter);
                } else {
                    self.hold(&letter);
                }
            }
            if !taken.is_empty() {
                return Ok(Some(taken));
            }
            if again > self.seen.len() * ROUNDS_MAX {
                return Ok(None);
            }
        }
    }

    /// Keeps letters on the queue that were handed over and not dealt with.
    pub(super) fn keep<'l>(&mut self, letters: impl IntoIterator<Item = &'l Letter>) {
        for letter in letters {
            self.hold(letter);
        }
    }

    fn hold(&mut self, letter: &Letter) {
        let received = &letter.received;
        self.held.insert(received.message_id.clone(), received.receipt.clone());
    }

    /// Gives back what was not meant. What cannot be given back now comes back with its lease's end.
    pub(super) async fn finish(self) {
        let held: Vec<_> = self.held.into_values().map(|held| (held, Duration::ZERO)).collect();
        for entries in held.chunks(BATCH_ENTRIES_MAX) {
            drop(self.dead_letters.extend(entries).await);
        }
    }
}

/// Whether all that were confirmed were dealt with: `asked` were, `done` are `verb`, and `failed` says
/// why others are not.
pub(super) fn verdict(
    asked: usize,
    done: usize,
    failed: &[String],
    verb: &str,
) -> Result<(), Failure> {
    let unmet = asked.saturating_sub(done + failed.len());
    let mut why = Vec::new();
    if let Some(first) = failed.first() {
        why.push(format!("{} were not {verb}: {first}", failed.len()));
    }
    if unmet > 0 {
        why.push(format!("{unmet} of {asked} were not met again"));
    }
    if why.is_empty() {
        return Ok(());
    }
    Err(Failure::new(why.join("; "))
        .hint("run it again: what is still there, or another reader had, is met then"))
}

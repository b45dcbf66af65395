//! One pass over a dead-letter queue: every message is received once, under a lease; those that are
//! meant are handed over, the others are given back at the end.

use std::collections::HashSet;
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

/// A pass in progress.
pub(super) struct Sweep<'a> {
    dead_letters: &'a dyn Driver,
    spec: &'static QueueSpec,
    select: &'a Select,
    seen: HashSet<String>,
    /// Receipts to be given back.
    held: Vec<String>,
}

impl<'a> Sweep<'a> {
    pub(super) fn new(
        dead_letters: &'a dyn Driver,
        spec: &'static QueueSpec,
        select: &'a Select,
    ) -> Self {
        Self { dead_letters, spec, select, seen: HashSet::new(), held: Vec::new() }
    }

    /// The next letters that are meant, `max` and ten at most; `None` when the pass is over: nothing
    /// is left, or what comes was seen before.
    pub(super) async fn next(&mut self, max: usize) -> Result<Option<Vec<Letter>>, Failure> {
        let max = max.min(BATCH_ENTRIES_MAX);
        if max == 0 {
            return Ok(None);
        }
        loop {
            let request = ReceiveRequest { max, wait: WAIT, lease: LEASE };
            let batch = self.dead_letters.receive(request).await;
            let batch = batch.map_err(|error| Failure::sqs(&error))?;
            let now = SystemClock.now();
            let mut fresh = false;
            let mut taken = Vec::new();
            for received in batch {
                let first = self.seen.insert(received.message_id.clone());
                fresh |= first;
                let letter = Letter::read(received);
                if first && self.select.takes(&letter.row(self.spec), now) {
                    taken.push(letter);
                } else {
                    self.held.push(letter.received.receipt);
                }
            }
            if !taken.is_empty() {
                return Ok(Some(taken));
            }
            if !fresh {
                return Ok(None);
            }
        }
    }

    /// Keeps letters on the queue that were handed over and not dealt with.
    pub(super) fn keep(&mut self, letters: &[Letter]) {
        self.held.extend(letters.iter().map(|letter| letter.received.receipt.clone()));
    }

    /// Gives back what was not meant. What cannot be given back now comes back with its lease's end.
    pub(super) async fn finish(self) {
        for receipts in self.held.chunks(BATCH_ENTRIES_MAX) {
            let entries: Vec<_> =
                receipts.iter().map(|receipt| (receipt.clone(), Duration::ZERO)).collect();
            drop(self.dead_letters.extend(&entries).await);
        }
    }
}

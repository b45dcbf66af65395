//! One pass over a dead-letter queue: every message is received under a lease; those that are meant are
//! handed over once, the others are held, their leases extended while the pass lasts, and given back
//! at its end. It never calls itself done because of messages that it has seen: a lease may end all
//! the same, and unseen ones are behind them.
//!
//! Memory: some 500 bytes for each message that is held or was seen, at most [`HELD_MAX`] of them.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use contracts::QueueSpec;
use futures_util::{StreamExt, stream};
use queue_core::driver::{BATCH_ENTRIES_MAX, ReceiveRequest};
use queue_core::{Clock, Driver, EntryError, SystemClock};
use tokio::time::Instant;

use super::letter::Letter;
use super::select::Select;
use crate::failure::Failure;

/// How long a pass may keep a message from others without saying so again. What a crash leaves behind
/// is back after this.
pub(super) const LEASE: Duration = Duration::from_secs(120);
/// The same for a long queue: as many seconds as a pass at this rate takes, so that not every lease has
/// to be extended on the way.
const PACE: u64 = 200;
/// At most, where a crash of ours would keep letters from others for so long.
const LEASE_MAX: Duration = Duration::from_secs(900);
/// Messages held at a time at most: SQS lets 120,000 of a queue be in flight, for all of its readers.
pub(super) const HELD_MAX: usize = 100_000;
/// Calls at the same time when many leases are extended or given back.
const CALLS_MAX: usize = 8;
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
    lease: Duration,
    seen: HashSet<String>,
    /// What is to be given back, by message: only the latest receipt is good.
    held: HashMap<String, Held>,
    stopped_at_limit: bool,
}

/// A message that is kept from others until the end of the pass.
struct Held {
    receipt: String,
    /// Half of its lease is over then; it is extended.
    renew_at: Instant,
}

impl<'a> Sweep<'a> {
    /// A pass over a queue of any length. Where looking would count towards another redrive, it
    /// refuses: a look must not move a letter.
    pub(super) async fn open(
        dead_letters: &'a dyn Driver,
        spec: &'static QueueSpec,
        select: &'a Select,
    ) -> Result<Self, Failure> {
        let attributes = dead_letters.attributes().await.map_err(|error| Failure::sqs(&error))?;
        if let Some(target) = attributes.dead_letter_arn {
            let what = format!("{} itself redrives into {target}: looking counts", spec.dlq);
            let fix = "take its RedrivePolicy away: aws sqs set-queue-attributes --attributes RedrivePolicy=";
            return Err(Failure::new(what).hint(fix));
        }
        let depth = attributes.depth;
        let lease = Duration::from_secs((depth.visible + depth.in_flight) / PACE);
        Ok(Self::with_lease(dead_letters, spec, select, lease.clamp(LEASE, LEASE_MAX)))
    }

    pub(super) fn with_lease(
        dead_letters: &'a dyn Driver,
        spec: &'static QueueSpec,
        select: &'a Select,
        lease: Duration,
    ) -> Self {
        let (seen, held) = (HashSet::new(), HashMap::new());
        Self { dead_letters, spec, select, lease, seen, held, stopped_at_limit: false }
    }

    /// Whether the pass ended because it held as many as it may.
    pub(super) fn stopped_at_limit(&self) -> bool {
        self.stopped_at_limit
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
            if self.held.len() >= HELD_MAX {
                self.stopped_at_limit = true;
                return Ok(None);
            }
            self.renew().await;
            let request = ReceiveRequest { max, wait: WAIT, lease: self.lease };
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
        let held =
            Held { receipt: received.receipt.clone(), renew_at: Instant::now() + self.lease / 2 };
        self.held.insert(received.message_id.clone(), held);
    }

    /// Waits, with what is held still held afterwards.
    pub(super) async fn pause_until(&mut self, end: Instant) {
        loop {
            let due = self.held.values().map(|held| held.renew_at).min();
            tokio::time::sleep_until(due.map_or(end, |due| due.min(end))).await;
            self.renew().await;
            if Instant::now() >= end {
                return;
            }
        }
    }

    /// Extends the leases of which half is over. A lease that is lost (SQS ends them 12 hours after
    /// the receive) is let go: its message comes again and is seen to be known.
    async fn renew(&mut self) {
        let now = Instant::now();
        let mut due: Vec<(String, String)> = self
            .held
            .iter()
            .filter(|(_, held)| held.renew_at <= now)
            .map(|(message, held)| (message.clone(), held.receipt.clone()))
            .collect();
        due.sort();
        let (queue, lease) = (self.dead_letters, self.lease);
        let calls = due.chunks(BATCH_ENTRIES_MAX).map(|batch| async move {
            let entries: Vec<_> =
                batch.iter().map(|(_, receipt)| (receipt.clone(), lease)).collect();
            let called = queue.extend(&entries).await;
            let results = called.unwrap_or_else(|error| {
                vec![Err(EntryError::Transient(error.to_string())); batch.len()]
            });
            batch.iter().zip(results)
        });
        let results: Vec<_> = stream::iter(calls).buffer_unordered(CALLS_MAX).collect().await;
        for ((message, _), result) in results.into_iter().flatten() {
            let again = match result {
                Ok(()) => self.lease / 2,
                Err(EntryError::Transient(_)) => self.lease / 8,
                Err(EntryError::LeaseLost(_) | EntryError::Refused(_)) => {
                    self.held.remove(message);
                    continue;
                }
            };
            if let Some(held) = self.held.get_mut(message) {
                held.renew_at = Instant::now() + again;
            }
        }
    }

    /// Gives back what was not meant. What cannot be given back now comes back with its lease's end.
    pub(super) async fn finish(self) {
        let held: Vec<_> =
            self.held.into_values().map(|held| (held.receipt, Duration::ZERO)).collect();
        let calls = held.chunks(BATCH_ENTRIES_MAX).map(|entries| self.dead_letters.extend(entries));
        stream::iter(calls).buffer_unordered(CALLS_MAX).for_each(|_| std::future::ready(())).await;
    }
}

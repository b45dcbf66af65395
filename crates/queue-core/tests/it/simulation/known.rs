//! What answers tell a process, and the promises that can break in that instant: deletes, extensions
//! and dead letters.

use std::time::Duration;

use queue_core::driver::EntryResults;
use queue_core::{DeadLetter, EntryError};
use tokio::time::Instant;

use super::invariants::Invariant;
use super::plan::Nature;
use super::port::Port;
use super::process::Postponed;
use super::trace::What;

/// The longest that the engine may hide a message by itself: its infrastructure backoff's ceiling.
const DELAY_MAX: u64 = 300;

impl Port {
    pub(super) fn settle_begins(&self, receipts: &[String]) {
        let seen = self.process.seen();
        let again: Vec<usize> = (0..receipts.len())
            .filter(|at| {
                seen.deleted.contains(&receipts[*at]) || receipts[..*at].contains(&receipts[*at])
            })
            .collect();
        drop(seen);
        if !again.is_empty() {
            let text = format!("p{} deletes again what it had deleted", self.process.id);
            self.world.breaks(Invariant::SettledOnce, text);
        }
    }

    /// The broker has done it, whatever becomes of the answer.
    pub(super) fn settle_happened(&self, receipts: &[String], results: &EntryResults) {
        for (receipt, result) in receipts.iter().zip(results) {
            let mut books = self.world.books();
            let Some(id) = books.job_of(receipt).filter(|_| result.is_ok()) else { continue };
            let job = books.job(id);
            // An older receipt deletes nothing.
            if job.deleted || job.receipt != *receipt {
                continue;
            }
            job.deleted = true;
            let (effects, letters, parked) = (job.effects, job.letters.len(), job.parked);
            drop(books);
            self.world.note(self.process.id, What::Deleted { job: id });
            if effects == 0 && letters == 0 && !parked {
                let text = format!("job {id} is deleted without effect or dead letter");
                self.world.breaks(Invariant::NothingLost, text);
            }
        }
    }

    pub(super) fn settle_known(&self, receipts: &[String], results: &EntryResults) {
        for (receipt, result) in receipts.iter().zip(results) {
            let mut books = self.world.books();
            let Some(id) = books.job_of(receipt) else { continue };
            let newest = books.job(id).receipt == *receipt;
            drop(books);
            let mut seen = self.process.seen();
            if result.is_ok() {
                seen.deleted.insert(receipt.clone());
                // By an older receipt: the broker says yes and keeps the message.
                if !newest {
                    seen.done.remove(&id);
                }
            }
            if let Some(hand) = seen.hands.get_mut(&id)
                && hand.receipt == *receipt
            {
                hand.over |= result.is_ok() || lost(result);
            }
        }
    }

    pub(super) fn extend_begins(&self, entries: &[(String, Duration)]) {
        for (receipt, delay) in entries {
            let mut books = self.world.books();
            let Some(id) = books.job_of(receipt) else { continue };
            // Those behind a snoozed one of their group are hidden as long.
            let fifo = self.world.plan.is_fifo();
            let longest = books.jobs.iter().map(|job| job.snooze).max().unwrap_or(0);
            let snooze = if fifo { longest } else { books.job(id).snooze };
            drop(books);
            self.calls_back(id, receipt);
            let (seconds, lease) = (delay.as_secs(), self.world.plan.config.lease.as_secs());
            self.world.note(self.process.id, What::Extended { job: id, seconds });
            if seconds > DELAY_MAX.max(lease).max(snooze) {
                let text = format!("job {id} is hidden for {seconds} s");
                self.world.breaks(Invariant::BoundedDelay, text);
            }
        }
    }

    /// Whether the process knows of the outage that there is. It takes a look at the sink, at most one
    /// a second, and the probe's own time.
    pub(super) fn knows_that_the_sink_is_down(&self) -> bool {
        let books = self.world.books();
        let outage = books.sink_down.then_some(books.outages);
        drop(books);
        let known = self.process.seen().outage_known;
        let known = known.filter(|(known, _)| Some(*known) == outage);
        known.is_some_and(|(_, since)| since.elapsed() > Duration::from_secs(7))
    }

    /// A message that was given back because of an outage is called back: once, and not while that
    /// lasts.
    fn calls_back(&self, job: u64, receipt: &str) {
        let again = {
            let mut seen = self.process.seen();
            let postponed = seen.postponed.get_mut(&job).filter(|known| known.receipt == receipt);
            let Some(postponed) = postponed else { return };
            postponed.unsure = true;
            std::mem::replace(&mut postponed.called_back, true)
        };
        let (world, id) = (&self.world, self.process.id);
        world.note(id, What::CallsBack { job });
        if again {
            world.breaks(Invariant::BackSoon, format!("p{id} calls job {job} back twice"));
        }
        if self.knows_that_the_sink_is_down() {
            let text = format!("p{id} calls job {job} back while it knows that the sink is down");
            world.breaks(Invariant::OutageRests, text);
        }
    }

    pub(super) fn extend_known(
        &self,
        began: Instant,
        entries: &[(String, Duration)],
        results: &EntryResults,
    ) {
        for ((receipt, length), result) in entries.iter().zip(results) {
            let Some(id) = self.world.books().job_of(receipt) else { continue };
            let mut seen = self.process.seen();
            let blames = seen.blaming.contains(&id);
            let hand = seen.hands.get_mut(&id).filter(|hand| hand.receipt == *receipt);
            let Some(hand) = hand else { continue };
            if result.is_ok() {
                hand.live_until = began + *length;
                // After the handler, or for another time than a lease: it was given back.
                let given_back = *length != self.world.plan.config.lease;
                let handled = hand.handled.is_some();
                hand.over |= given_back || hand.handled.is_some_and(|at| at <= began);
                hand.unsure = hand.handled.is_none();
                if given_back && handled && blames {
                    let (receipt, until) = (receipt.clone(), began + *length);
                    let before = seen.postponed.get(&id).filter(|known| known.receipt == receipt);
                    let called_back = before.is_some_and(|known| known.called_back);
                    let known = Postponed { receipt, until, called_back, unsure: false };
                    seen.postponed.insert(id, known);
                }
            } else if lost(result) {
                // Until now it could not know; in this instant a handler may still answer.
                hand.live_until = hand.live_until.min(Instant::now());
                hand.over = true;
            }
        }
    }

    /// A letter on its way to the dead-letter queue names a reason, and the reason is what happened.
    pub(super) fn reason_is_true(&self, id: u64, letter: &DeadLetter) {
        let mut books = self.world.books();
        let nature = self.world.plan.job(id).nature;
        let faults = books.deaths + books.steals;
        let job = books.job(id);
        let most = job.failures + job.unsure_records;
        let limit = self.world.spec().failures_max;
        let unexplained = job.receives >= 9 && (faults > 0 || self.world.receives_may_be_lost(id));
        let holds = match letter.code.as_str() {
            "rejected-by-store" => matches!(nature, Nature::Poison | Nature::Refused),
            "message-not-json" => nature == Nature::Garbage,
            "failures-exhausted" => letter.failures >= limit && most >= letter.failures,
            "effect-unknown" => nature == Nature::Mail,
            "crash-loop" => unexplained,
            _ => false,
        };
        let text = format!("job {id}, {nature:?}, {job:?}: {} {}", letter.code, letter.message);
        drop(books);
        if !holds || letter.message.is_empty() {
            self.world.breaks(Invariant::TrueReason, text);
        }
    }
}

fn lost(result: &Result<(), EntryError>) -> bool {
    matches!(result, Err(EntryError::LeaseLost(_)))
}

//! The keeper: one task that extends what is due in batches, tries again what was throttled, notices
//! what is lost, stuck or at the broker's ceiling, and cancels the handlers of those. It sleeps while
//! nothing is in hand; there is no timer per message.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;

use super::{Cause, Lease, Leases};
use crate::clock::Clock;
use crate::config::LEASE_CEILING;
use crate::driver::{BATCH_ENTRIES_MAX, Driver, EntryError, within_limit};
use crate::events::{self, Meters};

/// Kept before the broker's ceiling, for the handler to end and the message to be given back.
pub(crate) const CEILING_RESERVE: Duration = Duration::from_secs(60);
/// Extension calls at the same time.
const CALLS_MAX: usize = 16;

pub(crate) struct Keeper {
    pub(crate) leases: Arc<Leases>,
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) meters: Arc<Meters>,
    pub(crate) progress_timeout: Duration,
}

/// What a look over the table found.
#[derive(Default)]
struct Sweep {
    due: Vec<Arc<Lease>>,
    oldest_sent_ms: Option<i64>,
}

impl Keeper {
    /// Runs until it is dropped.
    pub(crate) async fn run(self) {
        let lease = self.leases.lease;
        // Eight looks per lease, so that one that is due at half has three more tries.
        let tick = (lease / 8).min(Duration::from_secs(1));
        let mut calls = FuturesUnordered::new();
        loop {
            if self.leases.len() == 0 {
                self.meters.idle();
                self.leases.filled.notified().await;
            }
            let next = tokio::time::sleep(tick);
            tokio::pin!(next);
            loop {
                tokio::select! {
                    biased;
                    () = &mut next => break,
                    Some(()) = calls.next(), if !calls.is_empty() => {}
                }
            }
            let sweep = self.sweep(Instant::now());
            self.meters.in_hand(self.leases.len(), self.oldest_age(&sweep));
            for batch in sweep.due.chunks(BATCH_ENTRIES_MAX) {
                if calls.len() >= CALLS_MAX {
                    break;
                }
                for lease in batch {
                    lease.extending.store(true, Ordering::Release);
                }
                calls.push(self.extend(batch.to_vec()));
            }
        }
    }

    fn oldest_age(&self, sweep: &Sweep) -> Duration {
        let now = self.clock.now().timestamp_millis();
        let age = sweep.oldest_sent_ms.map_or(0, |sent| now.saturating_sub(sent));
        Duration::from_millis(u64::try_from(age).unwrap_or(0))
    }

    /// Looks over every lease, cancels what is to be cancelled and finds what is due.
    fn sweep(&self, now: Instant) -> Sweep {
        let length = self.leases.lease;
        // The handler stops before somebody else can start.
        let slack = (length / 10).min(Duration::from_secs(1));
        let mut found = Sweep::default();
        for lease in self.leases.all() {
            let oldest = found.oldest_sent_ms.unwrap_or(lease.sent_at_ms);
            found.oldest_sent_ms = Some(oldest.min(lease.sent_at_ms));
            if !lease.running() {
                continue;
            }
            let left = lease.ends().saturating_duration_since(now);
            let stuck = lease.without_progress(now).is_some_and(|age| age >= self.progress_timeout);
            let at_ceiling =
                now.saturating_duration_since(lease.received_at) + CEILING_RESERVE >= LEASE_CEILING;
            if left <= slack {
                self.lose(&lease, "it ran out");
            } else if stuck || at_ceiling {
                lease.cancel(Cause::Stuck);
            } else if left <= length / 2 && !lease.extending.load(Ordering::Acquire) {
                found.due.push(lease);
            }
        }
        // The most urgent first, where not all can be extended now.
        found.due.sort_by_key(|lease| lease.ends());
        found
    }

    fn lose(&self, lease: &Lease, why: &str) {
        if lease.cancel(Cause::Lost) {
            events::LeaseLost { message: lease.message_id(), why }.emit(&self.meters);
        }
    }

    async fn extend(&self, batch: Vec<Arc<Lease>>) {
        let before = Instant::now();
        let entries: Vec<(String, Duration)> = batch
            .iter()
            .map(|lease| {
                let held = before.saturating_duration_since(lease.received_at);
                let until_ceiling = LEASE_CEILING.saturating_sub(held).as_secs();
                (lease.receipt(), self.leases.lease.min(Duration::from_secs(until_ceiling)))
            })
            .collect();
        self.meters.called("extend");
        let results = within_limit(self.driver.extend(&entries)).await;
        if let Err(error) = &results {
            // Not lost yet: the next look tries again, until the lease ends.
            events::ExtendFailed { messages: batch.len(), error }.emit(&self.meters);
        }
        let results = results.unwrap_or_default();
        for (at, lease) in batch.iter().enumerate() {
            let (receipt, length) = &entries[at];
            match results.get(at) {
                Some(Ok(())) => {
                    let mut current = lease.current();
                    if current.receipt == *receipt {
                        current.ends = before + *length;
                    }
                }
                Some(Err(EntryError::LeaseLost(why))) if lease.has(receipt) => {
                    self.lose(lease, why);
                }
                Some(Err(_)) | None => {}
            }
            lease.extending.store(false, Ordering::Release);
        }
        self.leases.extended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::clock::SystemClock;
    use crate::driver::asking::{Asked, Asking, received};
    use crate::lease::Held;
    use crate::status::EngineStatus;

    const LEASE: Duration = Duration::from_secs(30);

    fn keep(leases: &Arc<Leases>) -> mpsc::UnboundedReceiver<Asked> {
        let (driver, asked) = Asking::new();
        let status = Arc::new(EngineStatus::new("jobs".into(), "test"));
        let keeper = Keeper {
            leases: Arc::clone(leases),
            driver: Arc::new(driver),
            clock: Arc::new(SystemClock),
            meters: Arc::new(Meters::new("jobs", "test", status)),
            progress_timeout: Duration::from_secs(3_600),
        };
        tokio::spawn(keeper.run());
        asked
    }

    fn take(leases: &Arc<Leases>, message: &str, receipt: &str) -> Option<Held> {
        leases.take(&[received(message, receipt)], Instant::now()).remove(0)
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_about_an_old_receipt_says_nothing_of_the_newer_one() {
        let leases = Arc::new(Leases::new(LEASE));
        let held = take(&leases, "m", "r1").unwrap();
        let mut asked = keep(&leases);
        let mut newer = Instant::now();
        for (old, new, answer) in [
            ("r1", "r2", Ok(())),
            ("r2", "r3", Err(EntryError::LeaseLost("the receipt is old".into()))),
        ] {
            let (receipts, answered) = asked.recv().await.unwrap();
            assert_eq!(receipts, [old]);
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert!(take(&leases, "m", new).is_none());
            newer = Instant::now();
            answered.send(vec![answer]).unwrap();
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert_eq!(held.lease().ends(), newer + LEASE, "as the newer receipt has it");
        }
        assert!(newer.elapsed() < LEASE && !held.lease().cancelled().is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn the_most_urgent_are_extended_first_where_not_all_can_be() {
        let leases = Arc::new(Leases::new(LEASE));
        let mut held = Vec::new();
        for (count, name) in [(5, "urgent"), (BATCH_ENTRIES_MAX * CALLS_MAX, "later")] {
            let names: Vec<String> = (0..count).map(|n| format!("{name}-{n}")).collect();
            held.extend(names.iter().map(|id| take(&leases, id, id).unwrap()));
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
        let mut asked = keep(&leases);
        let (first, _answer) = asked.recv().await.unwrap();
        assert!(first[..5].iter().all(|receipt| receipt.starts_with("urgent")), "{first:?}");
        assert!(first[5..].iter().all(|receipt| receipt.starts_with("later")), "{first:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_give_back_waits_for_an_extension_that_is_on_its_way() {
        let leases = Arc::new(Leases::new(LEASE));
        let held = take(&leases, "m", "r1").unwrap();
        let (_, answered) = keep(&leases).recv().await.unwrap();
        let stopped = held.stop_extending();
        tokio::pin!(stopped);
        let early = tokio::time::timeout(Duration::from_secs(1), &mut stopped).await;
        assert!(early.is_err(), "it would overwrite the delay that is about to be set");
        answered.send(vec![Ok(())]).unwrap();
        tokio::time::timeout(Duration::from_secs(1), stopped).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn one_extension_at_a_time_counted_from_before_its_call() {
        let leases = Arc::new(Leases::new(LEASE));
        let held = take(&leases, "m", "r1").unwrap();
        let mut asked = keep(&leases);
        let (_, answered) = asked.recv().await.unwrap();
        let before = Instant::now();
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(asked.try_recv().is_err(), "the first is on its way");
        answered.send(vec![Ok(())]).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(held.lease().ends(), before + LEASE, "the broker's end is not earlier");
    }
}

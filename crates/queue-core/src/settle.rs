//! Settling: deletes and give-backs, batched by the coalescer with positional entries, each failed
//! entry tried again until its lease ends. Never before the handler has answered.

mod processed;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::backoff::Jitter;
use crate::coalesce::{CoalesceLimits, Coalescer};
use crate::config::{EngineConfig, LEASE_CEILING};
use crate::driver::{
    BATCH_ENTRIES_MAX, Driver, DriverError, EntryError, EntryResults, within_limit,
};
use crate::events::{self, Meters};
use crate::lease::{Held, Lease};
use processed::Processed;

/// Settle calls at the same time.
const CALLS_MAX: usize = 16;
/// Pause before a failed entry is tried again; doubles up to [`PAUSE_MAX`], with jitter.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// What an entry of a give-back weighs; nothing is bounded by it, since permits bound the entries.
const RECEIPT_BYTES: usize = 1;

type Deletes = Coalescer<(), String, Result<(), EntryError>>;
type GiveBacks = Coalescer<(), (String, Duration), Result<(), EntryError>>;

/// How a settle ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// The broker has confirmed it.
    Confirmed,
    /// The lease ended first; the message may come again.
    Unconfirmed,
}

#[derive(Debug)]
pub(crate) struct Settler {
    deletes: Deletes,
    give_backs: GiveBacks,
    processed: Processed,
    jitter: Arc<Jitter>,
    meters: Arc<Meters>,
}

impl Settler {
    pub(crate) fn new(
        driver: &Arc<dyn Driver>,
        config: &EngineConfig,
        jitter: Arc<Jitter>,
        meters: Arc<Meters>,
    ) -> Self {
        let limits = CoalesceLimits {
            // With fewer messages in hand than fit a batch, nobody else would come.
            items_max: BATCH_ENTRIES_MAX.min(config.concurrency),
            bytes_max: usize::MAX,
            linger: config.linger_settle,
            batches_in_flight_max: CALLS_MAX,
            batches_in_flight_per_key_max: CALLS_MAX,
            // Bounded by the permits: an item here is a message in hand.
            pending_bytes_max: usize::MAX,
            pending_bytes_per_key_max: usize::MAX,
        };
        let deletes = {
            let (driver, meters) = (Arc::clone(driver), Arc::clone(&meters));
            Coalescer::new(limits, move |(), receipts: Vec<String>| {
                let (driver, meters) = (Arc::clone(&driver), Arc::clone(&meters));
                async move {
                    meters.called("settle");
                    per_entry(receipts.len(), within_limit(driver.settle(&receipts)).await)
                }
            })
        };
        let give_backs = {
            let (driver, meters) = (Arc::clone(driver), Arc::clone(&meters));
            Coalescer::new(limits, move |(), entries: Vec<(String, Duration)>| {
                let (driver, meters) = (Arc::clone(&driver), Arc::clone(&meters));
                async move {
                    meters.called("extend");
                    per_entry(entries.len(), within_limit(driver.extend(&entries)).await)
                }
            })
        };
        Self { deletes, give_backs, processed: Processed::default(), jitter, meters }
    }

    /// Whether a message was handled to the end before.
    pub(crate) fn processed(&self, message_id: &str) -> bool {
        self.processed.knows(message_id)
    }

    /// A message was handled to the end and is not deleted yet.
    pub(crate) fn remember(&self, message_id: &str) {
        self.processed.remember(message_id);
    }

    /// Deletes a message that was handled to the end.
    pub(crate) async fn delete(&self, held: &Held) -> Settled {
        held.settling();
        let lease = held.lease();
        let mut pause = PAUSE;
        loop {
            let receipt = lease.receipt();
            let error = match self.deletes.call((), receipt.clone(), receipt.len()).await {
                // A duplicate arrived meanwhile: its receipt is the one that deletes.
                Ok(Ok(())) if !lease.has(&receipt) => continue,
                Ok(Ok(())) => {
                    self.processed.forget(lease.message_id());
                    return Settled::Confirmed;
                }
                Ok(Err(error)) => error,
                Err(full) => EntryError::Transient(full.to_string()),
            };
            self.processed.remember(lease.message_id());
            let again = matches!(error, EntryError::Transient(_)) || !lease.has(&receipt);
            if !again || !self.wait(&mut pause, lease).await {
                events::Unsettled { message: lease.message_id(), call: "delete", error: &error }
                    .emit(&self.meters);
                return Settled::Unconfirmed;
            }
        }
    }

    /// Makes a message visible again after `delay`, whole seconds; zero means now.
    pub(crate) async fn give_back(&self, held: &Held, delay: Duration) -> Settled {
        let [settled] = self.give_back_all([held], delay).await[..] else {
            return Settled::Unconfirmed;
        };
        settled
    }

    /// Makes messages visible again after the same delay, at first all in one batch; one outcome
    /// each, in their order.
    pub(crate) async fn give_back_all(
        &self,
        messages: impl IntoIterator<Item = &Held>,
        delay: Duration,
    ) -> Vec<Settled> {
        let messages: Vec<&Held> = messages.into_iter().collect();
        join_all(messages.iter().map(|held| held.stop_extending())).await;
        let entries: Vec<_> =
            messages.iter().map(|held| (entry(held.lease(), delay), RECEIPT_BYTES)).collect();
        let receipts: Vec<String> =
            entries.iter().map(|((receipt, _), _)| receipt.clone()).collect();
        let answers = match self.give_backs.call_many((), entries).await {
            Ok(answers) => answers,
            Err(full) => vec![Err(EntryError::Transient(full.to_string())); messages.len()],
        };
        let each = messages.iter().zip(receipts).zip(answers);
        join_all(each.map(|((held, receipt), answer)| async move {
            match answer {
                Ok(()) if held.let_go(&receipt) => Settled::Confirmed,
                Ok(()) => self.give_back_again(held, delay, receipt, came_back()).await,
                Err(error) => self.give_back_again(held, delay, receipt, error).await,
            }
        }))
        .await
    }

    /// Goes on after a try with `receipt` has failed, until the lease ends.
    async fn give_back_again(
        &self,
        held: &Held,
        delay: Duration,
        mut receipt: String,
        mut error: EntryError,
    ) -> Settled {
        let lease = held.lease();
        let mut pause = PAUSE;
        loop {
            let again = matches!(error, EntryError::Transient(_)) || !lease.has(&receipt);
            if !again || !self.wait(&mut pause, lease).await {
                events::Unsettled { message: lease.message_id(), call: "give back", error: &error }
                    .emit(&self.meters);
                return Settled::Unconfirmed;
            }
            let entry = entry(lease, delay);
            receipt.clone_from(&entry.0);
            error = match self.give_backs.call((), entry, RECEIPT_BYTES).await {
                Ok(Ok(())) if held.let_go(&receipt) => return Settled::Confirmed,
                Ok(Ok(())) => came_back(),
                Ok(Err(error)) => error,
                Err(full) => EntryError::Transient(full.to_string()),
            };
        }
    }

    /// Waits before another try; `false` when the lease has ended: until then the message is hidden
    /// because of us, so it stays in hand.
    async fn wait(&self, pause: &mut Duration, lease: &Lease) -> bool {
        let until = Instant::now() + *pause / 2 + self.jitter.full(*pause / 2);
        *pause = (*pause * 2).min(PAUSE_MAX);
        tokio::time::sleep_until(until.min(lease.ends())).await;
        // It may have come again at that very moment, with a new lease.
        !lease.ended()
    }

    /// Refuses further settles and flushes those that wait.
    pub(crate) async fn close(&self) {
        tokio::join!(self.deletes.close(), self.give_backs.close());
    }
}

/// It was given back and came to us again at once: the receipt of that is the one that hides it now.
fn came_back() -> EntryError {
    EntryError::Transient("it came back meanwhile".into())
}

/// A give-back: the newest receipt, and the delay as far as the broker's ceiling allows.
fn entry(lease: &Lease, delay: Duration) -> (String, Duration) {
    let held_for = Duration::from_secs(lease.received_at().elapsed().as_secs() + 1);
    (lease.receipt(), delay.min(LEASE_CEILING.saturating_sub(held_for)))
}

/// One result per entry, also when the whole call failed or the answer is too short.
fn per_entry(entries: usize, answer: Result<EntryResults, DriverError>) -> EntryResults {
    let mut results = match answer {
        Ok(results) => results,
        Err(DriverError::Refused(why)) => vec![Err(EntryError::Refused(why)); entries],
        Err(error) => vec![Err(EntryError::Transient(error.to_string())); entries],
    };
    results.resize_with(entries, || Err(EntryError::Transient("not in the answer".into())));
    results
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::asking::{Asking, received};
    use crate::lease::Leases;
    use crate::status::EngineStatus;

    #[test]
    fn every_entry_has_a_result_also_when_the_answer_is_short_or_none() {
        let again =
            |result: &Result<(), EntryError>| matches!(result, Err(EntryError::Transient(_)));
        let short = per_entry(3, Ok(vec![Ok(())]));
        assert!(short.len() == 3 && short[0].is_ok() && short[1..].iter().all(again));
        let none = per_entry(2, Err(DriverError::Timeout("no answer".into())));
        assert!(none.len() == 2 && none.iter().all(again));
        let refused = per_entry(2, Err(DriverError::Refused("no such queue".into())));
        assert_eq!(refused, vec![Err(EntryError::Refused("no such queue".into())); 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_receipt_that_arrived_during_the_delete_is_deleted_too() {
        let lost = EntryError::LeaseLost("the receipt is old".into());
        for answer in [Ok(()), Err(lost)] {
            newer_receipt_after(answer).await;
        }
    }

    async fn newer_receipt_after(first: Result<(), EntryError>) {
        let (driver, mut asked) = Asking::new();
        let driver: Arc<dyn Driver> = Arc::new(driver);
        let status = Arc::new(EngineStatus::new("jobs".into(), "test"));
        let meters = Arc::new(Meters::new("jobs", "test", status));
        let config = EngineConfig::for_queue(&contracts::catalogue::AUDIT_INDEX);
        let settler = Settler::new(&driver, &config, Arc::new(Jitter::new(Some(1))), meters);
        let leases = Arc::new(Leases::new(Duration::from_secs(30)));
        let take = |receipt| leases.take(&[received("m", receipt)], Instant::now()).remove(0);
        let held = take("r1").expect("taken in hand");
        let broker = async {
            let (receipts, answer) = asked.recv().await.unwrap();
            assert_eq!(receipts, ["r1"]);
            assert!(take("r2").is_none(), "a duplicate lends its receipt");
            answer.send(vec![first]).unwrap();
            let (receipts, answer) = asked.recv().await.unwrap();
            answer.send(vec![Ok(())]).unwrap();
            receipts
        };
        let both = async { tokio::join!(settler.delete(&held), broker) };
        let (settled, receipts) =
            tokio::time::timeout(Duration::from_secs(20), both).await.expect("two deletes");
        assert_eq!((settled, receipts), (Settled::Confirmed, vec!["r2".to_owned()]));
    }
}

//! Leases, from the moment of receipt, messages that wait for their turn included. A lease is a
//! handle: while a [`Held`] lives, the keeper extends it; dropping it stops that. A lease that is
//! lost cancels its handler. It never deletes and never decides what a loss means.

pub(crate) mod keeper;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::driver::Received;

/// Why a handler was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The broker says the receipt is no longer valid, or the lease ran out unextended.
    Lost,
    /// No progress in time, or the lease reached the broker's ceiling.
    Stuck,
    /// The drain budget ended.
    Drain,
    /// A sink is down.
    SinkDown,
}

impl Cause {
    const ALL: [Self; 4] = [Self::Lost, Self::Stuck, Self::Drain, Self::SinkDown];
}

/// One receipt and what is known of it. Kept small: there is one per message in hand.
#[derive(Debug)]
pub(crate) struct Lease {
    message_id: String,
    sent_at_ms: i64,
    /// What [`Lease::progress`] counts from.
    received_at: Instant,
    current: Mutex<Current>,
    /// The handler has ended: the lease is not extended any more.
    settling: AtomicBool,
    /// It has been given back: a newer receipt is not lent to it any more.
    returned: AtomicBool,
    /// An extension is on its way.
    extending: AtomicBool,
    /// The first cause of cancellation, as its position in [`Cause::ALL`] plus one.
    cause: AtomicU8,
    /// Last sign of progress, milliseconds after `received_at`, plus one; zero before the handler.
    progress: AtomicU64,
    cancelled: CancellationToken,
}

#[derive(Clone, Debug)]
struct Current {
    receipt: String,
    /// By our clock, from before the call that set it: the broker's end is not earlier.
    ends: Instant,
}

impl Lease {
    fn new(received: &Received, received_at: Instant, lease: Duration) -> Self {
        Self {
            message_id: received.message_id.clone(),
            sent_at_ms: received.sent_at_ms,
            received_at,
            current: Mutex::new(Current {
                receipt: received.receipt.clone(),
                ends: received_at + lease,
            }),
            settling: AtomicBool::new(false),
            returned: AtomicBool::new(false),
            extending: AtomicBool::new(false),
            cause: AtomicU8::new(0),
            progress: AtomicU64::new(0),
            cancelled: CancellationToken::new(),
        }
    }

    /// A lease that nobody keeps, for a delivery made outside an engine.
    pub(crate) fn detached() -> Self {
        Self::new(&Received::default(), Instant::now(), Duration::ZERO)
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn message_id(&self) -> &str {
        &self.message_id
    }

    /// The newest receipt: a duplicate that arrived meanwhile lends its own.
    pub(crate) fn receipt(&self) -> String {
        self.current().receipt.clone()
    }

    /// Whether `receipt` is the newest.
    pub(crate) fn has(&self, receipt: &str) -> bool {
        self.current().receipt == receipt
    }

    pub(crate) fn ends(&self) -> Instant {
        self.current().ends
    }

    /// Whether it has run out, noticed or not.
    pub(crate) fn ended(&self) -> bool {
        self.ends() <= Instant::now()
    }

    pub(crate) fn received_at(&self) -> Instant {
        self.received_at
    }

    pub(crate) fn cancelled(&self) -> &CancellationToken {
        &self.cancelled
    }

    /// Notes that the handler is getting on.
    pub(crate) fn progress(&self) {
        let at = u64::try_from(self.received_at.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.progress.store(at + 1, Ordering::Relaxed);
    }

    /// Since the last sign of progress; `None` while no handler runs.
    fn without_progress(&self, now: Instant) -> Option<Duration> {
        let at = self.progress.load(Ordering::Relaxed).checked_sub(1)?;
        let age = now.saturating_duration_since(self.received_at);
        Some(age.saturating_sub(Duration::from_millis(at)))
    }

    /// Why it was cancelled, if it was.
    pub(crate) fn cause(&self) -> Option<Cause> {
        let at = usize::from(self.cause.load(Ordering::Acquire)).checked_sub(1)?;
        Cause::ALL.get(at).copied()
    }

    /// Cancels the handler; the first cause stays. Tells whether this call was the first.
    pub(crate) fn cancel(&self, cause: Cause) -> bool {
        let at = Cause::ALL.iter().position(|c| *c == cause).unwrap_or(0);
        let code = u8::try_from(at + 1).unwrap_or(1);
        let first =
            self.cause.compare_exchange(0, code, Ordering::AcqRel, Ordering::Acquire).is_ok();
        self.cancelled.cancel();
        first
    }

    /// Somebody here still has a use for a newer receipt of the message.
    fn in_use(&self) -> bool {
        !self.cancelled.is_cancelled() && !self.returned.load(Ordering::Acquire)
    }

    fn running(&self) -> bool {
        !self.settling.load(Ordering::Acquire) && !self.cancelled.is_cancelled()
    }
}

/// The leases in hand.
#[derive(Debug)]
pub(crate) struct Leases {
    lease: Duration,
    /// In order, so that what is done to all of them is done the same way again in a repeated run.
    table: Mutex<BTreeMap<String, Arc<Lease>>>,
    /// Wakes the keeper when the table stops being empty.
    filled: Notify,
    /// An extension call came back.
    extended: Notify,
}

/// A message in hand. Dropping it ends our interest in its lease.
#[derive(Debug)]
pub(crate) struct Held {
    lease: Arc<Lease>,
    leases: Arc<Leases>,
}

impl Leases {
    pub(crate) fn new(lease: Duration) -> Self {
        Self { lease, table: Mutex::default(), filled: Notify::new(), extended: Notify::new() }
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Lease>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn len(&self) -> usize {
        self.table().len()
    }

    /// Takes a batch in hand. A message that is in hand already answers `None`: its new receipt and
    /// lease go to the one that is being handled, so that a duplicate is not handled beside it.
    pub(crate) fn take(
        self: &Arc<Self>,
        batch: &[Received],
        received_at: Instant,
    ) -> Vec<Option<Held>> {
        let mut table = self.table();
        let was_empty = table.is_empty();
        let held = batch
            .iter()
            .map(|received| match table.entry(received.message_id.clone()) {
                Entry::Occupied(entry) if entry.get().in_use() => {
                    *entry.get().current() = Current {
                        receipt: received.receipt.clone(),
                        ends: received_at + self.lease,
                    };
                    None
                }
                entry => {
                    let lease = Arc::new(Lease::new(received, received_at, self.lease));
                    entry.insert_entry(Arc::clone(&lease));
                    Some(Held { lease, leases: Arc::clone(self) })
                }
            })
            .collect();
        drop(table);
        if was_empty {
            self.filled.notify_one();
        }
        held
    }

    /// Cancels every handler that runs.
    pub(crate) fn cancel_all(&self, cause: Cause) -> usize {
        let running: Vec<_> = self.table().values().filter(|l| l.running()).cloned().collect();
        running.iter().filter(|lease| lease.cancel(cause)).count()
    }

    fn all(&self) -> Vec<Arc<Lease>> {
        self.table().values().cloned().collect()
    }
}

impl Held {
    pub(crate) fn lease(&self) -> &Arc<Lease> {
        &self.lease
    }

    /// Waits for something else to be over, while this lease is ours and the drain has time: what is
    /// given back at once while our own polls are open comes straight back to us.
    pub(crate) async fn wait_for(&self, over: &CancellationToken) {
        tokio::select! {
            biased;
            () = over.cancelled() => {}
            () = self.lease.cancelled.cancelled() => {}
        }
    }

    /// Ends the extensions: the handler is done, and what is left of the lease is for the settle.
    pub(crate) fn settling(&self) {
        self.lease.settling.store(true, Ordering::Release);
    }

    /// Ends our interest in a message that was given back by `receipt`. `false` when it has come
    /// again meanwhile and lent its receipt: then that one is to be given back.
    pub(crate) fn let_go(&self, receipt: &str) -> bool {
        // Receipts are lent under the same lock.
        let _table = self.leases.table();
        let gone = self.lease.has(receipt);
        self.lease.returned.store(gone, Ordering::Release);
        gone
    }

    /// Ends the extensions and waits for one that is on its way, so that it cannot overwrite the
    /// delay that a settle is about to set.
    pub(crate) async fn stop_extending(&self) {
        self.settling();
        loop {
            let extended = self.leases.extended.notified();
            if !self.lease.extending.load(Ordering::Acquire) {
                return;
            }
            extended.await;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut table = self.leases.table();
        // A cancelled lease may have been replaced by that of a newer receipt.
        if table.get(&self.lease.message_id).is_some_and(|l| Arc::ptr_eq(l, &self.lease)) {
            table.remove(&self.lease.message_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::asking::received;

    #[test]
    fn a_cancelled_lease_gives_way_to_a_newer_receipt_and_does_not_take_it_along() {
        let leases = Arc::new(Leases::new(Duration::from_secs(30)));
        let now = Instant::now();
        let take = |receipt| leases.take(&[received("m", receipt)], now).remove(0);
        let first = take("r1").expect("the first is taken in hand");
        assert!(take("r2").is_none(), "not handled twice at once");
        assert_eq!(first.lease().receipt(), "r2", "a duplicate lends its receipt");
        first.lease().cancel(Cause::Lost);
        let second = take("r3").expect("the first is nobody's any more");
        assert_eq!((first.lease().receipt().as_str(), leases.len()), ("r2", 1));
        drop(first);
        assert_eq!(leases.len(), 1, "the newer one is kept");
        drop(second);
        assert_eq!(leases.len(), 0);
    }

    #[test]
    fn what_was_given_back_may_come_again_at_once_and_is_taken_anew() {
        let leases = Arc::new(Leases::new(Duration::from_secs(30)));
        let take = |receipt| leases.take(&[received("m", receipt)], Instant::now()).remove(0);
        let first = take("r1").expect("taken in hand");
        assert!(take("r2").is_none() && !first.let_go("r1"), "it came before we knew");
        assert!(first.let_go("r2"));
        let second = take("r3").expect("nobody else here would settle it");
        assert_eq!((first.lease().receipt(), second.lease().receipt()), ("r2".into(), "r3".into()));
        drop(first);
        assert_eq!(leases.len(), 1);
    }
}

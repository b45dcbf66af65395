//! Capacity: one permit per message in hand and one per KiB of it, taken before a poll, so that
//! nothing is fetched that cannot start or does not fit. A poll does not know what it will bring, so
//! it takes what each message will weigh going by those before it; what it did not use goes back at
//! once, the rest when each message ends. It never waits for room with messages in its hands.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::send::SEND_BYTES_MAX;
use crate::status::EngineStatus;

/// How long a poller waits for room for a whole batch before it asks for less: fuller polls are
/// fewer calls.
const PATIENCE: Duration = Duration::from_millis(20);
/// Bytes that one permit of the byte budget stands for.
const GRAIN: usize = 1_024;

#[derive(Debug)]
pub(crate) struct Permits {
    messages: Pool,
    bytes: Pool,
    expected: Arc<Expected>,
    status: Arc<EngineStatus>,
}

/// What a message may weigh, in permits: as much as the heaviest of late. It begins with the most
/// that a broker takes, or the whole budget where that is less, so that a message larger than the
/// budget is in hand alone. Where messages become heavier all at once, what is in hand passes the
/// budget by one answer of each poller, and the next polls know better.
#[derive(Debug)]
struct Expected {
    permits: AtomicUsize,
    most: usize,
}

impl Expected {
    /// By how much of itself the figure falls with each lighter message.
    const FALL: usize = 32;
    /// Less is not expected: a batch of ten is then within a sixteenth of the smallest budget.
    const LEAST: usize = 4;

    fn now(&self) -> usize {
        self.permits.load(Ordering::Relaxed)
    }

    fn seen(&self, permits: usize) {
        let least = Self::LEAST.min(self.most);
        let next = |now: usize| {
            let fallen = now - now.div_ceil(Self::FALL).min(now);
            Some(permits.clamp(least, self.most).max(fallen))
        };
        // Two at once may lose one step of falling, nothing else.
        let _updated = self.permits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }
}

/// Room for what one poll may bring.
#[derive(Debug)]
pub(crate) struct Room {
    messages: OwnedSemaphorePermit,
    bytes: OwnedSemaphorePermit,
    expected: Arc<Expected>,
    status: Arc<EngineStatus>,
}

/// What one message in hand takes up. Dropping it gives that back.
#[derive(Debug)]
pub(crate) struct Share {
    _message: OwnedSemaphorePermit,
    #[cfg_attr(not(test), expect(dead_code, reason = "held until it is dropped"))]
    bytes: Option<OwnedSemaphorePermit>,
    weight: usize,
    status: Arc<EngineStatus>,
}

impl Permits {
    /// Room for `messages` messages of together `bytes` bytes.
    pub(crate) fn new(messages: usize, bytes: usize, status: Arc<EngineStatus>) -> Self {
        let bytes = Pool::new((bytes / GRAIN).max(1));
        let most = grains(SEND_BYTES_MAX).min(bytes.total);
        let expected = Arc::new(Expected { permits: AtomicUsize::new(most), most });
        Self { messages: Pool::new(messages), bytes, expected, status }
    }

    /// Takes room for `want` messages, or after [`PATIENCE`] for as many as there is, at least one.
    ///
    /// Bytes come first: who holds them waits for message permits only, and those come back without
    /// anybody waiting for bytes. The other way round, a poller that waits for bytes would keep the
    /// permits from a message that runs alone and holds those bytes.
    pub(crate) async fn take(&self, want: usize) -> Option<Room> {
        let each = self.expected.now();
        let mut bytes = self.bytes.take(want, each).await?;
        let messages = self.messages.take(bytes.num_permits() / each, 1).await?;
        let surplus = bytes.num_permits() - messages.num_permits() * each;
        drop(bytes.split(surplus));
        let (expected, status) = (Arc::clone(&self.expected), Arc::clone(&self.status));
        Some(Room { messages, bytes, expected, status })
    }

    /// Takes all that one message in hand does not hold: nothing else is handled or polled then.
    pub(crate) async fn take_the_others(&self) -> Option<OwnedSemaphorePermit> {
        let others = u32::try_from(self.messages.total - 1).unwrap_or(u32::MAX);
        Arc::clone(&self.messages.semaphore).acquire_many_owned(others).await.ok()
    }
}

impl Room {
    /// Messages that fit.
    pub(crate) fn messages(&self) -> usize {
        self.messages.num_permits()
    }

    /// The share of a message of `weight` bytes; `None` when all are given away.
    pub(crate) fn split(&mut self, weight: usize) -> Option<Share> {
        let message = self.messages.split(1)?;
        let needed = grains(weight).min(self.expected.most);
        self.expected.seen(needed);
        let mut bytes = self.bytes.split(needed.min(self.bytes.num_permits()));
        let missing = needed - bytes.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        // Heavier than expected: it is in hand all the same, so it takes what is free.
        if let Some(bytes) = &mut bytes
            && let Some(more) = self.free(missing)
        {
            bytes.merge(more);
        }
        self.status.took(weight);
        Some(Share { _message: message, bytes, weight, status: Arc::clone(&self.status) })
    }

    /// Up to so many permits of bytes, without waiting.
    fn free(&self, wanted: usize) -> Option<OwnedSemaphorePermit> {
        let pool = self.bytes.semaphore();
        let wanted = wanted.min(pool.available_permits());
        let wanted = u32::try_from(wanted).ok().filter(|wanted| *wanted > 0)?;
        Arc::clone(pool).try_acquire_many_owned(wanted).ok()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.status.gave_back(self.weight);
    }
}

fn grains(bytes: usize) -> usize {
    bytes.div_ceil(GRAIN)
}

#[derive(Debug)]
struct Pool {
    semaphore: Arc<Semaphore>,
    total: usize,
}

impl Pool {
    fn new(total: usize) -> Self {
        Self { semaphore: Arc::new(Semaphore::new(total)), total }
    }

    /// Takes `lots` times `lot` permits, or after [`PATIENCE`] as many whole lots as there are, at
    /// least one.
    async fn take(&self, lots: usize, lot: usize) -> Option<OwnedSemaphorePermit> {
        let lots = lots.clamp(1, (self.total / lot).max(1));
        let (whole, lot) = (u32::try_from(lots * lot).ok()?, u32::try_from(lot).ok()?);
        let free = || Arc::clone(&self.semaphore);
        if let Ok(permit) = free().try_acquire_many_owned(whole) {
            return Some(permit);
        }
        if let Ok(permit) = tokio::time::timeout(PATIENCE, free().acquire_many_owned(whole)).await {
            return permit.ok();
        }
        let mut permit = free().acquire_many_owned(lot).await.ok()?;
        for _ in 1..lots {
            match free().try_acquire_many_owned(lot) {
                Ok(more) => permit.merge(more),
                Err(_) => break,
            }
        }
        Some(permit)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: usize = 1 << 20;

    fn permits(messages: usize, bytes: usize) -> Permits {
        Permits::new(messages, bytes, Arc::new(EngineStatus::new("jobs".into(), "test")))
    }

    fn in_hand(permits: &Permits) -> usize {
        permits.status.snapshot().bytes_in_hand
    }

    /// Of a message's bytes, those that it holds permits for.
    fn covered(share: &Share) -> usize {
        let permits = share.bytes.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        share.weight.min(permits * GRAIN)
    }

    fn all_free(permits: &Permits) -> bool {
        [&permits.messages, &permits.bytes]
            .iter()
            .all(|pool| pool.semaphore.available_permits() == pool.total)
    }

    fn paused<T>(test: impl Future<Output = T>) -> T {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().start_paused(true).build().unwrap().block_on(test)
    }

    /// `None` when there is no room, however long one waits.
    async fn now(permits: &Permits, want: usize) -> Option<Room> {
        tokio::time::timeout(PATIENCE * 10, permits.take(want)).await.ok().flatten()
    }

    #[test]
    fn a_poll_asks_for_what_fits_and_gives_back_what_it_did_not_need() {
        paused(async {
            let permits = permits(100, 4 * MIB);
            let mut room = now(&permits, 10).await.unwrap();
            assert_eq!(room.messages(), 4, "each might be of a MiB");
            assert!(now(&permits, 1).await.is_none(), "nothing else may come");
            let light = room.split(2_000).unwrap();
            drop(room);
            let rest = now(&permits, 10).await.unwrap();
            assert_eq!((rest.messages(), in_hand(&permits)), (4, 2_000));
            drop((light, rest));
            assert!(all_free(&permits));
        });
    }

    #[test]
    fn a_poll_that_gets_fewer_messages_takes_fewer_bytes() {
        paused(async {
            let permits = permits(3, 20 * MIB);
            let room = now(&permits, 10).await.unwrap();
            assert_eq!(room.messages(), 3);
            assert_eq!(permits.bytes.semaphore.available_permits() * GRAIN, 17 * MIB);
            drop(room);
            assert!(all_free(&permits));
        });
    }

    #[test]
    fn a_message_larger_than_the_budget_is_in_hand_alone() {
        paused(async {
            let permits = permits(100, 100_000);
            let mut room = now(&permits, 10).await.unwrap();
            assert_eq!(room.messages(), 1);
            let large = room.split(MIB).unwrap();
            drop(room);
            assert!(now(&permits, 1).await.is_none());
            drop(large);
            assert!(now(&permits, 1).await.is_some());
            assert!(all_free(&permits));
        });
    }

    /// The one that runs alone waits for all message permits while it holds all bytes.
    #[test]
    fn who_waits_for_bytes_keeps_no_message_from_running_alone() {
        paused(async {
            let permits = permits(10, MIB);
            let mut room = now(&permits, 1).await.unwrap();
            let large = room.split(MIB).unwrap();
            drop(room);
            let waiting = permits.take(10);
            tokio::pin!(waiting);
            assert!(tokio::time::timeout(PATIENCE * 10, &mut waiting).await.is_err());
            let others = tokio::time::timeout(PATIENCE, permits.take_the_others()).await;
            assert!(others.unwrap().is_some(), "it runs");
            drop(large);
            assert!(tokio::time::timeout(PATIENCE * 10, waiting).await.unwrap().is_some());
        });
    }

    #[test]
    fn a_poll_takes_what_messages_weigh_of_late() {
        paused(async {
            let permits = permits(1_000, 4 * MIB);
            for _ in 0..500 {
                let mut room = now(&permits, 10).await.unwrap();
                drop(room.split(2_000));
            }
            let light = [now(&permits, 10).await.unwrap(), now(&permits, 10).await.unwrap()];
            assert_eq!(light.each_ref().map(Room::messages), [10, 10], "full batches fit again");
            let [mut first, mut second] = light;
            let heavy: Vec<Share> = (0..10).map_while(|_| first.split(MIB)).collect();
            assert_eq!(heavy.len(), 10, "what is here is here, above the budget");
            drop(second.split(100));
            drop((first, second));
            assert!(now(&permits, 1).await.is_none(), "nothing comes on top of it");
            drop(heavy);
            assert_eq!(now(&permits, 10).await.unwrap().messages(), 4, "and it is expected now");
            assert!(all_free(&permits));
        });
    }

    proptest! {
        /// Whatever is polled, brought and ended in whatever order: what is in hand stays inside the
        /// budget unless a poll brought more than was expected, and at the end every permit is back.
        #[test]
        fn the_budget_holds_and_nothing_leaks(
            budget in prop_oneof![1usize..2 * MIB, 2 * MIB..20 * MIB],
            messages in 1usize..40,
            polls in prop::collection::vec(
                (1usize..=10, prop::collection::vec(1usize..=MIB, 0..=10), 0usize..12), 1..40),
        ) {
            paused(async {
                let permits = permits(messages, budget);
                let mut held = std::collections::VecDeque::new();
                for (want, brings, end) in polls {
                    let each = permits.expected.now() * GRAIN;
                    if let Some(mut room) = now(&permits, want).await {
                        prop_assert!(room.messages() <= want);
                        let brings: Vec<usize> = brings.into_iter().take(room.messages()).collect();
                        let as_expected = brings.iter().all(|weight| *weight <= each);
                        for weight in brings {
                            let share = room.split(weight).unwrap();
                            prop_assert!(!as_expected || covered(&share) == weight);
                            held.push_back(share);
                        }
                    } else {
                        prop_assert!(!held.is_empty(), "no room although nothing is in hand");
                    }
                    let sum: usize = held.iter().map(|share: &Share| share.weight).sum();
                    prop_assert_eq!(in_hand(&permits), sum);
                    let covered: usize = held.iter().map(covered).sum();
                    prop_assert!(covered <= budget || held.len() == 1, "{covered} of {budget}");
                    prop_assert!(held.len() <= messages);
                    held.drain(..end.min(held.len()));
                }
                held.clear();
                prop_assert!(all_free(&permits));
                prop_assert_eq!(in_hand(&permits), 0);
                Ok(())
            })?;
        }
    }
}

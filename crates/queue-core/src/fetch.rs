//! Fetching: several long polls per queue (one when idle), each behind permits, and a watchdog that
//! replaces a poller which has died or gone silent. It hands batches on and never looks into them.

pub(crate) mod gate;
pub(crate) mod permits;
mod poller;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backoff::Jitter;
use crate::driver::{Driver, Received};
use crate::events::{self, Meters};
use crate::lease::{Held, Leases};
use crate::status::EngineStatus;
use gate::Gate;
use permits::{Permits, Room, Share};
use poller::Beat;

/// Before a poller that died is replaced, so that one that dies at once does not spin.
const REPLACE_PAUSE: Duration = Duration::from_secs(1);

/// One message of a batch, in hand.
pub(crate) struct Taken {
    pub(crate) received: Received,
    pub(crate) held: Held,
    /// `None` when the broker handed over more than was asked for: the message is leased to us and has
    /// to be handled all the same.
    #[expect(dead_code, reason = "a handle: it gives the capacity back when it is dropped")]
    pub(crate) share: Option<Share>,
    /// A message of its group came with it that is in hand already, and stands before it.
    pub(crate) behind_held: bool,
}

/// What one poll brought.
pub(crate) type Batch = Vec<Taken>;

/// What a batch is given to.
pub(crate) type Dispatch = Box<dyn Fn(Batch) -> BoxFuture<'static, ()> + Send + Sync>;

pub(crate) struct Fetcher {
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) permits: Arc<Permits>,
    pub(crate) leases: Arc<Leases>,
    pub(crate) jitter: Arc<Jitter>,
    pub(crate) meters: Arc<Meters>,
    pub(crate) status: Arc<EngineStatus>,
    pub(crate) pollers_max: usize,
    pub(crate) wait: Duration,
    pub(crate) lease: Duration,
    /// One receive takes at most this long, its wait included.
    pub(crate) attempt_max: Duration,
    /// A poller whose receive takes longer is replaced: its own timeout has not reached it.
    pub(crate) silence_max: Duration,
    pub(crate) drain: CancellationToken,
    /// Cancelled when the last poll has come back.
    pub(crate) over: CancellationToken,
    pub(crate) deliveries: TaskTracker,
    pub(crate) dispatch: Dispatch,
}

/// One poller's place.
struct Slot {
    task: AbortHandle,
    beat: Arc<Beat>,
    finished: bool,
}

impl Fetcher {
    /// Polls until the drain begins and the last poll has come back.
    pub(crate) async fn run(self: Arc<Self>) {
        let _over = self.over.clone().drop_guard();
        let mut tasks = JoinSet::new();
        let mut slots: Vec<Slot> = (0..self.pollers_max)
            .map(|index| self.start(&mut tasks, index, Duration::ZERO))
            .collect();
        let silence = self.silence_max;
        let mut look = tokio::time::interval(silence / 4);
        while slots.iter().any(|slot| !slot.finished) {
            tokio::select! {
                biased;
                Some(ended) = tasks.join_next_with_id() => {
                    let id = ended.as_ref().map_or_else(tokio::task::JoinError::id, |(id, ())| *id);
                    // One that was replaced is nobody's any more.
                    if let Some(index) = slots.iter().position(|slot| slot.task.id() == id) {
                        slots[index].finished = true;
                        if !self.drain.is_cancelled() {
                            events::PollerReplaced { poller: index, why: "it ended" }
                                .emit(&self.meters);
                            slots[index] = self.start(&mut tasks, index, REPLACE_PAUSE);
                        }
                    }
                }
                _ = look.tick() => {
                    for (index, slot) in slots.iter_mut().enumerate() {
                        let silent = slot.beat.polling_for().is_some_and(|since| since > silence);
                        if silent && !slot.finished {
                            slot.task.abort();
                            events::PollerReplaced { poller: index, why: "it was silent" }
                                .emit(&self.meters);
                            *slot = self.start(&mut tasks, index, Duration::ZERO);
                        }
                    }
                }
            }
        }
    }

    fn start(self: &Arc<Self>, tasks: &mut JoinSet<()>, index: usize, pause: Duration) -> Slot {
        let beat = Arc::new(Beat::new());
        let (fetcher, its_beat) = (Arc::clone(self), Arc::clone(&beat));
        let task = tasks.spawn(async move {
            tokio::time::sleep(pause).await;
            poller::run(fetcher, index, its_beat).await;
        });
        Slot { task, beat, finished: false }
    }

    /// Takes what a poll brought in hand. Unused room goes back; so does that of a duplicate of a
    /// message in hand.
    fn take(&self, messages: Vec<Received>, mut room: Room, received_at: Instant) -> Option<Batch> {
        if messages.is_empty() {
            return None;
        }
        self.meters.received(messages.len());
        let held = self.leases.take(&messages, received_at);
        let again = messages.iter().zip(&held).filter(|(_, held)| held.is_none());
        let groups: Vec<String> = again.filter_map(|(again, _)| again.group.clone()).collect();
        let mut batch = Vec::with_capacity(messages.len());
        for (received, held) in messages.into_iter().zip(held) {
            if let Some(held) = held {
                let share = room.split(received.size());
                let behind_held = received.group.as_ref().is_some_and(|its| groups.contains(its));
                batch.push(Taken { received, held, share, behind_held });
            }
        }
        self.meters.taken(batch.len());
        (!batch.is_empty()).then_some(batch)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use futures_util::FutureExt;

    use super::*;
    use crate::driver::{DriverError, EntryResults, Outgoing, QueueAttributes, ReceiveRequest};

    /// Its first receive never ends.
    #[derive(Debug, Default)]
    struct Silent {
        receives: AtomicUsize,
    }

    #[async_trait]
    impl Driver for Silent {
        fn queue(&self) -> &'static str {
            "jobs"
        }

        async fn receive(&self, _: ReceiveRequest) -> Result<Vec<Received>, DriverError> {
            if self.receives.fetch_add(1, Ordering::Relaxed) == 0 {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(Vec::new())
        }

        async fn settle(&self, _: &[String]) -> Result<EntryResults, DriverError> {
            Ok(Vec::new())
        }

        async fn extend(&self, _: &[(String, Duration)]) -> Result<EntryResults, DriverError> {
            Ok(Vec::new())
        }

        async fn send(&self, _: &[Outgoing]) -> Result<EntryResults, DriverError> {
            Ok(Vec::new())
        }

        async fn attributes(&self) -> Result<QueueAttributes, DriverError> {
            Ok(QueueAttributes::default())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_poller_is_replaced() {
        let driver = Arc::new(Silent::default());
        let status = Arc::new(EngineStatus::new("jobs".into(), "test"));
        let drain = CancellationToken::new();
        let fetcher = Arc::new(Fetcher {
            driver: Arc::clone(&driver) as Arc<dyn Driver>,
            gate: Arc::new(Gate::new(1)),
            permits: Arc::new(Permits::new(10, 10 << 20, Arc::clone(&status))),
            leases: Arc::new(Leases::new(Duration::from_secs(30))),
            jitter: Arc::new(Jitter::new(Some(1))),
            meters: Arc::new(Meters::new("jobs", "test", Arc::clone(&status))),
            status,
            pollers_max: 1,
            wait: Duration::ZERO,
            lease: Duration::from_secs(30),
            // No timeout of its own, as when a fault keeps it from being reached.
            attempt_max: Duration::from_secs(86_400),
            silence_max: Duration::from_secs(30),
            drain: drain.clone(),
            over: CancellationToken::new(),
            deliveries: TaskTracker::new(),
            dispatch: Box::new(|_| std::future::ready(()).boxed()),
        });
        let polled = tokio::spawn(fetcher.run());
        tokio::time::sleep(Duration::from_secs(29)).await;
        assert_eq!(driver.receives.load(Ordering::Relaxed), 1);
        tokio::time::sleep(Duration::from_secs(15)).await;
        assert!(driver.receives.load(Ordering::Relaxed) > 1, "another one polls");
        drain.cancel();
        polled.await.unwrap();
    }
}

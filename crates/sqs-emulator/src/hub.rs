//! One broker for many callers: the lock, the log, the parked long polls and the timers. The lock is
//! held for one call at a time, microseconds, and never across a write to disk: a call takes effect in
//! memory, its record is queued in the same order, and its reply waits for that record.
//!
//! When the disk fails, nothing that waits is acknowledged, and the state in memory is thrown away
//! for the one on disk as soon as it can be written again: an error means that nothing took effect.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::broker::{Broker, BrokerConfig};
use crate::clock::Clock;
use crate::errors::{ErrorKind, SqsError};
use crate::model::{Caller, QueueId};
use crate::operations::{Receive, Request, Response};
use crate::store::{Durability, SEGMENT_BYTES, Store, StoreError};
use crate::waiters::{Place, Waiters};

/// Milliseconds ahead of the system's clock from which a start says so.
const CLOCK_AHEAD_TOLD_MS: i64 = 1_000;
/// How often the timers look whether a failed disk works again.
const RETRY_MS: i64 = 250;

/// A broker that many tasks can call. Cloning gives another handle to the same one.
#[derive(Clone, Debug)]
pub struct Hub {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    store: Option<Store>,
    clock: Clock,
    /// The earliest timer has changed.
    rescheduled: Notify,
    closing: CancellationToken,
}

#[derive(Debug)]
struct State {
    broker: Broker,
    waiters: Waiters,
    /// When the timers will look again by themselves.
    planned: Option<i64>,
}

type Ticket = Option<oneshot::Receiver<Result<(), StoreError>>>;

/// What one look at a queue gave a receive.
enum Look {
    Answer(Result<Response, SqsError>, Ticket),
    Parked(Parked),
}

impl Hub {
    /// A broker that forgets everything when it is dropped.
    pub fn in_memory(config: BrokerConfig) -> Self {
        Self::new(Broker::new(config), None)
    }

    /// A broker that keeps everything it acknowledges in that directory.
    pub fn open(config: BrokerConfig, data_dir: &Path) -> Result<Self, StoreError> {
        Self::open_with(config, data_dir, SEGMENT_BYTES)
    }

    /// Like [`Hub::open`]; the log is replaced by a snapshot whenever it has grown by that much.
    pub fn open_with(
        config: BrokerConfig,
        data_dir: &Path,
        segment_bytes: u64,
    ) -> Result<Self, StoreError> {
        let (store, mut broker) = Store::open(data_dir, config, segment_bytes)?;
        broker.keep_journal();
        Ok(Self::new(broker, Some(store)))
    }

    fn new(broker: Broker, store: Option<Store>) -> Self {
        let clock = Clock::start(broker.latest_ms().unwrap_or(i64::MIN));
        if clock.ahead_ms() > CLOCK_AHEAD_TOLD_MS {
            tracing::warn!(
                ahead_ms = clock.ahead_ms(),
                "the data directory has seen a later time than the system's; the clock goes on there"
            );
        }
        let state = Mutex::new(State { broker, waiters: Waiters::default(), planned: None });
        let shared = Shared {
            state,
            store,
            clock,
            rescheduled: Notify::new(),
            closing: CancellationToken::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// One call. A receive with a wait time returns when there is something or the time is over;
    /// every other call returns once its effect is on disk, where there is one.
    pub async fn call(&self, caller: &Caller, request: Request) -> Result<Response, SqsError> {
        if let Request::ReceiveMessage(receive) = request {
            return self.receive(caller, receive).await;
        }
        let durability = if is_read(&request) { None } else { Some(Durability::Synced) };
        self.shared.admit().await;
        let (result, ticket) = {
            let mut state = self.shared.lock();
            self.shared.recover(&mut state)?;
            let now = self.shared.clock.now_ms();
            let result = state.broker.call(now, caller, request);
            let ticket = self.shared.finish(&mut state, now, durability, None);
            (result, ticket)
        };
        written(ticket).await?;
        result
    }

    async fn receive(&self, caller: &Caller, receive: Receive) -> Result<Response, SqsError> {
        let mut wait: Option<(Place, Instant)> = None;
        let mut parked: Option<Parked> = None;
        loop {
            self.shared.admit().await;
            match self.look(caller, &receive, &mut wait, parked.take()) {
                Look::Answer(result, ticket) => {
                    written(ticket).await?;
                    return result;
                }
                Look::Parked(place) => {
                    let end = wait.map_or_else(Instant::now, |(_, end)| end);
                    let waiting = parked.insert(place);
                    tokio::select! {
                        _ = &mut waiting.woken => {}
                        () = tokio::time::sleep_until(end) => {}
                        () = self.shared.closing.cancelled() => {}
                    }
                }
            }
        }
    }

    /// Receives once and parks, under one lock, when that gave nothing and there is time left.
    fn look(
        &self,
        caller: &Caller,
        receive: &Receive,
        wait: &mut Option<(Place, Instant)>,
        parked: Option<Parked>,
    ) -> Look {
        let shared = &self.shared;
        let mut guard = shared.lock();
        let state = &mut *guard;
        if let Some(parked) = parked {
            parked.leave(state);
        }
        let now = shared.clock.now_ms();
        if let Err(error) = shared.recover(state) {
            return Look::Answer(Err(error), None);
        }
        let result = state.broker.call(now, caller, Request::ReceiveMessage(receive.clone()));
        let empty = matches!(&result, Ok(Response::Received(got, _)) if got.is_empty());
        let poll = state.broker.long_poll(receive).filter(|_| empty);
        if let Some(poll) = poll {
            let max = usize::try_from(receive.max.unwrap_or(1)).unwrap_or(1);
            let end = shared.clock.instant(now + poll.wait_ms);
            let (place, end) =
                *wait.get_or_insert_with(|| (state.waiters.place(poll.queue, max), end));
            if Instant::now() < end && !shared.closing.is_cancelled() {
                let woken = state.waiters.park(place);
                // Dead letters may have moved without anything to hand out.
                shared.finish(state, now, None, Some(place.queue));
                return Look::Parked(Parked::new(Arc::clone(shared), place, woken));
            }
        }
        let queue = wait.map(|(place, _)| place.queue);
        let ticket = shared.finish(state, now, Some(Durability::Written), queue);
        Look::Answer(result, ticket)
    }

    /// Looks at the broker's state.
    pub fn peek<R>(&self, look: impl FnOnce(&Broker) -> R) -> R {
        look(&self.shared.lock().broker)
    }

    /// Looks at the broker as it is now: delays and leases that have ended have ended.
    pub fn inspect<R>(&self, look: impl FnOnce(&mut Broker, i64) -> R) -> R {
        let mut state = self.shared.lock();
        let now = self.shared.clock.now_ms();
        look(&mut state.broker, now)
    }

    /// The hub's time, milliseconds since the epoch.
    pub fn now_ms(&self) -> i64 {
        self.shared.clock.now_ms()
    }

    /// How far the hub's time is ahead of the system's, milliseconds.
    pub fn ahead_ms(&self) -> i64 {
        self.shared.clock.ahead_ms()
    }

    /// Moves the hub's time ahead: what ends by then ends now. `false`, and nothing happens, when that
    /// is more than ten years in all. Parked polls are woken by what becomes visible; how long they
    /// wait for it is not changed.
    pub fn advance_clock(&self, ms: u64) -> bool {
        let moved = self.shared.clock.advance(ms);
        self.shared.rescheduled.notify_one();
        moved
    }

    /// Does what time alone starts, until [`Hub::close`]: wakes polls when a delay or lease ends, and
    /// goes on with move tasks.
    pub async fn run_timers(&self) {
        let shared = &self.shared;
        loop {
            shared.admit().await;
            let next = {
                let mut guard = shared.lock();
                let state = &mut *guard;
                let now = shared.clock.now_ms();
                state.planned = if shared.recover(state).is_err() {
                    Some(now + RETRY_MS)
                } else {
                    state.broker.advance(now);
                    while let Some(queue) = state.waiters.due(now) {
                        state.waiters.settle(now, queue, &mut state.broker);
                        if state.waiters.due(now) == Some(queue) {
                            break;
                        }
                    }
                    shared.finish(state, now, None, None);
                    earliest(state)
                };
                state.planned
            };
            let due = async {
                match next {
                    Some(at) => tokio::time::sleep_until(shared.clock.instant(at)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => tokio::task::yield_now().await,
                () = shared.rescheduled.notified() => {}
                () = shared.closing.cancelled() => return,
            }
        }
    }

    /// Answers every parked poll with what it has, nothing, and ends [`Hub::run_timers`].
    pub fn close(&self) {
        self.shared.closing.cancel();
    }
}

/// A parked poll: leaves its place when it is dropped, and passes its turn on.
struct Parked {
    shared: Arc<Shared>,
    place: Place,
    woken: oneshot::Receiver<()>,
    here: bool,
}

impl Parked {
    fn new(shared: Arc<Shared>, place: Place, woken: oneshot::Receiver<()>) -> Self {
        Self { shared, place, woken, here: true }
    }

    /// Leaves its place and keeps its turn: the caller, who holds the lock, receives next.
    fn leave(mut self, state: &mut State) {
        state.waiters.leave(self.place);
        self.here = false;
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        if self.here {
            let mut state = self.shared.lock();
            state.waiters.leave(self.place);
            let now = self.shared.clock.now_ms();
            self.shared.finish(&mut state, now, None, Some(self.place.queue));
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic inside a call would be a bug; the next caller still gets an answer.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn admit(&self) {
        if let Some(store) = &self.store {
            store.admit().await;
        }
    }

    /// After the disk has failed: takes the state on disk for the one in memory, or says why not.
    fn recover(&self, state: &mut State) -> Result<(), SqsError> {
        let Some(store) = &self.store else { return Ok(()) };
        let Some(mut broker) = store.recovered().map_err(|error| unavailable(&error))? else {
            return Ok(());
        };
        broker.keep_journal();
        state.broker = broker;
        let now = self.clock.now_ms();
        for queue in state.waiters.queues() {
            state.waiters.settle(now, queue, &mut state.broker);
        }
        Ok(())
    }

    /// Queues what happened for the disk and wakes who waits for it, on the queues that the broker
    /// names and on `queue`.
    fn finish(
        &self,
        state: &mut State,
        now: i64,
        durability: Option<Durability>,
        queue: Option<QueueId>,
    ) -> Ticket {
        let ticket = self.store.as_ref().and_then(|store| {
            let journal = state.broker.take_journal();
            store.append(&journal, durability)
        });
        for queue in state.broker.take_touched().into_iter().chain(queue) {
            state.waiters.settle(now, queue, &mut state.broker);
        }
        let next = earliest(state);
        if next.is_some_and(|at| state.planned.is_none_or(|planned| at < planned)) {
            state.planned = next;
            self.rescheduled.notify_one();
        }
        ticket
    }
}

fn earliest(state: &State) -> Option<i64> {
    [state.waiters.next(), state.broker.next_due()].into_iter().flatten().min()
}

async fn written(ticket: Ticket) -> Result<(), SqsError> {
    let Some(ticket) = ticket else { return Ok(()) };
    let result = ticket.await.unwrap_or(Err(StoreError::Closed));
    result.map_err(|error| unavailable(&error))
}

fn unavailable(error: &StoreError) -> SqsError {
    SqsError::new(ErrorKind::ServiceUnavailable, format!("Nothing took effect: {error}"))
}

fn is_read(request: &Request) -> bool {
    matches!(
        request,
        Request::GetQueueAttributes { .. }
            | Request::GetQueueUrl { .. }
            | Request::ListDeadLetterSourceQueues { .. }
            | Request::ListMessageMoveTasks { .. }
            | Request::ListQueueTags { .. }
            | Request::ListQueues { .. }
    )
}

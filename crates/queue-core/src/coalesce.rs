//! Many concurrent calls, few bulk operations: each caller hands over one item and gets the outcome
//! of its own item back. Publishes, settles, Postgres inserts and OpenSearch bulks all go through
//! this. It never retries and never looks into an item; what a failure means is the flush's affair.
//!
//! Everything is bounded: what does not fit is refused at once with [`Full`], never queued beyond
//! the limit. A caller that drops its future does not take its item back.

mod bisect;
mod state;

use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

pub use bisect::{BisectError, bisect};
use state::{Batch, State};

/// Bounds of a [`Coalescer`].
#[derive(Clone, Copy, Debug)]
pub struct CoalesceLimits {
    /// Items per batch, at least 1.
    pub items_max: usize,
    /// Bytes per batch; a single larger item travels alone.
    pub bytes_max: usize,
    /// How long an item may wait for company. Zero flushes as soon as a slot is free: what arrives
    /// while a flush runs forms the next batch.
    pub linger: Duration,
    /// Flushes at the same time, over all keys, at least 1.
    pub batches_in_flight_max: usize,
    /// Flushes of one key at the same time before only full batches start another, at least 1: with
    /// few, a key gathers what arrives meanwhile into one batch, and leaves slots to other keys.
    pub batches_in_flight_per_key_max: usize,
    /// Bytes admitted and not answered, over all keys.
    pub pending_bytes_max: usize,
    /// Bytes admitted and not answered, per key.
    pub pending_bytes_per_key_max: usize,
}

/// Why an item was not taken, or will get no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// [`CoalesceLimits::pending_bytes_max`] would be passed.
    #[error("the buffer is full")]
    Process,
    /// [`CoalesceLimits::pending_bytes_per_key_max`] would be passed.
    #[error("the buffer of this key is full")]
    Key,
    /// [`Coalescer::close`] was called.
    #[error("closing")]
    Closed,
    /// The flush panicked or answered with a wrong number of outcomes: the item may have taken
    /// effect.
    #[error("the flush broke off; whether it took effect is not known")]
    Broken,
}

type Flush<K, I, O> = dyn Fn(K, Vec<I>) -> BoxFuture<'static, Vec<O>> + Send + Sync;

struct Shared<K, I, O> {
    limits: CoalesceLimits,
    state: Mutex<State<K, I, O>>,
    flush: Box<Flush<K, I, O>>,
    /// Wakes the linger task when the coalescer closes.
    closing: Notify,
    tasks: TaskTracker,
}

/// Turns concurrent calls into bulk operations. Cheap to clone; clones share everything.
pub struct Coalescer<K, I, O> {
    shared: Arc<Shared<K, I, O>>,
}

impl<K, I, O> Clone for Coalescer<K, I, O> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<K, I, O> std::fmt::Debug for Coalescer<K, I, O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coalescer").field("limits", &self.shared.limits).finish_non_exhaustive()
    }
}

impl<K, I, O> Coalescer<K, I, O>
where
    K: Clone + Eq + Hash + Send + 'static,
    I: Send + 'static,
    O: Send + 'static,
{
    /// `flush` gets a batch of one key and must answer one outcome per item, in their order. It runs
    /// in a task of the coalescer's, so a caller that goes away does not stop it.
    pub fn new<F, Fut>(limits: CoalesceLimits, flush: F) -> Self
    where
        F: Fn(K, Vec<I>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Vec<O>> + Send + 'static,
    {
        Self {
            shared: Arc::new(Shared {
                limits,
                state: Mutex::new(State::new(limits)),
                flush: Box::new(move |key, items| flush(key, items).boxed()),
                closing: Notify::new(),
                tasks: TaskTracker::new(),
            }),
        }
    }

    /// Hands over one item of `bytes` bytes and waits for its outcome.
    pub async fn call(&self, key: K, item: I, bytes: usize) -> Result<O, Full> {
        let (reply, outcome) = oneshot::channel();
        let work = {
            let mut state = self.shared.locked();
            state.admit(&key, bytes)?;
            state.push(key, item, bytes, reply, Instant::now())
        };
        self.shared.start(work);
        outcome.await.map_err(|_| Full::Broken)
    }

    /// Hands over several items: either all are admitted or none. Outcomes come in their order; the
    /// items may travel in several batches, and with others.
    pub async fn call_many(&self, key: K, items: Vec<(I, usize)>) -> Result<Vec<O>, Full> {
        let mut outcomes = Vec::with_capacity(items.len());
        {
            let mut state = self.shared.locked();
            state.admit(&key, items.iter().map(|(_, bytes)| bytes).sum())?;
            let now = Instant::now();
            let mut work = state::Work::default();
            for (item, bytes) in items {
                let (reply, outcome) = oneshot::channel();
                work += state.push(key.clone(), item, bytes, reply, now);
                outcomes.push(outcome);
            }
            drop(state);
            self.shared.start(work);
        }
        let mut answers = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            answers.push(outcome.await.map_err(|_| Full::Broken)?);
        }
        Ok(answers)
    }

    /// Bytes admitted and not answered.
    pub fn pending_bytes(&self) -> usize {
        self.shared.locked().pending_bytes()
    }

    /// Refuses new items, flushes what is there without waiting for company, and returns when every
    /// caller has its outcome. May be called more than once.
    pub async fn close(&self) {
        let work = self.shared.locked().close();
        self.shared.closing.notify_waiters();
        self.shared.start(work);
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

impl<K, I, O> Shared<K, I, O>
where
    K: Clone + Eq + Hash + Send + 'static,
    I: Send + 'static,
    O: Send + 'static,
{
    fn locked(&self) -> MutexGuard<'_, State<K, I, O>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the tasks that `work` asks for; they end by themselves when nothing is left.
    fn start(self: &Arc<Self>, work: state::Work) {
        for _ in 0..work.flushers {
            self.tasks.spawn(Arc::clone(self).flush_until_empty());
        }
        if work.linger {
            self.tasks.spawn(Arc::clone(self).watch_linger());
        }
    }

    async fn flush_until_empty(self: Arc<Self>) {
        loop {
            let Some((batch, work)) = self.locked().next_batch(Instant::now()) else { return };
            self.start(work);
            self.flush_one(batch).await;
        }
    }

    async fn flush_one(&self, batch: Batch<K, I, O>) {
        let Batch { key, items, bytes, replies } = batch;
        let run = std::panic::AssertUnwindSafe((self.flush)(key.clone(), items)).catch_unwind();
        let outcomes = run.await.unwrap_or_default();
        self.locked().answered(&key, bytes);
        if outcomes.len() == replies.len() {
            for (reply, outcome) in replies.into_iter().zip(outcomes) {
                // The caller may have gone away; its item was handled all the same.
                let _gone = reply.send(outcome);
            }
        }
    }

    /// Makes batches ready whose linger has passed. One timer for all keys: the linger is the same
    /// for each, so the deadlines come in order.
    async fn watch_linger(self: Arc<Self>) {
        loop {
            let closing = self.closing.notified();
            let Some(deadline) = self.locked().next_deadline() else { return };
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(deadline) => {}
                () = closing => {}
            }
            let work = self.locked().lingered(Instant::now());
            self.start(work);
        }
    }
}

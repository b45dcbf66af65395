//! The engine's way to the attempt store: it tries for a while; what the store could not take is kept
//! here, added to what the store says, and written as soon as the store answers again. So an outage
//! of the store neither stops the engine nor makes a message look like a crash loop, not even to
//! another process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, RwLock};
use tokio::time::Instant;

use super::unrecorded::Unrecorded;
use super::{AttemptStore, AttemptStoreError, History, RecordedFailure};
use crate::events::{self, Meters};

/// One call to the store takes at most this long.
const CALL_MAX: Duration = Duration::from_secs(2);
/// Pauses before a failure that counts is tried again; one that does not count gets one try.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];
/// After a failed call the store is left alone this long for what does not count, and before what
/// was kept is tried again; there the pause doubles up to [`REST_MAX`].
const REST: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(30);
/// Bytes kept of an error's text.
const ERROR_BYTES_MAX: usize = 2_048;

pub(crate) struct Recorder {
    queue: String,
    store: Arc<dyn AttemptStore>,
    unrecorded: Mutex<Unrecorded>,
    resting_until: Mutex<Option<Instant>>,
    /// Held while something kept goes to the store, so that nobody writes it twice, and shared by
    /// those who read both places, so that it is in one of them.
    moving: RwLock<()>,
    kept: Notify,
    meters: Arc<Meters>,
}

/// What was recorded, and whether the store has it.
pub(crate) struct Recorded {
    pub(crate) history: History,
    pub(crate) stored: bool,
}

impl Recorder {
    pub(crate) fn new(queue: &str, store: Arc<dyn AttemptStore>, meters: Arc<Meters>) -> Self {
        Self {
            queue: queue.to_owned(),
            store,
            unrecorded: Mutex::default(),
            resting_until: Mutex::default(),
            moving: RwLock::default(),
            kept: Notify::new(),
            meters,
        }
    }

    fn unrecorded(&self) -> MutexGuard<'_, Unrecorded> {
        self.unrecorded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resting_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.resting_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resting(&self) -> bool {
        self.resting_until().is_some_and(|until| until > Instant::now())
    }

    /// Writes what was kept as soon as the store answers again; runs until it is dropped.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            self.kept.notified().await;
            let mut pause = REST;
            loop {
                tokio::time::sleep(pause).await;
                if self.write_kept().await {
                    break;
                }
                pause = (pause * 2).min(REST_MAX);
            }
        }
    }

    /// Writes what was kept, oldest first, until nothing is left or a call fails.
    pub(crate) async fn write_kept(&self) -> bool {
        loop {
            let _moving = self.moving.write().await;
            let Some((message, failure)) = self.unrecorded().first() else { return true };
            if self.call(self.store.record(&self.queue, &message, failure.clone())).await.is_err() {
                return false;
            }
            self.unrecorded().taken(&message, &failure);
        }
    }

    /// A call to the store in its time; after one that failed the store rests.
    async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, AttemptStoreError>>,
    ) -> Result<T, AttemptStoreError> {
        let answer = tokio::time::timeout(CALL_MAX, call)
            .await
            .unwrap_or_else(|_| Err(AttemptStoreError(format!("no answer in {CALL_MAX:?}"))));
        if answer.is_err() {
            *self.resting_until() = Some(Instant::now() + REST);
        }
        answer
    }

    /// The histories of messages, in their order, with what the store does not have yet.
    pub(crate) async fn load(
        &self,
        messages: &[String],
    ) -> Result<Vec<History>, AttemptStoreError> {
        let _still = self.moving.read().await;
        let mut histories = self.call(self.store.load(&self.queue, messages)).await?;
        histories.resize_with(messages.len(), History::default);
        let unrecorded = self.unrecorded();
        for (message, history) in messages.iter().zip(&mut histories) {
            unrecorded.add_to(message, history);
        }
        Ok(histories)
    }

    /// Records a failure and answers the history with it; `before` stands in for what the store
    /// cannot say.
    pub(crate) async fn record(
        &self,
        message: &str,
        mut failure: RecordedFailure,
        before: &History,
    ) -> Recorded {
        shorten(&mut failure.error);
        if failure.counts || !self.resting() {
            let pauses = if failure.counts { &PAUSES[..] } else { &[] };
            match self.try_record(message, &failure, pauses).await {
                Ok(history) => return Recorded { history, stored: true },
                Err(error) => events::RecordFailed { message, error: &error }.emit(&self.meters),
            }
        }
        let mut history = before.clone();
        history.push(failure.clone());
        self.unrecorded().keep(message, failure);
        self.kept.notify_one();
        Recorded { history, stored: false }
    }

    /// Tries again after each of `pauses`.
    async fn try_record(
        &self,
        message: &str,
        failure: &RecordedFailure,
        pauses: &[Duration],
    ) -> Result<History, AttemptStoreError> {
        let mut pauses = pauses.iter();
        loop {
            let error = match self.record_behind_kept(message, failure).await {
                Ok(history) => return Ok(history),
                Err(error) => error,
            };
            let Some(pause) = pauses.next() else { return Err(error) };
            tokio::time::sleep(*pause).await;
        }
    }

    /// What was kept for this message goes first.
    async fn record_behind_kept(
        &self,
        message: &str,
        failure: &RecordedFailure,
    ) -> Result<History, AttemptStoreError> {
        if self.unrecorded().keeps(message) {
            let _moving = self.moving.write().await;
            loop {
                let Some(kept) = self.unrecorded().first_of(message) else { break };
                if self.resting() {
                    // Those that waited for their turn behind a call that failed do not repeat it.
                    return Err(AttemptStoreError("it has just not answered".into()));
                }
                self.call(self.store.record(&self.queue, message, kept.clone())).await?;
                self.unrecorded().taken(message, &kept);
            }
        }
        self.call(self.store.record(&self.queue, message, failure.clone())).await
    }

    /// Forgets a message that ended; if the store cannot, its own ageing will.
    pub(crate) async fn forget(&self, message: &str) {
        if self.unrecorded().keeps(message) {
            let _moving = self.moving.write().await;
            self.unrecorded().forget(message);
        }
        let messages = [message.to_owned()];
        if let Err(error) = self.call(self.store.forget(&self.queue, &messages)).await {
            events::RecordFailed { message, error: &error }.emit(&self.meters);
        }
    }
}

/// Cuts a text to [`ERROR_BYTES_MAX`] at a character's start.
fn shorten(text: &mut String) {
    if text.len() > ERROR_BYTES_MAX {
        let end = (0..=ERROR_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
}

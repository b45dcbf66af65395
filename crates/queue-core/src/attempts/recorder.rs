//! The engine's way to the attempt store: it tries for a while, and what the store could not take is
//! kept here, bounded, and added to what the store says later. So an outage of the store neither
//! stops the engine nor makes a message look like a crash loop.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{AttemptStore, AttemptStoreError, History, RecordedFailure};
use crate::events::{self, Meters};

/// Messages with failures that the store has not taken; beyond it the oldest are forgotten.
const UNRECORDED_MAX: usize = 10_000;
/// One call to the store takes at most this long.
const CALL_MAX: Duration = Duration::from_secs(2);
/// Pauses before a failure that counts is tried again; one that does not count gets one try.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];
/// After a failed call the store is left alone this long for what does not count.
const REST: Duration = Duration::from_secs(1);
/// Bytes kept of an error's text.
const ERROR_BYTES_MAX: usize = 2_048;

#[derive(Default)]
struct Unrecorded {
    of: HashMap<String, Vec<RecordedFailure>>,
    order: VecDeque<String>,
    resting_until: Option<Instant>,
}

pub(crate) struct Recorder {
    queue: String,
    store: Arc<dyn AttemptStore>,
    unrecorded: Mutex<Unrecorded>,
    meters: Arc<Meters>,
}

/// What was recorded, and whether the store has it.
pub(crate) struct Recorded {
    pub(crate) history: History,
    pub(crate) stored: bool,
}

impl Recorder {
    pub(crate) fn new(queue: &str, store: Arc<dyn AttemptStore>, meters: Arc<Meters>) -> Self {
        Self { queue: queue.to_owned(), store, unrecorded: Mutex::default(), meters }
    }

    fn unrecorded(&self) -> MutexGuard<'_, Unrecorded> {
        self.unrecorded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The histories of messages, in their order, with what the store does not have yet.
    pub(crate) async fn load(
        &self,
        messages: &[String],
    ) -> Result<Vec<History>, AttemptStoreError> {
        let call = self.store.load(&self.queue, messages);
        let mut histories = tokio::time::timeout(CALL_MAX, call)
            .await
            .unwrap_or_else(|_| Err(AttemptStoreError(format!("no answer in {CALL_MAX:?}"))))?;
        histories.resize_with(messages.len(), History::default);
        let unrecorded = self.unrecorded();
        if !unrecorded.of.is_empty() {
            for (message, history) in messages.iter().zip(&mut histories) {
                for failure in unrecorded.of.get(message).into_iter().flatten() {
                    history.push(failure.clone());
                }
            }
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
        let resting = self.unrecorded().resting_until.is_some_and(|until| until > Instant::now());
        if failure.counts || !resting {
            let pauses = if failure.counts { &PAUSES[..] } else { &[] };
            match self.try_record(message, &failure, pauses).await {
                Ok(history) => return Recorded { history, stored: true },
                Err(error) => {
                    events::RecordFailed { message, error: &error }.emit(&self.meters);
                    self.unrecorded().resting_until = Some(Instant::now() + REST);
                }
            }
        }
        let mut history = before.clone();
        history.push(failure.clone());
        self.keep(message, failure);
        Recorded { history, stored: false }
    }

    async fn try_record(
        &self,
        message: &str,
        failure: &RecordedFailure,
        pauses: &[Duration],
    ) -> Result<History, AttemptStoreError> {
        // What was kept for this message goes first.
        let kept = self.unrecorded().of.remove(message).unwrap_or_default();
        let mut waiting = kept.into_iter().chain([failure.clone()]).peekable();
        let mut pauses = pauses.iter();
        let mut history = History::default();
        while let Some(next) = waiting.peek() {
            let call = self.store.record(&self.queue, message, next.clone());
            let answer = tokio::time::timeout(CALL_MAX, call)
                .await
                .unwrap_or_else(|_| Err(AttemptStoreError(format!("no answer in {CALL_MAX:?}"))));
            let error = match answer {
                Ok(now) => {
                    history = now;
                    waiting.next();
                    continue;
                }
                Err(error) => error,
            };
            let Some(pause) = pauses.next() else {
                let mut waiting: Vec<_> = waiting.collect();
                // The caller keeps the last one itself.
                waiting.pop();
                for failure in waiting {
                    self.keep(message, failure);
                }
                return Err(error);
            };
            tokio::time::sleep(*pause).await;
        }
        Ok(history)
    }

    fn keep(&self, message: &str, failure: RecordedFailure) {
        let mut unrecorded = self.unrecorded();
        let of = unrecorded.of.entry(message.to_owned()).or_default();
        if of.len() == super::ATTEMPTS_KEPT {
            of.remove(0);
        }
        of.push(failure);
        if of.len() == 1 {
            unrecorded.order.push_back(message.to_owned());
        }
        while unrecorded.order.len() > UNRECORDED_MAX {
            if let Some(oldest) = unrecorded.order.pop_front() {
                unrecorded.of.remove(&oldest);
            }
        }
    }

    /// Forgets a message that ended; if the store cannot, its own ageing will.
    pub(crate) async fn forget(&self, message: &str) {
        self.unrecorded().of.remove(message);
        let messages = [message.to_owned()];
        let call = self.store.forget(&self.queue, &messages);
        if let Ok(Err(error)) = tokio::time::timeout(CALL_MAX, call).await {
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

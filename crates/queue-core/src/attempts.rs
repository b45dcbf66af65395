//! The record of failures, kept when they happen: what counts against a message's limit. Receives
//! are not failures: SQS counts every release, drain and recall as a receive.

pub(crate) mod recorder;
mod unrecorded;

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Attempts kept per message; older ones are summed up in the count.
pub const ATTEMPTS_KEPT: usize = 16;

/// One failed attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedFailure {
    /// When it failed.
    pub at: DateTime<Utc>,
    /// Code from the registry.
    pub code: String,
    /// The error chain as text, at most 2 KiB.
    pub error: String,
    /// Worker name and version that tried.
    pub worker: String,
    /// Whether it counts against the limit; infrastructure errors do not.
    pub counts: bool,
    /// Receives of the message when it was recorded; those after it have no recorded outcome yet.
    #[serde(default)]
    pub receives: u32,
}

/// What is known of a message's past.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Failures that count against the limit.
    pub failures: u32,
    /// The last attempts, oldest first, at most [`ATTEMPTS_KEPT`].
    pub attempts: Vec<RecordedFailure>,
}

/// The store cannot be reached; the message stays leased and is tried again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("attempt store: {0}")]
pub struct AttemptStoreError(pub String);

/// Where failures are recorded, keyed by queue and message (our envelope id, or the broker's id for
/// a message without envelope).
///
/// `record` is called before the message is given back, so a crash between the two forgets nothing;
/// calling it twice for one attempt counts twice, which is the safe side of a limit.
#[async_trait]
pub trait AttemptStore: Send + Sync + 'static {
    /// Adds a failure and returns the history with it.
    async fn record(
        &self,
        queue: &str,
        message: &str,
        failure: RecordedFailure,
    ) -> Result<History, AttemptStoreError>;

    /// The history of several messages, in their order.
    async fn load(
        &self,
        queue: &str,
        messages: &[String],
    ) -> Result<Vec<History>, AttemptStoreError>;

    /// Forgets messages that ended.
    async fn forget(&self, queue: &str, messages: &[String]) -> Result<(), AttemptStoreError>;
}

/// Messages that [`MemoryAttempts`] remembers; beyond it the oldest are forgotten.
pub const MEMORY_MESSAGES_MAX: usize = 100_000;

/// A store for tests and for workers without a database: it forgets at exit.
#[derive(Debug, Default)]
pub struct MemoryAttempts {
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    histories: HashMap<(String, String), History>,
    /// In the order they came; may name some that were forgotten since.
    order: VecDeque<(String, String)>,
}

impl MemoryAttempts {
    fn locked(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl History {
    /// Adds a failure, dropping the oldest attempt beyond [`ATTEMPTS_KEPT`].
    pub fn push(&mut self, failure: RecordedFailure) {
        self.failures += u32::from(failure.counts);
        if self.attempts.len() == ATTEMPTS_KEPT {
            self.attempts.remove(0);
        }
        self.attempts.push(failure);
    }
}

#[async_trait]
impl AttemptStore for MemoryAttempts {
    async fn record(
        &self,
        queue: &str,
        message: &str,
        failure: RecordedFailure,
    ) -> Result<History, AttemptStoreError> {
        let mut memory = self.locked();
        let key = (queue.to_owned(), message.to_owned());
        if !memory.histories.contains_key(&key) {
            memory.order.push_back(key.clone());
        }
        let history = memory.histories.entry(key).or_default();
        history.push(failure);
        let history = history.clone();
        while memory.order.len() > MEMORY_MESSAGES_MAX {
            if let Some(oldest) = memory.order.pop_front() {
                memory.histories.remove(&oldest);
            }
        }
        Ok(history)
    }

    async fn load(
        &self,
        queue: &str,
        messages: &[String],
    ) -> Result<Vec<History>, AttemptStoreError> {
        let memory = self.locked();
        let of = |id: &String| memory.histories.get(&(queue.to_owned(), id.clone())).cloned();
        Ok(messages.iter().map(|id| of(id).unwrap_or_default()).collect())
    }

    async fn forget(&self, queue: &str, messages: &[String]) -> Result<(), AttemptStoreError> {
        let mut memory = self.locked();
        for id in messages {
            memory.histories.remove(&(queue.to_owned(), id.clone()));
        }
        Ok(())
    }
}

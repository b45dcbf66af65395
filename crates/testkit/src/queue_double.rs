//! A queue to publish to that takes, refuses, hangs, or takes and loses the answer. It hands nothing
//! out.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use queue_core::driver::{EntryResults, Outgoing, QueueAttributes, ReceiveRequest, Received};
use queue_core::{Driver, DriverError};
use tokio::sync::watch;

/// What a [`QueueDouble`] does with what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueMood {
    /// Takes it and says so.
    Takes,
    /// Takes nothing and says so.
    Refuses,
    /// Answers nothing until the mood changes.
    Hangs,
    /// Takes it; the answer is lost.
    TakesAndLosesTheAnswer,
}

/// A queue that keeps what is sent to it, in memory.
#[derive(Debug)]
pub struct QueueDouble {
    sent: Mutex<Vec<Outgoing>>,
    mood: watch::Sender<QueueMood>,
}

impl Default for QueueDouble {
    fn default() -> Self {
        Self { sent: Mutex::default(), mood: watch::Sender::new(QueueMood::Takes) }
    }
}

impl QueueDouble {
    /// What it does from now on.
    pub fn mood(&self, mood: QueueMood) {
        self.mood.send_replace(mood);
    }

    /// What it took so far.
    pub fn sent(&self) -> Vec<Outgoing> {
        self.taken().clone()
    }

    fn taken(&self) -> MutexGuard<'_, Vec<Outgoing>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Driver for QueueDouble {
    fn queue(&self) -> &'static str {
        "double"
    }

    async fn receive(&self, _request: ReceiveRequest) -> Result<Vec<Received>, DriverError> {
        Ok(Vec::new())
    }

    async fn settle(&self, receipts: &[String]) -> Result<EntryResults, DriverError> {
        Ok(receipts.iter().map(|_| Ok(())).collect())
    }

    async fn extend(&self, entries: &[(String, Duration)]) -> Result<EntryResults, DriverError> {
        Ok(entries.iter().map(|_| Ok(())).collect())
    }

    async fn send(&self, entries: &[Outgoing]) -> Result<EntryResults, DriverError> {
        let mut moods = self.mood.subscribe();
        let unsent = |why: &str| DriverError::Unavailable(why.into());
        let mood = *moods
            .wait_for(|mood| *mood != QueueMood::Hangs)
            .await
            .map_err(|_| unsent("the double is gone"))?;
        if mood == QueueMood::Refuses {
            return Err(unsent("connection refused"));
        }
        self.taken().extend_from_slice(entries);
        if mood == QueueMood::TakesAndLosesTheAnswer {
            return Err(DriverError::Timeout("the answer was lost".into()));
        }
        Ok(entries.iter().map(|_| Ok(())).collect())
    }

    async fn attributes(&self) -> Result<QueueAttributes, DriverError> {
        Ok(QueueAttributes::default())
    }
}

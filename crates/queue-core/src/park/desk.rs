//! The operator's side of parking: what a person sees of the lines and can decide over them. Nothing
//! here sends; workers carry decisions out.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{ParkReason, ParkStore, ParkStoreError, ParkedMessage};

/// What an operator can decide over a parked group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Those that wait, in order; what was rejected stays in the dead-letter queue.
    Release,
    /// What was rejected first, then those that wait.
    Replay,
}

/// Where an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryState {
    /// In its place.
    Waiting,
    /// A releaser is about to send it.
    Sending,
    /// In the queue.
    Sent,
    /// Rejected: its letter is in the dead-letter queue, or about to be.
    Rejected,
    /// An operator wants it in the dead-letter queue; a releaser will send it there.
    Skip,
    /// In the dead-letter queue for good; kept until the group opens.
    Gone,
}

impl EntryState {
    /// Every state, with its word in stores and on screens.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Waiting, "waiting"),
        (Self::Sending, "sending"),
        (Self::Sent, "sent"),
        (Self::Rejected, "rejected"),
        (Self::Skip, "skip"),
        (Self::Gone, "gone"),
    ];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(state, _)| *state == self).map_or("", |(_, word)| word)
    }

    /// The state of that word.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, other)| *other == word).map(|(state, _)| *state)
    }

    /// Whether it is still to be handled, and so keeps its group from opening.
    pub fn waits(self) -> bool {
        matches!(self, Self::Waiting | Self::Sending | Self::Sent)
    }
}

/// A parked group, as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ParkedGroup {
    /// Name of the queue.
    pub queue: String,
    /// FIFO group.
    pub group: String,
    /// Why.
    #[serde(flatten)]
    pub reason: ParkReason,
    /// Since when.
    pub parked_at: DateTime<Utc>,
    /// A releaser is at work.
    pub releasing: bool,
    /// Messages that wait, those on their way included.
    pub waiting: u64,
    /// Messages that were rejected and are not decided upon.
    pub rejected: u64,
}

/// One message of a line, as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LineEntry {
    /// Id in the store.
    pub id: i64,
    /// Where it stands.
    pub state: EntryState,
    /// What it is.
    #[serde(flatten)]
    pub message: ParkedMessage,
}

/// The operator's side of the store. Decisions are recorded here; workers carry them out.
#[async_trait]
pub trait ParkDesk: ParkStore {
    /// The parked groups of a queue, oldest first, at most `max`.
    async fn groups(&self, queue: &str, max: usize) -> Result<Vec<ParkedGroup>, ParkStoreError>;

    /// A group's line in order, at most `max` entries; empty when it is not parked.
    async fn line(
        &self,
        queue: &str,
        group: &str,
        max: usize,
    ) -> Result<Vec<LineEntry>, ParkStoreError>;

    /// Decides over a group. `false` when it is not parked. Deciding again sends what is on its way
    /// anew. A group in which nothing waits opens at once.
    async fn decide(
        &self,
        queue: &str,
        group: &str,
        decision: Decision,
    ) -> Result<bool, ParkStoreError>;

    /// Sends one message of a line to the dead-letter queue with a reason; the group stays as it is.
    /// `false` when it does not wait there, or is on its way.
    async fn skip(&self, queue: &str, id: i64, reason: &str) -> Result<bool, ParkStoreError>;
}

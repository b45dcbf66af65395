//! Parking: when a message of a FIFO group is rejected, what comes after it in the group must not run
//! as if it had been there. The group is parked: its later messages move, in order, to a store, where
//! they outlive the queue's retention, until an operator releases, replays or skips.
//!
//! # The line, and why a crash at any point is safe
//!
//! A group is *parked* while the store has a row for it; each of its messages in the store is an
//! entry with a position. What is in the broker and what is in the store overlap at every step, and
//! never neither holds a message: each step writes the store first, then the broker.
//!
//! **Parking.** (1) one transaction parks the group and stores the rejected message; (2) its dead
//! letter is sent; (3) that is noted; (4) it is deleted from the queue. A crash after 1, 2 or 3 brings
//! the message again, which finds its own entry: before 3 the letter is sent again (the same
//! deduplication id, so within the broker's five minutes it is the same letter), after 3 it is deleted
//! only. Nothing behind it was handed out meanwhile, since it was in flight or first in line, and the
//! next batch of the group, whoever receives it, asks the store first.
//!
//! **Arriving.** (1) one transaction appends the message to the line, if the group is still parked;
//! (2) it is deleted from the queue. A crash between brings it again; it finds its entry by the
//! broker's id and is only deleted. Entries keep the order of first arrival, which is the group's
//! order, since every receive of a group begins where its undeleted messages begin.
//!
//! **Releasing.** The operator's decision is a state of the group. Some worker's releaser claims the
//! group for a moment and (1) marks the first entry `sending` under its next release number; (2) sends
//! the message with entry and number in an attribute ([`MARKER_ATTRIBUTE`]) and a deduplication id made
//! of them; (3) marks it `sent`. A crash after 1 or 2 lets the claim run out, and another releaser
//! sends it again: within five minutes the broker drops the second copy, later the copies carry the
//! same marker. Whichever is handled first removes the entry, and a marked message whose entry is gone
//! was done: it is deleted. Only one entry of a group is on its way at a time, and a marked message
//! that is not the first of its line goes back to its place, so no delay of a releaser can reorder.
//! A marked message with an older release number than its entry's is a leftover: it is deleted.
//!
//! **Handled.** (1) the handler has succeeded; (2) one transaction removes the entry, and with the last
//! one opens the group; (3) the message is deleted from the queue. A crash after 1 hands it to a
//! handler again, as everywhere; after 2 it comes again without an entry and is deleted. Until 3 it is
//! in flight, so nothing of the group passes it.
//!
//! **New messages meanwhile** are appended while the group is parked, also when it is being released,
//! so nothing overtakes; appending and opening lock the same row, so a message is either in the line
//! before it empties, or runs after it.
//!
//! **Rejected again.** The entry is marked rejected and the group parked, in one transaction; the rest
//! waits where it was. A release leaves what was rejected in the dead-letter queue: its entry is gone
//! as soon as its letter was noted, and the group does not open before. **Skipped.** The entry is
//! marked; a releaser sends its letter, where there is none yet, and then marks it gone. Entries that are gone stay until the group opens, so that a copy still in the queue, left by
//! an unconfirmed delete, is known and not run.
//!
//! What can still go wrong: a purge of the queue takes a `sent` message away, and its entry stays. To
//! decide again sends it anew. One taken away between its rejection and its letter stays rejected; to
//! skip it sends the letter.

pub(crate) mod admit;
mod desk;
pub(crate) mod memory;
pub(crate) mod releaser;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Serialize;

pub use desk::{Decision, EntryState, LineEntry, ParkDesk, ParkedGroup};
pub use memory::MemoryParking;

/// Attribute that names the entry and release of a message that was sent by a releaser.
pub const MARKER_ATTRIBUTE: &str = "flotilla-parked";
/// How long a releaser may take over one step before another one repeats it.
pub const CLAIM: Duration = Duration::from_secs(30);

/// Which entry, and the how many-th time it is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Marker {
    /// The entry's id in the store.
    pub id: i64,
    /// From 1.
    pub release: i32,
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.id, self.release)
    }
}

/// Not a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a marker is written entry.release, e.g. 17.1")]
pub struct NoMarker;

impl FromStr for Marker {
    type Err = NoMarker;

    fn from_str(text: &str) -> Result<Self, NoMarker> {
        let (id, release) = text.split_once('.').ok_or(NoMarker)?;
        let (id, release) =
            (id.parse().map_err(|_| NoMarker)?, release.parse().map_err(|_| NoMarker)?);
        Ok(Self { id, release })
    }
}

/// A message as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ParkedMessage {
    /// FIFO group.
    pub group: String,
    /// The broker's id when it first came: its identity in the store.
    pub message_id: String,
    /// Whose it is, where its envelope could be read.
    pub tenant: Option<String>,
    /// Message type, where its envelope could be read.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// What a release sends.
    pub body: String,
    /// String attributes of the original.
    pub attributes: Vec<(String, String)>,
    /// When it was first sent.
    pub first_seen: DateTime<Utc>,
}

/// Why a group is parked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ParkReason {
    /// Code from the registry.
    pub code: String,
    /// For a person.
    pub message: String,
}

/// As what a message that parks its group is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Rejected: a dead letter tells of it, and a release leaves it there.
    Rejected,
    /// The first that waits: there is no dead letter, and a release begins with it.
    First,
}

/// What is to be done with a message that arrives in a parked group, or with a marker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The group is open: it runs.
    Open,
    /// A released message whose turn it is: it runs, as this original.
    Turn {
        /// Its body.
        body: String,
        /// Its attributes.
        attributes: Vec<(String, String)>,
    },
    /// The store has it: to be deleted from the queue.
    InLine,
    /// The store has it as rejected for that reason, and its dead letter may not have been sent.
    Unlettered(ParkReason),
    /// A released message that was handled: to be deleted from the queue.
    Done,
    /// No room: it stays in the queue.
    Full,
}

/// What a releaser has to do next in one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Of the entry.
    pub marker: Marker,
    /// What it is.
    pub message: ParkedMessage,
    /// `Some`: to the dead-letter queue, with this reason of an operator's; else to the queue.
    pub skipped: Option<String>,
}

/// How much is parked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ParkFigures {
    /// Groups that are parked or being released.
    pub groups: u64,
    /// Messages in their lines, those rejected included.
    pub messages: u64,
}

/// Bounds of a store. At a bound a message stays in the queue, given back with backoff. A group that
/// is being released takes in what comes, also beyond them: what still stands in the queue is before
/// the released messages there, and would be in their way for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParkLimits {
    /// Messages of one group.
    pub group_max: u64,
    /// Messages of one queue, over all groups.
    pub queue_max: u64,
}

impl Default for ParkLimits {
    /// 10,000 of a group: released one after the other, minutes. 100,000 of a queue: at the broker's
    /// 1 MiB each, 100 GiB in the worst case, and 100 MB at the usual KiB.
    fn default() -> Self {
        Self { group_max: 10_000, queue_max: 100_000 }
    }
}

/// The store cannot be reached, or contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("parking store: {0}")]
pub struct ParkStoreError(pub String);

/// The engine's side of the store; see the module for what each step relies on.
///
/// Each call is one transaction: it takes effect wholly or not at all, is durable when it answers
/// `Ok`, and calls for one group take effect one after the other. A call that failed may have taken
/// effect; every one of them may be repeated.
#[async_trait]
pub trait ParkStore: Send + Sync + 'static {
    /// Which of `groups` are parked or being released, in their order.
    async fn parked(&self, queue: &str, groups: &[String]) -> Result<Vec<bool>, ParkStoreError>;

    /// Judges a message that arrives, and appends it to the line of a parked group. A message that is
    /// known by its broker's id, or by `marker`, is not appended again.
    async fn admit(
        &self,
        queue: &str,
        message: &ParkedMessage,
        marker: Option<Marker>,
    ) -> Result<Admission, ParkStoreError>;

    /// Parks the group of a message and stores that message. `false` when there is no room: then
    /// nothing has changed. What is being released goes back to its place.
    async fn park(
        &self,
        queue: &str,
        message: &ParkedMessage,
        marker: Option<Marker>,
        place: Place,
        reason: &ParkReason,
    ) -> Result<bool, ParkStoreError>;

    /// Notes that the dead letter of a rejected or skipped message was sent; one that was to be
    /// skipped is gone then.
    async fn lettered(
        &self,
        queue: &str,
        message: &ParkedMessage,
        marker: Option<Marker>,
    ) -> Result<(), ParkStoreError>;

    /// Removes the entry of a released message that was handled, if it is there. `true` when it was
    /// the last one, and the group is open again.
    async fn handled(
        &self,
        queue: &str,
        group: &str,
        marker: Marker,
    ) -> Result<bool, ParkStoreError>;

    /// Claims up to `max` groups in which something is to be sent, for [`CLAIM`], and answers the
    /// first thing to do in each.
    async fn due(&self, queue: &str, max: usize) -> Result<Vec<Due>, ParkStoreError>;

    /// Notes that a released message is in the queue, and ends the claim.
    async fn sent(&self, queue: &str, group: &str, marker: Marker) -> Result<(), ParkStoreError>;

    /// How much of a queue is parked.
    async fn figures(&self, queue: &str) -> Result<ParkFigures, ParkStoreError>;
}

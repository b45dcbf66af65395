//! Everything that can happen to the state, as data. A call is decided first and becomes effects;
//! effects are applied, and written to the log. Replaying the log applies the same effects, so a
//! restart cannot decide anything differently. Time passing (a lease or a delay that ends, a message
//! that expires) is no effect: it follows from the times inside.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::model::{Message, QueueArn, QueueId};
use crate::operations::MoveStatus;
use crate::queue::{DedupKey, Kind};

pub(crate) mod decoding;
pub(crate) mod encoding;

/// A message with all that is known about it, as it is stored, moved and kept in snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Its place in the broker, also its FIFO sequence number.
    pub(crate) seq: u64,
    pub(crate) message: Arc<Message>,
    pub(crate) kind: Kind,
    /// Retention counts from here.
    pub(crate) sent_at: i64,
    /// When a delay or lease ends.
    pub(crate) visible_at: i64,
    pub(crate) receives: u32,
    pub(crate) first_received_at: Option<i64>,
    pub(crate) leased_at: i64,
    /// Names the latest receive.
    pub(crate) nonce: u64,
    pub(crate) source: Option<Arc<str>>,
}

/// A move task with its progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MoveTask {
    pub(crate) id: Uuid,
    pub(crate) source: QueueArn,
    pub(crate) destination: Option<QueueArn>,
    pub(crate) rate: Option<i64>,
    pub(crate) moved: u64,
    pub(crate) to_move: u64,
    pub(crate) status: MoveStatus,
    pub(crate) failure: Option<&'static str>,
    pub(crate) started_at: i64,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    QueueCreated {
        queue: QueueId,
        arn: QueueArn,
        attributes: BTreeMap<String, String>,
        tags: BTreeMap<String, String>,
        at: i64,
    },
    QueueDeleted {
        queue: QueueId,
        at: i64,
    },
    AttributesSet {
        queue: QueueId,
        attributes: BTreeMap<String, String>,
        at: i64,
    },
    TagsSet {
        queue: QueueId,
        tags: BTreeMap<String, String>,
    },
    Purged {
        queue: QueueId,
        at: i64,
    },
    Stored {
        queue: QueueId,
        stored: Box<Stored>,
    },
    Deduplicated {
        queue: QueueId,
        key: DedupKey,
        id: Uuid,
        seq: u64,
        at: i64,
    },
    Leased {
        queue: QueueId,
        seq: u64,
        at: i64,
        until: i64,
        nonce: u64,
    },
    VisibilityChanged {
        queue: QueueId,
        seq: u64,
        until: i64,
    },
    Deleted {
        queue: QueueId,
        seq: u64,
    },
    MoveTask(Box<MoveTask>),
    /// The highest numbers given out, so that a snapshot of an empty broker does not reuse them.
    Counters {
        queue: u64,
        seq: u64,
    },
}

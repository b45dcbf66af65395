//! The 23 actions as types: what a codec makes from a request and turns back into a reply. Fields
//! that a caller may leave out are options, so that "missing" is decided once, by the broker.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::errors::SqsError;
use crate::model::{Delivery, Draft, QueueArn, SequenceNumber};
use crate::selection::Selection;

/// A queue as a request names it; `None` when the request does not, or not readably.
pub type QueueRef = Option<QueueArn>;

/// A receipt handle with the seconds its lease shall last from now.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct VisibilityChange {
    /// From a receive.
    pub receipt: Option<String>,
    /// 0 to 43,200.
    pub seconds: Option<i64>,
}

/// What a receive asks for.
#[derive(Clone, Debug, Default)]
pub struct Receive {
    /// From which queue.
    pub queue: QueueRef,
    /// 1 to 10; 1 when `None`.
    pub max: Option<i64>,
    /// Lease; the queue's own when `None`.
    pub visibility_seconds: Option<i64>,
    /// 0 to 20; the queue's own when `None`.
    pub wait_seconds: Option<i64>,
    /// FIFO: the same id within five minutes gets the same messages.
    pub attempt: Option<String>,
    /// Which attributes the reply shows.
    pub selection: Arc<Selection>,
}

/// A request, typed.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "fields are SQS's own parameters, named after them")]
pub enum Request {
    /// Adds a statement to the queue's policy.
    AddPermission {
        queue: QueueRef,
        label: Option<String>,
        accounts: Vec<String>,
        actions: Vec<String>,
    },
    /// Stops a move task.
    CancelMessageMoveTask { handle: Option<String> },
    /// Sets the remaining lease.
    ChangeMessageVisibility { queue: QueueRef, change: VisibilityChange },
    /// Sets up to ten remaining leases.
    ChangeMessageVisibilityBatch { queue: QueueRef, entries: Vec<(String, VisibilityChange)> },
    /// Makes a queue, or answers with the one that is there.
    CreateQueue {
        name: Option<String>,
        attributes: BTreeMap<String, String>,
        tags: BTreeMap<String, String>,
    },
    /// Removes a leased message.
    DeleteMessage { queue: QueueRef, receipt: Option<String> },
    /// Removes up to ten leased messages.
    DeleteMessageBatch { queue: QueueRef, entries: Vec<(String, Option<String>)> },
    /// Removes a queue and its messages.
    DeleteQueue { queue: QueueRef },
    /// Reads a queue's attributes.
    GetQueueAttributes { queue: QueueRef, names: Vec<String> },
    /// Finds a queue by name.
    GetQueueUrl { name: Option<String>, owner: Option<String> },
    /// Which queues use this one for dead letters.
    ListDeadLetterSourceQueues { queue: QueueRef, next: Option<String>, max: Option<i64> },
    /// The latest move tasks of a source.
    ListMessageMoveTasks { source: Option<String>, max: Option<i64> },
    /// Reads a queue's tags.
    ListQueueTags { queue: QueueRef },
    /// Lists queues by name.
    ListQueues { prefix: Option<String>, next: Option<String>, max: Option<i64> },
    /// Removes every message.
    PurgeQueue { queue: QueueRef },
    /// Leases messages.
    ReceiveMessage(Receive),
    /// Removes a statement from the queue's policy.
    RemovePermission { queue: QueueRef, label: Option<String> },
    /// Sends a message.
    SendMessage { queue: QueueRef, draft: Box<Draft> },
    /// Sends up to ten messages.
    SendMessageBatch { queue: QueueRef, entries: Vec<(String, Draft)> },
    /// Changes a queue's attributes.
    SetQueueAttributes { queue: QueueRef, attributes: BTreeMap<String, String> },
    /// Moves a dead-letter queue's messages back or elsewhere.
    StartMessageMoveTask { source: Option<String>, destination: Option<String>, rate: Option<i64> },
    /// Sets tags.
    TagQueue { queue: QueueRef, tags: BTreeMap<String, String> },
    /// Removes tags.
    UntagQueue { queue: QueueRef, keys: Vec<String> },
}

impl Request {
    /// Gives messages sent without a trace header the one that the HTTP request itself carries. It
    /// is not among what the caller sent, and so not in the hash of that.
    pub(crate) fn trace(&mut self, header: Option<&str>) {
        let Some(header) = header else { return };
        let trace = |draft: &mut Draft| {
            draft.trace_header.get_or_insert_with(|| header.to_owned());
        };
        match self {
            Self::SendMessage { draft, .. } => trace(draft),
            Self::SendMessageBatch { entries, .. } => {
                for (_, draft) in entries {
                    trace(draft);
                }
            }
            _ => {}
        }
    }
}

/// What a send answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The message's id; a duplicate's is the original's.
    pub id: Uuid,
    /// MD5 of the body just sent.
    pub md5_body: [u8; 16],
    /// MD5 of the attributes just sent.
    pub md5_attributes: Option<[u8; 16]>,
    /// MD5 of the system attributes just sent.
    pub md5_system_attributes: Option<[u8; 16]>,
    /// FIFO only; a duplicate's is the original's.
    pub sequence: Option<SequenceNumber>,
}

/// One entry's outcome, under the id that the caller gave it.
pub type Entry<T> = (String, Result<T, SqsError>);

/// A page of queues.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct QueuePage {
    /// In order of their names.
    pub queues: Vec<QueueArn>,
    /// Present when there is more.
    pub next: Option<String>,
}

/// How far a move task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveStatus {
    /// Moving.
    Running,
    /// Nothing left to move.
    Completed,
    /// Stopped by a caller.
    Cancelled,
    /// A message had nowhere to go.
    Failed,
}

impl MoveStatus {
    /// As the wire spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Completed => "COMPLETED",
            Self::Cancelled => "CANCELLED",
            Self::Failed => "FAILED",
        }
    }
}

/// A move task as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveTaskView {
    /// Only while it runs.
    pub handle: Option<String>,
    /// How far it is.
    pub status: MoveStatus,
    /// From.
    pub source: QueueArn,
    /// To; each message's own source when `None`.
    pub destination: Option<QueueArn>,
    /// Messages per second.
    pub rate: Option<i64>,
    /// Moved so far.
    pub moved: u64,
    /// Counted at the start.
    pub to_move: u64,
    /// Why it failed.
    pub failure: Option<&'static str>,
    /// When it started, milliseconds since the epoch.
    pub started_at_ms: i64,
}

/// A reply, typed.
#[derive(Clone, Debug)]
pub enum Response {
    /// Done; nothing to say.
    Done,
    /// A queue, for its URL.
    Queue(QueueArn),
    /// A page of queues.
    Queues(QueuePage),
    /// A page of dead-letter sources.
    DeadLetterSources(QueuePage),
    /// Queue attributes.
    Attributes(BTreeMap<&'static str, String>),
    /// Tags.
    Tags(BTreeMap<String, String>),
    /// One send.
    Sent(Sent),
    /// A batch of sends, in the entries' order.
    SentBatch(Vec<Entry<Sent>>),
    /// A batch of deletes or visibility changes, in the entries' order.
    DoneBatch(Vec<Entry<()>>),
    /// Leased messages and what to show of them.
    Received(Vec<Delivery>, Arc<Selection>),
    /// A started task's handle.
    MoveStarted(String),
    /// A cancelled task's count.
    MoveCancelled(u64),
    /// Move tasks, newest first.
    MoveTasks(Vec<MoveTaskView>),
}

//! The port to a broker: one value per queue, four calls that move messages and two that look.
//! A driver translates; it never retries, buffers, batches or decides.

#[cfg(test)]
pub(crate) mod asking;

use std::time::Duration;

use async_trait::async_trait;

/// Entries per settle, extend and send call.
pub const BATCH_ENTRIES_MAX: usize = 10;

/// One message as the broker handed it over; its lease runs from the moment of receipt.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// The broker's id; a re-sent or redriven message has another one.
    pub message_id: String,
    /// Names this receipt; a later receive of the same message has another one.
    pub receipt: String,
    /// Body as text.
    pub body: String,
    /// How often it was handed out, this time included. Not a count of failures.
    pub receives: u32,
    /// When it was sent, milliseconds since the epoch by the broker's clock.
    pub sent_at_ms: i64,
    /// FIFO group, or the tenant on a fair standard queue.
    pub group: Option<String>,
    /// Position inside its FIFO group.
    pub sequence: Option<String>,
    /// String attributes: type, version, `traceparent` and what others put there.
    pub attributes: Vec<(String, String)>,
}

impl Received {
    /// Bytes that it takes up here: body, attribute names and values.
    pub fn size(&self) -> usize {
        let attributes = self.attributes.iter().map(|(name, value)| name.len() + value.len());
        self.body.len() + attributes.sum::<usize>()
    }

    /// The string attribute of that name.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let mut attributes = self.attributes.iter();
        attributes.find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What a receive asks for.
#[derive(Clone, Copy, Debug)]
pub struct ReceiveRequest {
    /// Messages at most, 1 to 10.
    pub max: usize,
    /// Long-poll wait, 0 to 20 s, whole seconds.
    pub wait: Duration,
    /// Lease, whole seconds.
    pub lease: Duration,
}

/// A message to send.
#[derive(Clone, Debug, Default)]
pub struct Outgoing {
    /// Body as ASCII text.
    pub body: String,
    /// String attributes.
    pub attributes: Vec<(String, String)>,
    /// FIFO group, or the tenant on a standard queue (fair queues).
    pub group: Option<String>,
    /// FIFO deduplication id.
    pub deduplication: Option<String>,
    /// Delay before it is visible, whole seconds, at most 900.
    pub delay: Option<Duration>,
}

impl Outgoing {
    /// Bytes that the broker counts: body, attribute names, types and values.
    pub fn size(&self) -> usize {
        let attributes: usize = self
            .attributes
            .iter()
            .map(|(name, value)| name.len() + value.len() + "String".len())
            .sum();
        self.body.len() + attributes
    }
}

/// A whole call failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DriverError {
    /// The broker asks for fewer calls.
    #[error("throttled: {0}")]
    Throttled(String),
    /// No answer in time; the call may have taken effect.
    #[error("no answer in time: {0}")]
    Timeout(String),
    /// Not reachable, or a fault on its side.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// It will fail again: no such queue, access denied, a bad argument.
    #[error("refused: {0}")]
    Refused(String),
}

/// One entry of a batch failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The receipt is no longer valid: the lease is lost or the message is gone.
    #[error("lease lost: {0}")]
    LeaseLost(String),
    /// May succeed when tried again.
    #[error("try again: {0}")]
    Transient(String),
    /// Will fail again.
    #[error("refused: {0}")]
    Refused(String),
}

/// A settle, extend or send that takes longer has failed, should a driver's own limit not hold; below
/// the shortest lease in the catalogue, so that there is time for another try.
pub const CALL_MAX: Duration = Duration::from_secs(10);

/// Waits for a batch call, not beyond [`CALL_MAX`].
pub(crate) async fn within_limit(
    call: impl Future<Output = Result<EntryResults, DriverError>>,
) -> Result<EntryResults, DriverError> {
    tokio::time::timeout(CALL_MAX, call)
        .await
        .unwrap_or_else(|_| Err(DriverError::Timeout(format!("no answer in {CALL_MAX:?}"))))
}

/// Per-entry results, one for each entry, in the order of the entries.
pub type EntryResults = Vec<Result<(), EntryError>>;

/// What a queue says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct QueueAttributes {
    /// Default lease of the queue.
    pub visibility: Duration,
    /// How long it keeps messages.
    pub retention: Duration,
    /// Its own redrive count, where it has one.
    pub receives_max: Option<u32>,
    /// Where its own redrive sends messages, by ARN.
    pub dead_letter_arn: Option<String>,
    /// What it is set to, where it is a FIFO queue.
    pub fifo: Option<FifoAttributes>,
    /// Visible, in flight and delayed messages, all approximate.
    pub depth: Depth,
}

/// How a FIFO queue is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FifoAttributes {
    /// Deduplication ids count within a group, not in the whole queue.
    pub deduplicates_per_group: bool,
    /// The limit of calls is each group's, not the whole queue's.
    pub throughput_per_group: bool,
}

/// Approximate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize)]
pub struct Depth {
    /// Ready to be received.
    pub visible: u64,
    /// Received and not settled.
    pub in_flight: u64,
    /// Sent with a delay that has not passed.
    pub delayed: u64,
}

/// A broker's queue.
///
/// Guarantees a driver gives: every call makes **one** attempt and ends within a time limit of its
/// own; per-entry results come back in the order of the entries, one each, whatever the broker's
/// answer looked like (an entry the answer does not mention is `Transient`); dropping a call's
/// future has no effect beyond what the broker may already have done.
/// What it does not promise: that a call which failed had no effect.
#[async_trait]
pub trait Driver: Send + Sync + std::fmt::Debug + 'static {
    /// A name for logs and metrics: the queue's.
    fn queue(&self) -> &str;

    /// Receives up to `max` messages, waiting up to `wait` for the first. Once started it must be
    /// awaited: an aborted long poll makes SQS hand messages to nobody.
    async fn receive(&self, request: ReceiveRequest) -> Result<Vec<Received>, DriverError>;

    /// Deletes up to ten receipts.
    async fn settle(&self, receipts: &[String]) -> Result<EntryResults, DriverError>;

    /// Sets the remaining lease of up to ten receipts; zero makes a message visible at once.
    async fn extend(&self, entries: &[(String, Duration)]) -> Result<EntryResults, DriverError>;

    /// Sends up to ten messages, together within the broker's byte limit.
    async fn send(&self, entries: &[Outgoing]) -> Result<EntryResults, DriverError>;

    /// What the queue says about itself.
    async fn attributes(&self) -> Result<QueueAttributes, DriverError>;
}

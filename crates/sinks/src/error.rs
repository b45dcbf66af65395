//! What can go wrong with a sink as a whole, and what can go wrong with one item of a batch.
//! The two never mix: the first is infrastructure and never the message's fault.

use std::time::Duration;

use contracts::{ErrorCode, errors};
use queue_core::{Failure, Trouble};

/// What kind of trouble a sink is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkErrorKind {
    /// It cannot be reached, or says that it cannot work now.
    Unavailable,
    /// It did not answer in time; whether it did the work is not known.
    Timeout,
    /// It answered, but refused the call as a whole or made no sense.
    Refused,
    /// It asks for fewer calls.
    Throttled,
    /// A bound of ours was reached; nothing was sent.
    Full,
    /// An object in a class of storage that must be restored before it is read.
    NeedsRestore,
}

impl SinkErrorKind {
    /// Its row in the engine's table.
    pub const fn trouble(self) -> Trouble {
        match self {
            // A sink that refuses a call as a whole is set up wrongly: no message's fault.
            Self::Unavailable | Self::Refused | Self::NeedsRestore => Trouble::Unavailable,
            Self::Timeout => Trouble::Timeout,
            Self::Throttled | Self::Full => Trouble::Throttled,
        }
    }
}

/// A whole call to a sink failed: infrastructure, to be retried free of charge.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{sink}: {message}")]
pub struct SinkError {
    /// Which sink, as in metrics: `opensearch`, `postgres-search`, `redis`.
    pub sink: &'static str,
    /// What kind of trouble.
    pub kind: SinkErrorKind,
    /// The error chain as text.
    pub message: String,
    /// When the sink itself said to come back.
    pub retry_after: Option<Duration>,
}

impl SinkError {
    /// An error of `sink`.
    pub fn new(sink: &'static str, kind: SinkErrorKind, message: impl Into<String>) -> Self {
        Self { sink, kind, message: message.into(), retry_after: None }
    }

    /// With the time that the sink named.
    #[must_use]
    pub fn retry_after(self, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..self }
    }

    /// The registry's entry for it.
    pub fn code(&self) -> ErrorCode {
        match self.sink {
            crate::pubsub::NAME => errors::PUBSUB_UNAVAILABLE,
            crate::objects::NAME => errors::OBJECTS_UNAVAILABLE,
            _ => errors::SEARCH_UNAVAILABLE,
        }
    }
}

impl From<SinkError> for Failure {
    fn from(error: SinkError) -> Self {
        error.kind.trouble().failure(error.code(), error.to_string(), error.retry_after)
    }
}

/// What became of one item of a batch that the sink took as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// The sink could not do it now (throttled, a shard away, an answer that was cut off): send
    /// this item again. Infrastructure: it never counts against the message.
    #[error("not now: {0}")]
    Retry(String),
    /// The sink will never take this item as it is, with the sink's own reason.
    #[error("refused: {0}")]
    Reject(String),
}

impl From<ItemError> for Failure {
    fn from(error: ItemError) -> Self {
        let (trouble, code) = match &error {
            ItemError::Retry(_) => (Trouble::Unavailable, errors::SEARCH_UNAVAILABLE),
            ItemError::Reject(_) => (Trouble::Invalid, errors::REJECTED_BY_SEARCH),
        };
        let (ItemError::Retry(message) | ItemError::Reject(message)) = error;
        trouble.failure(code, message, None)
    }
}

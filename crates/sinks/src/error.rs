//! What can go wrong with a sink as a whole, and what can go wrong with one item of a batch.
//! The two never mix: the first is infrastructure and never the message's fault.

use contracts::{ErrorCode, errors};
use queue_core::{Error, Failure, Reason};

/// What kind of trouble a sink is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkErrorKind {
    /// It cannot be reached, or says that it cannot work now.
    Unavailable,
    /// It did not answer in time; whether it did the work is not known.
    Timeout,
    /// It answered, but refused the call as a whole or made no sense.
    Refused,
    /// A bound of ours was reached; nothing was sent.
    Full,
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
}

impl SinkError {
    /// An error of `sink`.
    pub fn new(sink: &'static str, kind: SinkErrorKind, message: impl Into<String>) -> Self {
        Self { sink, kind, message: message.into() }
    }

    /// The registry's entry for it.
    pub fn code(&self) -> ErrorCode {
        if self.sink == crate::pubsub::NAME {
            errors::PUBSUB_UNAVAILABLE
        } else {
            errors::SEARCH_UNAVAILABLE
        }
    }
}

impl From<SinkError> for Error {
    fn from(error: SinkError) -> Self {
        Self::infrastructure(error.code(), error.to_string())
    }
}

impl From<SinkError> for Failure {
    fn from(error: SinkError) -> Self {
        Self::Retry(error.into())
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
        match error {
            ItemError::Retry(message) => {
                Self::Retry(Error::infrastructure(errors::SEARCH_UNAVAILABLE, message))
            }
            ItemError::Reject(message) => {
                Self::Reject(Reason { code: errors::REJECTED_BY_SEARCH, message })
            }
        }
    }
}

//! The outbox: a message commits with the effect that causes it, and a relay sends it afterwards, so
//! that there is never one without the other. What it cannot promise is "once": a crash between the
//! send and the mark sends the message again, with the same envelope id, and receivers are idempotent.
//!
//! ```ignore
//! let mut transaction = database.pool().begin().await?;
//! sqlx::query("UPDATE archive_units SET …").execute(&mut *transaction).await?;
//! let message = CleanupMessage::Archived(…);
//! outbox::put(&mut transaction, &Draft::new(header, &message)?).await?;
//! transaction.commit().await?;   // a relay's next look finds it, within a second
//! ```
//!
//! It knows no broker: a relay is given the queues' senders. It never drops a message; one that the
//! broker refuses stays, is tried again ever more rarely, and is counted.

mod events;
mod page;
mod relay;

use std::time::Duration;

use contracts::catalogue::QueueKind;
use contracts::envelope::EnvelopeError;
use contracts::{Envelope, Header, Message, QueueSpec};
use queue_core::Outgoing;
use queue_core::trace::{self, TRACEPARENT};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use tracing::Span;

pub use events::{DEPTH, FAILURES_TOTAL, OLDEST_AGE, PUBLISHED_TOTAL, REFUSED};
pub use page::{COUNT_MAX, QueueFigures, figures};
pub use relay::{Passed, Relay, RelayLimits, sender};

/// Bytes of a message before it is packed, at most: the largest body, and its header.
pub const ENVELOPE_BYTES_MAX: usize = 17 << 20;

/// A message that is to be sent.
#[derive(Clone, Debug)]
pub struct Draft {
    spec: &'static QueueSpec,
    envelope: Envelope,
    frame: Frame,
}

/// What a message travels with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Frame {
    attributes: Vec<(String, String)>,
    group: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deduplication: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delay_secs: Option<u64>,
}

/// Why a message was not put into the outbox. The transaction is as it was, but for
/// [`PutError::Database`].
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// It cannot be written as JSON.
    #[error("the message cannot be written: {0}")]
    Unwritable(#[from] serde_json::Error),
    /// Larger than any reader takes.
    #[error("a message of {0} bytes for the outbox; the limit is {ENVELOPE_BYTES_MAX}")]
    TooLarge(usize),
    /// PostgreSQL; the transaction is aborted.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// For whoever does nothing else than with PostgreSQL: a message that cannot be put is a value that cannot
/// be written.
impl From<PutError> for sqlx::Error {
    fn from(error: PutError) -> Self {
        match error {
            PutError::Database(error) => error,
            other => Self::Encode(Box::new(other)),
        }
    }
}

impl Draft {
    /// A message of ours for its queue. The group is the tenant; on a FIFO queue say which
    /// ([`Draft::in_group`]).
    pub fn new<M: Message>(header: Header, message: &M) -> Result<Self, serde_json::Error> {
        Ok(Self::of(M::QUEUE, Envelope::wrap(header, message)?))
    }

    /// An envelope for a queue.
    pub fn of(spec: &'static QueueSpec, envelope: Envelope) -> Self {
        let Header { kind, v, tenant, id, .. } = &envelope.header;
        let mut attributes =
            vec![("type".to_owned(), kind.clone()), ("version".to_owned(), v.to_string())];
        let parent = trace::traceparent(&Span::current());
        attributes.extend(parent.map(|parent| (TRACEPARENT.to_owned(), parent)));
        let deduplication = (spec.kind == QueueKind::Fifo).then(|| id.0.to_string());
        let frame = Frame {
            attributes,
            group: tenant.as_str().to_owned(),
            deduplication,
            delay_secs: None,
        };
        Self { spec, envelope, frame }
    }

    /// In that group: messages of one leave in the order in which they were put. Who puts them must
    /// hold a lock of their common subject, or the order of two transactions is not defined.
    #[must_use]
    pub fn in_group(mut self, group: impl Into<String>) -> Self {
        self.frame.group = group.into();
        self
    }

    /// Visible only after that time, whole seconds, at most 900; standard queues only.
    #[must_use]
    pub fn delayed(mut self, delay: Duration) -> Self {
        self.frame.delay_secs = Some(delay.as_secs());
        self
    }
}

impl From<Frame> for Outgoing {
    fn from(frame: Frame) -> Self {
        Self {
            body: String::new(),
            attributes: frame.attributes,
            group: Some(frame.group),
            deduplication: frame.deduplication,
            delay: frame.delay_secs.map(Duration::from_secs),
        }
    }
}

/// Puts a message into the outbox, in the caller's transaction: it will be sent if and only if that
/// commits. Under either role; the API's is bound to its tenant.
pub async fn put(transaction: &mut PgConnection, draft: &Draft) -> Result<(), PutError> {
    let text = draft.envelope.to_json()?;
    if text.len() > ENVELOPE_BYTES_MAX {
        return Err(PutError::TooLarge(text.len()));
    }
    sqlx::query(
        "INSERT INTO outbox (queue, tenant, grp, envelope, frame) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(draft.spec.key)
    .bind(draft.envelope.header.tenant.as_str())
    .bind(&draft.frame.group)
    .bind(text.into_bytes())
    .bind(serde_json::to_vec(&draft.frame)?)
    .execute(transaction)
    .await?;
    Ok(())
}

/// A row that is no message: written by another hand.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("its envelope is not text")]
    Text,
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    #[error("its frame cannot be read: {0}")]
    Frame(#[from] serde_json::Error),
}

fn read(envelope: &[u8], frame: &[u8]) -> Result<(Envelope, Outgoing), Unreadable> {
    let text = std::str::from_utf8(envelope).map_err(|_| Unreadable::Text)?;
    let frame: Frame = serde_json::from_slice(frame)?;
    Ok((Envelope::from_json(text)?, frame.into()))
}

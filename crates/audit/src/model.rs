//! The audit subsystem's own types: what is stored, what was found, what became of a change.
//! Pure data; no SQL, no wire format.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use contracts::{EnvelopeId, LogId, RetentionClass, Tenant};
use sinks::search::Document;

/// The primary key of a log, in the order in which inserts are sorted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogKey {
    /// Whose log it is.
    pub tenant: Tenant,
    /// How long it is kept.
    pub class: RetentionClass,
    /// When the API accepted it.
    pub recorded_at: DateTime<Utc>,
    /// The log's id.
    pub id: LogId,
}

/// A log that is ready to be stored: checked, hashed and read once. The document repeats what the
/// record says; the row's query columns are taken from it.
#[derive(Clone, Debug)]
pub struct NewLog {
    /// Primary key.
    pub key: LogKey,
    /// The canonical record, byte for byte.
    pub record: Bytes,
    /// SHA-256 of `record`.
    pub sha256: [u8; 32],
    /// Keeps an erased leaf from being guessed.
    pub salt: [u8; 16],
    /// What search gets, unless PostgreSQL turns out to hold a newer state.
    pub document: Document,
}

/// A log as PostgreSQL holds it, with what its revisions add up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLog {
    /// Primary key.
    pub key: LogKey,
    /// The canonical record, byte for byte.
    pub record: Bytes,
    /// Transaction that stored it: the live tail's order.
    pub ingest_xid: u64,
    /// Number of revisions; 0 as ingested.
    pub revision: i64,
    /// The newest tags by acceptance, when any revision set them.
    pub tags: Option<Vec<String>>,
    /// The newest annotation by acceptance, when any revision set one.
    pub annotation: Option<String>,
}

/// What an insert did to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inserted {
    /// Transaction that stored the new rows.
    pub ingest_xid: u64,
    /// Rows that are new; the others were stored before or are erased.
    pub new_rows: u64,
}

/// A change that was accepted by the API, on its way to `log_revisions`.
#[derive(Clone, Debug)]
pub struct NewRevision {
    /// Operation id: makes the revision unique.
    pub envelope_id: EnvelopeId,
    /// Tags from now on; `None` keeps them.
    pub tags: Option<Vec<String>>,
    /// Annotation from now on; `None` keeps it.
    pub annotation: Option<String>,
    /// Who asked, as JSON.
    pub actor: serde_json::Value,
    /// When the API accepted it.
    pub recorded_at: DateTime<Utc>,
}

/// What became of a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revised {
    /// It stands, now or since an earlier delivery; this is the log with all its revisions.
    Done(Box<StoredLog>),
    /// The log is erased: nothing to do, and nothing done.
    Erased,
    /// The log is not stored yet.
    Missing,
}

/// An erasure that was accepted by the API.
#[derive(Clone, Debug)]
pub struct NewErasure {
    /// Whose log it is.
    pub tenant: Tenant,
    /// The log.
    pub id: LogId,
    /// Why.
    pub reason: String,
    /// Who asked, as JSON.
    pub requester: serde_json::Value,
    /// Envelope id of the request.
    pub operation_id: EnvelopeId,
    /// When the API accepted it.
    pub recorded_at: DateTime<Utc>,
}

/// What became of an erasure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Erasure {
    /// It is done, now or since an earlier delivery.
    Done(Erased),
    /// A legal hold keeps the log; nothing was changed.
    Held,
    /// The log is not stored yet, and holds are in force that may be about it; nothing was changed.
    Unseen,
}

/// What an erasure left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erased {
    /// Where the log stood when it was erased, now or by an earlier delivery; `None` when it was
    /// never stored, and so never searchable.
    pub key: Option<LogKey>,
    /// Transaction that wrote the self-audit logs of this delivery.
    pub ingest_xid: u64,
}

//! The audit subsystem's messages: those of the index queue (`INDEX`, `BULK_INDEX`, `UPDATE`, `DELETE`)
//! here, those of the archive, cleanup and retention queues in [`lifecycle`]. Wire shapes are pinned by
//! golden files; a record's bytes are carried verbatim, never re-encoded.

pub mod lifecycle;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::catalogue;
use crate::ids::LogId;
use crate::messages::messages;

/// One log on its way to the stores.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogItem {
    /// Keeps an erased leaf from being guessed: 16 random bytes, hex.
    pub salt: String,
    /// The canonical record, `{id, tenant, recorded_at, class, source{…}, event{…}}`; these very
    /// bytes are stored, hashed and archived.
    pub record: Box<RawValue>,
}

/// Several logs of one tenant in one message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BulkIndex {
    /// At least one.
    pub items: Vec<LogItem>,
}

/// Who asked for a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requester {
    /// Id of the API key.
    pub key_id: String,
    /// Address the request came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
}

/// Appends a revision to a log; the log itself is never edited. The envelope's id is the operation
/// id and makes the revision unique.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// The log.
    pub log_id: LogId,
    /// The tags from now on; absent keeps them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// The annotation from now on; absent keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotation: Option<String>,
    /// Who asked.
    pub requester: Requester,
    /// When the API accepted it.
    pub recorded_at: DateTime<Utc>,
}

/// Erases a log and leaves a tombstone. The envelope's id is the operation id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delete {
    /// The log.
    pub log_id: LogId,
    /// Why; kept in the tombstone.
    pub reason: String,
    /// Who asked.
    pub requester: Requester,
    /// When the API accepted it.
    pub recorded_at: DateTime<Utc>,
}

messages! {
    /// What travels on the index queue.
    pub enum IndexMessage on catalogue::AUDIT_INDEX {
        /// One log.
        Index(LogItem) = "INDEX" v1,
        /// Several logs of one tenant.
        BulkIndex(BulkIndex) = "BULK_INDEX" v1,
        /// A revision.
        Update(Update) = "UPDATE" v1,
        /// An erasure.
        Delete(Delete) = "DELETE" v1,
    }
}

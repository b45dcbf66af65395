//! The audit subsystem's messages on the index queue: `INDEX`, `BULK_INDEX`, `UPDATE`, `DELETE`.
//! Wire shapes are pinned by golden files; a record's bytes are carried verbatim, never re-encoded.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::catalogue::{self, QueueSpec};
use crate::envelope::Header;
use crate::ids::LogId;
use crate::json;
use crate::message::{DecodeError, Message};

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

/// What travels on the index queue.
#[derive(Clone, Debug)]
pub enum IndexMessage {
    /// One log.
    Index(LogItem),
    /// Several logs of one tenant.
    BulkIndex(BulkIndex),
    /// A revision.
    Update(Update),
    /// An erasure.
    Delete(Delete),
}

/// The body's version that this build reads and writes, for every type on the queue.
const VERSION: u32 = 1;

impl Message for IndexMessage {
    const QUEUE: &'static QueueSpec = &catalogue::AUDIT_INDEX;

    fn kind(&self) -> &'static str {
        match self {
            Self::Index(_) => "INDEX",
            Self::BulkIndex(_) => "BULK_INDEX",
            Self::Update(_) => "UPDATE",
            Self::Delete(_) => "DELETE",
        }
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn body_json(&self) -> Result<String, serde_json::Error> {
        match self {
            Self::Index(item) => json::to_ascii(item),
            Self::BulkIndex(bulk) => json::to_ascii(bulk),
            Self::Update(update) => json::to_ascii(update),
            Self::Delete(delete) => json::to_ascii(delete),
        }
    }

    fn decode(header: &Header, body: &RawValue) -> Result<Self, DecodeError> {
        let kind = header.kind.as_str();
        if !matches!(kind, "INDEX" | "BULK_INDEX" | "UPDATE" | "DELETE") {
            return Err(DecodeError::UnknownType(kind.into()));
        }
        if header.v != VERSION {
            return Err(DecodeError::UnknownVersion { kind: kind.into(), version: header.v });
        }
        match kind {
            "INDEX" => read(kind, body).map(Self::Index),
            "BULK_INDEX" => read(kind, body).map(Self::BulkIndex),
            "UPDATE" => read(kind, body).map(Self::Update),
            _ => read(kind, body).map(Self::Delete),
        }
    }
}

fn read<T: DeserializeOwned>(kind: &str, body: &RawValue) -> Result<T, DecodeError> {
    serde_json::from_str(body.get())
        .map_err(|error| DecodeError::Malformed { kind: kind.into(), reason: error.to_string() })
}

//! The canonical record: the event with what the server knows about it. These bytes travel, are
//! stored, hashed and archived unchanged; nothing behind this file writes them again.

use chrono::{DateTime, SecondsFormat, Utc};
use contracts::{LogId, RetentionClass, Tenant};
use serde::Serialize;
use serde_json::value::RawValue;

use super::Validated;

/// Where an event came from, as the server saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// Id of the API key.
    pub key_id: String,
    /// Address of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Its `User-Agent`, at most 256 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
}

/// What the server adds: identity, time and class, fixed once and repeated on every retry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The log's id.
    pub id: LogId,
    /// Whose it is.
    pub tenant: Tenant,
    /// When it was accepted, whole microseconds.
    pub recorded_at: DateTime<Utc>,
    /// How long it is kept.
    pub class: RetentionClass,
}

#[derive(Serialize)]
struct Head<'a> {
    id: LogId,
    tenant: &'a str,
    recorded_at: String,
    class: RetentionClass,
    source: &'a Origin,
}

/// The record as raw JSON: `{id, tenant, recorded_at, class, source{…}, event{…}}`, minified, ASCII.
pub fn record_bytes(
    stamp: &Stamp,
    source: &Origin,
    event: &Validated,
) -> Result<Box<RawValue>, serde_json::Error> {
    let head = Head {
        id: stamp.id,
        tenant: stamp.tenant.as_str(),
        recorded_at: stamp.recorded_at.to_rfc3339_opts(SecondsFormat::Micros, true),
        class: stamp.class,
        source,
    };
    let mut out = Vec::with_capacity(256 + event.as_str().len());
    contracts::json::append_ascii(&mut out, &head)?;
    // The head is an object with members, so its last byte is the brace that the event goes before.
    out.pop();
    out.extend_from_slice(b",\"event\":");
    out.extend_from_slice(event.as_str().as_bytes());
    out.push(b'}');
    RawValue::from_string(String::from_utf8(out).map_err(serde::ser::Error::custom)?)
}

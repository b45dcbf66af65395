//! The envelope that every message of ours travels in: who, what, when, and the body as raw JSON.
//! It is decoded without looking into the body, so that an unknown type can still be dead-lettered
//! whole. It never compresses or fetches a claim; the engine does.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::ids::{EnvelopeId, Tenant};

/// A message that was relayed more often than this is a loop.
pub const HOPS_MAX: u8 = 4;

/// Everything about a message but its body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the body's shape.
    pub v: u32,
    /// Message type, e.g. `BULK_INDEX`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Ours; survives redrive and re-sending.
    pub id: EnvelopeId,
    /// Whose data it is.
    pub tenant: Tenant,
    /// When the API accepted it (UTC, microseconds).
    pub recorded_at: DateTime<Utc>,
    /// The request that started the chain; follows every message it causes.
    pub correlation_id: String,
    /// The message or request that directly caused this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causation_id: Option<String>,
    /// How often it was relayed; more than [`HOPS_MAX`] is rejected as a loop.
    #[serde(default)]
    pub hops: u8,
    /// Business key, where effects are counted per key and not per envelope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Revision of the thing that `key` names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
}

/// Where a large body was put (claim check).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Bucket or root of the object store.
    pub bucket: String,
    /// Object key.
    pub key: String,
    /// SHA-256 of the object's bytes, hex.
    pub sha256: String,
    /// Object size in bytes.
    pub size: u64,
}

/// How `body` is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// JSON in place.
    #[default]
    Json,
}

/// The body, in place or in the object store.
#[derive(Clone, Debug)]
pub enum Body {
    /// Raw JSON, byte for byte as it was sent.
    Inline(Box<RawValue>),
    /// A claim to be fetched.
    Claim(Claim),
}

/// A whole message.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// Everything but the body.
    pub header: Header,
    /// The body.
    pub body: Body,
}

#[derive(Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    header: &'a Header,
    encoding: Encoding,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claim: Option<&'a Claim>,
}

/// Read apart from the header: serde's `flatten` would re-encode the body.
#[derive(Deserialize)]
struct Carried {
    #[serde(default)]
    encoding: Encoding,
    #[serde(default)]
    body: Option<Box<RawValue>>,
    #[serde(default)]
    claim: Option<Claim>,
}

/// Why a text is no envelope.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Not JSON, or a field is missing or of the wrong type.
    #[error("not an envelope: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Neither a body nor a claim, or both.
    #[error("an envelope carries a body or a claim, and this one carries {0}")]
    Body(&'static str),
}

impl Envelope {
    /// Reads an envelope; unknown fields are ignored.
    pub fn from_json(text: &str) -> Result<Self, EnvelopeError> {
        let header: Header = serde_json::from_str(text)?;
        let carried: Carried = serde_json::from_str(text)?;
        let Encoding::Json = carried.encoding;
        let body = match (carried.body, carried.claim) {
            (Some(body), None) => Body::Inline(body),
            (None, Some(claim)) => Body::Claim(claim),
            (None, None) => return Err(EnvelopeError::Body("neither")),
            (Some(_), Some(_)) => return Err(EnvelopeError::Body("both")),
        };
        Ok(Self { header, body })
    }

    /// The wire form, ASCII only. An inline body is copied as it is and must be ASCII already.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        let (body, claim) = match &self.body {
            Body::Inline(body) => (Some(&**body), None),
            Body::Claim(claim) => (None, Some(claim)),
        };
        crate::json::to_ascii(&Written {
            header: &self.header,
            encoding: Encoding::Json,
            body,
            claim,
        })
    }

    /// Wraps a message of ours.
    pub fn wrap<M: crate::message::Message>(
        header: Header,
        message: &M,
    ) -> Result<Self, serde_json::Error> {
        let body = RawValue::from_string(message.body_json()?)?;
        Ok(Self {
            header: Header { v: message.version(), kind: message.kind().into(), ..header },
            body: Body::Inline(body),
        })
    }
}

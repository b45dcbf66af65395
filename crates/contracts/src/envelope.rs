//! The envelope that every message of ours travels in: who, what, when, and the body as raw JSON.
//! It is decoded without looking into the body, so that an unknown type can still be dead-lettered
//! whole. It neither packs nor unpacks a body; the engine does.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::ids::{EnvelopeId, Tenant};
use crate::packing::{Claim, Claimed, Encoding, Gzipped};

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

/// The body, in place or packed.
#[derive(Clone, Debug)]
pub enum Body {
    /// Raw JSON, byte for byte as it was sent.
    Inline(Box<RawValue>),
    /// Compressed.
    Gzip(Gzipped),
    /// In the object store, to be fetched.
    Claim(Claimed),
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
    body_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<WrittenBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claim: Option<&'a Claim>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum WrittenBody<'a> {
    Json(&'a RawValue),
    Packed(&'a str),
}

/// The header's fields and the others, read in one pass over the text: serde's `flatten` would re-encode
/// the body.
#[derive(Deserialize)]
struct Read {
    v: u32,
    #[serde(rename = "type")]
    kind: String,
    id: EnvelopeId,
    tenant: Tenant,
    recorded_at: DateTime<Utc>,
    correlation_id: String,
    #[serde(default)]
    causation_id: Option<String>,
    #[serde(default)]
    hops: u8,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    revision: Option<i64>,
    #[serde(default)]
    encoding: Encoding,
    /// Size of a packed body once unpacked.
    #[serde(default)]
    body_bytes: Option<u64>,
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
    /// A packed body that does not say how large it becomes.
    #[error("a packed body declares its size in body_bytes, and this one does not")]
    Undeclared,
}

impl Envelope {
    /// Reads an envelope; unknown fields are ignored.
    pub fn from_json(text: &str) -> Result<Self, EnvelopeError> {
        let read: Read = serde_json::from_str(text)?;
        let header = Header {
            v: read.v,
            kind: read.kind,
            id: read.id,
            tenant: read.tenant,
            recorded_at: read.recorded_at,
            correlation_id: read.correlation_id,
            causation_id: read.causation_id,
            hops: read.hops,
            key: read.key,
            revision: read.revision,
        };
        let declared = read.body_bytes;
        let body = match (read.body, read.claim) {
            (Some(body), None) if read.encoding == Encoding::Json => Body::Inline(body),
            (Some(body), None) => Body::Gzip(Gzipped {
                bytes: declared.ok_or(EnvelopeError::Undeclared)?,
                base64: serde_json::from_str(body.get())?,
            }),
            (None, Some(claim)) => {
                let encoding = read.encoding;
                // What is not compressed is as large as the object that holds it.
                let stored = (encoding == Encoding::Json).then_some(claim.size);
                let bytes = declared.or(stored).ok_or(EnvelopeError::Undeclared)?;
                Body::Claim(Claimed { claim, encoding, bytes })
            }
            (None, None) => return Err(EnvelopeError::Body("neither")),
            (Some(_), Some(_)) => return Err(EnvelopeError::Body("both")),
        };
        Ok(Self { header, body })
    }

    /// The wire form, ASCII only. An inline body is copied as it is and must be ASCII already.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        let header = &self.header;
        let nothing =
            Written { header, encoding: Encoding::Json, body_bytes: None, body: None, claim: None };
        crate::json::to_ascii(&match &self.body {
            Body::Inline(body) => Written { body: Some(WrittenBody::Json(body)), ..nothing },
            Body::Gzip(Gzipped { bytes, base64 }) => Written {
                encoding: Encoding::Gzip,
                body_bytes: Some(*bytes),
                body: Some(WrittenBody::Packed(base64)),
                ..nothing
            },
            Body::Claim(Claimed { claim, encoding, bytes }) => Written {
                encoding: *encoding,
                body_bytes: Some(*bytes),
                claim: Some(claim),
                ..nothing
            },
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

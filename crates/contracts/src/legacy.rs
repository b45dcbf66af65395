//! The bare shape of the legacy queue, `{"type", "tenant_id", "log_id"?, "data"}`, for producers
//! that have not moved yet. It is only read: this build never sends one. Whether the tenant that it names
//! may be believed (an allow-list), and what becomes of a type that nobody knows, is the worker's decision
//! and not this file's.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::catalogue::{self, QueueSpec};
use crate::envelope::Header;
use crate::ids::{EnvelopeId, LogId, Tenant};
use crate::json;
use crate::message::{Bare, DecodeError, Message};

/// Namespace of the ids given to legacy messages; fixed for ever, so a redelivery gets the same id.
const NAMESPACE: Uuid = Uuid::from_u128(0x8a0e_3f52_6b1d_5c47_9e2a_4f61_7264_6c71);

/// A message without an envelope.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BareMessage {
    /// `INDEX`, `BULK_INDEX`, `UPDATE`, `DELETE`, and the other types of the audit queues.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whose data it claims to be; taken only when the tenant is on the allow-list.
    pub tenant_id: Tenant,
    /// The log it is about, where the type needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_id: Option<LogId>,
    /// The event, the array of events, the change, or what the newer queue's message of the type says.
    pub data: Box<RawValue>,
}

/// The identity of a legacy message: `UUIDv5` of the SQS message id.
pub fn legacy_id(sqs_message_id: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, sqs_message_id.as_bytes())
}

/// The types that the old producers know: those of the four audit queues.
const KINDS: [&str; 13] = [
    "INDEX",
    "BULK_INDEX",
    "UPDATE",
    "DELETE",
    "ARCHIVE_BY_POLICY",
    "ARCHIVE_BY_DATE",
    "BULK_ARCHIVE",
    "CLEANUP_ARCHIVED",
    "CLEANUP_BY_POLICY",
    "CLEANUP_EXPIRED",
    "SCHEDULE_RETENTION",
    "EVALUATE_POLICY",
    "POLICY_NOTIFICATION",
];
/// Stands for every other type. No later build will know one: the list is closed, and new types travel on
/// the newer queues. So it is read, and the worker rejects it at once.
pub const UNKNOWN_KIND: &str = "UNKNOWN";

impl Message for BareMessage {
    const QUEUE: &'static QueueSpec = &catalogue::AUDIT_LEGACY;

    fn kind(&self) -> &'static str {
        KINDS.into_iter().find(|kind| *kind == self.kind).unwrap_or(UNKNOWN_KIND)
    }

    fn version(&self) -> u32 {
        1
    }

    fn body_json(&self) -> Result<String, serde_json::Error> {
        json::to_ascii(self)
    }

    /// Inside an envelope, as a dead-lettered part travels.
    fn decode(header: &Header, body: &RawValue) -> Result<Self, DecodeError> {
        if header.v != 1 {
            return Err(DecodeError::UnknownVersion {
                kind: header.kind.clone(),
                version: header.v,
            });
        }
        let malformed =
            |reason: String| DecodeError::Malformed { kind: header.kind.clone(), reason };
        let message: Self =
            serde_json::from_str(body.get()).map_err(|error| malformed(error.to_string()))?;
        // The allow-list is asked for one of them and the work is done for the other.
        if message.tenant_id != header.tenant {
            let (body, envelope) = (&message.tenant_id, &header.tenant);
            return Err(malformed(format!("a body of tenant {body} in an envelope of {envelope}")));
        }
        Ok(message)
    }

    fn decode_bare(text: &str, from: &Bare<'_>) -> Option<Result<(Header, Self), DecodeError>> {
        let message: Self = serde_json::from_str(text).ok()?;
        let header = Header {
            v: 1,
            kind: message.kind().to_owned(),
            id: EnvelopeId(legacy_id(from.message_id)),
            tenant: message.tenant_id.clone(),
            recorded_at: from.sent_at,
            correlation_id: from.message_id.to_owned(),
            causation_id: None,
            hops: 0,
            key: None,
            revision: None,
        };
        Some(Ok((header, message)))
    }
}

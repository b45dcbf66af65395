//! The bare shape of the legacy queue, `{"type", "tenant_id", "log_id"?, "data"}`, for producers
//! that have not moved yet. It is only read, never written.

use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::ids::{LogId, Tenant};

/// Namespace of the ids given to legacy messages; fixed for ever, so a redelivery gets the same id.
const NAMESPACE: Uuid = Uuid::from_u128(0x8a0e_3f52_6b1d_5c47_9e2a_4f61_7264_6c71);

/// A message without an envelope.
#[derive(Clone, Debug, Deserialize)]
pub struct BareMessage {
    /// `INDEX`, `BULK_INDEX`, `UPDATE`, `DELETE`, and the other types of the audit queues.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whose data it claims to be; taken only when the tenant is on the allow-list.
    pub tenant_id: Tenant,
    /// The log it is about, where the type needs one.
    #[serde(default)]
    pub log_id: Option<LogId>,
    /// The event, or the array of events, or the change.
    pub data: Box<RawValue>,
}

/// The identity of a legacy message: `UUIDv5` of the SQS message id.
pub fn legacy_id(sqs_message_id: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, sqs_message_id.as_bytes())
}

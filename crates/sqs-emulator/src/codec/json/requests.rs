//! JSON to requests. Absent and null members are the same; unknown members are ignored; a member of
//! another type is a `SerializationException`, as on AWS.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::codec::urls;
use crate::errors::{ErrorKind, SqsError};
use crate::model::{AttributeValue, Caller, Draft, MessageAttribute};
use crate::operations::{QueueRef, Receive, Request, VisibilityChange};
use crate::selection::Selection;

/// Every parameter of the calls that move no messages: each call reads its own.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Parameters {
    queue_url: Option<String>,
    queue_name: Option<String>,
    #[serde(rename = "QueueOwnerAWSAccountId")]
    owner: Option<String>,
    attributes: Option<BTreeMap<String, String>>,
    attribute_names: Option<Vec<String>>,
    tags: Option<BTreeMap<String, String>>,
    /// `CreateQueue` alone spells it in lower case.
    #[serde(rename = "tags")]
    create_tags: Option<BTreeMap<String, String>>,
    tag_keys: Option<Vec<String>>,
    label: Option<String>,
    #[serde(rename = "AWSAccountIds")]
    accounts: Option<Vec<String>>,
    actions: Option<Vec<String>>,
    queue_name_prefix: Option<String>,
    next_token: Option<String>,
    max_results: Option<i64>,
    source_arn: Option<String>,
    destination_arn: Option<String>,
    max_number_of_messages_per_second: Option<i64>,
    task_handle: Option<String>,
    receipt_handle: Option<String>,
    visibility_timeout: Option<i64>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct ReceiveBody {
    queue_url: Option<String>,
    attribute_names: Option<Vec<String>>,
    message_system_attribute_names: Option<Vec<String>>,
    message_attribute_names: Option<Vec<String>>,
    max_number_of_messages: Option<i64>,
    visibility_timeout: Option<i64>,
    wait_time_seconds: Option<i64>,
    receive_request_attempt_id: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct SendBody {
    queue_url: Option<String>,
    id: Option<String>,
    message_body: Option<String>,
    delay_seconds: Option<i64>,
    message_attributes: Option<BTreeMap<String, Attribute>>,
    message_system_attributes: Option<BTreeMap<String, Attribute>>,
    message_deduplication_id: Option<String>,
    message_group_id: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Attribute {
    data_type: Option<String>,
    string_value: Option<String>,
    binary_value: Option<String>,
    string_list_values: Option<Vec<String>>,
    binary_list_values: Option<Vec<String>>,
}

/// A batch of any entries.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Batch<T> {
    #[serde(default)]
    queue_url: Option<String>,
    #[serde(default = "Vec::new")]
    entries: Vec<T>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct SettleEntry {
    id: Option<String>,
    receipt_handle: Option<String>,
    visibility_timeout: Option<i64>,
}

pub(super) fn decode(action: &str, body: &[u8], caller: &Caller) -> Result<Request, SqsError> {
    match action {
        "SendMessage" => {
            let send: SendBody = read(body)?;
            let queue = queue(send.queue_url.as_deref(), caller);
            Ok(Request::SendMessage { queue, draft: Box::new(draft(send)?) })
        }
        "SendMessageBatch" => {
            let batch: Batch<SendBody> = read(body)?;
            let entry = |mut send: SendBody| {
                let id = send.id.take().unwrap_or_default();
                Ok((id, draft(send)?))
            };
            let entries: Result<_, SqsError> = batch.entries.into_iter().map(entry).collect();
            Ok(Request::SendMessageBatch {
                queue: queue(batch.queue_url.as_deref(), caller),
                entries: entries?,
            })
        }
        "ReceiveMessage" => read(body).map(|receive| receive_request(receive, caller)),
        "DeleteMessageBatch" => {
            let batch: Batch<SettleEntry> = read(body)?;
            let entry = |entry: SettleEntry| (entry.id.unwrap_or_default(), entry.receipt_handle);
            Ok(Request::DeleteMessageBatch {
                queue: queue(batch.queue_url.as_deref(), caller),
                entries: batch.entries.into_iter().map(entry).collect(),
            })
        }
        "ChangeMessageVisibilityBatch" => {
            let batch: Batch<SettleEntry> = read(body)?;
            let entry = |entry: SettleEntry| {
                let change = VisibilityChange {
                    receipt: entry.receipt_handle,
                    seconds: entry.visibility_timeout,
                };
                (entry.id.unwrap_or_default(), change)
            };
            Ok(Request::ChangeMessageVisibilityBatch {
                queue: queue(batch.queue_url.as_deref(), caller),
                entries: batch.entries.into_iter().map(entry).collect(),
            })
        }
        action => plain(action, body, caller),
    }
}

fn plain(action: &str, body: &[u8], caller: &Caller) -> Result<Request, SqsError> {
    let p: Parameters =
        if is_plain(action) { read(body)? } else { return Err(super::unknown(action)) };
    let queue = queue(p.queue_url.as_deref(), caller);
    Ok(match action {
        "AddPermission" => Request::AddPermission {
            queue,
            label: p.label,
            accounts: p.accounts.unwrap_or_default(),
            actions: p.actions.unwrap_or_default(),
        },
        "CancelMessageMoveTask" => Request::CancelMessageMoveTask { handle: p.task_handle },
        "ChangeMessageVisibility" => {
            let change =
                VisibilityChange { receipt: p.receipt_handle, seconds: p.visibility_timeout };
            Request::ChangeMessageVisibility { queue, change }
        }
        "CreateQueue" => Request::CreateQueue {
            name: p.queue_name,
            attributes: p.attributes.unwrap_or_default(),
            tags: p.create_tags.or(p.tags).unwrap_or_default(),
        },
        "DeleteMessage" => Request::DeleteMessage { queue, receipt: p.receipt_handle },
        "DeleteQueue" => Request::DeleteQueue { queue },
        "GetQueueAttributes" => {
            Request::GetQueueAttributes { queue, names: p.attribute_names.unwrap_or_default() }
        }
        "GetQueueUrl" => Request::GetQueueUrl { name: p.queue_name, owner: p.owner },
        "ListDeadLetterSourceQueues" => {
            Request::ListDeadLetterSourceQueues { queue, next: p.next_token, max: p.max_results }
        }
        "ListMessageMoveTasks" => {
            Request::ListMessageMoveTasks { source: p.source_arn, max: p.max_results }
        }
        "ListQueueTags" => Request::ListQueueTags { queue },
        "ListQueues" => {
            let (prefix, next, max) = (p.queue_name_prefix, p.next_token, p.max_results);
            Request::ListQueues { prefix, next, max }
        }
        "PurgeQueue" => Request::PurgeQueue { queue },
        "RemovePermission" => Request::RemovePermission { queue, label: p.label },
        "SetQueueAttributes" => {
            Request::SetQueueAttributes { queue, attributes: p.attributes.unwrap_or_default() }
        }
        "StartMessageMoveTask" => Request::StartMessageMoveTask {
            source: p.source_arn,
            destination: p.destination_arn,
            rate: p.max_number_of_messages_per_second,
        },
        "TagQueue" => Request::TagQueue { queue, tags: p.tags.unwrap_or_default() },
        "UntagQueue" => Request::UntagQueue { queue, keys: p.tag_keys.unwrap_or_default() },
        _ => return Err(super::unknown(action)),
    })
}

fn is_plain(action: &str) -> bool {
    const PLAIN: [&str; 18] = [
        "AddPermission",
        "CancelMessageMoveTask",
        "ChangeMessageVisibility",
        "CreateQueue",
        "DeleteMessage",
        "DeleteQueue",
        "GetQueueAttributes",
        "GetQueueUrl",
        "ListDeadLetterSourceQueues",
        "ListMessageMoveTasks",
        "ListQueueTags",
        "ListQueues",
        "PurgeQueue",
        "RemovePermission",
        "SetQueueAttributes",
        "StartMessageMoveTask",
        "TagQueue",
        "UntagQueue",
    ];
    PLAIN.contains(&action)
}

fn receive_request(receive: ReceiveBody, caller: &Caller) -> Request {
    let mut system = receive.attribute_names.unwrap_or_default();
    system.extend(receive.message_system_attribute_names.unwrap_or_default());
    let attributes = receive.message_attribute_names.unwrap_or_default();
    Request::ReceiveMessage(Receive {
        queue: queue(receive.queue_url.as_deref(), caller),
        max: receive.max_number_of_messages,
        visibility_seconds: receive.visibility_timeout,
        wait_seconds: receive.wait_time_seconds,
        attempt: receive.receive_request_attempt_id,
        selection: Arc::new(Selection { system, attributes }),
    })
}

fn draft(send: SendBody) -> Result<Draft, SqsError> {
    let attributes = send.message_attributes.unwrap_or_default().into_iter();
    let attributes: Result<Vec<_>, SqsError> =
        attributes.map(|(name, value)| attribute(name, value)).collect();
    let mut trace_header = None;
    for (name, value) in send.message_system_attributes.unwrap_or_default() {
        if name != "AWSTraceHeader" {
            return Err(SqsError::invalid(format!(
                "Message system attribute name '{name}' is invalid."
            )));
        }
        trace_header = value.string_value;
    }
    let draft = Draft {
        body: send.message_body,
        attributes: attributes?,
        trace_header,
        delay_seconds: send.delay_seconds,
        group: send.message_group_id,
        deduplication: send.message_deduplication_id,
        ..Draft::default()
    };
    Ok(draft.hashed())
}

fn attribute(name: String, sent: Attribute) -> Result<MessageAttribute, SqsError> {
    let listed = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    if listed(&sent.string_list_values) || listed(&sent.binary_list_values) {
        return Err(SqsError::new(
            ErrorKind::UnsupportedOperation,
            "Message attribute list values in SendMessage operation are not supported.",
        ));
    }
    let value = match (sent.string_value, sent.binary_value) {
        (Some(text), _) => Some(AttributeValue::Text(text)),
        (None, Some(text)) => {
            let bytes = STANDARD.decode(text).map_err(|error| malformed(&error.to_string()))?;
            Some(AttributeValue::Binary(bytes.into()))
        }
        (None, None) => None,
    };
    Ok(MessageAttribute { name, data_type: sent.data_type.unwrap_or_default(), value })
}

fn queue(url: Option<&str>, caller: &Caller) -> QueueRef {
    url.and_then(|url| urls::parse(url, caller))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, SqsError> {
    // An array would be read as a struct's fields in order: only an object is a request.
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first.is_some_and(|byte| *byte != b'{') {
        return Err(malformed("the body is not a JSON object"));
    }
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| malformed(&error.to_string()))
}

fn malformed(reason: &str) -> SqsError {
    SqsError::new(ErrorKind::Serialization, reason)
}

//! The members of each action, whatever the protocol: a codec reads them, and this file makes the
//! [`Request`] of them, so that both protocols ask for the same thing by construction.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::codec::urls;
use crate::errors::{ErrorKind, SqsError};
use crate::model::{AttributeValue, Caller, Draft, MessageAttribute};
use crate::operations::{QueueRef, Receive, Request, VisibilityChange};
use crate::selection::Selection;

/// How one protocol reads a request's members.
pub(super) trait Members {
    /// Of the calls that move no messages.
    fn parameters(&self) -> Result<Parameters, SqsError>;
    /// Of `ReceiveMessage`.
    fn receive(&self) -> Result<ReceiveMembers, SqsError>;
    /// Of `SendMessage`.
    fn send(&self) -> Result<SendMembers, SqsError>;
    /// Of `SendMessageBatch`.
    fn sends(&self) -> Result<Batch<SendMembers>, SqsError>;
    /// Of `DeleteMessageBatch` and `ChangeMessageVisibilityBatch`.
    fn settles(&self) -> Result<Batch<SettleEntry>, SqsError>;
}

/// Every parameter of the calls that move no messages: each call reads its own.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Parameters {
    pub(super) queue_url: Option<String>,
    pub(super) queue_name: Option<String>,
    #[serde(rename = "QueueOwnerAWSAccountId")]
    pub(super) owner: Option<String>,
    pub(super) attributes: Option<BTreeMap<String, String>>,
    pub(super) attribute_names: Option<Vec<String>>,
    pub(super) tags: Option<BTreeMap<String, String>>,
    /// `CreateQueue` alone spells it in lower case.
    #[serde(rename = "tags")]
    pub(super) create_tags: Option<BTreeMap<String, String>>,
    pub(super) tag_keys: Option<Vec<String>>,
    pub(super) label: Option<String>,
    #[serde(rename = "AWSAccountIds")]
    pub(super) accounts: Option<Vec<String>>,
    pub(super) actions: Option<Vec<String>>,
    pub(super) queue_name_prefix: Option<String>,
    pub(super) next_token: Option<String>,
    pub(super) max_results: Option<i64>,
    pub(super) source_arn: Option<String>,
    pub(super) destination_arn: Option<String>,
    pub(super) max_number_of_messages_per_second: Option<i64>,
    pub(super) task_handle: Option<String>,
    pub(super) receipt_handle: Option<String>,
    pub(super) visibility_timeout: Option<i64>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ReceiveMembers {
    pub(super) queue_url: Option<String>,
    pub(super) attribute_names: Option<Vec<String>>,
    pub(super) message_system_attribute_names: Option<Vec<String>>,
    pub(super) message_attribute_names: Option<Vec<String>>,
    pub(super) max_number_of_messages: Option<i64>,
    pub(super) visibility_timeout: Option<i64>,
    pub(super) wait_time_seconds: Option<i64>,
    pub(super) receive_request_attempt_id: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct SendMembers {
    pub(super) queue_url: Option<String>,
    pub(super) id: Option<String>,
    pub(super) message_body: Option<String>,
    pub(super) delay_seconds: Option<i64>,
    pub(super) message_attributes: Option<BTreeMap<String, Attribute>>,
    pub(super) message_system_attributes: Option<BTreeMap<String, Attribute>>,
    pub(super) message_deduplication_id: Option<String>,
    pub(super) message_group_id: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Attribute {
    pub(super) data_type: Option<String>,
    pub(super) string_value: Option<String>,
    pub(super) binary_value: Option<String>,
    pub(super) string_list_values: Option<Vec<String>>,
    pub(super) binary_list_values: Option<Vec<String>>,
}

/// A batch of any entries.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Batch<T> {
    pub(super) queue_url: Option<String>,
    pub(super) entries: Option<Vec<T>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct SettleEntry {
    pub(super) id: Option<String>,
    pub(super) receipt_handle: Option<String>,
    pub(super) visibility_timeout: Option<i64>,
}

/// The request that an action with these members makes; `None` when there is no such action.
pub(super) fn request(
    action: &str,
    members: &impl Members,
    caller: &Caller,
) -> Result<Option<Request>, SqsError> {
    let request = match action {
        "SendMessage" => {
            let send = members.send()?;
            let queue = queue(send.queue_url.as_deref(), caller);
            Request::SendMessage { queue, draft: Box::new(draft(send)?) }
        }
        "SendMessageBatch" => {
            let batch = members.sends()?;
            let entry = |mut send: SendMembers| {
                let id = send.id.take().unwrap_or_default();
                Ok((id, draft(send)?))
            };
            let entries: Result<_, SqsError> =
                batch.entries.unwrap_or_default().into_iter().map(entry).collect();
            Request::SendMessageBatch {
                queue: queue(batch.queue_url.as_deref(), caller),
                entries: entries?,
            }
        }
        "ReceiveMessage" => receive_request(members.receive()?, caller),
        "DeleteMessageBatch" => {
            let batch = members.settles()?;
            let entry = |entry: SettleEntry| (entry.id.unwrap_or_default(), entry.receipt_handle);
            Request::DeleteMessageBatch {
                queue: queue(batch.queue_url.as_deref(), caller),
                entries: batch.entries.unwrap_or_default().into_iter().map(entry).collect(),
            }
        }
        "ChangeMessageVisibilityBatch" => {
            let batch = members.settles()?;
            let entry = |entry: SettleEntry| {
                let change = VisibilityChange {
                    receipt: entry.receipt_handle,
                    seconds: entry.visibility_timeout,
                };
                (entry.id.unwrap_or_default(), change)
            };
            Request::ChangeMessageVisibilityBatch {
                queue: queue(batch.queue_url.as_deref(), caller),
                entries: batch.entries.unwrap_or_default().into_iter().map(entry).collect(),
            }
        }
        action if PLAIN.contains(&action) => {
            return Ok(plain(action, members.parameters()?, caller));
        }
        _ => return Ok(None),
    };
    Ok(Some(request))
}

/// The action of that name, when there is one.
pub(crate) fn known(action: &str) -> Option<&'static str> {
    MOVING.iter().chain(&PLAIN).copied().find(|known| *known == action)
}

/// The actions that move messages.
const MOVING: [&str; 5] = [
    "SendMessage",
    "SendMessageBatch",
    "ReceiveMessage",
    "DeleteMessageBatch",
    "ChangeMessageVisibilityBatch",
];

/// The actions whose members are [`Parameters`].
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

fn plain(action: &str, p: Parameters, caller: &Caller) -> Option<Request> {
    let queue = queue(p.queue_url.as_deref(), caller);
    Some(match action {
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
        _ => return None,
    })
}

fn receive_request(receive: ReceiveMembers, caller: &Caller) -> Request {
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

fn draft(send: SendMembers) -> Result<Draft, SqsError> {
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
    let data_type = sent.data_type.unwrap_or_default();
    let value = match (sent.string_value, sent.binary_value) {
        // Some SDKs send both members and leave the other one empty.
        (text, Some(base64)) if text.is_none() || data_type.starts_with("Binary") => {
            let bytes = STANDARD.decode(base64).map_err(|error| malformed(error.to_string()))?;
            Some(AttributeValue::Binary(bytes.into()))
        }
        (text, _) => text.map(AttributeValue::Text),
    };
    Ok(MessageAttribute { name, data_type, value })
}

fn queue(url: Option<&str>, caller: &Caller) -> QueueRef {
    url.and_then(|url| urls::parse(url, caller))
}

/// What cannot be read as the members of an action.
pub(super) fn malformed(reason: impl Into<String>) -> SqsError {
    SqsError::new(ErrorKind::Serialization, reason)
}

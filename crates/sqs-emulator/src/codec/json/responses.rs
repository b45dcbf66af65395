//! Replies to JSON. Empty lists are left out, calls without output have no body: as on AWS.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::codec::urls;
use crate::errors::SqsError;
use crate::model::{AttributeValue, Delivery, QueueArn};
use crate::operations::{Entry, MoveTaskView, QueuePage, Response, Sent};
use crate::selection::Selection;

/// Members in the order of their names, as texts.
type Pairs<K> = BTreeMap<K, String>;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SentBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    message_id: uuid::Uuid,
    #[serde(rename = "MD5OfMessageBody")]
    md5_body: Hex,
    #[serde(rename = "MD5OfMessageAttributes", skip_serializing_if = "Option::is_none")]
    md5_attributes: Option<Hex>,
    #[serde(rename = "MD5OfMessageSystemAttributes", skip_serializing_if = "Option::is_none")]
    md5_system_attributes: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence_number: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct FailedBody<'a> {
    id: &'a str,
    sender_fault: bool,
    code: &'static str,
    message: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct BatchBody<'a, T> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    successful: Vec<T>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failed: Vec<FailedBody<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct IdBody<'a> {
    id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ReceivedBody<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    messages: Vec<MessageBody<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct MessageBody<'a> {
    message_id: uuid::Uuid,
    receipt_handle: &'a str,
    #[serde(rename = "MD5OfBody")]
    md5_body: Hex,
    body: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    attributes: Pairs<&'static str>,
    #[serde(rename = "MD5OfMessageAttributes", skip_serializing_if = "Option::is_none")]
    md5_attributes: Option<Hex>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    message_attributes: BTreeMap<&'a str, AttributeBody<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct AttributeBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    string_value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binary_value: Option<String>,
    data_type: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct MoveTaskBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    task_handle: Option<&'a str>,
    status: &'static str,
    source_arn: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination_arn: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_number_of_messages_per_second: Option<i64>,
    approximate_number_of_messages_moved: u64,
    approximate_number_of_messages_to_move: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_reason: Option<&'static str>,
    started_timestamp: i64,
}

/// Sixteen bytes as 32 hexadecimal digits, without a heap allocation.
struct Hex([u8; 16]);

impl Serialize for Hex {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = [0_u8; 32];
        hex::encode_to_slice(self.0, &mut text).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(std::str::from_utf8(&text).map_err(serde::ser::Error::custom)?)
    }
}

pub(super) fn encode(response: &Response, host: &str) -> Vec<u8> {
    match response {
        Response::Done => Vec::new(),
        Response::Queue(arn) => object("QueueUrl", &urls::format(host, arn)),
        Response::Queues(page) => queues("QueueUrls", page, host),
        Response::DeadLetterSources(page) => queues("queueUrls", page, host),
        Response::Attributes(values) => unless_empty("Attributes", values.is_empty(), values),
        Response::Tags(tags) => unless_empty("Tags", tags.is_empty(), tags),
        Response::Sent(sent) => write(&sent_body(None, sent)),
        Response::SentBatch(entries) => {
            write(&batch(entries, |id, sent| sent_body(Some(id), sent)))
        }
        Response::DoneBatch(entries) => write(&batch(entries, |id, ()| IdBody { id })),
        Response::Received(deliveries, selection) => {
            let messages = deliveries.iter().map(|delivery| message(delivery, selection)).collect();
            write(&ReceivedBody { messages })
        }
        Response::MoveStarted(handle) => object("TaskHandle", handle),
        Response::MoveCancelled(moved) => object("ApproximateNumberOfMessagesMoved", moved),
        Response::MoveTasks(tasks) => {
            let tasks: Vec<MoveTaskBody<'_>> = tasks.iter().map(move_task).collect();
            unless_empty("Results", tasks.is_empty(), &tasks)
        }
    }
}

fn sent_body<'a>(id: Option<&'a str>, sent: &Sent) -> SentBody<'a> {
    SentBody {
        id,
        message_id: sent.id,
        md5_body: Hex(sent.md5_body),
        md5_attributes: sent.md5_attributes.map(Hex),
        md5_system_attributes: sent.md5_system_attributes.map(Hex),
        sequence_number: sent.sequence.map(|number| number.to_string()),
    }
}

fn batch<'a, T, B>(
    entries: &'a [Entry<T>],
    body: impl Fn(&'a str, &'a T) -> B,
) -> BatchBody<'a, B> {
    let mut reply = BatchBody { successful: Vec::new(), failed: Vec::new() };
    for (id, outcome) in entries {
        match outcome {
            Ok(value) => reply.successful.push(body(id, value)),
            Err(error) => reply.failed.push(failed(id, error)),
        }
    }
    reply
}

fn failed<'a>(id: &'a str, error: &'a SqsError) -> FailedBody<'a> {
    FailedBody {
        id,
        sender_fault: error.kind.is_sender_fault(),
        code: error.kind.query_code(),
        message: &error.message,
    }
}

fn message<'a>(delivery: &'a Delivery, selection: &Selection) -> MessageBody<'a> {
    let shown = selection.message_attributes(delivery);
    let content = &delivery.message;
    MessageBody {
        message_id: content.id,
        receipt_handle: &delivery.receipt,
        md5_body: Hex(content.md5_body),
        body: &content.body,
        attributes: selection.system_attributes(delivery).into_iter().collect(),
        md5_attributes: Selection::md5(delivery, &shown).map(Hex),
        message_attributes: shown
            .into_iter()
            .map(|attribute| {
                let (string_value, binary_value) = match &attribute.value {
                    Some(AttributeValue::Text(text)) => (Some(text.as_str()), None),
                    Some(AttributeValue::Binary(bytes)) => (None, Some(STANDARD.encode(bytes))),
                    None => (None, None),
                };
                let data_type = attribute.data_type.as_str();
                let body = AttributeBody { string_value, binary_value, data_type };
                (attribute.name.as_str(), body)
            })
            .collect(),
    }
}

fn move_task(task: &MoveTaskView) -> MoveTaskBody<'_> {
    MoveTaskBody {
        task_handle: task.handle.as_deref(),
        status: task.status.as_str(),
        source_arn: task.source.as_str(),
        destination_arn: task.destination.as_ref().map(QueueArn::as_str),
        max_number_of_messages_per_second: task.rate,
        approximate_number_of_messages_moved: task.moved,
        approximate_number_of_messages_to_move: task.to_move,
        failure_reason: task.failure,
        started_timestamp: task.started_at_ms,
    }
}

fn queues(member: &'static str, page: &QueuePage, host: &str) -> Vec<u8> {
    let mut body = serde_json::Map::new();
    if !page.queues.is_empty() {
        let urls: Vec<String> = page.queues.iter().map(|queue| urls::format(host, queue)).collect();
        body.insert(member.to_owned(), urls.into());
    }
    if let Some(next) = &page.next {
        body.insert("NextToken".to_owned(), next.as_str().into());
    }
    write(&body)
}

fn object(member: &'static str, value: &(impl Serialize + ?Sized)) -> Vec<u8> {
    write(&BTreeMap::from([(member, value)]))
}

fn unless_empty(member: &'static str, empty: bool, value: &(impl Serialize + ?Sized)) -> Vec<u8> {
    if empty { b"{}".to_vec() } else { object(member, value) }
}

fn write(body: &impl Serialize) -> Vec<u8> {
    // Texts, numbers and maps with text keys: nothing in them can fail to be written.
    serde_json::to_vec(body).unwrap_or_default()
}

//! Replies to XML: `<ActionResponse><ActionResult>…</ActionResult><ResponseMetadata>…`, lists flat,
//! calls without output without a result: as on AWS.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::xml::Xml;
use crate::codec::urls;
use crate::errors::SqsError;
use crate::model::{AttributeValue, Delivery, MessageAttribute, QueueArn};
use crate::operations::{Entry, MoveTaskView, QueuePage, Response, Sent};
use crate::selection::Selection;

/// The namespace of the service's last version.
const NAMESPACE: &str = "http://queue.amazonaws.com/doc/2012-11-05/";

pub(super) fn encode(action: &str, response: &Response, host: &str, request_id: &str) -> Vec<u8> {
    let mut xml = Xml::document();
    xml.root(&format!("{action}Response"), NAMESPACE, |xml| {
        if !matches!(response, Response::Done) {
            xml.element(&format!("{action}Result"), |xml| {
                result(xml, action, response, host);
            });
        }
        xml.element("ResponseMetadata", |xml| xml.leaf("RequestId", request_id));
    });
    xml.into_bytes()
}

pub(super) fn encode_error(error: &SqsError, message: &str, request_id: &str) -> Vec<u8> {
    let mut xml = Xml::document();
    xml.root("ErrorResponse", NAMESPACE, |xml| {
        xml.element("Error", |xml| {
            xml.leaf("Type", if error.kind.is_sender_fault() { "Sender" } else { "Receiver" });
            xml.leaf("Code", error.kind.query_code());
            xml.leaf("Message", message);
            xml.element("Detail", |_| {});
        });
        xml.leaf("RequestId", request_id);
    });
    xml.into_bytes()
}

fn result(xml: &mut Xml, action: &str, response: &Response, host: &str) {
    match response {
        Response::Done => {}
        Response::Queue(arn) => xml.leaf("QueueUrl", &urls::format(host, arn)),
        Response::Queues(page) | Response::DeadLetterSources(page) => {
            queues(xml, page, host);
        }
        Response::Attributes(values) => {
            pairs(xml, "Attribute", ("Name", "Value"), values.iter().map(|(k, v)| (*k, v)));
        }
        Response::Tags(tags) => {
            pairs(xml, "Tag", ("Key", "Value"), tags.iter().map(|(k, v)| (k.as_str(), v)));
        }
        Response::Sent(one) => sent(xml, one),
        Response::SentBatch(entries) => batch(xml, action, entries, sent),
        Response::DoneBatch(entries) => batch(xml, action, entries, |_, ()| {}),
        Response::Received(deliveries, selection) => {
            for delivery in deliveries {
                xml.element("Message", |xml| message(xml, delivery, selection));
            }
        }
        Response::MoveStarted(handle) => xml.leaf("TaskHandle", handle),
        Response::MoveCancelled(moved) => xml.plain("ApproximateNumberOfMessagesMoved", moved),
        Response::MoveTasks(tasks) => {
            for task in tasks {
                xml.element("ListMessageMoveTasksResultEntry", |xml| move_task(xml, task));
            }
        }
    }
}

fn queues(xml: &mut Xml, page: &QueuePage, host: &str) {
    for queue in &page.queues {
        xml.leaf("QueueUrl", &urls::format(host, queue));
    }
    xml.some("NextToken", page.next.as_deref());
}

fn pairs<'a>(
    xml: &mut Xml,
    element: &str,
    (key, value): (&str, &str),
    pairs: impl Iterator<Item = (&'a str, &'a String)>,
) {
    for (name, text) in pairs {
        xml.element(element, |xml| {
            xml.leaf(key, name);
            xml.leaf(value, text);
        });
    }
}

fn sent(xml: &mut Xml, sent: &Sent) {
    xml.plain("MessageId", sent.id);
    xml.leaf("MD5OfMessageBody", &hex::encode(sent.md5_body));
    md5(xml, "MD5OfMessageAttributes", sent.md5_attributes);
    md5(xml, "MD5OfMessageSystemAttributes", sent.md5_system_attributes);
    if let Some(number) = sent.sequence {
        xml.plain("SequenceNumber", number);
    }
}

fn md5(xml: &mut Xml, name: &str, hash: Option<[u8; 16]>) {
    xml.some(name, hash.map(hex::encode).as_deref());
}

fn batch<T>(xml: &mut Xml, action: &str, entries: &[Entry<T>], write: impl Fn(&mut Xml, &T)) {
    let element = format!("{action}ResultEntry");
    for (id, outcome) in entries {
        match outcome {
            Ok(value) => xml.element(&element, |xml| {
                xml.leaf("Id", id);
                write(xml, value);
            }),
            Err(error) => xml.element("BatchResultErrorEntry", |xml| {
                xml.leaf("Id", id);
                xml.leaf("Code", error.kind.query_code());
                xml.leaf("Message", &error.message);
                xml.plain("SenderFault", error.kind.is_sender_fault());
            }),
        }
    }
}

fn message(xml: &mut Xml, delivery: &Delivery, selection: &Selection) {
    let shown = selection.message_attributes(delivery);
    let content = &delivery.message;
    xml.plain("MessageId", content.id);
    xml.leaf("ReceiptHandle", &delivery.receipt);
    xml.leaf("MD5OfBody", &hex::encode(content.md5_body));
    xml.leaf("Body", &content.body);
    let system: BTreeMap<&str, String> =
        selection.system_attributes(delivery).into_iter().collect();
    pairs(xml, "Attribute", ("Name", "Value"), system.iter().map(|(k, v)| (*k, v)));
    md5(xml, "MD5OfMessageAttributes", Selection::md5(delivery, &shown));
    for attribute in shown {
        xml.element("MessageAttribute", |xml| message_attribute(xml, attribute));
    }
}

fn message_attribute(xml: &mut Xml, attribute: &MessageAttribute) {
    xml.leaf("Name", &attribute.name);
    xml.element("Value", |xml| {
        match &attribute.value {
            Some(AttributeValue::Text(text)) => xml.leaf("StringValue", text),
            Some(AttributeValue::Binary(bytes)) => xml.leaf("BinaryValue", &STANDARD.encode(bytes)),
            None => {}
        }
        xml.leaf("DataType", &attribute.data_type);
    });
}

fn move_task(xml: &mut Xml, task: &MoveTaskView) {
    xml.some("TaskHandle", task.handle.as_deref());
    xml.leaf("Status", task.status.as_str());
    xml.leaf("SourceArn", task.source.as_str());
    xml.some("DestinationArn", task.destination.as_ref().map(QueueArn::as_str));
    if let Some(rate) = task.rate {
        xml.plain("MaxNumberOfMessagesPerSecond", rate);
    }
    xml.plain("ApproximateNumberOfMessagesMoved", task.moved);
    xml.plain("ApproximateNumberOfMessagesToMove", task.to_move);
    xml.some("FailureReason", task.failure);
    xml.plain("StartedTimestamp", task.started_at_ms);
}

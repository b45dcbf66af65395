//! The query protocol's replies as JSON, for callers that ask with a form and accept
//! `application/json`: the XML's structure, with the maps of the JSON protocol as lists.

use serde_json::{Map, Value, json};

use crate::codec::json;
use crate::errors::SqsError;
use crate::operations::Response;

/// What such replies are.
pub(super) const CONTENT_TYPE: &str = "application/json";

pub(super) fn encode(action: &str, response: &Response, host: &str, request_id: &str) -> Vec<u8> {
    let body = json::encode(response, host).body;
    let mut reply = Map::new();
    if let Ok(result) = serde_json::from_slice(&body) {
        reply.insert(format!("{action}Result"), listed(result));
    }
    reply.insert("ResponseMetadata".to_owned(), json!({ "RequestId": request_id }));
    json!({ format!("{action}Response"): reply }).to_string().into_bytes()
}

pub(super) fn encode_error(error: &SqsError, message: &str, request_id: &str) -> Vec<u8> {
    let fault = if error.kind.is_sender_fault() { "Sender" } else { "Receiver" };
    let code = error.kind.query_code();
    let error = json!({ "Code": code, "Detail": null, "Message": message, "Type": fault });
    json!({ "Error": error, "RequestId": request_id }).to_string().into_bytes()
}

/// Maps become lists of their pairs, and two members have other names.
fn listed(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| match (name.as_str(), value) {
                ("Attributes" | "MessageAttributes", Value::Object(map)) => {
                    (name, pairs("Name", map))
                }
                ("Tags", Value::Object(map)) => (name, pairs("Key", map)),
                ("Messages", value) => ("messages".to_owned(), listed(value)),
                ("QueueUrls", value) => ("queueUrls".to_owned(), value),
                (_, value) => (name, listed(value)),
            })
            .collect(),
        Value::Array(entries) => entries.into_iter().map(listed).collect(),
        value => value,
    }
}

fn pairs(key: &str, map: Map<String, Value>) -> Value {
    map.into_iter().map(|(name, value)| json!({ key: name, "Value": value })).collect()
}

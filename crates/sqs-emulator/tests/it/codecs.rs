//! Both protocols ask for the same and say the same: random calls go to two equal brokers, one through
//! JSON and one through forms, and every reply is written both ways and compared.

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use sqs_emulator::codec::{json as json_codec, query};
use sqs_emulator::{Broker, BrokerConfig, Caller, Request, Response, SqsError};

use crate::forms::{Style, form};

const HOST: &str = "localhost:4566";

/// One call: an action and its members. Handles are put in later, as they are known.
#[derive(Clone, Debug)]
struct Step {
    action: &'static str,
    members: Value,
    nested: bool,
    /// Of the handles seen so far, counted from the latest.
    handle: usize,
}

/// Texts with what escaping has to get right.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[a-z0-9]{1,8}",
        2 => "[ -~\\r\\n\\t]{0,12}",
        1 => prop::collection::vec(any::<char>(), 0..6).prop_map(String::from_iter),
        1 => Just("a&b=c+d%20<e>\"'\r\n;]]>\u{1F600}".to_owned()),
    ]
}

fn queue() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => Just(json!("http://localhost:4566/000000000000/q")),
        4 => Just(json!("http://localhost:4566/000000000000/f.fifo")),
        2 => Just(json!("http://localhost:4566/000000000000/dead")),
        1 => Just(json!("http://localhost:4566/000000000000/none")),
        1 => Just(Value::Null),
    ]
}

fn some<T: Into<Value> + std::fmt::Debug + Clone>(
    of: impl Strategy<Value = T>,
) -> impl Strategy<Value = Value> {
    prop::option::of(of).prop_map(|value| value.map_or(Value::Null, Into::into))
}

fn pairs() -> impl Strategy<Value = Value> {
    prop::collection::btree_map(text(), text(), 0..4).prop_map(|map| json!(map))
}

fn message_attributes() -> impl Strategy<Value = Value> {
    let value = prop_oneof![
        text().prop_map(|text| json!({ "DataType": "String", "StringValue": text })),
        any::<i32>()
            .prop_map(|n| json!({ "DataType": "Number.int", "StringValue": n.to_string() })),
        Just(json!({ "DataType": "Binary", "BinaryValue": "AP+A/w==" })),
        Just(json!({ "DataType": "Binary", "BinaryValue": "not base64" })),
        Just(json!({ "DataType": "String", "StringListValues": ["v"] })),
        Just(json!({ "DataType": "Wrong", "StringValue": "x" })),
    ];
    prop::collection::btree_map("[a-zA-Z.]{1,6}", value, 0..3).prop_map(|map| json!(map))
}

fn message() -> impl Strategy<Value = Value> {
    (
        (some(text()), some(-1_i64..4), message_attributes()),
        (some("[a-c]"), some(prop_oneof![text(), Just("same".to_owned())]), any::<bool>()),
    )
        .prop_map(|((body, delay, attributes), (group, deduplication, traced))| {
            let mut message = json!({
                "MessageBody": body, "DelaySeconds": delay, "MessageAttributes": attributes,
                "MessageGroupId": group, "MessageDeduplicationId": deduplication,
            });
            if traced {
                message["MessageSystemAttributes"] =
                    json!({ "AWSTraceHeader": { "DataType": "String", "StringValue": "Root=1" } });
            }
            message
        })
}

fn entries(entry: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    prop::collection::vec((entry, prop_oneof![9 => "[a-d]", 1 => text()]), 0..4).prop_map(|list| {
        let entry = |(mut entry, id): (Value, String)| {
            entry["Id"] = id.into();
            entry
        };
        list.into_iter().map(entry).collect()
    })
}

fn members() -> impl Strategy<Value = (&'static str, Value)> {
    let names = || prop::collection::vec(prop_oneof![Just("All".to_owned()), text()], 0..3);
    let change = || some(-1_i64..60).prop_map(|seconds| json!({ "VisibilityTimeout": seconds }));
    let receive = (some(0_i64..12), some(-1_i64..20), names(), names(), some("[ab]")).prop_map(
        |(max, lease, system, attributes, attempt)| {
            json!({
                "MaxNumberOfMessages": max, "VisibilityTimeout": lease, "AttributeNames": system,
                "MessageAttributeNames": attributes, "ReceiveRequestAttemptId": attempt,
            })
        },
    );
    let attributes = prop_oneof![
        Just(json!({ "VisibilityTimeout": "5", "DelaySeconds": "0" })),
        Just(json!({ "MaximumMessageSize": "1024" })),
        Just(json!({ "RedrivePolicy":
            "{\"deadLetterTargetArn\":\"arn:aws:sqs:us-east-1:000000000000:dead\",\"maxReceiveCount\":1}" })),
        pairs(),
    ];
    prop_oneof![
        5 => message().prop_map(|members| ("SendMessage", members)),
        3 => entries(message()).prop_map(|list| ("SendMessageBatch", json!({ "Entries": list }))),
        6 => receive.prop_map(|members| ("ReceiveMessage", members)),
        2 => Just(("DeleteMessage", json!({}))),
        2 => change().prop_map(|members| ("ChangeMessageVisibility", members)),
        2 => entries(Just(json!({}))).prop_map(|list| ("DeleteMessageBatch", json!({ "Entries": list }))),
        2 => entries(change()).prop_map(|list| ("ChangeMessageVisibilityBatch", json!({ "Entries": list }))),
        1 => names().prop_map(|names| ("GetQueueAttributes", json!({ "AttributeNames": names }))),
        1 => attributes.prop_map(|map| ("SetQueueAttributes", json!({ "Attributes": map }))),
        1 => pairs().prop_map(|tags| ("TagQueue", json!({ "Tags": tags }))),
        1 => names().prop_map(|keys| ("UntagQueue", json!({ "TagKeys": keys }))),
        1 => Just(("ListQueueTags", json!({}))),
        1 => Just(("PurgeQueue", json!({}))),
        1 => (text(), pairs(), pairs()).prop_map(|(name, attributes, tags)| {
            ("CreateQueue", json!({ "QueueName": name, "Attributes": attributes, "tags": tags }))
        }),
        1 => some(0_i64..3).prop_map(|max| ("ListQueues", json!({ "MaxResults": max }))),
        1 => Just(("ListDeadLetterSourceQueues", json!({}))),
        1 => (text(), names(), names()).prop_map(|(label, accounts, actions)| {
            ("AddPermission",
             json!({ "Label": label, "AWSAccountIds": accounts, "Actions": actions }))
        }),
        1 => Just(("StartMessageMoveTask", json!({ "SourceArn": "arn:aws:sqs:us-east-1:000000000000:dead", "MaxNumberOfMessagesPerSecond": 1 }))),
        1 => Just(("ListMessageMoveTasks", json!({ "SourceArn": "arn:aws:sqs:us-east-1:000000000000:dead" }))),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (members(), queue(), any::<bool>(), 0_usize..4).prop_map(
        |((action, mut members), queue, nested, handle)| {
            members["QueueUrl"] = queue;
            Step { action, members, nested, handle }
        },
    );
    prop::collection::vec(step, 1..30)
}

/// One side: a broker and the protocol that reaches it.
struct Side {
    broker: Broker,
    caller: Caller,
}

impl Side {
    fn new() -> Self {
        let mut broker = Broker::new(BrokerConfig { seed: 7, ..BrokerConfig::default() });
        let caller = Caller::default();
        for (name, fifo) in [("q", false), ("dead", false), ("f.fifo", true)] {
            let attributes = if fifo { json!({ "FifoQueue": "true" }) } else { json!({}) };
            let body = json!({ "QueueName": name, "Attributes": attributes }).to_string();
            let request =
                json_codec::decode(Some("AmazonSQS.CreateQueue"), body.as_bytes(), &caller)
                    .unwrap();
            broker.call(0, &caller, request).unwrap();
        }
        Self { broker, caller }
    }

    fn call(&mut self, now: i64, request: Result<Request, SqsError>) -> Result<Response, SqsError> {
        self.broker.call(now, &self.caller, request?)
    }
}

fn with_handle(step: &Step, handles: &[String]) -> Value {
    let mut members = step.members.clone();
    let handle = |back: usize| match handles.len().checked_sub(1 + back) {
        Some(at) => json!(handles[at]),
        None => json!("none"),
    };
    match step.action {
        "DeleteMessage" | "ChangeMessageVisibility" => {
            members["ReceiptHandle"] = handle(step.handle);
        }
        "DeleteMessageBatch" | "ChangeMessageVisibilityBatch" => {
            for (at, entry) in members["Entries"].as_array_mut().unwrap().iter_mut().enumerate() {
                entry["ReceiptHandle"] = handle(at + step.handle);
            }
        }
        _ => {}
    }
    members
}

fn run(steps: &[Step]) {
    let (mut left, mut right) = (Side::new(), Side::new());
    let mut handles = Vec::new();
    for (at, step) in (0_i64..).zip(steps) {
        let now = at * 700;
        let members = with_handle(step, &handles);
        let target = format!("AmazonSQS.{}", step.action);
        let asked = json_codec::decode(Some(&target), members.to_string().as_bytes(), &left.caller);
        let one = left.call(now, asked);

        let style = if step.nested { Style::Nested } else { Style::Flat };
        let form = form(step.action, &members, style);
        let asked = query::decode("/", None, form.as_bytes(), &right.caller);
        let asked = asked.map(|call| call.expect("a form with an action").request);
        let other = right.call(now, asked);

        assert_eq!(format!("{one:?}"), format!("{other:?}"), "{step:?}\n{form}");
        if let Ok(response) = &one {
            same_reply(step.action, response);
        }
        if let Ok(Response::Received(got, _)) = one {
            handles.extend(got.into_iter().map(|delivery| delivery.receipt));
        }
    }
}

/// A reply in XML holds what it holds in JSON.
fn same_reply(action: &str, response: &Response) {
    let json = json_codec::encode(response, HOST).body;
    let json = if json.is_empty() { json!({}) } else { serde_json::from_slice(&json).unwrap() };
    let xml = query::encode(query::Format::Xml, action, response, HOST, "id").body;
    let xml = std::str::from_utf8(&xml).unwrap();
    let document = roxmltree::Document::parse(xml).unwrap_or_else(|error| panic!("{error}: {xml}"));
    let result = format!("{action}Result");
    let root = document.root_element();
    let result = root.children().find(|node| node.has_tag_name((NAMESPACE, result.as_str())));
    let said = result.map_or_else(|| json!({}), |result| members_of(action, result));
    assert_eq!(said, sayable(json), "{xml}");
}

const NAMESPACE: &str = "http://queue.amazonaws.com/doc/2012-11-05/";

const NUMBERS: [&str; 4] = [
    "ApproximateNumberOfMessagesMoved",
    "ApproximateNumberOfMessagesToMove",
    "MaxNumberOfMessagesPerSecond",
    "StartedTimestamp",
];

/// Elements back to members, by the service's description.
fn members_of(action: &str, node: roxmltree::Node<'_, '_>) -> Value {
    let mut members = Map::new();
    for child in node.children().filter(roxmltree::Node::is_element) {
        let name = child.tag_name().name();
        let text = || child.text().unwrap_or_default();
        let inside = |name: &str| {
            let named = |node: &roxmltree::Node<'_, '_>| node.tag_name().name() == name;
            child.children().find(named).expect("the description says so")
        };
        let listed = |members: &mut Map<String, Value>, list: &str, value: Value| {
            let list = members.entry(list).or_insert_with(|| json!([]));
            list.as_array_mut().unwrap().push(value);
        };
        let mapped = |members: &mut Map<String, Value>, map: &str, key: &str, value: Value| {
            let key = inside(key).text().unwrap_or_default();
            members.entry(map).or_insert_with(|| json!({}))[key] = value;
        };
        let leaf_value = || json!(inside("Value").text().unwrap_or_default());
        match (action, name) {
            ("ListQueues", "QueueUrl") => listed(&mut members, "QueueUrls", json!(text())),
            ("ListDeadLetterSourceQueues", "QueueUrl") => {
                listed(&mut members, "queueUrls", json!(text()));
            }
            (_, "Attribute") => mapped(&mut members, "Attributes", "Name", leaf_value()),
            (_, "Tag") => mapped(&mut members, "Tags", "Key", leaf_value()),
            (_, "MessageAttribute") => {
                let value = members_of(action, inside("Value"));
                mapped(&mut members, "MessageAttributes", "Name", value);
            }
            ("ReceiveMessage", "Message") => {
                listed(&mut members, "Messages", members_of(action, child));
            }
            (_, "BatchResultErrorEntry") => {
                listed(&mut members, "Failed", members_of(action, child));
            }
            (_, "ListMessageMoveTasksResultEntry") => {
                listed(&mut members, "Results", members_of(action, child));
            }
            (_, name) if name.ends_with("ResultEntry") => {
                listed(&mut members, "Successful", members_of(action, child));
            }
            (_, "SenderFault") => drop(members.insert(name.to_owned(), json!(text() == "true"))),
            (_, name) if NUMBERS.contains(&name) => {
                members.insert(name.to_owned(), json!(text().parse::<u64>().unwrap()));
            }
            _ => drop(members.insert(name.to_owned(), json!(text()))),
        }
    }
    Value::Object(members)
}

/// What XML cannot say stands there as a replacement character.
fn sayable(value: Value) -> Value {
    let text = |text: String| -> String {
        let xml = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{FFFD}' | '\u{10000}'..);
        text.chars().map(|c| if xml(c) { c } else { '\u{FFFD}' }).collect()
    };
    match value {
        Value::String(value) => Value::String(text(value)),
        Value::Array(list) => list.into_iter().map(sayable).collect(),
        Value::Object(map) => {
            map.into_iter().map(|(name, value)| (text(name), sayable(value))).collect()
        }
        value => value,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn both_protocols_ask_and_answer_the_same(steps in steps()) {
        run(&steps);
    }
}

//! Every limit at its edge, in both protocols: what is just inside passes, what is just outside does not.

use serde_json::{Value, json};
use sqs_emulator::codec::{json as json_codec, query};
use sqs_emulator::{Broker, BrokerConfig, Caller, SqsError};

use crate::forms::{Style, form};

/// Asks in one protocol; a batch fails with its first entry.
fn ask(broker: &mut Broker, json: bool, action: &str, members: &Value) -> Result<(), SqsError> {
    use sqs_emulator::Response;

    let caller = Caller::default();
    let request = if json {
        let target = format!("AmazonSQS.{action}");
        json_codec::decode(Some(&target), members.to_string().as_bytes(), &caller)?
    } else {
        let form = form(action, members, Style::Flat);
        query::decode("/", None, form.as_bytes(), &caller)?.unwrap().request
    };
    let now = 1_000_000;
    match broker.call(now, &caller, request)? {
        Response::SentBatch(sent) => sent.into_iter().try_for_each(|(_, sent)| sent.map(|_| ())),
        _ => Ok(()),
    }
}

/// `make(size)` is accepted at `most` and at `least`, and refused with that code one beyond each.
fn edge(action: &str, code: &str, sizes: (Option<i64>, i64), make: impl Fn(i64) -> Value) {
    let (least, most) = sizes;
    let inside = [least, Some(most)].into_iter().flatten();
    let outside = [least.map(|least| least - 1), Some(most + 1)].into_iter().flatten();
    let sizes = inside.map(|size| (size, true)).chain(outside.map(|size| (size, false)));
    for (size, good) in sizes {
        for json in [true, false] {
            let mut broker = Broker::new(BrokerConfig::default());
            for (name, attributes) in [("Q", json!({})), ("F.fifo", json!({ "FifoQueue": "true" }))]
            {
                let create = json!({ "QueueName": name, "Attributes": attributes });
                ask(&mut broker, true, "CreateQueue", &create).unwrap();
            }
            let asked = ask(&mut broker, json, action, &make(size));
            let seen = asked.as_ref().err().map(|error| error.kind.query_code());
            let expected = (!good).then_some(code);
            assert_eq!(seen, expected, "{action} at {size}, JSON {json}: {asked:?}");
        }
    }
}

fn text(size: i64) -> String {
    "x".repeat(usize::try_from(size).unwrap())
}

const VALUE: &str = "InvalidParameterValue";

#[test]
fn messages_have_a_size() {
    let send = |body: String| json!({ "QueueUrl": "Q", "MessageBody": body });
    edge("SendMessage", VALUE, (None, 1_048_576), |size| send(text(size)));
    // Names, types and values of attributes count: "n", "String" and ten characters are seventeen.
    let attribute = json!({ "n": { "DataType": "String", "StringValue": text(10) } });
    edge("SendMessage", VALUE, (None, 1_048_576 - 17), |size| {
        let mut message = send(text(size));
        message["MessageAttributes"] = attribute.clone();
        message
    });
    edge(
        "SendMessageBatch",
        "AWS.SimpleQueueService.BatchRequestTooLong",
        (None, 524_288),
        |size| {
            let entries = [(json!("a"), text(524_288)), (json!("b"), text(size))];
            let entry = |(id, body)| json!({ "Id": id, "MessageBody": body });
            json!({ "QueueUrl": "Q", "Entries": entries.map(entry) })
        },
    );
}

#[test]
fn batches_have_a_length() {
    let many = "AWS.SimpleQueueService.TooManyEntriesInBatchRequest";
    edge("SendMessageBatch", many, (None, 10), |size| {
        let entry = |n: i64| json!({ "Id": n.to_string(), "MessageBody": "x" });
        json!({ "QueueUrl": "Q", "Entries": (0..size).map(entry).collect::<Value>() })
    });
    edge(
        "SendMessageBatch",
        "AWS.SimpleQueueService.InvalidBatchEntryId",
        (Some(1), 80),
        |size| json!({ "QueueUrl": "Q", "Entries": [{ "Id": text(size), "MessageBody": "x" }] }),
    );
}

#[test]
fn parameters_have_a_range() {
    let send = |more: Value| {
        let mut message = json!({ "QueueUrl": "Q", "MessageBody": "x" });
        message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        message
    };
    edge("SendMessage", VALUE, (Some(0), 900), |size| send(json!({ "DelaySeconds": size })));
    edge("SendMessage", VALUE, (Some(1), 128), |size| {
        send(json!({ "MessageGroupId": text(size) }))
    });
    edge("SendMessage", VALUE, (Some(1), 128), |size| {
        json!({ "QueueUrl": "F.fifo", "MessageBody": "x", "MessageGroupId": "g",
                "MessageDeduplicationId": text(size) })
    });
    edge("SendMessage", VALUE, (None, 10), |size| {
        let attribute = |n| (format!("a{n}"), json!({ "DataType": "String", "StringValue": "x" }));
        let attributes: serde_json::Map<_, _> = (0..size).map(attribute).collect();
        send(json!({ "MessageAttributes": attributes }))
    });
    edge("SendMessage", VALUE, (Some(1), 256), |size| {
        let value = json!({ "DataType": "String", "StringValue": "x" });
        send(json!({ "MessageAttributes": { text(size): value } }))
    });
    for (name, range) in [
        ("MaxNumberOfMessages", (Some(1), 10)),
        ("VisibilityTimeout", (Some(0), 43_200)),
        ("WaitTimeSeconds", (Some(0), 20)),
    ] {
        edge("ReceiveMessage", VALUE, range, |size| json!({ "QueueUrl": "Q", name: size }));
    }
    edge("ListQueues", VALUE, (Some(1), 1_000), |size| json!({ "MaxResults": size }));
}

#[test]
fn queues_have_limits() {
    edge("CreateQueue", VALUE, (Some(1), 80), |size| json!({ "QueueName": text(size) }));
    edge(
        "CreateQueue",
        VALUE,
        (Some(1), 75),
        |size| json!({ "QueueName": format!("{}.fifo", text(size)), "Attributes": { "FifoQueue": "true" } }),
    );
    for (name, range) in [
        ("DelaySeconds", (Some(0), 900)),
        ("MaximumMessageSize", (Some(1_024), 1_048_576)),
        ("MessageRetentionPeriod", (Some(60), 1_209_600)),
        ("ReceiveMessageWaitTimeSeconds", (Some(0), 20)),
        ("VisibilityTimeout", (Some(0), 43_200)),
        ("KmsDataKeyReusePeriodSeconds", (Some(60), 86_400)),
    ] {
        edge(
            "SetQueueAttributes",
            "InvalidAttributeValue",
            range,
            |size| json!({ "QueueUrl": "Q", "Attributes": { name: size.to_string() } }),
        );
    }
    edge("SetQueueAttributes", VALUE, (Some(1), 1_000), |size| {
        let policy = json!({ "deadLetterTargetArn": "arn:aws:sqs:us-east-1:000000000000:Q",
                             "maxReceiveCount": size });
        json!({ "QueueUrl": "Q", "Attributes": { "RedrivePolicy": policy.to_string() } })
    });
    edge("SetQueueAttributes", VALUE, (Some(1), 10), |size| {
        let arn = |n| json!(format!("arn:aws:sqs:us-east-1:000000000000:q{n}"));
        let sources: Value = (0..size).map(arn).collect();
        let policy = json!({ "redrivePermission": "byQueue", "sourceQueueArns": sources });
        json!({ "QueueUrl": "Q", "Attributes": { "RedriveAllowPolicy": policy.to_string() } })
    });
    edge("TagQueue", VALUE, (None, 50), |size| {
        let tags: serde_json::Map<_, _> = (0..size).map(|n| (n.to_string(), json!("x"))).collect();
        json!({ "QueueUrl": "Q", "Tags": tags })
    });
    edge("AddPermission", "OverLimit", (None, 7), |size| {
        let actions: Value = (0..size).map(|_| json!("SendMessage")).collect();
        json!({ "QueueUrl": "Q", "Label": "l", "AWSAccountIds": ["111122223333"], "Actions": actions })
    });
}

//! Golden: the wire form of every error that a caller can provoke, byte by byte, in both protocols.

use std::fmt::Write as _;

use serde_json::{Value, json};
use sqs_emulator::Server;
use tokio_util::sync::CancellationToken;

use crate::forms::{Style, form};
use crate::support::{Reply, action, http, query};

const GOLDEN: &str = include_str!("golden/errors.txt");
const GOLDEN_PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/golden/errors.txt");

fn entries(count: usize) -> Value {
    (0..count).map(|n| json!({ "Id": n.to_string(), "MessageBody": "x" })).collect()
}

/// What is asked, by a name for the golden file. `Q` stands for a standard queue, `F` for a FIFO one.
#[expect(clippy::too_many_lines, reason = "one table, a line per case")]
fn cases() -> Vec<(&'static str, &'static str, Value)> {
    let long = "x".repeat(1_048_577);
    let half = "x".repeat(600_000);
    vec![
        ("queue missing", "SendMessage", json!({ "MessageBody": "x" })),
        ("queue unknown", "SendMessage", json!({ "QueueUrl": "none", "MessageBody": "x" })),
        ("url unknown", "GetQueueUrl", json!({ "QueueName": "none" })),
        ("name missing", "CreateQueue", json!({})),
        ("name bad", "CreateQueue", json!({ "QueueName": "a b" })),
        ("name long", "CreateQueue", json!({ "QueueName": "a".repeat(81) })),
        (
            "name not fifo",
            "CreateQueue",
            json!({ "QueueName": "a", "Attributes": { "FifoQueue": "true" } }),
        ),
        (
            "other attributes",
            "CreateQueue",
            json!({ "QueueName": "Q", "Attributes": { "DelaySeconds": "1" } }),
        ),
        (
            "fifo on standard",
            "CreateQueue",
            json!({ "QueueName": "a", "Attributes": { "FifoQueue": "false" } }),
        ),
        (
            "scope on standard",
            "CreateQueue",
            json!({ "QueueName": "a", "Attributes": { "DeduplicationScope": "queue" } }),
        ),
        (
            "attribute unknown",
            "SetQueueAttributes",
            json!({ "QueueUrl": "Q", "Attributes": { "Colour": "1" } }),
        ),
        (
            "attribute range",
            "SetQueueAttributes",
            json!({ "QueueUrl": "Q", "Attributes": { "VisibilityTimeout": "43201" } }),
        ),
        (
            "fifo changed",
            "SetQueueAttributes",
            json!({ "QueueUrl": "F.fifo", "Attributes": { "FifoQueue": "false" } }),
        ),
        (
            "two encryptions",
            "SetQueueAttributes",
            json!({ "QueueUrl": "Q", "Attributes": { "KmsMasterKeyId": "k", "SqsManagedSseEnabled": "true" } }),
        ),
        (
            "redrive count",
            "SetQueueAttributes",
            json!({ "QueueUrl": "Q", "Attributes": { "RedrivePolicy": "{\"deadLetterTargetArn\":\"arn:aws:sqs:us-east-1:000000000000:Q\",\"maxReceiveCount\":0}" } }),
        ),
        ("body missing", "SendMessage", json!({ "QueueUrl": "Q" })),
        ("body empty", "SendMessage", json!({ "QueueUrl": "Q", "MessageBody": "" })),
        ("body characters", "SendMessage", json!({ "QueueUrl": "Q", "MessageBody": "\u{1f}" })),
        ("body long", "SendMessage", json!({ "QueueUrl": "Q", "MessageBody": long })),
        (
            "delay range",
            "SendMessage",
            json!({ "QueueUrl": "Q", "MessageBody": "x", "DelaySeconds": 901 }),
        ),
        (
            "delay on fifo",
            "SendMessage",
            json!({ "QueueUrl": "F.fifo", "MessageBody": "x", "DelaySeconds": 2, "MessageGroupId": "g", "MessageDeduplicationId": "d" }),
        ),
        ("group missing", "SendMessage", json!({ "QueueUrl": "F.fifo", "MessageBody": "x" })),
        (
            "group characters",
            "SendMessage",
            json!({ "QueueUrl": "Q", "MessageBody": "x", "MessageGroupId": "group 123" }),
        ),
        (
            "deduplication missing",
            "SendMessage",
            json!({ "QueueUrl": "F.fifo", "MessageBody": "x", "MessageGroupId": "g" }),
        ),
        (
            "deduplication on standard",
            "SendMessage",
            json!({ "QueueUrl": "Q", "MessageBody": "x", "MessageDeduplicationId": "d" }),
        ),
        (
            "attribute empty",
            "SendMessage",
            json!({ "QueueUrl": "Q", "MessageBody": "x", "MessageAttributes": { "ErrorDetails": { "DataType": "String", "StringValue": "" } } }),
        ),
        (
            "attribute list",
            "SendMessage",
            json!({ "QueueUrl": "Q", "MessageBody": "x", "MessageAttributes": { "a": { "DataType": "String", "StringListValues": ["v"] } } }),
        ),
        ("batch empty", "SendMessageBatch", json!({ "QueueUrl": "Q", "Entries": [] })),
        ("batch of twenty", "SendMessageBatch", json!({ "QueueUrl": "Q", "Entries": entries(20) })),
        (
            "batch ids repeat",
            "SendMessageBatch",
            json!({ "QueueUrl": "Q", "Entries": [{ "Id": "a", "MessageBody": "x" }, { "Id": "a", "MessageBody": "x" }] }),
        ),
        (
            "batch id bad",
            "SendMessageBatch",
            json!({ "QueueUrl": "Q", "Entries": [{ "Id": "a.b", "MessageBody": "x" }] }),
        ),
        (
            "batch long",
            "SendMessageBatch",
            json!({ "QueueUrl": "Q", "Entries": [{ "Id": "a", "MessageBody": half }, { "Id": "b", "MessageBody": half }] }),
        ),
        (
            "batch group missing",
            "SendMessageBatch",
            json!({ "QueueUrl": "F.fifo", "Entries": entries(1) }),
        ),
        (
            "batch entry fails",
            "SendMessageBatch",
            json!({ "QueueUrl": "Q", "Entries": [{ "Id": "a", "MessageBody": "" }] }),
        ),
        ("receive eleven", "ReceiveMessage", json!({ "QueueUrl": "Q", "MaxNumberOfMessages": 11 })),
        ("receive wait", "ReceiveMessage", json!({ "QueueUrl": "Q", "WaitTimeSeconds": 21 })),
        (
            "receive attribute",
            "ReceiveMessage",
            json!({ "QueueUrl": "Q", "AttributeNames": ["Colour"] }),
        ),
        ("handle missing", "DeleteMessage", json!({ "QueueUrl": "Q" })),
        ("handle bad", "DeleteMessage", json!({ "QueueUrl": "Q", "ReceiptHandle": "no" })),
        (
            "timeout missing",
            "ChangeMessageVisibility",
            json!({ "QueueUrl": "Q", "ReceiptHandle": "AAAAAAAAAAEAAAAAAAAAAbDnPvOgdd0C18B-jg==" }),
        ),
        (
            "timeout entries",
            "ChangeMessageVisibilityBatch",
            json!({ "QueueUrl": "Q", "Entries": [{ "Id": "a", "ReceiptHandle": "no", "VisibilityTimeout": 1 }] }),
        ),
        (
            "move without redrive",
            "StartMessageMoveTask",
            json!({ "SourceArn": "arn:aws:sqs:us-east-1:000000000000:Q" }),
        ),
        (
            "move unknown",
            "StartMessageMoveTask",
            json!({ "SourceArn": "arn:aws:sqs:us-east-1:000000000000:none" }),
        ),
        ("move handle", "CancelMessageMoveTask", json!({ "TaskHandle": "no" })),
        ("type wrong", "SendMessage", json!({ "QueueUrl": "Q", "MessageBody": 5 })),
        ("not an object", "SendMessage", json!(["Q"])),
        ("action unknown", "FlyMessage", json!({})),
    ]
}

const JSON_ONLY: [&str; 2] = ["type wrong", "not an object"];

/// A reply in XML without what differs from one to the next, which has to be what its header says.
fn without_id(reply: &Reply) -> String {
    let id = reply.header("x-amzn-requestid").unwrap();
    let said = format!("<RequestId>{id}</RequestId>");
    assert!(reply.status == 404 || reply.body.contains(&said), "{reply:?}");
    reply.body.replace(id, "id").trim_end().to_owned()
}

#[tokio::test]
async fn errors_are_what_they_were() {
    let server = Server::bind("127.0.0.1:0".parse().unwrap(), None).await.unwrap();
    let addr = server.addr();
    let stop = CancellationToken::new();
    let running = tokio::spawn(server.run(stop.clone()));
    let queue = action(addr, "CreateQueue", &json!({ "QueueName": "Q" })).await;
    assert_eq!(queue.status, 200, "{queue:?}");
    let fifo = json!({ "QueueName": "F.fifo", "Attributes": { "FifoQueue": "true" } });
    assert_eq!(action(addr, "CreateQueue", &fifo).await.status, 200);

    let mut seen = String::new();
    for (name, call, body) in cases() {
        let reply = action(addr, call, &body).await;
        let code = reply.header("x-amzn-query-error").unwrap_or("-");
        writeln!(seen, "{name}: {} {code}\n    {}", reply.status, reply.body).unwrap();
        // What a form has no way to say is asked in JSON only.
        if !JSON_ONLY.contains(&name) {
            let reply = query(addr, &form(call, &body, Style::Flat)).await;
            writeln!(seen, "    {} {}", reply.status, without_id(&reply)).unwrap();
        }
    }
    let none = http(addr, "POST", "", b"{}").await;
    writeln!(seen, "no target: {}\n    {}", none.status, none.body.trim_end()).unwrap();
    let cut = "X-Amz-Target: AmazonSQS.ListQueues\r\n";
    let cut = http(addr, "POST", cut, b"{\"QueueNamePrefix\"").await;
    writeln!(seen, "cut short: {}\n    {}", cut.status, cut.body).unwrap();
    let untold = "Content-Type: application/x-amz-json-1.0\r\n";
    let untold = http(addr, "POST", untold, b"{}").await;
    writeln!(seen, "JSON without a target: {}\n    {}", untold.status, untold.body).unwrap();
    for (name, form) in [
        ("not a number", "Action=ReceiveMessage&QueueUrl=Q&MaxNumberOfMessages=ten"),
        ("not UTF-8", "Action=SendMessage&QueueUrl=Q&MessageBody=%FF"),
        ("no action", "Version=2012-11-05"),
    ] {
        let reply = query(addr, form).await;
        writeln!(seen, "{name}: {}\n    {}", reply.status, without_id(&reply)).unwrap();
    }

    stop.cancel();
    running.await.unwrap();
    if seen != GOLDEN {
        let new = format!("{GOLDEN_PATH}.new");
        std::fs::write(&new, &seen).unwrap();
        panic!("errors differ from {GOLDEN_PATH}; compare with {new}");
    }
}

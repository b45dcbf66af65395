//! What is asked to provoke each error.

use serde_json::{Value, json};

fn entries(count: usize) -> Value {
    (0..count).map(|n| json!({ "Id": n.to_string(), "MessageBody": "x" })).collect()
}

/// What is asked, by a name for the golden file. `Q` stands for a standard queue, `F` for a FIFO one.
#[expect(clippy::too_many_lines, reason = "one table, a line per case")]
pub(super) fn cases() -> Vec<(&'static str, &'static str, Value)> {
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
        ("url name missing", "GetQueueUrl", json!({})),
        (
            "attribute negative",
            "SetQueueAttributes",
            json!({ "QueueUrl": "Q", "Attributes": { "DelaySeconds": "-1" } }),
        ),
        (
            "attribute computed",
            "SetQueueAttributes",
            json!({ "QueueUrl": "Q", "Attributes": { "QueueArn": "x" } }),
        ),
        (
            "policy not JSON",
            "SetQueueAttributes",
            json!({ "QueueUrl": "Q", "Attributes": { "Policy": "x" } }),
        ),
        ("redrive not JSON", "SetQueueAttributes", redrive("x")),
        ("redrive no target", "SetQueueAttributes", redrive("{\"maxReceiveCount\":1}")),
        (
            "redrive unknown target",
            "SetQueueAttributes",
            redrive(
                "{\"deadLetterTargetArn\":\"arn:aws:sqs:us-east-1:000000000000:none\",\"maxReceiveCount\":1}",
            ),
        ),
        (
            "redrive other kind",
            "SetQueueAttributes",
            redrive(
                "{\"deadLetterTargetArn\":\"arn:aws:sqs:us-east-1:000000000000:F.fifo\",\"maxReceiveCount\":1}",
            ),
        ),
        (
            "allow by queue without",
            "SetQueueAttributes",
            allow("{\"redrivePermission\":\"byQueue\"}"),
        ),
        (
            "allow all with",
            "SetQueueAttributes",
            allow(
                "{\"redrivePermission\":\"allowAll\",\"sourceQueueArns\":[\"arn:aws:sqs:us-east-1:000000000000:Q\"]}",
            ),
        ),
        ("too many tags", "TagQueue", json!({ "QueueUrl": "Q", "Tags": tags(51) })),
        (
            "attributes unknown",
            "GetQueueAttributes",
            json!({ "QueueUrl": "Q", "AttributeNames": ["Colour"] }),
        ),
        ("results zero", "ListQueues", json!({ "MaxResults": 0 })),
        ("results many", "ListQueues", json!({ "MaxResults": 1001 })),
        ("token wrong", "ListQueues", json!({ "NextToken": "x" })),
        ("permission nameless", "AddPermission", permission(None, &["SendMessage"])),
        ("permission for nothing", "AddPermission", permission(Some("l"), &[])),
        ("permission unknown", "AddPermission", permission(Some("l"), &["FlyMessage"])),
        ("permission of owners", "AddPermission", permission(Some("l"), &["DeleteQueue"])),
        ("no tags", "TagQueue", json!({ "QueueUrl": "Q" })),
        ("no tag keys", "UntagQueue", json!({ "QueueUrl": "Q" })),
        ("permission long", "AddPermission", permission(Some("l"), &["SendMessage"; 8])),
        ("permission absent", "RemovePermission", json!({ "QueueUrl": "Q", "Label": "none" })),
        (
            "attribute binary list",
            "SendMessage",
            json!({ "QueueUrl": "Q", "MessageBody": "x", "MessageAttributes": { "a": { "DataType": "Binary", "BinaryListValues": ["AQID"] } } }),
        ),
        (
            "attributes eleven",
            "SendMessage",
            attributes((0..11).map(|n| (format!("a{n}"), "String", "x"))),
        ),
        ("attribute nameless", "SendMessage", attribute("", "String", "x")),
        ("attribute reserved", "SendMessage", attribute("AWS.x", "String", "x")),
        ("attribute dots", "SendMessage", attribute("x..y", "String", "x")),
        ("attribute name long", "SendMessage", attribute(&"n".repeat(257), "String", "x")),
        ("attribute typeless", "SendMessage", attribute("a", "", "x")),
        ("attribute type", "SendMessage", attribute("a", "Strong", "x")),
        ("attribute number", "SendMessage", attribute("a", "Number", "one")),
        ("attribute characters", "SendMessage", attribute("a", "String", "\u{8}")),
        (
            "system attribute unknown",
            "SendMessage",
            json!({ "QueueUrl": "Q", "MessageBody": "x", "MessageSystemAttributes": { "Colour": { "DataType": "String", "StringValue": "x" } } }),
        ),
        (
            "group empty",
            "SendMessage",
            json!({ "QueueUrl": "Q", "MessageBody": "x", "MessageGroupId": "" }),
        ),
        (
            "group long",
            "SendMessage",
            json!({ "QueueUrl": "Q", "MessageBody": "x", "MessageGroupId": "g".repeat(129) }),
        ),
        ("receive none", "ReceiveMessage", json!({ "QueueUrl": "Q", "MaxNumberOfMessages": 0 })),
        (
            "receive negative wait",
            "ReceiveMessage",
            json!({ "QueueUrl": "Q", "WaitTimeSeconds": -1 }),
        ),
        ("receive lease", "ReceiveMessage", json!({ "QueueUrl": "Q", "VisibilityTimeout": 43201 })),
        (
            "receive attempt",
            "ReceiveMessage",
            json!({ "QueueUrl": "F.fifo", "ReceiveRequestAttemptId": "a b" }),
        ),
        ("delete batch empty", "DeleteMessageBatch", json!({ "QueueUrl": "Q", "Entries": [] })),
        (
            "delete batch of eleven",
            "DeleteMessageBatch",
            json!({ "QueueUrl": "Q", "Entries": entries(11) }),
        ),
        (
            "change batch empty",
            "ChangeMessageVisibilityBatch",
            json!({ "QueueUrl": "Q", "Entries": [] }),
        ),
        (
            "change batch ids repeat",
            "ChangeMessageVisibilityBatch",
            json!({ "QueueUrl": "Q", "Entries": [{ "Id": "a" }, { "Id": "a" }] }),
        ),
        ("move source missing", "StartMessageMoveTask", json!({})),
        ("move source wrong", "StartMessageMoveTask", json!({ "SourceArn": "Q" })),
        (
            "move rate",
            "StartMessageMoveTask",
            json!({ "SourceArn": "arn:aws:sqs:us-east-1:000000000000:Q", "MaxNumberOfMessagesPerSecond": 501 }),
        ),
        (
            "moves listed",
            "ListMessageMoveTasks",
            json!({ "SourceArn": "arn:aws:sqs:us-east-1:000000000000:Q", "MaxResults": 11 }),
        ),
        ("move handle missing", "CancelMessageMoveTask", json!({})),
        ("move handle of nothing", "CancelMessageMoveTask", json!({ "TaskHandle": task() })),
    ]
}

/// What depends on what was done before: a step without a name only prepares, `{handle}` is the one
/// that was received last. Each table runs once in each protocol, on a queue of its own.
pub(super) fn sequences() -> Vec<Vec<(&'static str, &'static str, Value)>> {
    let receive = |lease: i64| json!({ "QueueUrl": "S", "VisibilityTimeout": lease });
    let change = |seconds: i64| json!({ "QueueUrl": "S", "ReceiptHandle": "{handle}", "VisibilityTimeout": seconds });
    let handle = json!({ "QueueUrl": "S", "ReceiptHandle": "{handle}" });
    let send = json!({ "QueueUrl": "S", "MessageBody": "x" });
    let fifo = json!({ "QueueUrl": "S.fifo", "MessageBody": "x", "MessageGroupId": "g", "MessageDeduplicationId": "d" });
    vec![
        vec![
            ("", "CreateQueue", json!({ "QueueName": "S" })),
            ("", "PurgeQueue", json!({ "QueueUrl": "S" })),
            ("purged twice", "PurgeQueue", json!({ "QueueUrl": "S" })),
            (
                "",
                "AddPermission",
                json!({ "QueueUrl": "S", "Label": "l", "AWSAccountIds": ["1"], "Actions": ["SendMessage"] }),
            ),
            (
                "label taken",
                "AddPermission",
                json!({ "QueueUrl": "S", "Label": "l", "AWSAccountIds": ["1"], "Actions": ["SendMessage"] }),
            ),
            ("", "SendMessage", send.clone()),
            ("", "SendMessage", send.clone()),
            ("", "SendMessage", send),
            ("", "ReceiveMessage", receive(30)),
            ("lease long", "ChangeMessageVisibility", change(43_201)),
            ("lease negative", "ChangeMessageVisibility", change(-1)),
            ("", "DeleteMessage", handle.clone()),
            ("handle of a deleted message", "ChangeMessageVisibility", change(1)),
            ("", "DeleteMessage", handle),
            ("", "ReceiveMessage", receive(30)),
            ("", "ReceiveMessage", receive(30)),
            (
                "in flight quota",
                "ReceiveMessage",
                json!({ "QueueUrl": "S", "MaxNumberOfMessages": 1 }),
            ),
            ("", "DeleteQueue", json!({ "QueueUrl": "S" })),
            ("deleted recently", "CreateQueue", json!({ "QueueName": "S" })),
            ("deleted", "SendMessage", json!({ "QueueUrl": "S", "MessageBody": "x" })),
        ],
        vec![
            (
                "",
                "CreateQueue",
                json!({ "QueueName": "S.fifo", "Attributes": { "FifoQueue": "true" } }),
            ),
            ("", "SendMessage", fifo),
            ("", "ReceiveMessage", json!({ "QueueUrl": "S.fifo", "VisibilityTimeout": 0 })),
            (
                "handle expired on fifo",
                "DeleteMessage",
                json!({ "QueueUrl": "S.fifo", "ReceiptHandle": "{handle}" }),
            ),
        ],
    ]
}

fn redrive(policy: &str) -> Value {
    json!({ "QueueUrl": "Q", "Attributes": { "RedrivePolicy": policy } })
}

fn allow(policy: &str) -> Value {
    json!({ "QueueUrl": "Q", "Attributes": { "RedriveAllowPolicy": policy } })
}

fn tags(count: usize) -> Value {
    (0..count).map(|n| (n.to_string(), json!("x"))).collect::<serde_json::Map<_, _>>().into()
}

fn permission(label: Option<&str>, actions: &[&str]) -> Value {
    json!({ "QueueUrl": "Q", "Label": label, "AWSAccountIds": ["111122223333"], "Actions": actions })
}

fn attribute(name: &str, data_type: &'static str, value: &'static str) -> Value {
    attributes(std::iter::once((name.to_owned(), data_type, value)))
}

fn attributes(of: impl Iterator<Item = (String, &'static str, &'static str)>) -> Value {
    let attribute = |(name, data_type, value): (String, &str, &str)| {
        (name, json!({ "DataType": data_type, "StringValue": value }))
    };
    let map: serde_json::Map<_, _> = of.map(attribute).collect();
    json!({ "QueueUrl": "Q", "MessageBody": "x", "MessageAttributes": map })
}

/// The handle of a task that never was, of a queue that is there.
fn task() -> &'static str {
    // {"taskId":"00000000-0000-0000-0000-000000000000","sourceArn":"arn:aws:sqs:us-east-1:000000000000:Q"}
    "eyJ0YXNrSWQiOiIwMDAwMDAwMC0wMDAwLTAwMDAtMDAwMC0wMDAwMDAwMDAwMDAiLCJzb3VyY2VBcm4iOiJhcm46YXdzOnNxczp1cy1lYXN0LTE6MDAwMDAwMDAwMDAwOlEifQ=="
}

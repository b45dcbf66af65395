//! The server over raw HTTP: every action once, as an SDK would call it.

use serde_json::{Value, json};
use sqs_emulator::Server;
use tokio_util::sync::CancellationToken;

use crate::support::{action, http};

struct Running {
    addr: std::net::SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    async fn start() -> Self {
        let server = Server::bind("127.0.0.1:0".parse().unwrap(), None).await.unwrap();
        let (addr, stop) = (server.addr(), CancellationToken::new());
        let task = tokio::spawn(server.run(stop.clone()));
        Self { addr, stop, task }
    }

    async fn ok(&self, name: &str, body: Value) -> String {
        let reply = action(self.addr, name, &body).await;
        assert_eq!(reply.status, 200, "{name}: {reply:?}");
        assert_eq!(reply.header("content-type"), Some("application/x-amz-json-1.0"));
        assert_eq!(reply.header("x-amzn-requestid").map(str::len), Some(36));
        reply.body
    }

    async fn json(&self, name: &str, body: Value) -> Value {
        serde_json::from_str(&self.ok(name, body).await).unwrap()
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

#[tokio::test]
async fn every_action_answers() {
    let server = Running::start().await;
    let addr = server.addr;
    let url = format!("http://{addr}/000000000000/q");
    let dead = format!("http://{addr}/000000000000/dead");
    let arn = |name: &str| format!("arn:aws:sqs:us-east-1:000000000000:{name}");
    let created =
        server.json("CreateQueue", json!({ "QueueName": "q", "tags": { "k": "v" } })).await;
    assert_eq!(created, json!({ "QueueUrl": url }));
    server.ok("CreateQueue", json!({ "QueueName": "dead" })).await;
    assert_eq!(
        server.json("GetQueueUrl", json!({ "QueueName": "q" })).await["QueueUrl"],
        url.as_str()
    );
    let listed = server.json("ListQueues", json!({ "QueueNamePrefix": "" })).await;
    assert_eq!(listed, json!({ "QueueUrls": [dead, url] }));
    assert_eq!(
        server.json("ListQueueTags", json!({ "QueueUrl": url })).await,
        json!({ "Tags": { "k": "v" } })
    );
    assert_eq!(server.ok("UntagQueue", json!({ "QueueUrl": url, "TagKeys": ["k"] })).await, "");
    assert_eq!(server.ok("ListQueueTags", json!({ "QueueUrl": url })).await, "{}");
    assert_eq!(server.ok("TagQueue", json!({ "QueueUrl": url, "Tags": { "a": "" } })).await, "");

    assert_eq!(server.ok("ListDeadLetterSourceQueues", json!({ "QueueUrl": dead })).await, "{}");
    let policy = json!({ "deadLetterTargetArn": arn("dead"), "maxReceiveCount": 1 }).to_string();
    let set = json!({ "QueueUrl": url, "Attributes": { "RedrivePolicy": policy } });
    assert_eq!(server.ok("SetQueueAttributes", set).await, "");
    let sources = server.json("ListDeadLetterSourceQueues", json!({ "QueueUrl": dead })).await;
    assert_eq!(sources, json!({ "queueUrls": [url] }));

    let permission =
        json!({ "QueueUrl": url, "Label": "l", "AWSAccountIds": ["1"], "Actions": ["*"] });
    assert_eq!(server.ok("AddPermission", permission).await, "");
    assert_eq!(server.ok("RemovePermission", json!({ "QueueUrl": url, "Label": "l" })).await, "");

    messages(&server, &url).await;

    server.ok("SendMessage", json!({ "QueueUrl": url, "MessageBody": "poison" })).await;
    for _ in 0..2 {
        server.ok("ReceiveMessage", json!({ "QueueUrl": url, "VisibilityTimeout": 0 })).await;
    }
    let task = server
        .json(
            "StartMessageMoveTask",
            json!({ "SourceArn": arn("dead"), "MaxNumberOfMessagesPerSecond": 500 }),
        )
        .await;
    let tasks = server.json("ListMessageMoveTasks", json!({ "SourceArn": arn("dead") })).await;
    assert_eq!(tasks["Results"][0]["ApproximateNumberOfMessagesToMove"], 1);
    assert!(task["TaskHandle"].is_string());
    let cancel =
        action(addr, "CancelMessageMoveTask", &json!({ "TaskHandle": task["TaskHandle"] })).await;
    assert!(cancel.status == 200 || cancel.body.contains("Task does not exist."), "{cancel:?}");

    assert_eq!(server.ok("PurgeQueue", json!({ "QueueUrl": url })).await, "");
    assert_eq!(server.ok("DeleteQueue", json!({ "QueueUrl": url })).await, "");
    assert_eq!(action(addr, "PurgeQueue", &json!({ "QueueUrl": url })).await.status, 400);
    server.stop().await;
}

async fn messages(server: &Running, url: &str) {
    let attributes = json!({
        "binaryAttribute": { "DataType": "Binary", "BinaryValue": "SGVsbG8gYmluYXJ5IHdvcmxkIQ==" }
    });
    let message = json!({ "QueueUrl": url, "MessageBody": "msg", "MessageAttributes": attributes });
    let sent = server.json("SendMessage", message).await;
    assert_eq!(sent["MD5OfMessageBody"], "6e2baaf3b97dbeef01c0043275f9a0e7");
    assert_eq!(sent["MD5OfMessageAttributes"], "31a92b15d92f8db860eda32aceb656c3");
    let receive = json!({ "QueueUrl": url, "MessageAttributeNames": ["All"], "MessageSystemAttributeNames": ["All"] });
    let got = server.json("ReceiveMessage", receive).await["Messages"][0].take();
    assert_eq!(got["MessageAttributes"], attributes);
    assert_eq!(got["MD5OfMessageAttributes"], sent["MD5OfMessageAttributes"]);
    assert_eq!(got["Attributes"]["ApproximateReceiveCount"], "1");
    assert_eq!(got["MessageId"], sent["MessageId"]);
    let handle = &got["ReceiptHandle"];
    let change = json!({ "QueueUrl": url, "ReceiptHandle": handle, "VisibilityTimeout": 60 });
    assert_eq!(server.ok("ChangeMessageVisibility", change).await, "");
    assert_eq!(server.ok("ReceiveMessage", json!({ "QueueUrl": url })).await, "{}");
    assert_eq!(
        server.ok("DeleteMessage", json!({ "QueueUrl": url, "ReceiptHandle": handle })).await,
        ""
    );

    let entries: Vec<Value> =
        (0..10).map(|n| json!({ "Id": n.to_string(), "MessageBody": format!("m{n}") })).collect();
    let sent =
        server.json("SendMessageBatch", json!({ "QueueUrl": url, "Entries": entries })).await;
    assert_eq!((sent["Successful"].as_array().map(Vec::len), sent.get("Failed")), (Some(10), None));
    let receive = json!({ "QueueUrl": url, "MaxNumberOfMessages": 10, "VisibilityTimeout": 30 });
    let got = server.json("ReceiveMessage", receive).await["Messages"].take();
    let got = got.as_array().unwrap();
    assert_eq!(got.len(), 10);
    assert!(got[0].get("Attributes").is_none(), "none were asked for");
    let handles = |more: Value| -> Vec<Value> {
        let entry = |(n, got): (usize, &Value)| {
            let mut entry = json!({ "Id": n.to_string(), "ReceiptHandle": got["ReceiptHandle"] });
            entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            entry
        };
        got.iter().enumerate().map(entry).collect()
    };
    let hidden = json!({ "QueueUrl": url, "Entries": handles(json!({ "VisibilityTimeout": 40 })) });
    let hidden = server.json("ChangeMessageVisibilityBatch", hidden).await;
    assert_eq!(hidden["Successful"].as_array().map(Vec::len), Some(10));
    let mut entries = handles(json!({}));
    entries[0]["ReceiptHandle"] = "no".into();
    let deleted =
        server.json("DeleteMessageBatch", json!({ "QueueUrl": url, "Entries": entries })).await;
    assert_eq!(deleted["Successful"].as_array().map(Vec::len), Some(9));
    assert_eq!(deleted["Failed"][0]["Code"], "ReceiptHandleIsInvalid");
    assert_eq!(deleted["Failed"][0]["SenderFault"], true);
    let names =
        json!({ "QueueUrl": url, "AttributeNames": ["ApproximateNumberOfMessagesNotVisible"] });
    let left = server.json("GetQueueAttributes", names).await;
    assert_eq!(left, json!({ "Attributes": { "ApproximateNumberOfMessagesNotVisible": "1" } }));
}

#[tokio::test]
async fn accounts_and_regions_do_not_see_each_other() {
    let server = Running::start().await;
    let addr = server.addr;
    let call = |account: &str, region: &str, action: &str, body: &str| {
        let headers = format!(
            "X-Amz-Target: AmazonSQS.{action}\r\nAuthorization: AWS4-HMAC-SHA256 \
             Credential={account}/20260101/{region}/sqs/aws4_request, Signature=00\r\n"
        );
        let body = body.to_owned();
        async move { http(addr, "POST", &headers, body.as_bytes()).await }
    };
    let made = call("111122223333", "eu-west-1", "CreateQueue", r#"{"QueueName":"q"}"#).await;
    let url = format!("http://{addr}/queue/eu-west-1/111122223333/q");
    assert_eq!(made.json()["QueueUrl"], url.as_str());
    for (account, region, seen) in [
        ("111122223333", "eu-west-1", true),
        ("111122223333", "us-east-1", false),
        ("444455556666", "eu-west-1", false),
    ] {
        let listed = call(account, region, "ListQueues", "{}").await.json();
        assert_eq!(listed.get("QueueUrls").is_some(), seen, "{account} {region}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused() {
    let server = Running::start().await;
    let headers = "X-Amz-Target: AmazonSQS.SendMessage\r\n";
    let mut body = vec![b' '; sqs_emulator::limits::REQUEST_BYTES_MAX];
    body[0] = b'{';
    let last = body.len() - 1;
    body[last] = b'}';
    let at_limit = http(server.addr, "POST", headers, &body).await;
    assert!(at_limit.body.contains("QueueDoesNotExist"), "{at_limit:?}");
    server.stop().await;
}

//! The server over raw HTTP: every action once, as an SDK would call it.

use serde_json::{Value, json};
use sqs_emulator::Server;
use tokio_util::sync::CancellationToken;

use crate::support::{action, http, http_at};

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

/// What SDKs do not do and `curl` and browsers may: a queue's URL, a `GET`, a reply as JSON.
#[tokio::test]
async fn the_query_protocol_is_spoken_on_queue_urls() {
    let server = Running::start().await;
    let addr = server.addr;
    for name in ["q", "other"] {
        server.ok("CreateQueue", json!({ "QueueName": name })).await;
    }
    let get = async |query: &str, headers: &str| {
        http_at(addr, "GET", &format!("/000000000000/q{query}"), headers, b"").await
    };
    let sent = get("?Action=SendMessage&MessageBody=a%20b", "").await;
    assert!(sent.status == 200 && sent.body.contains("<MD5OfMessageBody>"), "{sent:?}");
    assert_eq!(sent.header("content-type"), Some("text/xml"));
    let got = get("?Action=ReceiveMessage&VisibilityTimeout=0", "").await;
    assert!(got.body.contains("<Body>a b</Body>"), "{got:?}");
    let got = get("?Action=ReceiveMessage", "Accept: application/json\r\n").await;
    assert_eq!(got.header("content-type"), Some("application/json"));
    let message = &got.json()["ReceiveMessageResponse"]["ReceiveMessageResult"]["messages"][0];
    assert_eq!(message["Body"], "a b");

    // A queue's URL among the parameters wins over the one that is called.
    let other = format!(
        "?Action=GetQueueAttributes&AttributeName=QueueArn&QueueUrl=http://{addr}/000000000000/other"
    );
    let other = get(&other, "Accept: application/json\r\n").await.json();
    let attributes = &other["GetQueueAttributesResponse"]["GetQueueAttributesResult"]["Attributes"];
    let arn = json!([{ "Name": "QueueArn", "Value": "arn:aws:sqs:us-east-1:000000000000:other" }]);
    assert_eq!(*attributes, arn);

    for action in ["CreateQueue", "ListQueues", "FlyQueue"] {
        let refused = get(&format!("?Action={action}"), "Accept: application/json\r\n").await;
        assert_eq!(
            (refused.status, &refused.json()["Error"]["Code"]),
            (400, &json!("InvalidAction"))
        );
    }
    let none = get("", "").await;
    assert_eq!((none.status, none.body.trim()), (404, "<UnknownOperationException/>"));
    server.stop().await;
}

/// A queue's URL leads to it whoever uses it, in whatever form it names the region.
#[tokio::test]
async fn a_queue_url_names_one_queue() {
    let server = Running::start().await;
    let addr = server.addr;
    let call = async |host: &str, path: &str, query: &str, region: Option<&str>| {
        let signature = region.map_or_else(String::new, |region| {
            format!(
                "Authorization: AWS4-HMAC-SHA256 Credential=x/20260101/{region}/sqs/aws4_request, \
                 SignedHeaders=host, Signature=00\r\n"
            )
        });
        let headers = format!("Host: {host}\r\n{signature}");
        let reply = http_at(addr, "GET", &format!("{path}?{query}"), &headers, b"").await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.body
    };
    let made = async |host: &str, region: &str| {
        call(host, "/", "Action=CreateQueue&QueueName=q", Some(region)).await
    };
    assert!(
        made("queues:4566", "us-east-1")
            .await
            .contains("<QueueUrl>http://queues:4566/000000000000/q<")
    );
    let there = made("queues:4566", "eu-west-1").await;
    assert!(
        there.contains("<QueueUrl>http://queues:4566/queue/eu-west-1/000000000000/q<"),
        "{there}"
    );
    let named = made("sqs.eu-west-1.localhost.localstack.cloud:4566", "eu-west-1").await;
    assert!(named.contains("http://sqs.eu-west-1.localhost.localstack.cloud:4566/000000000000/q<"));

    for (host, path) in [
        ("queues:4566", "/queue/eu-west-1/000000000000/q"),
        ("sqs.eu-west-1.localhost.localstack.cloud:4566", "/000000000000/q"),
        ("eu-west-1.queue.localhost.localstack.cloud:4566", "/000000000000/q"),
    ] {
        call(host, path, "Action=SendMessage&MessageBody=there", None).await;
    }
    let count = "Action=GetQueueAttributes&AttributeName.1=ApproximateNumberOfMessages";
    let here = call("queues:4566", "/000000000000/q", count, None).await;
    assert!(here.contains("<Value>0</Value>"), "{here}");
    let there = call("queues:4566", "/000000000000/q", count, Some("eu-west-1")).await;
    assert!(there.contains("<Value>3</Value>"), "{there}");
    // A URL that is signed for later use says who calls.
    let signed = "X-Amz-Credential=x%2F20260101%2Feu-west-1%2Fsqs%2Faws4_request";
    let there = call("queues:4566", "/000000000000/q", &format!("{count}&{signed}"), None).await;
    assert!(there.contains("<Value>3</Value>"), "{there}");
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

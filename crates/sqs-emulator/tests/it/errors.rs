//! Golden: the wire form of every error that a caller can provoke, byte by byte, in both protocols.

use std::fmt::Write as _;
use std::net::SocketAddr;

mod cases;

use serde_json::{Value, json};
use sqs_emulator::{BrokerConfig, Server, ServerOptions};
use tokio_util::sync::CancellationToken;

use crate::forms::{Style, form};
use crate::support::{Reply, action, http, query};

const GOLDEN: &str = include_str!("golden/errors.txt");
const GOLDEN_PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/golden/errors.txt");

const JSON_ONLY: [&str; 2] = ["type wrong", "not an object"];

/// A reply in XML without what differs from one to the next, which has to be what its header says.
fn without_id(reply: &Reply) -> String {
    let id = reply.header("x-amzn-requestid").unwrap();
    let said = format!("<RequestId>{id}</RequestId>");
    assert!(reply.status == 404 || reply.body.contains(&said), "{reply:?}");
    reply.body.replace(id, "id").trim_end().to_owned()
}

/// One case in both protocols, as the golden file shows it.
async fn show(seen: &mut String, addr: SocketAddr, name: &str, call: &str, body: &Value) {
    let reply = action(addr, call, body).await;
    let code = reply.header("x-amzn-query-error").unwrap_or("-");
    writeln!(seen, "{name}: {} {code}\n    {}", reply.status, reply.body).unwrap();
    // What a form has no way to say is asked in JSON only.
    if !JSON_ONLY.contains(&name) {
        let reply = query(addr, &form(call, body, Style::Flat)).await;
        writeln!(seen, "    {} {}", reply.status, without_id(&reply)).unwrap();
    }
}

struct Running {
    addr: SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    /// With the waits that AWS keeps and room for two messages in flight.
    async fn start() -> Self {
        let broker = BrokerConfig { in_flight_max: 2, ..BrokerConfig::default().strict() };
        let addr = "127.0.0.1:0".parse().unwrap();
        let server =
            Server::open(ServerOptions { broker, ..ServerOptions::at(addr) }).await.unwrap();
        let (addr, stop) = (server.addr(), CancellationToken::new());
        Self { addr, task: tokio::spawn(server.run(stop.clone())), stop }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

#[tokio::test]
async fn errors_are_what_they_were() {
    let server = Running::start().await;
    let addr = server.addr;
    let queue = action(addr, "CreateQueue", &json!({ "QueueName": "Q" })).await;
    assert_eq!(queue.status, 200, "{queue:?}");
    let fifo = json!({ "QueueName": "F.fifo", "Attributes": { "FifoQueue": "true" } });
    assert_eq!(action(addr, "CreateQueue", &fifo).await.status, 200);

    let mut seen = String::new();
    for (name, call, body) in cases::cases() {
        show(&mut seen, addr, name, call, &body).await;
    }
    for (name, headers, body) in [
        ("no target", "", "{}"),
        ("cut short", "X-Amz-Target: AmazonSQS.ListQueues\r\n", "{\"QueueNamePrefix\""),
        ("JSON without a target", "Content-Type: application/x-amz-json-1.0\r\n", "{}"),
        (
            "signature of nobody",
            "X-Amz-Target: AmazonSQS.ListQueues\r\nAuthorization: AWS4-HMAC-SHA256 \
             Credential=bogus\r\n",
            "{}",
        ),
    ] {
        let reply = http(addr, "POST", headers, body.as_bytes()).await;
        writeln!(seen, "{name}: {}\n    {}", reply.status, reply.body.trim_end()).unwrap();
    }
    for (name, form) in [
        ("not a number", "Action=ReceiveMessage&QueueUrl=Q&MaxNumberOfMessages=ten"),
        ("not UTF-8", "Action=SendMessage&QueueUrl=Q&MessageBody=%FF"),
        ("no action", "Version=2012-11-05"),
    ] {
        let reply = query(addr, form).await;
        writeln!(seen, "{name}: {}\n    {}", reply.status, without_id(&reply)).unwrap();
    }
    server.stop().await;
    for steps in cases::sequences() {
        sequence(&mut seen, &steps).await;
    }
    if seen != GOLDEN {
        let new = format!("{GOLDEN_PATH}.new");
        std::fs::write(&new, &seen).unwrap();
        panic!("errors differ from {GOLDEN_PATH}; compare with {new}");
    }
}

/// Steps on a server of their own: errors change nothing, so that each can be asked twice.
async fn sequence(seen: &mut String, steps: &[(&'static str, &'static str, Value)]) {
    let server = Running::start().await;
    let mut handle = String::new();
    for (name, call, body) in steps {
        let body = body.to_string().replace("{handle}", &handle);
        let body: Value = serde_json::from_str(&body).unwrap();
        if !name.is_empty() {
            let mut shown = String::new();
            show(&mut shown, server.addr, name, call, &body).await;
            seen.push_str(&if handle.is_empty() {
                shown
            } else {
                shown.replace(&handle, "HANDLE")
            });
            continue;
        }
        let reply = action(server.addr, call, &body).await;
        assert_eq!(reply.status, 200, "{call}: {reply:?}");
        if *call == "ReceiveMessage" {
            let received = reply.json();
            let got = received["Messages"][0]["ReceiptHandle"].as_str().unwrap();
            got.clone_into(&mut handle);
        }
    }
    server.stop().await;
}

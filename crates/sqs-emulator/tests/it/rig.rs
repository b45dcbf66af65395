//! A server on a free port with every choice, for the tests of what it offers beyond Amazon's.

use std::net::SocketAddr;

use serde_json::{Value, json};
use sqs_emulator::Server;
use sqs_emulator::server::ServerOptions;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::support::{Reply, action, http_at};

pub(crate) struct Rig {
    pub(crate) addr: SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Rig {
    pub(crate) async fn start(test_controls: bool, faults: Option<Value>) -> Self {
        let addr = "127.0.0.1:0".parse().unwrap();
        let faults = faults.map(|faults| faults.to_string().into_bytes());
        let options = ServerOptions { test_controls, faults, ..ServerOptions::at(addr) };
        let server = Server::open(options).await.unwrap();
        let (addr, stop) = (server.addr(), CancellationToken::new());
        let task = tokio::spawn(server.run(stop.clone()));
        Self { addr, stop, task }
    }

    /// Makes a queue and gives its URL.
    pub(crate) async fn create(&self, name: &str, attributes: Value) -> String {
        let body = json!({ "QueueName": name, "Attributes": attributes });
        self.ok("CreateQueue", body).await["QueueUrl"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn ok(&self, name: &str, body: Value) -> Value {
        let reply = action(self.addr, name, &body).await;
        assert_eq!(reply.status, 200, "{name}: {reply:?}");
        if reply.body.is_empty() { Value::Null } else { reply.json() }
    }

    pub(crate) async fn send(&self, url: &str, body: &str) {
        let mut message = json!({ "QueueUrl": url, "MessageBody": body });
        if url.strip_suffix(".fifo").is_some() {
            message["MessageGroupId"] = "g".into();
            message["MessageDeduplicationId"] = body.into();
        }
        self.ok("SendMessage", message).await;
    }

    /// The bodies of one receive.
    pub(crate) async fn receive(&self, url: &str) -> Vec<String> {
        let reply =
            self.ok("ReceiveMessage", json!({ "QueueUrl": url, "MaxNumberOfMessages": 10 })).await;
        bodies(&reply)
    }

    /// Visible, in flight, delayed.
    pub(crate) async fn depth(&self, url: &str) -> [u64; 3] {
        let names = json!({ "QueueUrl": url, "AttributeNames": ["All"] });
        let all = self.ok("GetQueueAttributes", names).await;
        [
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        ]
        .map(|name| all["Attributes"][name].as_str().unwrap().parse().unwrap())
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        http_at(self.addr, "GET", path, "", b"").await
    }

    /// Sends JSON to one of the emulator's own pages.
    pub(crate) async fn turn(&self, method: &str, path: &str, body: &Value) -> Reply {
        let headers = "Content-Type: application/json\r\n";
        http_at(self.addr, method, path, headers, body.to_string().as_bytes()).await
    }

    /// A call with a header that asks for faults; `None` when the connection ends without a reply.
    pub(crate) async fn with_fault(&self, fault: &str, name: &str, body: &Value) -> Option<Reply> {
        let body = body.to_string();
        let request = format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nX-Amz-Target: AmazonSQS.{name}\r\n\
             X-Sqs-Fault: {fault}\r\nContent-Length: {}\r\n\r\n{body}",
            self.addr,
            body.len()
        );
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Some(Reply { status, head: head.to_owned(), body: body.to_owned() })
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

pub(crate) fn bodies(reply: &Value) -> Vec<String> {
    let messages = reply["Messages"].as_array().into_iter().flatten();
    messages.map(|message| message["Body"].as_str().unwrap().to_owned()).collect()
}

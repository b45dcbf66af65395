//! A broker with a clock to turn, and a raw HTTP client: both small enough to be trusted.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::Value;
use sqs_emulator::model::Delivery;
use sqs_emulator::operations::{Receive, Sent, VisibilityChange};
use sqs_emulator::{Broker, BrokerConfig, Caller, Draft, QueueArn, Request, Response, SqsError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(crate) struct Bench {
    pub(crate) broker: Broker,
    pub(crate) now: i64,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { broker: Broker::new(BrokerConfig::default()), now: 1_000_000 }
    }

    pub(crate) fn call(&mut self, request: Request) -> Result<Response, SqsError> {
        self.broker.call(self.now, &Caller::default(), request)
    }

    pub(crate) fn create(&mut self, name: &str, attributes: &[(&str, &str)]) -> QueueArn {
        let request = Request::CreateQueue {
            name: Some(name.to_owned()),
            attributes: texts(attributes),
            tags: BTreeMap::new(),
        };
        match self.call(request).unwrap() {
            Response::Queue(arn) => arn,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn send(&mut self, queue: &QueueArn, draft: Draft) -> Result<Sent, SqsError> {
        let request =
            Request::SendMessage { queue: Some(queue.clone()), draft: Box::new(draft.hashed()) };
        match self.call(request)? {
            Response::Sent(sent) => Ok(sent),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn receive(&mut self, queue: &QueueArn, max: i64, lease: i64) -> Vec<Delivery> {
        self.receive_with(Receive {
            queue: Some(queue.clone()),
            max: Some(max),
            visibility_seconds: Some(lease),
            ..Receive::default()
        })
        .unwrap()
    }

    pub(crate) fn receive_with(&mut self, receive: Receive) -> Result<Vec<Delivery>, SqsError> {
        match self.call(Request::ReceiveMessage(receive))? {
            Response::Received(deliveries, _) => Ok(deliveries),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn delete(&mut self, queue: &QueueArn, receipt: &str) -> Result<(), SqsError> {
        let receipt = Some(receipt.to_owned());
        self.call(Request::DeleteMessage { queue: Some(queue.clone()), receipt }).map(|_| ())
    }

    pub(crate) fn hide(
        &mut self,
        queue: &QueueArn,
        receipt: &str,
        seconds: i64,
    ) -> Result<(), SqsError> {
        let change = VisibilityChange { receipt: Some(receipt.to_owned()), seconds: Some(seconds) };
        self.call(Request::ChangeMessageVisibility { queue: Some(queue.clone()), change })
            .map(|_| ())
    }

    pub(crate) fn attribute(&mut self, queue: &QueueArn, name: &str) -> String {
        let names = vec![name.to_owned()];
        match self.call(Request::GetQueueAttributes { queue: Some(queue.clone()), names }).unwrap()
        {
            Response::Attributes(mut values) => values.remove(name).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn set(
        &mut self,
        queue: &QueueArn,
        attributes: &[(&str, &str)],
    ) -> Result<(), SqsError> {
        let attributes = texts(attributes);
        self.call(Request::SetQueueAttributes { queue: Some(queue.clone()), attributes })
            .map(|_| ())
    }

    /// Visible, in flight, delayed.
    pub(crate) fn depth(&mut self, queue: &QueueArn) -> [usize; 3] {
        [
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        ]
        .map(|name| self.attribute(queue, name).parse().unwrap())
    }

    pub(crate) fn wait(&mut self, seconds: i64) {
        self.now += seconds * 1_000;
    }
}

pub(crate) fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn bodies(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery.message.body.as_str()).collect()
}

pub(crate) fn in_group(body: &str, group: &str, deduplication: &str) -> Draft {
    Draft {
        group: Some(group.to_owned()),
        deduplication: Some(deduplication.to_owned()),
        ..Draft::text(body)
    }
}

/// One HTTP reply.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// Sends one request on a connection of its own, headers as given, and reads the reply to its end.
pub(crate) async fn http(addr: SocketAddr, method: &str, headers: &str, body: &[u8]) -> Reply {
    http_at(addr, method, "/", headers, body).await
}

/// Like [`http`], on another path than `/`.
pub(crate) async fn http_at(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &[u8],
) -> Reply {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let own = headers.contains("Host: ").then(String::new);
    let host = own.unwrap_or_else(|| format!("Host: {addr}\r\n"));
    let head = format!(
        "{method} {path} HTTP/1.1\r\n{host}Connection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await.unwrap();
    let text = String::from_utf8(reply).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    Reply {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

/// Calls an action as an SDK does.
pub(crate) async fn action(addr: SocketAddr, action: &str, body: &Value) -> Reply {
    let headers =
        format!("Content-Type: application/x-amz-json-1.0\r\nX-Amz-Target: AmazonSQS.{action}\r\n");
    http(addr, "POST", &headers, body.to_string().as_bytes()).await
}

/// Sends a form as an older SDK does.
pub(crate) async fn query(addr: SocketAddr, form: &str) -> Reply {
    let headers = "Content-Type: application/x-www-form-urlencoded; charset=utf-8\r\n";
    http(addr, "POST", headers, form.as_bytes()).await
}

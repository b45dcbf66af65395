//! Our SQS emulator in the test's own process, memory only, on a port of its own.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use chassis::Secret;
use contracts::QueueSpec;
use queue_core::Driver;
use queue_sqs::{AwsConfig, Deployment, QueueInfo, Sqs};
use sqs_emulator::{Caller, Hub, Request, Server};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::in_process::InProcessQueue;

/// The region of every test.
const REGION: &str = "eu-central-1";
/// The emulator does not check who calls.
const KEY: &str = "test";

/// A running emulator. Dropping it ends it.
#[derive(Debug)]
pub struct TestSqs {
    addr: SocketAddr,
    hub: Hub,
    sqs: Sqs,
    _running: AbortOnDropHandle<()>,
}

impl TestSqs {
    /// Starts one without any queue.
    pub async fn start() -> Self {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = Server::bind(addr, None).await.expect("a loopback port");
        let (addr, hub) = (server.addr(), server.hub());
        let running = tokio::spawn(server.run(CancellationToken::new()));
        let sqs = Sqs::connect(&options(&format!("http://{addr}"))).await.expect("the options fit");
        Self { addr, hub, sqs, _running: AbortOnDropHandle::new(running) }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The SDK's settings for it.
    pub fn options(&self) -> AwsConfig {
        options(&self.endpoint())
    }

    /// What a process of ours needs in its environment.
    pub fn environment(&self) -> [(&'static str, String); 4] {
        self.environment_at(&self.endpoint())
    }

    /// As [`TestSqs::environment`], through a proxy at that endpoint.
    pub fn environment_at(&self, endpoint: &str) -> [(&'static str, String); 4] {
        [
            ("AWS_ENDPOINT_URL", endpoint.to_owned()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", KEY.to_owned()),
        ]
    }

    /// The URL a queue of that name has.
    pub fn url(&self, name: &str) -> String {
        let account = sqs_emulator::model::DEFAULT_ACCOUNT;
        format!("{}/queue/{REGION}/{account}/{name}", self.endpoint())
    }

    /// Makes a queue with the defaults of SQS, FIFO where the name ends in `.fifo`.
    pub async fn create_queue(&self, name: &str) -> Arc<dyn Driver> {
        let mut attributes = BTreeMap::new();
        if name.strip_suffix(".fifo").is_some() {
            attributes.insert("FifoQueue".to_owned(), "true".to_owned());
        }
        let name = name.to_owned();
        let request =
            Request::CreateQueue { name: Some(name.clone()), attributes, tags: BTreeMap::new() };
        self.hub.call(&caller(), request).await.expect("a queue");
        self.sqs.queue(&name, &self.url(&name))
    }

    /// Makes a queue of the catalogue and its dead-letter queue.
    pub async fn create(&self, spec: &QueueSpec) -> QueueInfo {
        self.sqs.admin().create(spec, Deployment::Dev).await.expect("two queues")
    }

    /// Sets one attribute of a queue, as an operator may have.
    pub async fn set_attribute(&self, queue: &str, name: &str, value: &str) {
        let request = Request::SetQueueAttributes {
            queue: Some(caller().queue(queue)),
            attributes: BTreeMap::from([(name.to_owned(), value.to_owned())]),
        };
        self.hub.call(&caller(), request).await.expect("an attribute");
    }

    /// A driver for one queue.
    pub fn queue(&self, name: &str) -> Arc<dyn Driver> {
        self.sqs.queue(name, &self.url(name))
    }

    /// A driver for one queue that calls the broker without HTTP.
    pub fn in_process(&self, name: &str) -> Arc<dyn Driver> {
        Arc::new(InProcessQueue::new(self.hub.clone(), caller(), name))
    }

    /// The broker behind it, for looks without HTTP.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }
}

fn caller() -> Caller {
    Caller { region: REGION.into(), ..Caller::default() }
}

fn options(endpoint: &str) -> AwsConfig {
    AwsConfig {
        aws_region: Some(REGION.to_owned()),
        aws_default_region: None,
        aws_endpoint_url_sqs: None,
        aws_endpoint_url: Some(endpoint.to_owned()),
        aws_access_key_id: Some(KEY.to_owned()),
        aws_secret_access_key: Some(Secret::from(KEY.to_owned())),
        aws_session_token: None,
    }
}

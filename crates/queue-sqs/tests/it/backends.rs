//! What the suite runs against.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use contracts::QueueSpec;
use contracts::catalogue::{AUDIT_INDEX, QueueKind};
use queue_core::driver::{Outgoing, ReceiveRequest};
use queue_core::{Driver, Received};
use queue_sqs::{AwsConfig, Deployment, QueueInfo, Sqs};

/// A broker to test, and what keeps it running.
pub(crate) struct Backend {
    pub(crate) sqs: Sqs,
    config: AwsConfig,
    way: Way,
    _running: Box<dyn std::any::Any + Send + Sync>,
}

/// How messages are moved; queues are made over HTTP in any case.
enum Way {
    Http,
    InProcess(testkit::TestSqs),
}

/// A queue with its dead-letter queue.
pub(crate) struct Pair {
    pub(crate) queue: Arc<dyn Driver>,
    pub(crate) dlq: Arc<dyn Driver>,
    pub(crate) spec: &'static QueueSpec,
}

/// Our emulator's broker in this process.
pub(crate) async fn in_process() -> Backend {
    let server = testkit::TestSqs::start().await;
    let config = server.options();
    Backend::new(config, Way::InProcess(server), Box::new(())).await
}

/// Options for an endpoint that does not check who we are.
pub(crate) fn options(endpoint: &str) -> AwsConfig {
    AwsConfig {
        aws_region: Some("eu-central-1".to_owned()),
        aws_default_region: None,
        aws_endpoint_url_sqs: None,
        aws_endpoint_url: Some(endpoint.to_owned()),
        aws_access_key_id: Some("test".to_owned()),
        aws_secret_access_key: Some(chassis::Secret::from("test".to_owned())),
        aws_session_token: None,
    }
}

/// Our emulator in this process, over HTTP.
pub(crate) async fn emulator() -> Backend {
    let server = testkit::TestSqs::start().await;
    Backend::new(server.options(), Way::Http, Box::new(server)).await
}

/// LocalStack; `None` has said why.
pub(crate) async fn localstack() -> Option<Backend> {
    let server = testkit::TestLocalStack::new().await?;
    let account = AwsConfig {
        aws_access_key_id: Some(server.access_key_id().to_owned()),
        ..options(server.url())
    };
    Some(Backend::new(account, Way::Http, Box::new(server)).await)
}

/// A name that no other test of this or another run uses: the backend may be shared.
pub(crate) fn unique(name: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{name}-{}-{next}", std::process::id())
}

/// A catalogue entry of its own for one test.
pub(crate) fn spec(name: &str, kind: QueueKind) -> &'static QueueSpec {
    let suffix = if kind == QueueKind::Fifo { ".fifo" } else { "" };
    let unique = unique(name);
    let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    Box::leak(Box::new(QueueSpec {
        name: leak(format!("{unique}{suffix}")),
        dlq: leak(format!("{unique}-dlq{suffix}")),
        kind,
        ..AUDIT_INDEX
    }))
}

impl Backend {
    async fn new(
        config: AwsConfig,
        way: Way,
        running: Box<dyn std::any::Any + Send + Sync>,
    ) -> Self {
        let sqs = Sqs::connect(&config).await.unwrap();
        Self { sqs, config, way, _running: running }
    }

    /// The SDK itself, for what the port does not show.
    pub(crate) fn sdk(&self) -> aws_sdk_sqs::Client {
        let key = self.config.aws_access_key_id.clone().unwrap();
        let credentials = aws_sdk_sqs::config::Credentials::new(key, "test", None, None, "test");
        let region = self.config.aws_region.clone().unwrap();
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(aws_sdk_sqs::config::BehaviorVersion::latest())
            .credentials_provider(credentials)
            .region(aws_sdk_sqs::config::Region::new(region))
            .endpoint_url(self.config.aws_endpoint_url.clone().unwrap());
        aws_sdk_sqs::Client::from_conf(config.build())
    }

    pub(crate) async fn create(&self, spec: &QueueSpec) -> QueueInfo {
        self.sqs.admin().create(spec, Deployment::Dev).await.unwrap()
    }

    /// A new queue of its own, and where its dead letters go.
    pub(crate) async fn pair(&self, kind: QueueKind) -> Pair {
        let spec = spec("conformance", kind);
        let made = self.create(spec).await;
        let (queue, dlq) = match &self.way {
            Way::Http => {
                (self.sqs.queue(spec.name, &made.url), self.sqs.queue(spec.dlq, &made.dlq_url))
            }
            Way::InProcess(server) => (server.in_process(spec.name), server.in_process(spec.dlq)),
        };
        Pair { queue, dlq, spec }
    }

    /// A new queue of its own.
    pub(crate) async fn queue(&self, kind: QueueKind) -> Arc<dyn Driver> {
        self.pair(kind).await.queue
    }

    pub(crate) async fn standard(&self) -> Arc<dyn Driver> {
        self.queue(QueueKind::Standard).await
    }

    pub(crate) async fn fifo(&self) -> Arc<dyn Driver> {
        self.queue(QueueKind::Fifo).await
    }
}

pub(crate) fn message(body: &str) -> Outgoing {
    Outgoing { body: body.to_owned(), ..Outgoing::default() }
}

/// Up to ten messages, waiting a second for the first.
pub(crate) async fn receive(queue: &Arc<dyn Driver>, lease_secs: u64) -> Vec<Received> {
    receive_waiting(queue, lease_secs, 1).await
}

pub(crate) async fn receive_waiting(
    queue: &Arc<dyn Driver>,
    lease_secs: u64,
    wait_secs: u64,
) -> Vec<Received> {
    let request = ReceiveRequest {
        max: 10,
        wait: Duration::from_secs(wait_secs),
        lease: Duration::from_secs(lease_secs),
    };
    queue.receive(request).await.unwrap()
}

/// Receives until `count` messages have come, each once.
pub(crate) async fn receive_all(
    queue: &Arc<dyn Driver>,
    lease_secs: u64,
    count: usize,
) -> Vec<Received> {
    let mut all = Vec::new();
    for _ in 0..20 {
        all.extend(receive(queue, lease_secs).await);
        if all.len() >= count {
            return all;
        }
    }
    panic!("only {} of {count} messages came", all.len());
}

pub(crate) async fn send(queue: &Arc<dyn Driver>, messages: &[Outgoing]) {
    let results = queue.send(messages).await.unwrap();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

pub(crate) fn bodies(messages: &[Received]) -> Vec<&str> {
    messages.iter().map(|message| message.body.as_str()).collect()
}

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
    _running: Box<dyn std::any::Any + Send>,
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
    let sqs = Sqs::connect(&server.options()).await.unwrap();
    Backend { sqs, _running: Box::new(server) }
}

/// LocalStack; `None` has said why.
pub(crate) async fn localstack() -> Option<Backend> {
    let server = testkit::TestLocalStack::new().await?;
    let account = AwsConfig {
        aws_access_key_id: Some(server.access_key_id().to_owned()),
        ..options(server.url())
    };
    let sqs = Sqs::connect(&account).await.unwrap();
    Some(Backend { sqs, _running: Box::new(server) })
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
    pub(crate) async fn create(&self, spec: &QueueSpec) -> QueueInfo {
        self.sqs.admin().create(spec, Deployment::Dev).await.unwrap()
    }

    /// A new queue of its own.
    pub(crate) async fn queue(&self, kind: QueueKind) -> Arc<dyn Driver> {
        let spec = spec("conformance", kind);
        let made = self.create(spec).await;
        self.sqs.queue(spec.name, &made.url)
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

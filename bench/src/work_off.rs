//! A filled queue worked off by the real engine with every duty on, through the real driver. The clock
//! stops when the last message is settled, not when it is handled: what is not settled comes again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use queue_core::driver::{EntryResults, Outgoing, QueueAttributes, ReceiveRequest};
use queue_core::engine::{Engine, EngineConfig, Ports};
use queue_core::{Driver, DriverError, MemoryAttempts, Received, SystemClock, Worker};
use tokio_util::sync::CancellationToken;

use crate::machine;
use crate::sqs::{self, SqsLocal};

/// A run that takes longer has lost something; the books say what.
const LIMIT: Duration = Duration::from_secs(180);

/// Counts calls and what they settled, and passes everything on.
#[derive(Debug)]
struct Counted {
    inner: Arc<dyn Driver>,
    calls: AtomicU64,
    settled: AtomicU64,
    expected: u64,
    done: CancellationToken,
}

impl Counted {
    fn one(&self) -> &dyn Driver {
        self.calls.fetch_add(1, Ordering::Relaxed);
        &*self.inner
    }
}

#[async_trait]
impl Driver for Counted {
    fn queue(&self) -> &str {
        self.inner.queue()
    }
    async fn receive(&self, request: ReceiveRequest) -> Result<Vec<Received>, DriverError> {
        self.one().receive(request).await
    }
    async fn settle(&self, receipts: &[String]) -> Result<EntryResults, DriverError> {
        let results = self.one().settle(receipts).await?;
        let settled = results.iter().filter(|result| result.is_ok()).count() as u64;
        if self.settled.fetch_add(settled, Ordering::Relaxed) + settled >= self.expected {
            self.done.cancel();
        }
        Ok(results)
    }
    async fn extend(&self, entries: &[(String, Duration)]) -> Result<EntryResults, DriverError> {
        self.one().extend(entries).await
    }
    async fn send(&self, entries: &[Outgoing]) -> Result<EntryResults, DriverError> {
        self.one().send(entries).await
    }
    async fn attributes(&self) -> Result<QueueAttributes, DriverError> {
        self.one().attributes().await
    }
}

/// How it went.
pub struct Run {
    /// From the engine's start to the last settled message.
    pub took: Duration,
    /// Calls to SQS per message.
    pub calls: f64,
    /// Processor seconds of this process.
    pub processor: f64,
}

/// Fills a queue of its own with `bodies`, then lets the engine work it off.
pub async fn run<W: Worker>(
    server: &SqsLocal,
    worker: Arc<W>,
    bodies: Vec<String>,
) -> anyhow::Result<Run> {
    run_with(server, worker, bodies, |config| config).await
}

/// The same with other figures than the worker's own.
pub async fn run_with<W: Worker>(
    server: &SqsLocal,
    worker: Arc<W>,
    bodies: Vec<String>,
    tune: impl FnOnce(EngineConfig) -> EngineConfig,
) -> anyhow::Result<Run> {
    let expected = bodies.len();
    let queue = Queue::create(server, W::NAME).await?;
    sqs::fill(&queue.client, &queue.url, bodies).await?;
    queue.work_off(worker, expected, tune, async { Ok(()) }).await
}

/// The same on an empty queue that `feed` fills with `expected` messages while the engine works.
pub async fn run_fed<W: Worker, F: Future<Output = anyhow::Result<()>>>(
    server: &SqsLocal,
    worker: Arc<W>,
    expected: usize,
    feed: impl FnOnce(Client, String) -> F,
) -> anyhow::Result<Run> {
    let queue = Queue::create(server, W::NAME).await?;
    let feed = feed(queue.client.clone(), queue.url.clone());
    queue.work_off(worker, expected, |config| config, feed).await
}

/// A queue of a measurement's own.
struct Queue<'a> {
    server: &'a SqsLocal,
    client: Client,
    name: String,
    url: String,
    dead: String,
}

impl<'a> Queue<'a> {
    async fn create(server: &'a SqsLocal, worker: &str) -> anyhow::Result<Self> {
        let client = server.client();
        let name = format!("{worker}-{}", uuid::Uuid::new_v4().simple());
        let (url, dead) = sqs::create(&client, &name).await?;
        Ok(Self { server, client, name, url, dead })
    }

    /// Runs the engine until `expected` messages are settled, and `feed` beside it.
    async fn work_off<W: Worker>(
        &self,
        worker: Arc<W>,
        expected: usize,
        tune: impl FnOnce(EngineConfig) -> EngineConfig,
        feed: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<Run> {
        let sqs = sqs::product(self.server).await?;
        let done = CancellationToken::new();
        let queue = Arc::new(Counted {
            inner: sqs.queue(&self.name, &self.url),
            calls: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            expected: expected as u64,
            done: done.clone(),
        });
        let ports = Ports {
            queue: Arc::clone(&queue) as Arc<dyn Driver>,
            dead_letters: sqs.queue("dlq", &self.dead),
            attempts: Arc::new(MemoryAttempts::default()),
            clock: Arc::new(SystemClock),
        };
        // Only the end of the last, empty poll depends on the wait.
        let wait = Duration::from_secs(1);
        let config = EngineConfig { wait, ..EngineConfig::for_worker::<W>() };
        let engine = Engine::new(worker, ports, tune(config))?;
        let (before, _) = machine::processor_seconds()?;
        let start = Instant::now();
        let watch = async {
            tokio::time::timeout(LIMIT, done.cancelled()).await.ok();
            done.cancel();
            (start.elapsed(), queue.calls.load(Ordering::Relaxed), machine::processor_seconds())
        };
        let (report, (took, calls, after), fed) =
            tokio::join!(engine.run(done.clone()), watch, feed);
        anyhow::ensure!(report.fault.is_none(), "{report:?}");
        fed?;
        let processor = after?.0 - before;
        Ok(Run { took, calls: calls as f64 / expected as f64, processor })
    }
}

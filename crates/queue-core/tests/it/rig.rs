//! A small fleet for one test: a queue with its dead-letter queue, a worker made of a closure, and an
//! engine between them.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use contracts::catalogue::{LatencyClass, QueueKind};
use contracts::message::Bare;
use contracts::{DecodeError, Envelope, EnvelopeId, Header, Message, QueueSpec, Schedule, errors};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use queue_core::{
    AttemptStore, ClaimStore, Clock, DeadLetter, Delivery, DrainReport, Driver, Engine,
    EngineConfig, EngineStatus, Error, Failure, MemoryAttempts, Ports, Probe, Worker,
};
use serde_json::value::RawValue;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::broker_driver::{BrokerQueue, World};

pub(crate) const DAY: Duration = Duration::from_secs(24 * 3_600);

pub(crate) static QUEUE: QueueSpec = QueueSpec {
    subsystem: "test",
    key: "jobs",
    name: "jobs-queue",
    env: "JOBS_QUEUE_URL",
    kind: QueueKind::Standard,
    visibility_secs: 30,
    retention_dev_secs: 86_400,
    retention_prod_secs: 86_400,
    failures_max: 3,
    receives_max: 25,
    dlq: "jobs-queue-dlq",
    dlq_retention_secs: 172_800,
    worker: "test-worker",
    latency: LatencyClass::High,
    why: "Tests.",
};

/// A message that carries a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job(pub(crate) u64);

impl Message for Job {
    const QUEUE: &'static QueueSpec = &QUEUE;

    fn kind(&self) -> &'static str {
        "JOB"
    }

    fn version(&self) -> u32 {
        1
    }

    fn body_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&self.0)
    }

    fn decode(header: &Header, body: &RawValue) -> Result<Self, DecodeError> {
        let kind = || header.kind.clone();
        match (header.kind.as_str(), header.v) {
            ("JOB", 1) => match bare_number(body.get()) {
                Some(number) => Ok(Self(number)),
                None => serde_json::from_str(body.get()).map(Job).map_err(|error| {
                    DecodeError::Malformed { kind: kind(), reason: error.to_string() }
                }),
            },
            ("JOB", version) => Err(DecodeError::UnknownVersion { kind: kind(), version }),
            ("BOMB", _) => panic!("a decoder that panics"),
            _ => Err(DecodeError::UnknownType(kind())),
        }
    }

    fn schedule(&self) -> Schedule {
        Schedule::STANDARD
    }

    /// Its identity follows from the broker's id.
    fn decode_bare(text: &str, from: &Bare<'_>) -> Option<Result<(Header, Self), DecodeError>> {
        let number = bare_number(text)?;
        let id = EnvelopeId(Uuid::new_v5(&Uuid::NAMESPACE_OID, from.message_id.as_bytes()));
        Some(Ok((Header { id, recorded_at: from.sent_at, ..header(number) }, Self(number))))
    }
}

/// A job without an envelope, which arbitrary text hits in no lifetime.
pub(crate) fn bare(id: u64) -> String {
    format!("\"bare job {id}\"")
}

fn bare_number(text: &str) -> Option<u64> {
    text.strip_prefix("\"bare job ")?.strip_suffix('"')?.parse().ok()
}

pub(crate) fn header(id: u64) -> Header {
    Header {
        v: 1,
        kind: "JOB".into(),
        id: EnvelopeId(Uuid::from_u128(u128::from(id) + 1)),
        tenant: "acme".parse().unwrap(),
        recorded_at: "2026-01-01T00:00:00Z".parse().unwrap(),
        correlation_id: format!("request-{id}"),
        causation_id: None,
        hops: 0,
        key: None,
        revision: None,
    }
}

pub(crate) fn envelope(id: u64) -> String {
    Envelope::wrap(header(id), &Job(id)).unwrap().to_json().unwrap()
}

type Handle = dyn Fn(Delivery<Job>) -> BoxFuture<'static, Result<(), Failure>> + Send + Sync;

/// A worker made of a closure.
pub(crate) struct TestWorker {
    handle: Box<Handle>,
    probes: Vec<Arc<dyn Probe>>,
    claims: Option<Arc<dyn ClaimStore>>,
}

impl Worker for TestWorker {
    const NAME: &'static str = "test-worker";
    type Message = Job;

    async fn handle(&self, delivery: Delivery<Job>) -> Result<(), Failure> {
        (self.handle)(delivery).await
    }

    fn probes(&self) -> Vec<Arc<dyn Probe>> {
        self.probes.clone()
    }

    fn claims(&self) -> Option<Arc<dyn ClaimStore>> {
        self.claims.clone()
    }
}

/// A sink that can be switched off.
#[derive(Default)]
pub(crate) struct Sink {
    pub(crate) down: AtomicBool,
    pub(crate) probed: AtomicUsize,
}

#[async_trait]
impl Probe for Sink {
    fn name(&self) -> &'static str {
        "sink"
    }

    async fn probe(&self) -> Result<(), String> {
        self.probed.fetch_add(1, Ordering::Relaxed);
        if self.down.load(Ordering::Relaxed) { Err("switched off".into()) } else { Ok(()) }
    }
}

pub(crate) struct Rig {
    pub(crate) world: Arc<World>,
    pub(crate) queue: Arc<BrokerQueue>,
    pub(crate) dlq: Arc<BrokerQueue>,
    pub(crate) attempts: Arc<dyn AttemptStore>,
    pub(crate) config: EngineConfig,
    pub(crate) sink: Arc<Sink>,
    pub(crate) probed: bool,
    /// Where large bodies are.
    pub(crate) claims: Option<Arc<dyn ClaimStore>>,
}

pub(crate) struct Running {
    pub(crate) status: Arc<EngineStatus>,
    pub(crate) drain: CancellationToken,
    task: JoinHandle<DrainReport>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::seeded(1)
    }

    pub(crate) fn seeded(seed: u64) -> Self {
        let world = World::new(seed);
        let dlq = world.queue(QUEUE.dlq, 2 * DAY, None);
        let queue = world.queue(QUEUE.name, DAY, Some((&dlq, QUEUE.receives_max)));
        Self {
            world,
            queue,
            dlq,
            attempts: Arc::new(MemoryAttempts::default()),
            config: EngineConfig {
                seed: Some(seed),
                pollers_max: 4,
                concurrency: 40,
                ..EngineConfig::for_queue(&QUEUE)
            },
            sink: Arc::default(),
            probed: false,
            claims: None,
        }
    }

    pub(crate) fn fill(&self, ids: std::ops::Range<u64>) {
        ids.for_each(|id| self.queue.put(&envelope(id)));
    }

    pub(crate) fn start<F, Fut>(&self, handle: F) -> Running
    where
        F: Fn(Delivery<Job>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let probes: Vec<Arc<dyn Probe>> =
            if self.probed { vec![Arc::clone(&self.sink) as _] } else { Vec::new() };
        let claims = self.claims.clone();
        let handle: Box<Handle> = Box::new(move |delivery| handle(delivery).boxed());
        let worker = TestWorker { handle, probes, claims };
        let ports = Ports {
            queue: Arc::clone(&self.queue) as Arc<dyn Driver>,
            dead_letters: Arc::clone(&self.dlq) as Arc<dyn Driver>,
            attempts: Arc::clone(&self.attempts),
            clock: Arc::clone(&self.world) as Arc<dyn Clock>,
        };
        Running::of(Engine::new(Arc::new(worker), ports, self.config).unwrap())
    }

    /// As [`Rig::start`], with what the handler was given on record.
    pub(crate) fn start_noting<F, Fut>(&self, handle: F) -> (Running, Seen)
    where
        F: Fn(Delivery<Job>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let seen = Seen::default();
        let noted = seen.clone();
        let running = self.start(move |delivery| {
            noted.note(&delivery);
            handle(delivery)
        });
        (running, seen)
    }

    /// The dead letters, in no order.
    pub(crate) fn letters(&self) -> Vec<DeadLetter> {
        letters(&self.dlq)
    }

    pub(crate) async fn until(&self, what: &str, condition: impl Fn() -> bool) {
        until_within(DAY, what, condition).await;
    }

    pub(crate) async fn until_within(
        &self,
        limit: Duration,
        what: &str,
        condition: impl Fn() -> bool,
    ) {
        until_within(limit, what, condition).await;
    }

    pub(crate) async fn until_empty(&self) {
        until_empty(&self.queue).await;
    }
}

/// The dead letters of a queue, in no order.
pub(crate) fn letters(dlq: &BrokerQueue) -> Vec<DeadLetter> {
    dlq.bodies().iter().map(|body| DeadLetter::from_json(body).unwrap()).collect()
}

/// Waits, in paused time, until a condition holds.
pub(crate) async fn until_within(limit: Duration, what: &str, condition: impl Fn() -> bool) {
    let started = tokio::time::Instant::now();
    while !condition() {
        assert!(started.elapsed() < limit, "never: {what}");
        // Close looks at first, a thousandth of what has passed later.
        tokio::time::sleep((started.elapsed() / 1_000).max(Duration::from_millis(10))).await;
    }
}

/// Waits until a queue holds nothing any more.
pub(crate) async fn until_empty(queue: &BrokerQueue) {
    let empty = || queue.depth() == queue_core::driver::Depth::default();
    until_within(DAY, "the queue is empty", empty).await;
}

impl Running {
    pub(crate) fn of<W: Worker>(engine: Engine<W>) -> Self {
        let (status, drain) = (engine.status(), CancellationToken::new());
        let task = tokio::spawn(engine.run(drain.clone()));
        Self { status, drain, task }
    }

    pub(crate) async fn stop(self) -> DrainReport {
        self.drain.cancel();
        let report = self.task.await.unwrap();
        assert_eq!(report.fault, None);
        report
    }

    /// Stops as a crash would.
    pub(crate) async fn crash(self) {
        self.task.abort();
        let _aborted = self.task.await;
    }
}

/// What handlers were given, in order.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<Vec<u64>>>);

impl Seen {
    pub(crate) fn note(&self, delivery: &Delivery<Job>) {
        self.0.lock().unwrap().push(delivery.message.0);
    }

    pub(crate) fn all(&self) -> Vec<u64> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub(crate) fn sorted(&self) -> Vec<u64> {
        let mut all = self.all();
        all.sort_unstable();
        all
    }
}

pub(crate) fn handling(text: &str) -> Failure {
    Failure::Retry(Error::handling(errors::INTERNAL, text))
}

pub(crate) fn infrastructure(text: &str) -> Failure {
    Failure::Retry(Error::infrastructure(errors::DATABASE_UNAVAILABLE, text))
}

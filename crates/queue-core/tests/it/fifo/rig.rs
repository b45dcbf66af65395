//! A FIFO queue with its dead-letter queue, workers made of a closure, and a book in which each
//! handler run is written down. Message `g * 1000 + n` is the n-th of group g.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use contracts::catalogue::QueueKind;
use contracts::{DecodeError, Envelope, Header, Message, QueueSpec, Schedule};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use queue_core::{
    AttemptStore, Clock, DeadLetter, Delivery, Driver, Engine, EngineConfig, Failure,
    MemoryAttempts, ParkStore, Ports, Probe, Worker,
};
use serde_json::value::RawValue;

use super::store::Store;
use crate::broker_driver::{BrokerQueue, World};
use crate::rig::{DAY, Job, QUEUE, Running, Sink, header, letters, until_empty, until_within};

pub(crate) static ORDERS: QueueSpec = QueueSpec {
    key: "orders",
    name: "orders.fifo",
    env: "ORDERS_QUEUE_URL",
    kind: QueueKind::Fifo,
    receives_max: 1_000,
    dlq: "orders-dlq.fifo",
    ..QUEUE
};

/// A job on a FIFO queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order(pub(crate) u64);

impl Message for Order {
    const QUEUE: &'static QueueSpec = &ORDERS;

    fn kind(&self) -> &'static str {
        "JOB"
    }

    fn version(&self) -> u32 {
        1
    }

    fn body_json(&self) -> Result<String, serde_json::Error> {
        Job(self.0).body_json()
    }

    fn decode(header: &Header, body: &RawValue) -> Result<Self, DecodeError> {
        Job::decode(header, body).map(|Job(number)| Self(number))
    }

    fn schedule(&self) -> Schedule {
        Schedule::STANDARD
    }
}

pub(crate) fn envelope(id: u64) -> String {
    Envelope::wrap(header(id), &Order(id)).unwrap().to_json().unwrap()
}

pub(crate) fn group(id: u64) -> String {
    format!("g{}", id / 1_000)
}

type Handle = dyn Fn(Delivery<Order>) -> BoxFuture<'static, Result<(), Failure>> + Send + Sync;

pub(crate) struct OrderWorker {
    handle: Box<Handle>,
    probes: Vec<Arc<dyn Probe>>,
    parking: Arc<dyn ParkStore>,
}

impl Worker for OrderWorker {
    const NAME: &'static str = "order-worker";
    type Message = Order;

    async fn handle(&self, delivery: Delivery<Order>) -> Result<(), Failure> {
        (self.handle)(delivery).await
    }

    fn probes(&self) -> Vec<Arc<dyn Probe>> {
        self.probes.clone()
    }

    fn parking(&self) -> Option<Arc<dyn ParkStore>> {
        Some(Arc::clone(&self.parking))
    }
}

/// What handlers did, in order.
#[derive(Default)]
pub(crate) struct Book {
    /// Starts, with receives and failures so far.
    started: Mutex<Vec<(Duration, u64, u32, u32)>>,
    /// Ends with success.
    done: Mutex<Vec<(Duration, u64)>>,
    running: Mutex<BTreeMap<u64, usize>>,
    together: AtomicUsize,
}

/// One run of a handler; dropping it, also by cancellation, ends it.
pub(crate) struct Run {
    book: Arc<Book>,
    group: u64,
}

impl Drop for Run {
    fn drop(&mut self) {
        *self.book.running.lock().unwrap().get_mut(&self.group).unwrap() -= 1;
    }
}

impl Book {
    fn start(self: &Arc<Self>, at: Duration, delivery: &Delivery<Order>) -> Run {
        let id = delivery.message.0;
        let attempt = &delivery.attempt;
        self.started.lock().unwrap().push((at, id, attempt.receives, attempt.failures));
        let mut running = self.running.lock().unwrap();
        let of_group = running.entry(id / 1_000).or_default();
        *of_group += 1;
        assert_eq!(*of_group, 1, "two of group {} at once", id / 1_000);
        self.together.fetch_max(running.values().sum(), Ordering::Relaxed);
        Run { book: Arc::clone(self), group: id / 1_000 }
    }

    /// Each start: message, receives, failures.
    pub(crate) fn starts(&self) -> Vec<(u64, u32, u32)> {
        self.started.lock().unwrap().iter().map(|(_, id, r, f)| (*id, *r, *f)).collect()
    }

    /// When a message was started, each time.
    pub(crate) fn started_at(&self, id: u64) -> Vec<Duration> {
        let started = self.started.lock().unwrap();
        started.iter().filter(|(_, other, ..)| *other == id).map(|(at, ..)| *at).collect()
    }

    pub(crate) fn done(&self) -> Vec<u64> {
        self.done.lock().unwrap().iter().map(|(_, id)| *id).collect()
    }

    pub(crate) fn done_of(&self, group: u64) -> Vec<u64> {
        self.done().into_iter().filter(|id| id / 1_000 == group).collect()
    }

    pub(crate) fn done_at(&self, id: u64) -> Duration {
        let done = self.done.lock().unwrap();
        done.iter().find(|(_, other)| *other == id).unwrap().0
    }

    /// Handlers at the same time, at most.
    pub(crate) fn together(&self) -> usize {
        self.together.load(Ordering::Relaxed)
    }
}

pub(crate) struct FifoRig {
    pub(crate) world: Arc<World>,
    pub(crate) queue: Arc<BrokerQueue>,
    pub(crate) dlq: Arc<BrokerQueue>,
    pub(crate) attempts: Arc<dyn AttemptStore>,
    pub(crate) config: EngineConfig,
    pub(crate) sink: Arc<Sink>,
    pub(crate) probed: bool,
    pub(crate) parking: Arc<Store>,
    pub(crate) book: Arc<Book>,
}

impl FifoRig {
    pub(crate) fn new() -> Self {
        Self::seeded(1)
    }

    pub(crate) fn seeded(seed: u64) -> Self {
        let world = World::new(seed);
        let dlq = world.queue(ORDERS.dlq, 2 * DAY, None);
        let queue = world.queue(ORDERS.name, DAY, Some((&dlq, ORDERS.receives_max)));
        Self {
            world,
            queue,
            dlq,
            attempts: Arc::new(MemoryAttempts::default()),
            config: EngineConfig {
                seed: Some(seed),
                pollers_max: 4,
                concurrency: 40,
                ..EngineConfig::for_queue(&ORDERS)
            },
            sink: Arc::default(),
            probed: false,
            parking: Arc::default(),
            book: Arc::default(),
        }
    }

    pub(crate) fn put(&self, id: u64) {
        self.queue.put_in(&group(id), &format!("d{id}"), &envelope(id));
    }

    /// The first `count` of a group.
    pub(crate) fn fill(&self, group: u64, count: u64) {
        (0..count).for_each(|n| self.put(group * 1_000 + n));
    }

    /// A worker; what it does is written down.
    pub(crate) fn start<F, Fut>(&self, handle: F) -> Running
    where
        F: Fn(Delivery<Order>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let probes: Vec<Arc<dyn Probe>> =
            if self.probed { vec![Arc::clone(&self.sink) as _] } else { Vec::new() };
        let (book, world) = (Arc::clone(&self.book), Arc::clone(&self.world));
        let handle = Box::new(move |delivery: Delivery<Order>| {
            let (book, world) = (Arc::clone(&book), Arc::clone(&world));
            let id = delivery.message.0;
            let run = book.start(world.elapsed(), &delivery);
            let work = handle(delivery);
            async move {
                let _run = run;
                work.await?;
                book.done.lock().unwrap().push((world.elapsed(), id));
                Ok(())
            }
            .boxed()
        });
        let ports = Ports {
            queue: Arc::clone(&self.queue) as Arc<dyn Driver>,
            dead_letters: Arc::clone(&self.dlq) as Arc<dyn Driver>,
            attempts: Arc::clone(&self.attempts),
            clock: Arc::clone(&self.world) as Arc<dyn Clock>,
        };
        let parking = Arc::clone(&self.parking) as Arc<dyn ParkStore>;
        let worker = Arc::new(OrderWorker { handle, probes, parking });
        Running::of(Engine::new(worker, ports, self.config).unwrap())
    }

    /// The dead letters, in no order.
    pub(crate) fn letters(&self) -> Vec<DeadLetter> {
        letters(&self.dlq)
    }

    pub(crate) async fn until(&self, what: &str, condition: impl Fn() -> bool) {
        until_within(DAY, what, condition).await;
    }

    pub(crate) async fn until_empty(&self) {
        until_empty(&self.queue).await;
    }
}

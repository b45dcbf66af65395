//! The composition: a worker, its ports and its figures become a running engine. What each part does
//! stands in the part's own file.
//!
//! On one thread an engine with a seed is deterministic, so that a simulated run can be repeated:
//! each `select!` is biased, what is walked over is ordered, and nothing draws from tokio's generator.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use contracts::catalogue::QueueKind;
use contracts::{Message, QueueSpec};
use futures_util::FutureExt;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::attempts::AttemptStore;
use crate::attempts::recorder::Recorder;
use crate::backoff::Jitter;
use crate::breaker::watch::Watch;
use crate::breaker::{Breakers, Probe};
use crate::claim::{Packer, Unpacker};
use crate::clock::Clock;
use crate::config::POLL_MARGIN;
use crate::delivery::Core;
use crate::delivery::reject::DeadLetters;
use crate::drain::Drain;
use crate::driver::Driver;
use crate::events::{self, Meters};
use crate::fetch::gate::Gate;
use crate::fetch::permits::Permits;
use crate::fetch::{Dispatch, Fetcher};
use crate::group::Groups;
use crate::lease::Leases;
use crate::lease::keeper::Keeper;
use crate::park::admit::{Parking, ParkingProbe};
use crate::park::releaser::Releaser;
use crate::recall::Recall;
use crate::send::Sender;
use crate::settle::Settler;
use crate::status::EngineStatus;
use crate::worker::Worker;

/// Between two tries to read the queue's attributes.
const ATTRIBUTES_RETRY: Duration = Duration::from_secs(60);

pub use crate::config::{EngineConfig, InvalidConfig};

/// What the engine stands on.
#[derive(Clone)]
pub struct Ports {
    /// The queue it works off.
    pub queue: Arc<dyn Driver>,
    /// Where rejected messages go.
    pub dead_letters: Arc<dyn Driver>,
    /// Where failures are recorded.
    pub attempts: Arc<dyn AttemptStore>,
    /// What dates people will read come from.
    pub clock: Arc<dyn Clock>,
}

/// How a drain went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DrainReport {
    /// Messages in hand when it began.
    pub in_hand: usize,
    /// Of those, handled to an end.
    pub finished: usize,
    /// Received after it began, or never started: given back at once.
    pub released: usize,
    /// Handlers cancelled because the budget ended; their messages were given back.
    pub cancelled: usize,
    /// Still unsettled at the end; they come back when their lease ends.
    pub unsettled: usize,
    /// How long it took.
    pub took: Duration,
    /// Everything finished inside the budget.
    pub within_budget: bool,
    /// Set when the engine stopped by a fault of its own and not because it was told to.
    pub fault: Option<String>,
}

/// One worker on one queue.
pub struct Engine<W: Worker> {
    worker: Arc<W>,
    ports: Ports,
    config: EngineConfig,
    status: Arc<EngineStatus>,
}

impl<W: Worker> Engine<W> {
    /// Refuses a configuration that contradicts itself; receives nothing yet. A metrics recorder has
    /// to be installed before, since the meters are taken here.
    pub fn new(worker: Arc<W>, ports: Ports, config: EngineConfig) -> Result<Self, InvalidConfig> {
        config.validate()?;
        parks_where_it_must(&*worker)?;
        let status =
            Arc::new(EngineStatus::new(<W::Message as Message>::QUEUE.name.to_owned(), W::NAME));
        status.times.get_or_init(|| (&config).into());
        Ok(Self { worker, ports, config, status })
    }

    /// The figures for `/status`; they outlive the engine.
    pub fn status(&self) -> Arc<EngineStatus> {
        Arc::clone(&self.status)
    }

    /// Works until `drain` is cancelled, then drains inside the budget. Dropping the future stops at
    /// once, as a crash would: what was in hand comes back when its lease ends.
    pub async fn run(self, drain: CancellationToken) -> DrainReport {
        let parts = self.assemble(drain.child_token());
        let stop = parts.drain.clone();
        // Everything below ends with this future, also when it is dropped.
        let _abandoned = parts.abandoned.clone().drop_guard();
        let mut background = JoinSet::new();
        background.spawn(parts.keeper.run());
        background.spawn(parts.watch.run());
        background.spawn(parts.attributes.run());
        background.spawn(parts.recorder.run());
        background.spawn(parts.recall.run());
        if let Some(releaser) = parts.releaser {
            background.spawn(releaser.run());
        }
        let fetcher = parts.fetcher;
        let abandoned = parts.abandoned.clone();
        let mut polls = tokio::spawn(async move {
            abandoned.run_until_cancelled(fetcher.run()).await;
        });
        let fault = tokio::select! {
            biased;
            () = stop.cancelled() => None,
            ended = background.join_next() => Some(format!("a task of the engine ended: {ended:?}")),
            ended = &mut polls => Some(format!("the pollers ended: {ended:?}")),
        };
        stop.cancel();
        let mut report = parts.drain_run.run(&mut polls).await;
        report.fault = fault;
        report
    }

    fn assemble(self, drain: CancellationToken) -> Parts {
        let Self { worker, ports, config, status } = self;
        let shared = Shared::new(&*worker, &ports, &config, status, drain);
        let core = Arc::new(shared.core(worker, &ports));
        let releaser = shared.releaser::<W>(&ports);
        Parts {
            keeper: Keeper {
                leases: Arc::clone(&shared.leases),
                driver: Arc::clone(&ports.queue),
                clock: ports.clock,
                meters: Arc::clone(&shared.meters),
                progress_timeout: config.progress_timeout,
            },
            watch: Watch {
                breakers: Arc::clone(&shared.breakers),
                probes: shared.probes.clone(),
                leases: Arc::clone(&shared.leases),
            },
            attributes: Attributes {
                driver: Arc::clone(&ports.queue),
                retention_secs: Arc::clone(&shared.retention_secs),
                meters: Arc::clone(&shared.meters),
            },
            recorder: Arc::clone(&shared.recorder),
            recall: Arc::clone(&shared.recall),
            releaser,
            fetcher: Arc::new(shared.fetcher(core, ports.queue, &config)),
            drain_run: Drain {
                budget: config.drain_budget,
                deliveries: shared.deliveries,
                leases: shared.leases,
                settler: shared.settler,
                dead_letters: shared.dead_letters,
                recorder: shared.recorder,
                status: shared.status,
                meters: shared.meters,
            },
            drain: shared.drain,
            abandoned: shared.abandoned,
        }
    }
}

/// Groups exist on FIFO queues only, and there a rejected message has to park its own.
fn parks_where_it_must<W: Worker>(worker: &W) -> Result<(), InvalidConfig> {
    let refused =
        |value: &str, rule| Err(InvalidConfig { field: "parking", value: value.to_owned(), rule });
    match (<W::Message as Message>::QUEUE.kind, worker.parking()) {
        (QueueKind::Fifo, None) => refused(
            "none",
            "a worker on a FIFO queue says where its groups are parked, e.g. in PostgreSQL",
        ),
        (QueueKind::Standard, Some(_)) => {
            refused("a store", "a standard queue has no groups to park, e.g. none")
        }
        (QueueKind::Fifo, Some(_)) | (QueueKind::Standard, None) => Ok(()),
    }
}

fn parking<W: Worker>(worker: &W, meters: &Arc<Meters>) -> Option<Arc<Parking>> {
    let (store, queue) = (worker.parking()?, <W::Message as Message>::QUEUE.name);
    Some(Arc::new(Parking { store, queue, meters: Arc::clone(meters), handled: Notify::new() }))
}

/// Who works here, for dead letters and attempts.
fn label<W: Worker>() -> String {
    format!("{} {}", W::NAME, env!("CARGO_PKG_VERSION"))
}

/// What several parts of one engine share.
struct Shared {
    leases: Arc<Leases>,
    permits: Arc<Permits>,
    probes: Vec<Arc<dyn Probe>>,
    breakers: Arc<Breakers>,
    recall: Arc<Recall>,
    settler: Arc<Settler>,
    dead_letters: Sender,
    recorder: Arc<Recorder>,
    retention_secs: Arc<AtomicU64>,
    gate: Arc<Gate>,
    jitter: Arc<Jitter>,
    meters: Arc<Meters>,
    status: Arc<EngineStatus>,
    deliveries: TaskTracker,
    /// Cancelled when the engine's future goes away.
    abandoned: CancellationToken,
    drain: CancellationToken,
    polls_over: CancellationToken,
    parking: Option<Arc<Parking>>,
}

impl Shared {
    fn new<W: Worker>(
        worker: &W,
        ports: &Ports,
        config: &EngineConfig,
        status: Arc<EngineStatus>,
        drain: CancellationToken,
    ) -> Self {
        let queue = <W::Message as Message>::QUEUE.name;
        let meters = Arc::new(Meters::new(queue, W::NAME, Arc::clone(&status)));
        let parking = parking(worker, &meters);
        let mut probes = worker.probes();
        probes.extend(parking.iter().map(ParkingProbe::of));
        let packer = Packer::new(worker.claims());
        let gate = Arc::new(Gate::new(config.pollers_max));
        let jitter = Arc::new(Jitter::new(config.seed));
        let permits =
            Permits::new(config.concurrency, config.bytes_in_hand_max, Arc::clone(&status));
        let settler = Settler::new(&ports.queue, config, Arc::clone(&jitter), Arc::clone(&meters));
        let recorder = Recorder::new(queue, Arc::clone(&ports.attempts), Arc::clone(&meters));
        let breakers = Arc::new(Breakers::new(&probes, Arc::clone(&gate), Arc::clone(&meters)));
        let recall = Recall::new(&ports.queue, &breakers, &jitter, &meters, &drain);
        Self {
            leases: Arc::new(Leases::new(config.lease)),
            permits: Arc::new(permits),
            breakers,
            recall: Arc::new(recall),
            probes,
            settler: Arc::new(settler),
            dead_letters: DeadLetters::sender(Arc::clone(&ports.dead_letters)).packing(packer),
            recorder: Arc::new(recorder),
            retention_secs: Arc::new(AtomicU64::new(config.retention.as_secs())),
            gate,
            jitter,
            meters,
            status,
            deliveries: TaskTracker::new(),
            abandoned: CancellationToken::new(),
            drain,
            polls_over: CancellationToken::new(),
            parking,
        }
    }

    fn dead_letters<W: Worker>(&self, ports: &Ports) -> DeadLetters {
        let QueueSpec { name: queue, kind, .. } = *<W::Message as Message>::QUEUE;
        DeadLetters {
            sender: self.dead_letters.clone(),
            queue,
            fifo: kind == QueueKind::Fifo,
            worker: label::<W>(),
            clock: Arc::clone(&ports.clock),
            meters: Arc::clone(&self.meters),
        }
    }

    fn releaser<W: Worker>(&self, ports: &Ports) -> Option<Releaser> {
        let parking = Arc::clone(self.parking.as_ref()?);
        let sender = Releaser::sender(Arc::clone(&ports.queue));
        let dead_letters = self.dead_letters::<W>(ports);
        Some(Releaser { parking, sender, dead_letters, drain: self.drain.clone() })
    }

    fn core<W: Worker>(&self, worker: Arc<W>, ports: &Ports) -> Core<W> {
        let unpacker = Unpacker::new(worker.claims());
        Core {
            worker,
            label: label::<W>(),
            clock: Arc::clone(&ports.clock),
            permits: Arc::clone(&self.permits),
            settler: Arc::clone(&self.settler),
            breakers: Arc::clone(&self.breakers),
            recall: Arc::clone(&self.recall),
            unpacker,
            recorder: Arc::clone(&self.recorder),
            dead_letters: self.dead_letters::<W>(ports),
            parking: self.parking.clone(),
            jitter: Arc::clone(&self.jitter),
            meters: Arc::clone(&self.meters),
            retention_secs: Arc::clone(&self.retention_secs),
            groups: Groups::default(),
            alone: tokio::sync::Mutex::new(()),
            drain: self.drain.clone(),
            polls_over: self.polls_over.clone(),
        }
    }

    fn fetcher<W: Worker>(
        &self,
        core: Arc<Core<W>>,
        driver: Arc<dyn Driver>,
        config: &EngineConfig,
    ) -> Fetcher {
        let until = self.abandoned.clone();
        let dispatch: Dispatch = Box::new(move |batch| {
            let (core, until) = (Arc::clone(&core), until.clone());
            async move {
                until.run_until_cancelled(core.process(batch)).await;
            }
            .boxed()
        });
        Fetcher {
            driver,
            gate: Arc::clone(&self.gate),
            permits: Arc::clone(&self.permits),
            leases: Arc::clone(&self.leases),
            jitter: Arc::clone(&self.jitter),
            meters: Arc::clone(&self.meters),
            status: Arc::clone(&self.status),
            pollers_max: config.pollers_max,
            wait: config.wait,
            lease: config.lease,
            attempt_max: config.wait + POLL_MARGIN,
            silence_max: config.wait + POLL_MARGIN * 2,
            drain: self.drain.clone(),
            over: self.polls_over.clone(),
            deliveries: self.deliveries.clone(),
            dispatch,
        }
    }
}

/// What an engine consists of.
struct Parts {
    keeper: Keeper,
    watch: Watch,
    attributes: Attributes,
    recorder: Arc<Recorder>,
    recall: Arc<Recall>,
    releaser: Option<Releaser>,
    fetcher: Arc<Fetcher>,
    drain_run: Drain,
    drain: CancellationToken,
    abandoned: CancellationToken,
}

/// Reads once how long the queue keeps its messages, and tries until it can.
struct Attributes {
    driver: Arc<dyn Driver>,
    retention_secs: Arc<AtomicU64>,
    meters: Arc<Meters>,
}

impl Attributes {
    async fn run(self) {
        loop {
            match self.driver.attributes().await {
                Ok(attributes) if !attributes.retention.is_zero() => {
                    let retention = attributes.retention.as_secs();
                    self.retention_secs.store(retention, Ordering::Relaxed);
                    break;
                }
                Ok(_) => break,
                Err(error) => events::AttributesUnread { error: &error }.emit(&self.meters),
            }
            tokio::time::sleep(ATTRIBUTES_RETRY).await;
        }
        // A background task that ends is a fault of the engine.
        std::future::pending::<()>().await;
    }
}

//! One process: an engine with its ports, and what it may know. It can die at any await on a port;
//! from then on nothing that is left of it reaches the world.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use queue_core::{DrainReport, Engine, EngineStatus, Ports, StatusSnapshot, Worker};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::invariants::Invariant;
use super::port::Port;
use super::stores::Attempts;
use super::time::WallClock;
use super::trace::What;
use super::worker::SimWorker;
use super::world::World;
use crate::fifo::rig::Order;
use crate::rig::Job;

/// A message in a process's hands, as the process may know it.
#[derive(Clone, Debug)]
pub(super) struct Hand {
    pub(super) receipt: String,
    /// Until when its lease is live, by the answers that came.
    pub(super) live_until: Instant,
    /// When its handler ended, if it has.
    pub(super) handled: Option<Instant>,
    /// It was given back or deleted, as far as it knows.
    pub(super) over: bool,
    /// What was last set may have been a lease or, as long, a delay.
    pub(super) unsure: bool,
}

/// A message that a process has given back because of an outage, as the process knows.
#[derive(Clone, Debug)]
pub(super) struct Postponed {
    pub(super) receipt: String,
    pub(super) until: Instant,
    /// It was called back.
    pub(super) called_back: bool,
    /// Nobody has told whether that took effect.
    pub(super) unsure: bool,
}

/// What a process has seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) hands: BTreeMap<u64, Hand>,
    /// Jobs whose handler's last answer puts the blame on a sink.
    pub(super) blaming: BTreeSet<u64>,
    pub(super) postponed: BTreeMap<u64, Postponed>,
    /// Jobs whose handler has answered with success.
    pub(super) done: BTreeSet<u64>,
    /// Receipts whose delete was confirmed.
    pub(super) deleted: BTreeSet<String>,
    /// Messages asked for by polls that are on their way.
    pub(super) asked: usize,
    /// What the last poll asked for, and when.
    pub(super) last_poll: Option<(usize, Instant)>,
    /// Which outage of the sink it knows of, and since when.
    pub(super) outage_known: Option<(u32, Instant)>,
}

pub(super) struct Process {
    pub(super) id: u32,
    alive: AtomicBool,
    steps: AtomicU64,
    crash_at: Option<u64>,
    pub(super) died: Notify,
    seen: Mutex<Seen>,
    status: OnceLock<Arc<EngineStatus>>,
}

/// A process that runs.
pub(super) struct Running {
    pub(super) process: Arc<Process>,
    pub(super) drain: CancellationToken,
    pub(super) task: JoinHandle<DrainReport>,
}

impl Process {
    pub(super) fn start(world: &Arc<World>, id: u32, crash_at: Option<u64>) -> Running {
        let process = Arc::new(Self {
            id,
            alive: AtomicBool::new(true),
            steps: AtomicU64::new(0),
            crash_at,
            died: Notify::new(),
            seen: Mutex::default(),
            status: OnceLock::new(),
        });
        let port = |dead| Arc::new(Port::new(world, &process, dead));
        let ports = Ports {
            queue: port(false),
            dead_letters: port(true),
            attempts: Arc::new(Attempts::new(world, &process)),
            clock: Arc::new(WallClock(Arc::clone(&world.time))),
        };
        world.note(id, What::Started);
        let drain = CancellationToken::new();
        let task = if world.plan.is_fifo() {
            run(SimWorker::<Order>::new(world, &process), ports, world, &process, drain.clone())
        } else {
            run(SimWorker::<Job>::new(world, &process), ports, world, &process, drain.clone())
        };
        Running { process, drain, task }
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    pub(super) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    pub(super) fn snapshot(&self) -> Option<StatusSnapshot> {
        self.status.get().map(|status| status.snapshot())
    }

    pub(super) fn last_poll(&self) -> Option<(usize, Instant)> {
        self.seen().last_poll
    }

    /// Awaits on ports so far.
    pub(super) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    pub(super) fn die(&self) {
        self.alive.store(false, Ordering::Relaxed);
        self.died.notify_one();
    }

    /// An await at which a process may die; a dead one does not get beyond it.
    pub(super) async fn step(&self, world: &World) {
        if !self.survives(world) {
            std::future::pending::<()>().await;
        }
    }

    /// Whether it is alive after such an await.
    pub(super) fn survives(&self, world: &World) -> bool {
        if self.is_alive() {
            let step = self.steps.fetch_add(1, Ordering::Relaxed);
            if self.crash_at == Some(step) {
                world.note(self.id, What::Died { step });
                self.die();
            }
        }
        self.is_alive()
    }

    /// Whether the process may believe that it holds the lease of a job.
    pub(super) fn holds(&self, job: u64) -> bool {
        let now = Instant::now();
        self.seen().hands.get(&job).is_some_and(|hand| now <= hand.live_until)
    }
}

fn run<W: Worker>(
    worker: W,
    ports: Ports,
    world: &World,
    process: &Process,
    drain: CancellationToken,
) -> JoinHandle<DrainReport> {
    let engine = Engine::new(Arc::new(worker), ports, world.plan.config).unwrap();
    process.status.set(engine.status()).unwrap();
    tokio::spawn(engine.run(drain))
}

impl Running {
    /// Stops as a crash does.
    pub(super) async fn kill(self, world: &World) {
        self.process.die();
        world.books().deaths += 1;
        self.task.abort();
        let _aborted = self.task.await;
    }

    /// Drains, or dies while it does.
    pub(super) async fn drain(mut self, world: &World) {
        world.note(self.process.id, What::Draining);
        self.drain.cancel();
        let process = Arc::clone(&self.process);
        let report = tokio::select! {
            biased;
            () = process.died.notified() => return self.kill(world).await,
            report = &mut self.task => report,
        };
        let report = match report {
            Ok(report) => report,
            Err(error) => return world.breaks(Invariant::KeepsRunning, error.to_string()),
        };
        let (in_hand, unsettled) = (report.in_hand, report.unsettled);
        world.note(process.id, What::Drained { in_hand, unsettled });
        drained_cleanly(world, &process, &report);
        // What a task left behind does later does not count.
        process.die();
    }
}

/// A lease that cannot be extended counts as lost so long before its end.
const LOST_BEFORE: Duration = Duration::from_secs(1);

fn drained_cleanly(world: &World, process: &Process, report: &DrainReport) {
    let id = process.id;
    if report.fault.is_some() {
        world.breaks(Invariant::KeepsRunning, format!("p{id}: {report:?}"));
    }
    if report.took > world.plan.config.drain_budget + Duration::from_millis(10) {
        world.breaks(Invariant::CleanDrain, format!("p{id} took too long: {report:?}"));
    }
    if report.unsettled > 0 {
        return;
    }
    let books = world.books();
    let seen = process.seen();
    let kept: Vec<u64> = seen
        .hands
        .iter()
        .filter(|(job, hand)| {
            let job = &books.jobs[usize::try_from(**job).unwrap()];
            let hidden = hand.live_until > Instant::now() + LOST_BEFORE;
            let hidden = hidden && job.receipt == hand.receipt;
            hidden && !hand.over && !hand.unsure && !job.deleted && job.letters.is_empty()
        })
        .map(|(job, _)| *job)
        .collect();
    drop((books, seen));
    if !kept.is_empty() {
        let text = format!("p{id} says that it holds nothing and keeps jobs {kept:?} hidden");
        world.breaks(Invariant::CleanDrain, text);
    }
}

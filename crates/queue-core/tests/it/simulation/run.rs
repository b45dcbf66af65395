//! One run: processes under supervision, happenings in their time, then clear sky until everything has
//! come to its end.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::DateTime;
use queue_core::{AttemptStore, RecordedFailure};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::invariants::{self, Invariant, Violation};
use super::parking::operate;
use super::plan::{Happening, JobPlan, Nature, Plan};
use super::process::{Process, Running};
use super::trace::{Event, What};
use super::world::World;
use crate::rig::header;

/// After the storm everything has come to its end within this: crashed leases, the longest backoff and
/// snooze several times over.
const AFTERMATH_MAX: Duration = Duration::from_secs(4 * 3_600);

/// What came of a run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) violations: Vec<Violation>,
    pub(super) trace: Vec<Event>,
    /// Awaits of the first process.
    pub(super) steps: u64,
}

enum Order {
    Crash,
    Drain,
    End,
}

/// Every process there was, and the number of the next.
#[derive(Default)]
struct Processes {
    all: Mutex<Vec<Arc<Process>>>,
    started: AtomicU32,
}

impl Processes {
    fn alive(&self) -> Vec<Arc<Process>> {
        self.all.lock().unwrap().iter().filter(|process| process.is_alive()).cloned().collect()
    }
}

pub(super) fn run(plan: Plan) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(live(plan))
}

async fn live(plan: Plan) -> Outcome {
    let world = World::new(plan);
    let processes = Arc::new(Processes::default());
    prepare(&world).await;
    let mut slots = JoinSet::new();
    let orders: Vec<_> = (0..world.plan.processes)
        .map(|_| {
            let (order, orders) = mpsc::unbounded_channel();
            slots.spawn(supervise(Arc::clone(&world), Arc::clone(&processes), orders));
            order
        })
        .collect();
    let operator = tokio::spawn(operate(Arc::clone(&world)));
    storm(&world, &orders).await;
    world.clear_up();
    world.sink(false);
    world.mute(false);
    let soon = async {
        tokio::time::sleep(invariants::back_soon_after(&world)).await;
        invariants::postponed_are_back(&world, &processes.alive());
    };
    let ended = tokio::time::timeout(AFTERMATH_MAX, aftermath(&world));
    let (ended, ()) = tokio::join!(biased; ended, soon);
    if ended.is_err() {
        let (left, parked) = (world.depth(), world.parked_lines());
        let text = format!("after {AFTERMATH_MAX:?} {left} messages are left, parked {parked:?}");
        world.breaks(Invariant::ComesToAnEnd, text);
    }
    // Idle polls come back, and what was asked for is seen.
    tokio::time::sleep(Duration::from_secs(60)).await;
    invariants::at_the_end(&world, &processes.alive());
    for order in &orders {
        let _ended = order.send(Order::End);
    }
    while slots.join_next().await.is_some() {}
    operator.abort();
    let steps = processes.all.lock().unwrap().first().map_or(0, |first| first.steps());
    let books = world.books();
    let violations = books.violations.clone();
    let full = books.trace.is_full();
    drop(books);
    assert!(!full, "seed {} has run away", world.plan.seed);
    Outcome { violations, trace: world.take_trace(), steps }
}

/// What was before the first process: messages that others had in their hands.
async fn prepare(world: &World) {
    let jobs = world.plan.jobs.clone();
    let mut taken = Vec::new();
    let early = |job: &JobPlan| job.at.is_zero() && job.received_before > 0 && job.delay == 0;
    for (id, job) in (0..).zip(&jobs).filter(|(_, job)| early(job)) {
        world.send(id);
        // The only one that is visible: those before it are still taken.
        let mut receipt = String::new();
        for _ in 0..job.received_before {
            world.expose(&receipt);
            let message = world.take(1, 3_600).pop().unwrap();
            receipt = message.receipt;
        }
        taken.push(receipt);
        if job.accounted && job.nature != Nature::Garbage {
            let failure = RecordedFailure {
                at: DateTime::UNIX_EPOCH,
                code: "database-unavailable".into(),
                error: "in another life".into(),
                worker: "test-worker".into(),
                counts: false,
                receives: job.received_before,
            };
            let key = header(id).id.to_string();
            world.attempts.record(world.spec().name, &key, failure).await.unwrap();
        }
    }
    for receipt in &taken {
        world.expose(receipt);
    }
    let others = (0..).zip(&jobs).filter(|(_, job)| job.at.is_zero() && !early(job));
    for (id, _) in others {
        world.send(id);
    }
}

/// Happenings and late messages, in their time.
async fn storm(world: &Arc<World>, orders: &[mpsc::UnboundedSender<Order>]) {
    let plan = &world.plan;
    let late = (0..).zip(&plan.jobs).filter(|(_, later)| !later.at.is_zero());
    let mut todo: Vec<(Duration, Result<Happening, u64>)> =
        late.map(|(id, later)| (later.at, Err(id))).collect();
    todo.extend(plan.happenings.iter().map(|(at, happening)| (*at, Ok(*happening))));
    todo.sort_by_key(|(at, _)| *at);
    for (at, what) in todo {
        tokio::time::sleep(at.saturating_sub(world.elapsed())).await;
        match what {
            Err(id) => world.send(id),
            Ok(happening) => happen(world, orders, happening),
        }
    }
    tokio::time::sleep(plan.storm.saturating_sub(world.elapsed())).await;
}

fn happen(world: &World, orders: &[mpsc::UnboundedSender<Order>], happening: Happening) {
    let order = |slot: usize, order| {
        let _ended = orders[slot].send(order);
    };
    match happening {
        Happening::Crash(slot) => order(slot, Order::Crash),
        Happening::Drain(slot) => order(slot, Order::Drain),
        Happening::SinkDown => world.sink(true),
        Happening::SinkUp => world.sink(false),
        Happening::Muted | Happening::Heard => world.mute(happening == Happening::Muted),
        Happening::LeaseLost(seconds) => world.take_away(seconds),
        Happening::ClockJump(by) => {
            world.note(0, What::ClockJump(by));
            world.time.jump(by);
        }
        Happening::Suspend(by) => {
            world.note(0, What::Suspended(by));
            world.suspend(by);
        }
    }
}

/// Keeps one process running until it is told to end.
async fn supervise(
    world: Arc<World>,
    processes: Arc<Processes>,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    loop {
        let id = 1 + processes.started.fetch_add(1, Ordering::Relaxed);
        let crash_at = usize::try_from(id - 1).ok().and_then(|at| world.plan.crash_at.get(at));
        let mut running = Process::start(&world, id, crash_at.copied());
        processes.all.lock().unwrap().push(Arc::clone(&running.process));
        let process = Arc::clone(&running.process);
        let order = tokio::select! {
            biased;
            () = process.died.notified() => Order::Crash,
            ended = &mut running.task => {
                let text = format!("p{id} ended by itself: {ended:?}");
                return world.breaks(Invariant::KeepsRunning, text);
            }
            order = orders.recv() => order.unwrap_or(Order::End),
        };
        match order {
            Order::Crash => crash(running, &world).await,
            Order::Drain => running.drain(&world).await,
            Order::End => return running.drain(&world).await,
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn crash(running: Running, world: &World) {
    if running.process.is_alive() {
        world.note(running.process.id, What::Killed);
    }
    running.kill(world).await;
}

/// Waits until the queue holds nothing any more.
async fn aftermath(world: &World) {
    let mut pause = Duration::from_millis(50);
    while world.depth() + world.parked_groups() > 0 {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

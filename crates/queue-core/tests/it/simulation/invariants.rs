//! What must hold whatever happens, each by a name that failures print. Most are checked at the
//! instant in which they could break; those about the end stand below.

use std::time::Duration;

use queue_core::recall::RECEIVES_MAX;
use tokio::time::Instant;

use super::process::{Postponed, Process};
use super::world::{Job, World};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Invariant {
    /// A message leaves its queue only after its effect, or after its dead letter; in the end each is
    /// settled or dead with a reason.
    NothingLost,
    /// One effect per ledger key, however often a message is handled.
    EffectOnce,
    /// Inside a group, effects come in the order of sending.
    FifoOrder,
    /// While a group is parked and nobody has decided, nothing of it runs.
    ParkedWaits,
    /// A handler runs only while its process knows the lease to be live.
    LiveLease,
    /// A lease that nobody takes away is not lost, messages that wait included.
    LeaseKept,
    /// In the end every permit is back.
    PermitsReturn,
    /// Never more in hand, or asked for, than was configured; what is remembered goes with its message.
    BoundedMemory,
    /// A dead letter's reason is what happened.
    TrueReason,
    /// Only failures count as failures.
    FailuresCount,
    /// What a process has done it does not do again.
    DoneStaysDone,
    /// A receipt whose delete was confirmed is not deleted again.
    SettledOnce,
    /// A poll that has begun is awaited.
    PollAwaited,
    /// A drain ends in its budget and leaves nothing behind that it could have given back.
    CleanDrain,
    /// No message is hidden for longer than its schedule's ceiling.
    BoundedDelay,
    /// While a sink is known to be down nothing is received or called back.
    OutageRests,
    /// When the sink is back, so is the engine.
    OutageEnds,
    /// What an outage has postponed is called back once, and is visible soon after the last outage
    /// when the process that postponed it lives.
    BackSoon,
    /// After the storm everything comes to its end in bounded time.
    ComesToAnEnd,
    /// The engine stops only when it is told to.
    KeepsRunning,
}

impl Invariant {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::NothingLost => "nothing-lost",
            Self::EffectOnce => "effect-once",
            Self::FifoOrder => "fifo-order",
            Self::ParkedWaits => "parked-waits",
            Self::LiveLease => "live-lease",
            Self::LeaseKept => "lease-kept",
            Self::PermitsReturn => "permits-return",
            Self::BoundedMemory => "bounded-memory",
            Self::TrueReason => "true-reason",
            Self::FailuresCount => "failures-count",
            Self::DoneStaysDone => "done-stays-done",
            Self::SettledOnce => "settled-once",
            Self::PollAwaited => "poll-awaited",
            Self::CleanDrain => "clean-drain",
            Self::BoundedDelay => "bounded-delay",
            Self::OutageRests => "outage-rests",
            Self::OutageEnds => "outage-ends",
            Self::BackSoon => "back-soon",
            Self::ComesToAnEnd => "comes-to-an-end",
            Self::KeepsRunning => "keeps-running",
        }
    }
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) invariant: Invariant,
    pub(super) text: String,
}

/// The longest that a message stays hidden after the last outage, beside what handlers that run still
/// take: a probe's interval, six steps of a call back's ramp, and what comes by itself.
const BACK_SOON: Duration = Duration::from_secs(100);

/// When everything that outages have postponed should be visible, counted from the storm's end.
pub(super) fn back_soon_after(world: &World) -> Duration {
    BACK_SOON + Duration::from_millis(world.plan.handler.slow_max_ms)
}

/// Of the processes that live.
pub(super) fn postponed_are_back(world: &World, processes: &[std::sync::Arc<Process>]) {
    for process in processes {
        let books = world.books();
        let hidden = |id: &u64, postponed: &Postponed| {
            let job = &books.jobs[usize::try_from(*id).unwrap()];
            let ours = job.receipt == postponed.receipt && !job.deleted && !postponed.unsure;
            ours && job.receives <= RECEIVES_MAX && postponed.until > Instant::now()
        };
        let seen = process.seen();
        let late: Vec<u64> =
            seen.postponed.iter().filter(|(id, p)| hidden(id, p)).map(|(id, _)| *id).collect();
        drop((seen, books));
        if !late.is_empty() {
            let text = format!("p{} keeps jobs {late:?} hidden although all is well", process.id);
            world.breaks(Invariant::BackSoon, text);
        }
    }
}

/// After the last message has come to its end and a minute has passed.
pub(super) fn at_the_end(world: &World, processes: &[std::sync::Arc<Process>]) {
    settled_or_dead(world);
    for process in processes {
        permits_are_back(world, process);
        breakers_are_not_open(world, process);
    }
    nothing_is_remembered(world);
    leases_were_kept(world, processes);
}

fn settled_or_dead(world: &World) {
    let redriven = world.redriven();
    let early = redriven.iter().filter(|(_, receives)| *receives < world.spec().receives_max);
    for (id, receives) in early {
        let text = format!("job {id} was redriven by the broker after {receives} receives");
        world.breaks(Invariant::TrueReason, text);
    }
    let books = world.books();
    let nowhere = |id: u64, job: &Job| {
        let netted = redriven.iter().any(|(netted, _)| *netted == id);
        job.sent_as > 0 && job.effects == 0 && job.letters.is_empty() && !netted
    };
    let jobs = (0..).zip(&books.jobs).filter(|(id, job)| nowhere(*id, job));
    let lost: Vec<String> = jobs
        .map(|(id, job)| format!("job {id} has no effect and no dead letter: {job:?}"))
        .collect();
    drop(books);
    for text in lost {
        world.breaks(Invariant::NothingLost, text);
    }
}

fn permits_are_back(world: &World, process: &Process) {
    let Some(now) = process.snapshot() else { return };
    if (now.in_flight, now.bytes_in_hand, now.leases) != (0, 0, 0) {
        world.breaks(Invariant::PermitsReturn, format!("idle p{} holds {now:?}", process.id));
    }
    // A breaker that no message has closed lets one through at a time.
    if now.breakers.iter().any(|breaker| breaker.state != "closed") {
        return;
    }
    let config = &world.plan.config;
    // As many as fit whatever they weigh; of light ones more may.
    let fit = (config.bytes_in_hand_max >> 20).max(1);
    let least = config.concurrency.min(10).min(fit);
    if let Some((asked, _)) = process.last_poll()
        && asked < least
    {
        let text = format!("idle p{} asks for {asked} messages, not {least}", process.id);
        world.breaks(Invariant::PermitsReturn, text);
    }
}

fn breakers_are_not_open(world: &World, process: &Process) {
    let Some(now) = process.snapshot() else { return };
    let open: Vec<_> = now.breakers.iter().filter(|breaker| breaker.state == "open").collect();
    let polled = process.last_poll().map(|(_, at)| at);
    let lately = Instant::now() - (world.plan.config.wait + Duration::from_secs(40));
    if !open.is_empty() {
        world.breaks(Invariant::OutageEnds, format!("p{}: {open:?}", process.id));
    } else if polled.is_none_or(|at| at < lately) {
        let text = format!("p{} has not polled since {polled:?}", process.id);
        world.breaks(Invariant::ComesToAnEnd, text);
    }
}

/// Where nothing kept the engine from forgetting.
fn nothing_is_remembered(world: &World) {
    let rates = world.plan.attempts;
    let books = world.books();
    let undisturbed = rates.refuse + rates.lose_answer + rates.slow == 0
        && books.deaths == 0
        && books.steals == 0;
    let kept: Vec<u64> = world.remembered(&books);
    drop(books);
    if undisturbed && !world.plan.is_fifo() && world.plan.leaves_leases_alone() && !kept.is_empty()
    {
        let text = format!("failures of ended jobs {kept:?} are still on record");
        world.breaks(Invariant::BoundedMemory, text);
    }
}

fn leases_were_kept(world: &World, processes: &[std::sync::Arc<Process>]) {
    if !world.plan.leaves_leases_alone() {
        return;
    }
    for process in processes {
        let lost = process.snapshot().map_or(0, |now| now.totals.leases_lost);
        if lost > 0 {
            let text = format!("p{} lost {lost} leases that nobody took", process.id);
            world.breaks(Invariant::LeaseKept, text);
        }
    }
}

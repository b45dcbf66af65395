//! The worker of the simulation: slow, failing, panicking or hanging as the plan says, and otherwise
//! one write to the sink, in a bulk with whatever else is being handled.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use contracts::{Message, errors};
use queue_core::coalesce::bisect;
use queue_core::park::ParkStore;
use queue_core::{Attempt, CoalesceLimits, Coalescer, Delivery, Failure, Probe, Reason, Worker};
use tokio::time::Instant;

use super::invariants::Invariant;
use super::parking::Parking;
use super::plan::{Dice, Nature};
use super::process::Process;
use super::sink::{SinkError, SinkProbe, outside, transaction};
use super::stores::Ledger;
use super::trace::What;
use super::world::World;
use crate::fifo::rig::Order;
use crate::rig::{Job, handling, infrastructure};

type Bulk = Coalescer<(), u64, Result<(), SinkError>>;

/// A message that carries a job's number.
pub(super) trait Numbered: Message {
    fn number(&self) -> u64;
}

impl Numbered for Job {
    fn number(&self) -> u64 {
        self.0
    }
}

impl Numbered for Order {
    fn number(&self) -> u64 {
        self.0
    }
}

/// What a worker works with, whatever its queue.
struct Desk {
    world: Arc<World>,
    process: Arc<Process>,
    bulk: Bulk,
    ledger: Ledger,
}

pub(super) struct SimWorker<M> {
    desk: Desk,
    messages: PhantomData<fn() -> M>,
}

/// How one run of a handler ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Temper {
    Fine,
    Hang,
    Panic,
    Retry,
    Infrastructure,
    Snooze(u64),
}

impl<M> SimWorker<M> {
    pub(super) fn new(world: &Arc<World>, process: &Arc<Process>) -> Self {
        Self { desk: Desk::new(world, process), messages: PhantomData }
    }
}

impl Desk {
    fn new(world: &Arc<World>, process: &Arc<Process>) -> Self {
        let limits = CoalesceLimits {
            items_max: 8,
            bytes_max: usize::MAX,
            linger: Duration::from_millis(50),
            batches_in_flight_max: 2,
            batches_in_flight_per_key_max: 2,
            pending_bytes_max: 1_000,
            pending_bytes_per_key_max: 1_000,
        };
        let (its_world, its_process) = (Arc::clone(world), Arc::clone(process));
        let bulk = Coalescer::new(limits, move |(), jobs: Vec<u64>| {
            let (world, process) = (Arc::clone(&its_world), Arc::clone(&its_process));
            async move { write(&world, &process, jobs).await }
        });
        let ledger = Ledger::new(world, process);
        Self { world: Arc::clone(world), process: Arc::clone(process), bulk, ledger }
    }

    /// Into the database, with whatever else is being written.
    async fn write(&self, run: &mut Run<'_>) -> Result<(), Failure> {
        let written = self.bulk.call((), run.job, 1).await;
        run.leased();
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(SinkError::Poison)) => {
                run.ends("poison");
                Err(refused("poison"))
            }
            Ok(Err(SinkError::Unavailable)) | Err(_) => {
                run.sink_failed();
                Err(infrastructure("connection refused"))
            }
        }
    }

    fn temper(&self) -> (Duration, Temper) {
        let rates = self.world.plan.handler;
        let draw = |dice: &mut Dice| {
            // Mostly quick, whatever the slowest is.
            let slow = dice.within(0..=rates.slow_max_ms) / dice.within(1..=20);
            let temper = if dice.hit(rates.hang) {
                Temper::Hang
            } else if dice.hit(rates.panic) {
                Temper::Panic
            } else if dice.hit(rates.retry) {
                Temper::Retry
            } else if dice.hit(rates.infrastructure) {
                Temper::Infrastructure
            } else if dice.hit(rates.snooze) {
                Temper::Snooze(dice.within(1..=700))
            } else {
                Temper::Fine
            };
            (Duration::from_millis(slow), temper)
        };
        self.world.draw((Duration::from_millis(10), Temper::Fine), draw)
    }
}

fn refused(message: &str) -> Failure {
    Failure::Reject(Reason { code: errors::REJECTED_BY_STORE, message: message.into() })
}

async fn write(world: &World, process: &Process, jobs: Vec<u64>) -> Vec<Result<(), SinkError>> {
    let count = jobs.len();
    let written = bisect(jobs, |jobs| transaction(world, process, jobs)).await;
    written.unwrap_or_else(|error| vec![Err(error); count])
}

impl<M: Numbered> Worker for SimWorker<M> {
    const NAME: &'static str = "test-worker";
    type Message = M;

    async fn handle(&self, delivery: Delivery<M>) -> Result<(), Failure> {
        self.desk.handle(delivery).await
    }

    fn probes(&self) -> Vec<Arc<dyn Probe>> {
        vec![Arc::new(SinkProbe::new(&self.desk.world, &self.desk.process))]
    }

    fn parking(&self) -> Option<Arc<dyn ParkStore>> {
        let (world, process) = (&self.desk.world, &self.desk.process);
        world.plan.is_fifo().then(|| Arc::new(Parking::new(world, process)) as _)
    }
}

impl Desk {
    async fn handle<M: Numbered>(&self, delivery: Delivery<M>) -> Result<(), Failure> {
        let job = delivery.message.number();
        let mut run = Run::begin(self, job, &delivery.attempt);
        let (slow, temper) = self.temper();
        run.work(slow, &delivery).await;
        match temper {
            Temper::Hang => std::future::pending().await,
            Temper::Panic => {
                run.failed("panics");
                std::panic::resume_unwind(Box::new("a handler panics"));
            }
            Temper::Retry => {
                run.failed("fails");
                return Err(handling("bad luck"));
            }
            Temper::Infrastructure => {
                run.ends("fails by infrastructure");
                run.blames();
                return Err(infrastructure("timeout"));
            }
            Temper::Snooze(seconds) => {
                let mut books = self.world.books();
                let book = books.job(job);
                book.snooze = book.snooze.max(seconds);
                drop(books);
                run.ends("snoozes");
                return Err(Failure::Snooze(Duration::from_secs(seconds)));
            }
            Temper::Fine => {}
        }
        match run.nature() {
            Nature::Refused => {
                run.ends("refuses");
                return Err(refused("never"));
            }
            Nature::Mail | Nature::Object => {
                let sent = outside(&self.world, &self.process, &self.ledger, &delivery).await;
                run.leased();
                sent.inspect_err(|failure| match failure {
                    Failure::Retry(_) => run.sink_failed(),
                    Failure::Unknown(_) => run.ends("cannot tell"),
                    _ => run.ends("waits"),
                })?;
            }
            _ => self.write(&mut run).await?,
        }
        self.process.step(&self.world).await;
        run.done();
        Ok(())
    }
}

/// One run of a handler; dropped without an end, it was cancelled.
struct Run<'a> {
    worker: &'a Desk,
    job: u64,
    progress: Instant,
    ended: bool,
}

impl<'a> Run<'a> {
    fn begin(worker: &'a Desk, job: u64, attempt: &Attempt) -> Self {
        let (world, process) = (&worker.world, &worker.process);
        let failures = attempt.failures;
        world.note(process.id, What::Handles { job, failures });
        let run = Self { worker, job, progress: Instant::now(), ended: false };
        let most = {
            let mut books = world.books();
            let book = books.job(job);
            book.failures + book.unsure_records
        };
        if failures > most {
            let text = format!("job {job} is said to have failed {failures} times, not {most}");
            world.breaks(Invariant::FailuresCount, text);
        }
        if process.seen().done.contains(&job) {
            let text = format!("p{} handles job {job} again, which it had done", process.id);
            world.breaks(Invariant::DoneStaysDone, text);
        }
        process.seen().blaming.remove(&job);
        if let Some(hand) = process.seen().hands.get_mut(&job) {
            hand.handled = None;
        }
        run.leased();
        run
    }

    fn nature(&self) -> Nature {
        self.worker.world.plan.job(self.job).nature
    }

    /// The lease must be live, as far as the process can know.
    fn leased(&self) {
        let process = &self.worker.process;
        if process.is_alive() && !process.holds(self.job) {
            let hand = process.seen().hands.get(&self.job).cloned();
            let text =
                format!("p{} handles job {} without a lease: {hand:?}", process.id, self.job);
            self.worker.world.breaks(Invariant::LiveLease, text);
        }
    }

    /// Works for so long, looking at its lease and saying at times that it gets on.
    async fn work(&mut self, long: Duration, delivery: &Delivery<impl Numbered>) {
        let world = &self.worker.world;
        let slice = world.plan.config.lease / 8;
        let mut left = long;
        while !left.is_zero() {
            let now = left.min(slice);
            tokio::time::sleep(now).await;
            left -= now;
            self.leased();
            delivery.progress();
            self.progress = Instant::now();
        }
    }

    fn failed(&mut self, answer: &'static str) {
        self.worker.world.books().job(self.job).failures += 1;
        self.ends(answer);
    }

    fn done(&mut self) {
        self.worker.process.seen().done.insert(self.job);
        self.ends("done");
    }

    fn ends(&mut self, answer: &'static str) {
        let (world, process) = (&self.worker.world, &self.worker.process);
        self.ended = true;
        if let Some(hand) = process.seen().hands.get_mut(&self.job) {
            hand.handled = Some(Instant::now());
        }
        world.note(process.id, What::Handled { job: self.job, answer });
    }

    /// No fault of the message.
    fn blames(&self) {
        self.worker.process.seen().blaming.insert(self.job);
    }

    fn sink_failed(&mut self) {
        self.ends("sink unavailable");
        self.blames();
        let books = self.worker.world.books();
        let (down, outage) = (books.sink_down, books.outages);
        drop(books);
        let mut seen = self.worker.process.seen();
        if down && seen.outage_known.is_none_or(|(known, _)| known != outage) {
            seen.outage_known = Some((outage, Instant::now()));
        }
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        let (world, process) = (&self.worker.world, &self.worker.process);
        if self.ended || !process.is_alive() {
            return;
        }
        if self.progress.elapsed() >= world.plan.config.progress_timeout {
            self.failed("is stuck");
        } else {
            self.ends("is cancelled");
        }
    }
}

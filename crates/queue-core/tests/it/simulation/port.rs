//! The driver of one process: the broker's calls with the plan's faults around them. Each call is
//! three awaits at which the process may die: before its effect, after it, and before its answer. What
//! an answer tells the process, it writes down as known.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use queue_core::config::POLL_MARGIN;
use queue_core::dead_letter::OnDeadLetterQueue;
use queue_core::driver::{EntryResults, QueueAttributes, ReceiveRequest};
use queue_core::{DeadLetter, Driver, DriverError, Outgoing, Received};
use sqs_emulator::operations::{Receive, VisibilityChange};
use sqs_emulator::{Request, Response};
use tokio::time::Instant;

use super::faults::{Fault, Kind, entry_error};
use super::invariants::Invariant;
use super::plan::BrokerRates;
use super::process::{Hand, Process};
use super::trace::What;
use super::world::World;
use crate::broker_driver::wire::{draft, entry, id, whole};
use crate::rig::DAY;

pub(super) struct Port {
    pub(super) world: Arc<World>,
    pub(super) process: Arc<Process>,
    dead: bool,
}

impl std::fmt::Debug for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.queue())
    }
}

/// A poll on its way: dropping it half-way is what a drain must never do.
struct Polling<'a> {
    port: &'a Port,
    asked: usize,
    began: Instant,
    wait: Duration,
    answered: bool,
}

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        let process = &self.port.process;
        process.seen().asked -= self.asked;
        let timed_out = self.began.elapsed() >= self.wait + POLL_MARGIN;
        if !self.answered && !timed_out && process.is_alive() && !std::thread::panicking() {
            let text = format!("p{} dropped a poll after {:?}", process.id, self.began.elapsed());
            self.port.world.breaks(Invariant::PollAwaited, text);
        }
    }
}

impl Port {
    pub(super) fn new(world: &Arc<World>, process: &Arc<Process>, dead: bool) -> Self {
        Self { world: Arc::clone(world), process: Arc::clone(process), dead }
    }

    /// The first await, and what becomes of the call.
    async fn begin(
        &self,
        call: &'static str,
        kind: Kind,
        entries: usize,
    ) -> Result<Fault, DriverError> {
        self.process.step(&self.world).await;
        let rates: &BrokerRates = &self.world.plan.broker;
        let mut fault =
            self.world.draw(Fault::None, |dice| Fault::draw(dice, rates, kind, entries));
        if kind == Kind::Batch && self.world.books().muted {
            fault = Fault::Refused(DriverError::Throttled("slow down".into()));
        }
        self.world.note(self.process.id, What::Called { call, entries, fault: fault.name() });
        match &fault {
            Fault::Refused(error) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                return Err(error.clone());
            }
            Fault::Hang => std::future::pending::<()>().await,
            Fault::Slow(before, _) => tokio::time::sleep(*before).await,
            // Unlike `panic!`, it prints nothing.
            Fault::Panic => std::panic::resume_unwind(Box::new("the driver panics")),
            _ => tokio::time::sleep(Duration::from_millis(2)).await,
        }
        self.process.step(&self.world).await;
        Ok(fault)
    }

    /// The last await: the answer comes, late, or not at all.
    async fn answer<T>(&self, fault: Fault, answer: T) -> Result<T, DriverError> {
        self.process.step(&self.world).await;
        match fault {
            Fault::AnswerLost(error) => Err(error),
            Fault::Slow(_, after) => {
                tokio::time::sleep(after).await;
                Ok(answer)
            }
            _ => Ok(answer),
        }
    }

    fn begin_poll(&self, request: &ReceiveRequest) -> Polling<'_> {
        let now = Instant::now();
        let in_hand = self.process.snapshot().map_or(0, |now| now.in_flight);
        let asked = {
            let mut seen = self.process.seen();
            seen.asked += request.max;
            seen.last_poll = Some((request.max, now));
            seen.asked
        };
        let (most, id) = (self.world.plan.config.concurrency, self.process.id);
        if asked + in_hand > most {
            let text =
                format!("p{id} asks for {asked} with {in_hand} in hand, the limit is {most}");
            self.world.breaks(Invariant::BoundedMemory, text);
        }
        if self.knows_that_the_sink_is_down() {
            let text = format!("p{id} polls while it knows that the sink is down");
            self.world.breaks(Invariant::OutageRests, text);
        }
        Polling { port: self, asked: request.max, began: now, wait: request.wait, answered: false }
    }

    /// The long poll: until there is something, or its time is up.
    async fn messages(&self, request: &ReceiveRequest, fault: &Fault) -> Vec<Received> {
        let world = &self.world;
        let deadline = Instant::now() + request.wait;
        let arn = &world.work;
        loop {
            let changed = world.changed.notified();
            let mut messages = Vec::new();
            if let Fault::Reordered = fault {
                // Passed over: visible again, behind those that follow.
                for message in world.take(request.max, 1) {
                    world.expose(&message.receipt);
                }
            }
            messages.extend(world.take(request.max, request.lease.as_secs()));
            if let Fault::Reordered = fault {
                messages.reverse();
            }
            if !messages.is_empty() || Instant::now() >= deadline {
                return messages;
            }
            let receive =
                Receive { queue: Some(arn.clone()), wait_seconds: Some(20), ..Receive::default() };
            let next = {
                let broker = world.broker();
                broker.long_poll(&receive).and_then(|poll| broker.next_wake(poll.queue))
            };
            let until = next.map_or(deadline, |at| {
                let after = u64::try_from(at - world.now_ms()).unwrap_or(0).max(1);
                deadline.min(Instant::now() + Duration::from_millis(after))
            });
            let _woken = tokio::time::timeout_at(until, changed).await;
        }
    }

    /// What the process now knows to hold.
    fn received(&self, messages: &[Received]) {
        let live_until = Instant::now() + self.world.plan.config.lease;
        for message in messages {
            let Some(job) = self.world.books().job_named(&message.message_id) else { continue };
            let mut seen = self.process.seen();
            let handled = seen.hands.get(&job).filter(|hand| !hand.over).and_then(|h| h.handled);
            let receipt = message.receipt.clone();
            seen.postponed.remove(&job);
            seen.hands
                .insert(job, Hand { receipt, live_until, handled, over: false, unsure: false });
            drop(seen);
            let receives = message.receives;
            self.world.note(self.process.id, What::Received { job, receives });
        }
    }

    /// Runs a batch at the broker without the entry that fails.
    fn batch(
        &self,
        fault: &Fault,
        entries: usize,
        request: impl Fn(&[usize]) -> Request,
    ) -> Result<EntryResults, DriverError> {
        let broken = if let Fault::Entry(at) = fault { Some(*at) } else { None };
        let kept: Vec<usize> = (0..entries).filter(|at| Some(*at) != broken).collect();
        let mut results: EntryResults = vec![Err(entry_error()); entries];
        if kept.is_empty() {
            return Ok(results);
        }
        let answers: Vec<_> = match self.world.call(request(&kept)).map_err(whole)? {
            Response::DoneBatch(done) => done.into_iter().map(|(_, result)| result).collect(),
            Response::SentBatch(sent) => sent.into_iter().map(|(_, r)| r.map(drop)).collect(),
            other => panic!("{other:?}"),
        };
        for (at, answer) in kept.into_iter().zip(answers) {
            results[at] = answer.map_err(entry);
        }
        Ok(results)
    }

    fn deletes(&self, receipts: &[String], kept: &[usize]) -> Request {
        Request::DeleteMessageBatch {
            queue: Some(self.world.work.clone()),
            entries: kept.iter().map(|at| (id(*at), Some(receipts[*at].clone()))).collect(),
        }
    }

    fn letter(&self, outgoing: &Outgoing) {
        let (job, code) = match DeadLetter::read(&outgoing.body) {
            OnDeadLetterQueue::Letter(letter) => {
                let job = self.world.books().job_named(&letter.message_id);
                let Some(job) = job else { return };
                self.reason_is_true(job, &letter);
                (job, letter.code.clone())
            }
            OnDeadLetterQueue::Raw(body) => {
                let text = format!("a dead letter without a reason: {body}");
                return self.world.breaks(Invariant::TrueReason, text);
            }
        };
        self.world.books().job(job).letters.push(code.clone());
        self.world.note(self.process.id, What::DeadLetter { job, code });
    }
}

#[async_trait]
impl Driver for Port {
    fn queue(&self) -> &str {
        if self.dead { self.world.spec().dlq } else { self.world.spec().name }
    }

    async fn receive(&self, request: ReceiveRequest) -> Result<Vec<Received>, DriverError> {
        let mut polling = self.begin_poll(&request);
        let begun = self.begin("receive", Kind::Receive, request.max).await;
        let fault = match begun {
            Ok(fault) => fault,
            Err(error) => {
                polling.answered = true;
                return Err(error);
            }
        };
        let messages = self.messages(&request, &fault).await;
        if let Fault::Duplicate = fault {
            for message in &messages {
                self.world.expose(&message.receipt);
            }
        }
        let messages = if let Fault::Ghost = fault { Vec::new() } else { messages };
        let answer = self.answer(fault, messages).await;
        polling.answered = true;
        if let Ok(messages) = &answer {
            self.received(messages);
        }
        answer
    }

    async fn settle(&self, receipts: &[String]) -> Result<EntryResults, DriverError> {
        self.settle_begins(receipts);
        let fault = self.begin("delete", Kind::Batch, receipts.len()).await?;
        let results = self.batch(&fault, receipts.len(), |kept| self.deletes(receipts, kept))?;
        self.settle_happened(receipts, &results);
        let answer = self.answer(fault, results).await;
        if let Ok(results) = &answer {
            self.settle_known(receipts, results);
        }
        answer
    }

    async fn extend(&self, entries: &[(String, Duration)]) -> Result<EntryResults, DriverError> {
        let began = Instant::now();
        self.extend_begins(entries);
        let fault = self.begin("extend", Kind::Batch, entries.len()).await?;
        let change = |at: usize| VisibilityChange {
            receipt: Some(entries[at].0.clone()),
            seconds: Some(i64::try_from(entries[at].1.as_secs()).unwrap()),
        };
        let results =
            self.batch(&fault, entries.len(), |kept| Request::ChangeMessageVisibilityBatch {
                queue: Some(self.world.work.clone()),
                entries: kept.iter().map(|at| (id(*at), change(*at))).collect(),
            })?;
        let answer = self.answer(fault, results).await;
        if let Ok(results) = &answer {
            self.extend_known(began, entries, results);
        }
        answer
    }

    async fn send(&self, entries: &[Outgoing]) -> Result<EntryResults, DriverError> {
        let fault = self.begin("send", Kind::Batch, entries.len()).await?;
        let results = self.batch(&fault, entries.len(), |kept| Request::SendMessageBatch {
            queue: Some(if self.dead { &self.world.dead } else { &self.world.work }.clone()),
            entries: kept.iter().map(|at| (id(*at), draft(&entries[*at]))).collect(),
        })?;
        for (outgoing, result) in entries.iter().zip(&results) {
            if self.dead && result.is_ok() {
                self.letter(outgoing);
            }
        }
        self.answer(fault, results).await
    }

    async fn attributes(&self) -> Result<QueueAttributes, DriverError> {
        self.process.step(&self.world).await;
        let visibility = Duration::from_secs(30);
        Ok(QueueAttributes { visibility, retention: 4 * DAY, ..QueueAttributes::default() })
    }
}

//! The world of one run: the broker and its time, the sink, the dice, and the books in which what
//! really happened is written down. One thread, so every lock is free.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use contracts::QueueSpec;
use queue_core::MemoryAttempts;
use queue_core::effects::MemoryEffects;
use queue_core::park::MemoryParking;
use sqs_emulator::operations::{Receive, VisibilityChange};
use sqs_emulator::{Broker, BrokerConfig, Caller, Draft, QueueArn, Request, Response, SqsError};
use tokio::sync::Notify;

use super::invariants::{Invariant, Violation};
use super::parking::group_of;
use super::plan::{Dice, Nature, Plan};
use super::time::{EPOCH_MS, ServerClock, Time};
use super::trace::{Event, Trace, What};
use crate::broker_driver::wire;
use crate::fifo::rig::ORDERS;
use crate::rig::{DAY, QUEUE, envelope, header};

/// What a message that is no JSON begins with; its number follows.
const GARBAGE: &str = "no envelope at all, number ";

/// The number of the job whose message a text is.
pub(super) fn number_in(body: &str) -> Option<u64> {
    if let Some(number) = body.strip_prefix(GARBAGE) {
        return number.parse().ok();
    }
    let envelope: serde_json::Value = serde_json::from_str(body).ok()?;
    envelope["body"].as_u64()
}

/// What really happened to one message.
#[derive(Clone, Debug, Default)]
pub(super) struct Job {
    /// Effects that the sink has committed.
    pub(super) effects: u32,
    /// Codes of its dead letters.
    pub(super) letters: Vec<String>,
    pub(super) deleted: bool,
    pub(super) receives: u32,
    /// Answers of handlers that count against the limit.
    pub(super) failures: u32,
    /// Records of those whose answer was lost: the engine may have recorded them twice.
    pub(super) unsure_records: u32,
    /// The longest snooze that a handler asked for, seconds.
    pub(super) snooze: u64,
    /// Its place in the order of sending, from 1; zero while it is not sent.
    pub(super) sent_as: u64,
    /// The parking store has it.
    pub(super) parked: bool,
    /// It was rejected while its group was parked; its letter follows.
    pub(super) rejected: bool,
    /// The newest receipt, whoever has it.
    pub(super) receipt: String,
}

#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) jobs: Vec<Job>,
    by_id: BTreeMap<String, u64>,
    by_receipt: BTreeMap<String, u64>,
    pub(super) sink_down: bool,
    /// The broker takes no delete, extension or letter.
    pub(super) muted: bool,
    pub(super) outages: u32,
    pub(super) effects_seen: usize,
    sent: u64,
    pub(super) deaths: u32,
    pub(super) steals: u32,
    pub(super) violations: Vec<Violation>,
    pub(super) trace: Trace,
}

impl Books {
    pub(super) fn job_of(&self, receipt: &str) -> Option<u64> {
        self.by_receipt.get(receipt).copied()
    }

    pub(super) fn job_named(&self, message_id: &str) -> Option<u64> {
        self.by_id.get(message_id).copied()
    }

    pub(super) fn job(&mut self, id: u64) -> &mut Job {
        &mut self.jobs[usize::try_from(id).unwrap()]
    }
}

pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) work: QueueArn,
    pub(super) dead: QueueArn,
    pub(super) changed: Notify,
    pub(super) attempts: MemoryAttempts,
    pub(super) effects: MemoryEffects,
    pub(super) parking: MemoryParking,
    pub(super) time: Arc<Time>,
    broker: Mutex<Broker>,
    books: Mutex<Books>,
    dice: Mutex<Dice>,
    /// The storm is over: no more faults.
    clear: AtomicBool,
}

impl World {
    pub(super) fn new(plan: Plan) -> Arc<Self> {
        let (seed, time) = (plan.seed, Time::new());
        let mut broker = Broker::new(BrokerConfig { seed, ..BrokerConfig::default() });
        let spec = if plan.is_fifo() { &ORDERS } else { &QUEUE };
        let dead = make_queue(&mut broker, spec.dlq, 14 * DAY, None);
        let redrive = serde_json::json!({
            "deadLetterTargetArn": dead.as_str(), "maxReceiveCount": spec.receives_max });
        let work = make_queue(&mut broker, spec.name, 4 * DAY, Some(redrive.to_string()));
        let jobs = vec![Job::default(); plan.jobs.len()];
        Arc::new(Self {
            work,
            dead,
            changed: Notify::new(),
            attempts: MemoryAttempts::default(),
            broker: Mutex::new(broker),
            books: Mutex::new(Books { jobs, ..Books::default() }),
            dice: Mutex::new(Dice::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))),
            clear: AtomicBool::new(false),
            parking: MemoryParking::default(),
            effects: MemoryEffects::new(Arc::new(ServerClock(Arc::clone(&time)))),
            time,
            plan,
        })
    }

    /// The catalogue's entry for the queue.
    pub(super) fn spec(&self) -> &'static QueueSpec {
        if self.plan.is_fifo() { &ORDERS } else { &QUEUE }
    }

    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap()
    }

    pub(super) fn broker(&self) -> MutexGuard<'_, Broker> {
        self.broker.lock().unwrap()
    }

    /// Draws, while there are faults; afterwards `calm`.
    pub(super) fn draw<T>(&self, calm: T, draw: impl FnOnce(&mut Dice) -> T) -> T {
        if self.is_clear() { calm } else { draw(&mut self.dice.lock().unwrap()) }
    }

    pub(super) fn is_clear(&self) -> bool {
        self.clear.load(Ordering::Relaxed)
    }

    pub(super) fn clear_up(&self) {
        self.clear.store(true, Ordering::Relaxed);
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.time.elapsed()
    }

    /// The broker's time.
    pub(super) fn now_ms(&self) -> i64 {
        self.time.now_ms()
    }

    pub(super) fn suspend(&self, seconds: u64) {
        self.time.suspend(seconds);
        self.changed.notify_waiters();
    }

    pub(super) fn call(&self, request: Request) -> Result<Response, SqsError> {
        // A receive makes nothing visible.
        let wakes = !matches!(request, Request::ReceiveMessage(_));
        let answer = self.broker().call(self.now_ms(), &Caller::default(), request);
        if wakes {
            self.changed.notify_waiters();
        }
        answer
    }

    pub(super) fn note(&self, process: u32, what: What) {
        let at = self.elapsed();
        self.books().trace.note(at, process, what);
    }

    /// A promise is broken.
    pub(super) fn breaks(&self, invariant: Invariant, text: String) {
        let name = invariant.name();
        self.note(0, What::Breaks { invariant: name, text: text.clone() });
        let mut books = self.books();
        // The first of each kind tells; the others follow from it.
        if books.violations.iter().all(|known| known.invariant != invariant) {
            books.violations.push(Violation { invariant, text });
        }
    }

    /// Sends a job's message.
    pub(super) fn send(&self, id: u64) {
        let job = self.plan.job(id);
        let body = match job.nature {
            Nature::Garbage => format!("{GARBAGE}{id}"),
            _ => envelope(id),
        };
        let fifo = self.plan.is_fifo();
        let draft = Draft {
            delay_seconds: (job.delay > 0).then(|| i64::try_from(job.delay).unwrap()),
            group: fifo.then(|| group_of(&self.plan, id)),
            deduplication: fifo.then(|| id.to_string()),
            ..Draft::text(&body)
        };
        let queue = Some(self.work.clone());
        let sent = self.call(Request::SendMessage { queue, draft: Box::new(draft) });
        let Ok(Response::Sent(sent)) = sent else { panic!("{sent:?}") };
        let mut books = self.books();
        books.by_id.insert(sent.id.to_string(), id);
        books.by_id.insert(header(id).id.to_string(), id);
        books.sent += 1;
        let sent_as = books.sent;
        books.job(id).sent_as = sent_as;
        drop(books);
        self.note(0, What::Sent { job: id });
    }

    /// Leases what is visible, and writes down who has which receipt.
    pub(super) fn take(&self, max: usize, seconds: u64) -> Vec<queue_core::Received> {
        let receive = Receive {
            queue: Some(self.work.clone()),
            max: Some(i64::try_from(max).unwrap()),
            visibility_seconds: Some(i64::try_from(seconds).unwrap()),
            wait_seconds: Some(0),
            selection: wire::all(),
            ..Receive::default()
        };
        let answer = self.call(Request::ReceiveMessage(receive)).unwrap();
        let Response::Received(deliveries, _) = answer else { panic!("{answer:?}") };
        let messages: Vec<_> = deliveries.iter().map(wire::received).collect();
        let mut books = self.books();
        for message in &messages {
            // One that a releaser has sent has another id.
            let Some(id) = number_in(&message.body) else { continue };
            books.by_id.insert(message.message_id.clone(), id);
            books.by_receipt.insert(message.receipt.clone(), id);
            let job = books.job(id);
            job.receipt.clone_from(&message.receipt);
            job.receives += 1;
            job.deleted = false;
        }
        messages
    }

    /// Makes a receipt visible now.
    pub(super) fn expose(&self, receipt: &str) {
        let change = VisibilityChange { receipt: Some(receipt.to_owned()), seconds: Some(0) };
        let queue = Some(self.work.clone());
        let _gone = self.call(Request::ChangeMessageVisibility { queue, change });
    }

    /// Somebody else gets a message that is in flight.
    pub(super) fn take_away(&self, seconds: u64) {
        let held: Vec<(u64, String)> = {
            let books = self.books();
            let jobs = books.jobs.iter().zip(0..);
            jobs.filter(|(job, _)| !job.deleted && !job.receipt.is_empty())
                .map(|(job, id)| (id, job.receipt.clone()))
                .collect()
        };
        if held.is_empty() {
            return;
        }
        let at = self.draw(0, |dice| dice.index(held.len()));
        let (id, receipt) = &held[at];
        self.expose(receipt);
        // The oldest visible one: this, or another, which is as good.
        let taken = self.take(1, seconds);
        self.books().steals += u32::try_from(taken.len()).unwrap();
        self.note(0, What::LeaseTaken { job: *id, seconds });
    }

    pub(super) fn sink(&self, down: bool) {
        let mut books = self.books();
        books.outages += u32::from(down);
        books.sink_down = down;
        drop(books);
        self.note(0, if down { What::SinkDown } else { What::SinkUp });
    }

    pub(super) fn mute(&self, muted: bool) {
        self.books().muted = muted;
        self.note(0, if muted { What::Muted } else { What::Heard });
    }

    /// Visible, leased and delayed messages on the work queue.
    pub(super) fn depth(&self) -> u64 {
        let names = vec!["All".to_owned()];
        let queue = Some(self.work.clone());
        let answer = self.broker().call(
            self.now_ms(),
            &Caller::default(),
            Request::GetQueueAttributes { queue, names },
        );
        let Ok(Response::Attributes(attributes)) = answer else { panic!("{answer:?}") };
        ["", "NotVisible", "Delayed"]
            .iter()
            .map(|kind| format!("ApproximateNumberOfMessages{kind}"))
            .map(|name| attributes[name.as_str()].parse::<u64>().unwrap())
            .sum()
    }

    /// Whether the broker's own net has a job: on the dead-letter queue as it was.
    pub(super) fn redriven(&self) -> Vec<(u64, u32)> {
        let mut found = Vec::new();
        loop {
            let receive = Receive {
                queue: Some(self.dead.clone()),
                max: Some(10),
                visibility_seconds: Some(43_200),
                wait_seconds: Some(0),
                selection: wire::all(),
                ..Receive::default()
            };
            let answer = self.call(Request::ReceiveMessage(receive)).unwrap();
            let Response::Received(deliveries, _) = answer else { panic!("{answer:?}") };
            if deliveries.is_empty() {
                return found;
            }
            let books = self.books();
            let messages = deliveries.iter().map(wire::received);
            // A redriven message keeps its id; its count has gone up by one here.
            found.extend(messages.filter_map(|message| {
                Some((books.job_named(&message.message_id)?, message.receives - 1))
            }));
        }
    }

    /// Whether a plan gives a job receives that no outcome explains.
    pub(super) fn receives_may_be_lost(&self, id: u64) -> bool {
        let job = self.plan.job(id);
        !self.plan.leaves_leases_alone() || job.received_before > 0 && !job.accounted
    }

    pub(super) fn take_trace(&self) -> Vec<Event> {
        self.books().trace.take()
    }
}

fn make_queue(
    broker: &mut Broker,
    name: &str,
    retention: Duration,
    redrive: Option<String>,
) -> QueueArn {
    let retention = retention.as_secs().to_string();
    let mut attributes = BTreeMap::from([("MessageRetentionPeriod".to_owned(), retention)]);
    if name.strip_suffix(".fifo").is_some() {
        attributes.insert("FifoQueue".to_owned(), "true".to_owned());
    }
    attributes.extend(redrive.map(|policy| ("RedrivePolicy".to_owned(), policy)));
    let (name, tags) = (Some(name.to_owned()), BTreeMap::new());
    let request = Request::CreateQueue { name, attributes, tags };
    match broker.call(EPOCH_MS, &Caller::default(), request) {
        Ok(Response::Queue(arn)) => arn,
        other => panic!("{other:?}"),
    }
}

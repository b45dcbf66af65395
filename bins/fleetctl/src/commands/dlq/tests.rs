//! Passes over a scripted dead-letter queue: leases that end on the way, entries that fail, messages
//! that another reader has.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use clap::{Args, FromArgMatches};
use contracts::QueueSpec;
use contracts::catalogue::{AUDIT_INDEX, QueueKind};
use queue_core::driver::{EntryResults, QueueAttributes, ReceiveRequest};
use queue_core::{Driver, DriverError, EntryError, Outgoing, Received};
use tokio::time::Instant;

use super::carry::{Carrier, Done};
use super::letter::Letter;
use super::outlook::Outlook;
use super::redrive::Redrive;
use super::select::Select;
use super::sweep::{LEASE, Sweep};
use crate::output::Output;
use crate::settings::Queue;

/// Answers receives from a script. A message's name is its id and its body.
#[derive(Debug, Default)]
struct Scripted {
    receives: Mutex<VecDeque<Vec<Received>>>,
    /// What every receive answers when the script is over.
    for_ever: Vec<Received>,
    /// Bodies and receipts that are not taken.
    refused: Vec<&'static str>,
    /// Receipts that were given back.
    given_back: Mutex<BTreeSet<String>>,
}

impl Scripted {
    fn new(receives: &[&[(&str, &str)]]) -> Self {
        let batch = |batch: &&[(&str, &str)]| batch.iter().map(|m| message(m.0, m.1)).collect();
        Self { receives: Mutex::new(receives.iter().map(batch).collect()), ..Self::default() }
    }

    fn take<'a>(&self, entries: impl Iterator<Item = &'a str>) -> EntryResults {
        let refused = |name| self.refused.contains(&name);
        let answer =
            |name| if refused(name) { Err(EntryError::Refused("no".into())) } else { Ok(()) };
        entries.map(answer).collect()
    }

    fn given_back(&self) -> Vec<String> {
        self.given_back.lock().unwrap().iter().cloned().collect()
    }
}

fn message(id: &str, receipt: &str) -> Received {
    Received {
        message_id: id.into(),
        receipt: receipt.into(),
        body: id.into(),
        receives: 1,
        sent_at_ms: 1_000,
        group: None,
        sequence: None,
        attributes: Vec::new(),
    }
}

#[async_trait]
impl Driver for Scripted {
    fn queue(&self) -> &'static str {
        "scripted"
    }

    async fn receive(&self, _: ReceiveRequest) -> Result<Vec<Received>, DriverError> {
        let next = self.receives.lock().unwrap().pop_front();
        Ok(next.unwrap_or_else(|| self.for_ever.clone()))
    }

    async fn settle(&self, receipts: &[String]) -> Result<EntryResults, DriverError> {
        Ok(self.take(receipts.iter().map(String::as_str)))
    }

    async fn extend(&self, entries: &[(String, Duration)]) -> Result<EntryResults, DriverError> {
        self.given_back.lock().unwrap().extend(entries.iter().map(|entry| entry.0.clone()));
        Ok(vec![Ok(()); entries.len()])
    }

    async fn send(&self, entries: &[Outgoing]) -> Result<EntryResults, DriverError> {
        Ok(self.take(entries.iter().map(|entry| entry.body.as_str())))
    }

    async fn attributes(&self) -> Result<QueueAttributes, DriverError> {
        Ok(QueueAttributes::default())
    }
}

fn only(ids: &[&str]) -> Select {
    Select { id: ids.iter().map(|&id| id.to_owned()).collect(), ..Select::default() }
}

/// A queue with leases on tokio's clock; it notes who met what how often.
#[derive(Debug)]
struct Leased {
    lying: Mutex<Vec<Lying>>,
    /// Calls to extend that fail as a whole, still to come.
    deaf: Mutex<u32>,
}

#[derive(Clone, Debug)]
struct Lying {
    id: String,
    receives: u32,
    visible_at: Instant,
}

impl Leased {
    fn new(ids: impl IntoIterator<Item = String>) -> Self {
        let visible_at = Instant::now();
        let lying = ids.into_iter().map(|id| Lying { id, receives: 0, visible_at }).collect();
        Self { lying: Mutex::new(lying), deaf: Mutex::new(0) }
    }
}

#[async_trait]
impl Driver for Leased {
    fn queue(&self) -> &'static str {
        "leased"
    }

    async fn receive(&self, request: ReceiveRequest) -> Result<Vec<Received>, DriverError> {
        let now = Instant::now();
        let mut lying = self.lying.lock().unwrap();
        let visible = lying.iter_mut().filter(|m| m.visible_at <= now).take(request.max);
        let received = visible.map(|m| {
            (m.receives, m.visible_at) = (m.receives + 1, now + request.lease);
            message(&m.id, &m.id)
        });
        Ok(received.collect())
    }

    async fn settle(&self, receipts: &[String]) -> Result<EntryResults, DriverError> {
        self.lying.lock().unwrap().retain(|m| !receipts.contains(&m.id));
        Ok(vec![Ok(()); receipts.len()])
    }

    async fn extend(&self, entries: &[(String, Duration)]) -> Result<EntryResults, DriverError> {
        let now = Instant::now();
        let mut deaf = self.deaf.lock().unwrap();
        if *deaf > 0 {
            *deaf -= 1;
            return Err(DriverError::Timeout("deaf".into()));
        }
        let mut lying = self.lying.lock().unwrap();
        let extend = |(receipt, lease): &(String, Duration)| {
            let found = lying.iter_mut().find(|m| m.id == *receipt && m.visible_at > now);
            let found = found.ok_or_else(|| EntryError::LeaseLost("too late".into()))?;
            found.visible_at = now + *lease;
            Ok(())
        };
        Ok(entries.iter().map(extend).collect())
    }

    async fn send(&self, _: &[Outgoing]) -> Result<EntryResults, DriverError> {
        Err(DriverError::Refused("it is read only".into()))
    }

    async fn attributes(&self) -> Result<QueueAttributes, DriverError> {
        Ok(QueueAttributes::default())
    }
}

/// A redrive of those, whatever is in them.
fn redrive(rate: &str, ids: &[&str]) -> Redrive {
    let command = Redrive::augment_args(clap::Command::new("test"));
    let mut words = vec!["test", "audit-index", "--rate", rate, "--force"];
    words.extend(ids.iter().flat_map(|id| ["--id", id]));
    Redrive::from_arg_matches(&command.get_matches_from(words)).unwrap()
}

async fn send(redrive: &Redrive, queue: &Queue) -> Done {
    let bar = indicatif::ProgressBar::hidden();
    redrive.send(queue, &Outlook::default(), None, &bar).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_a_slow_pass_holds_stays_held_and_is_back_at_its_end() {
    let ids = |name: &str, count| (0..count).map(|at| format!("{name}-{at}")).collect::<Vec<_>>();
    let (others, meant) = (ids("other", 15), ids("a", 30));
    let dead = Arc::new(Leased::new(others.iter().chain(&meant).cloned()));
    *dead.deaf.lock().unwrap() = 1;
    let target = Scripted { refused: vec!["a-7"], ..Scripted::default() };
    let queue = Queue { queue: Arc::new(target), dead_letters: Arc::<Leased>::clone(&dead) };
    // Thirty seconds for the thirty, and leases of eight.
    let meant: Vec<&str> = meant.iter().map(String::as_str).collect();
    let mut redrive = redrive("1", &meant);
    redrive.lease = Some(Duration::from_secs(8));
    let begun = Instant::now();
    let done = send(&redrive, &queue).await;
    assert!(begun.elapsed() >= Duration::from_secs(24), "{:?}", begun.elapsed());
    assert_eq!((done.sent, done.failed), (29, 1));
    let left = dead.lying.lock().unwrap().clone();
    let names: BTreeSet<&str> = left.iter().map(|m| m.id.as_str()).collect();
    let expected = others.iter().map(String::as_str).chain(["a-7"]).collect::<BTreeSet<_>>();
    assert_eq!(names, expected);
    for message in left {
        assert_eq!(message.receives, 1, "its lease ended on the way: {message:?}");
        assert!(message.visible_at <= Instant::now(), "not given back: {message:?}");
    }
}

async fn pass(queue: &Scripted, select: &Select) -> Vec<String> {
    let mut sweep = Sweep::with_lease(queue, &AUDIT_INDEX, select, LEASE);
    let mut ids = Vec::new();
    while let Some(letters) = sweep.next(10).await.unwrap() {
        ids.extend(letters.into_iter().map(|letter| letter.received.message_id));
    }
    sweep.finish().await;
    ids
}

#[tokio::test]
async fn messages_that_are_back_do_not_end_a_pass() {
    let queue = Scripted::new(&[
        &[("other-1", "r1"), ("a", "r2")],
        &[("other-2", "r3")],
        // Both leases have ended; what is still unseen is behind them.
        &[("other-1", "r4"), ("other-2", "r5")],
        &[("b", "r6")],
    ]);
    assert_eq!(pass(&queue, &only(&["a", "b"])).await, ["a", "b"]);
    assert_eq!(queue.given_back(), ["r4", "r5"], "under the receipts that are good");
}

#[tokio::test]
async fn a_pass_ends_when_only_seen_messages_come() {
    let seen = vec![message("other-1", "r1"), message("other-2", "r2")];
    let queue = Scripted { for_ever: seen, ..Scripted::default() };
    assert_eq!(pass(&queue, &only(&["a"])).await, [""; 0]);
}

#[tokio::test]
async fn what_is_not_sent_is_given_back_and_what_is_not_met_is_told() {
    let dead = Arc::new(Scripted::new(&[&[("a", "r1"), ("b", "r2"), ("other", "r3")]]));
    let target = Scripted { refused: vec!["b"], ..Scripted::default() };
    let queue = Queue { queue: Arc::new(target), dead_letters: Arc::<Scripted>::clone(&dead) };
    let done = send(&redrive("1000", &["a", "b", "c"]), &queue).await;
    assert_eq!((done.sent, done.failed), (1, 1));
    assert_eq!(dead.given_back(), ["r2", "r3"]);
    let failure = done.verdict(&Output::new(true)).unwrap_err();
    assert!(failure.exit != 0 && failure.message.contains("1 were not sent: b: "), "{failure:?}");
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_takes_nothing_ends_a_redrive() {
    let ids: Vec<String> = (0..90).map(|at| format!("a-{at}")).collect();
    let dead = Arc::new(Leased::new(ids));
    // As a target it refuses every call.
    let target = Arc::new(Leased::new([]));
    let queue = Queue { queue: target, dead_letters: Arc::<Leased>::clone(&dead) };
    let done = send(&redrive("1000", &[]), &queue).await;
    assert_eq!((done.sent, done.failed), (0, 30), "three calls, and no more");
    let left = dead.lying.lock().unwrap();
    assert_eq!(left.len(), 90);
    assert!(left.iter().all(|m| m.visible_at <= Instant::now()), "given back");
}

#[tokio::test(start_paused = true)]
async fn many_letters_are_held_and_given_back_in_time() {
    let dead = Leased::new((0..20_000).map(|at| format!("m-{at}")));
    let select = only(&["none"]);
    let mut sweep = Sweep::with_lease(&dead, &AUDIT_INDEX, &select, Duration::from_secs(10));
    assert!(sweep.next(10).await.unwrap().is_none());
    sweep.finish().await;
    let left = dead.lying.lock().unwrap();
    assert!(left.iter().all(|m| m.receives == 1 && m.visible_at <= Instant::now()));
}

/// Letters of a FIFO queue: `group` of each; one of a group is not taken.
#[tokio::test]
async fn on_a_fifo_queue_nothing_overtakes_one_that_stays() {
    const FIFO: QueueSpec = QueueSpec { kind: QueueKind::Fifo, ..AUDIT_INDEX };
    let target = Arc::new(Scripted { refused: vec!["a2"], ..Scripted::default() });
    let dead = Arc::new(Scripted::default());
    let queue = Queue { queue: target, dead_letters: dead };
    let letters: Vec<Letter> = ["a1", "b1", "a2", "b2", "a3"]
        .into_iter()
        .map(|name| {
            let group = Some(name[..1].to_owned());
            Letter::read(Received { group, ..message(name, name) })
        })
        .collect();
    let outgoing = letters[0].outgoing(&FIFO);
    assert_eq!(outgoing.group.as_deref(), Some("a"));
    assert_eq!(outgoing.deduplication.as_deref(), Some("redrive-a1"), "two tries, one message");
    let mut carrier = Carrier::new(&queue, &FIFO);
    let kept = carrier.carry(&letters).await;
    let kept: Vec<&str> = kept.iter().map(|l| l.received.message_id.as_str()).collect();
    assert_eq!(kept, ["a2", "a3"], "and the other group goes on");
    assert_eq!(carrier.done.sent, 3);
}

//! Passes over a scripted dead-letter queue: leases that end on the way, entries that fail, messages
//! that another reader has.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use clap::{Args, FromArgMatches};
use contracts::catalogue::AUDIT_INDEX;
use queue_core::driver::{EntryResults, QueueAttributes, ReceiveRequest};
use queue_core::{Driver, DriverError, EntryError, Outgoing, Received};
use tokio::time::Instant;

use super::redrive::Redrive;
use super::select::Select;
use super::sweep::{Sweep, verdict};
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
        first_received_at_ms: None,
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

fn redrive(rate: &str) -> Redrive {
    let command = Redrive::augment_args(clap::Command::new("test"));
    let matches = command.get_matches_from(["test", "audit-index", "--rate", rate]);
    Redrive::from_arg_matches(&matches).unwrap()
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
    let mut redrive = redrive("1");
    redrive.lease = Duration::from_secs(8);
    let shown = Select { id: meant, ..Select::default() };
    let begun = Instant::now();
    let done = redrive.send(&queue, &shown, None).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(24), "{:?}", begun.elapsed());
    assert_eq!((done.sent, done.failed.len()), (29, 1));
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
    let mut sweep = Sweep::new(queue, &AUDIT_INDEX, select);
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
    let done = redrive("1000").send(&queue, &only(&["a", "b", "c"]), None).await.unwrap();
    assert_eq!((done.sent, done.failed.len()), (1, 1));
    assert_eq!(dead.given_back(), ["r2", "r3"]);
    let failure = verdict(3, done.sent, &done.failed, "sent").unwrap_err();
    assert_ne!(failure.exit, 0);
    assert!(failure.message.contains("1 of 3 were not met again"), "{failure:?}");
    assert!(failure.message.contains("1 were not sent: b: "), "{failure:?}");
    assert!(verdict(3, 2, &["b: no".to_owned()], "sent").is_err(), "all met, one failed");
    assert!(verdict(3, 2, &[], "sent").is_err(), "one not met");
    assert!(verdict(3, 3, &[], "sent").is_ok());
}

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
    let command = Redrive::augment_args(clap::Command::new("test"));
    let matches = command.get_matches_from(["test", "audit-index", "--rate", "1000"]);
    let redrive = Redrive::from_arg_matches(&matches).unwrap();
    let done = redrive.send(&queue, &only(&["a", "b", "c"]), None).await.unwrap();
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

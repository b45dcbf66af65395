//! An effect that nobody knows the end of, from its dead letter to its settlement: the command stands in
//! the letter, and what a person says of it is what the next delivery does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use contracts::catalogue::AUDIT_INDEX;
use contracts::{DecodeError, Envelope, EnvelopeId, Header, Message, QueueSpec};
use database::{PostgresAttempts, PostgresEffects, Role};
use queue_core::effects::{EffectKey, Effects, Outcome, Promise, once};
use queue_core::{
    Clock, Delivery, Engine, EngineConfig, Failure, Outgoing, Ports, SystemClock, Worker,
};
use testkit::{TestDatabase, TestSqs, eventually};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::command::{Said, fleetctl};

const PATIENCE: Duration = Duration::from_secs(60);

struct Mail;

impl Message for Mail {
    const QUEUE: &'static QueueSpec = &AUDIT_INDEX;

    fn kind(&self) -> &'static str {
        "MAIL"
    }

    fn version(&self) -> u32 {
        1
    }

    fn body_json(&self) -> Result<String, serde_json::Error> {
        Ok("{}".to_owned())
    }

    fn decode(_: &Header, _: &serde_json::value::RawValue) -> Result<Self, DecodeError> {
        Ok(Self)
    }
}

struct Mailer {
    effects: PostgresEffects,
    sent: Arc<AtomicUsize>,
}

impl Worker for Mailer {
    const NAME: &'static str = "mailer";
    type Message = Mail;

    async fn handle(&self, delivery: Delivery<Mail>) -> Result<(), Failure> {
        let key = mail(&delivery.header);
        let send = async {
            self.sent.fetch_add(1, Ordering::Relaxed);
            Ok(Outcome::default())
        };
        once(&self.effects, &delivery, &key, Promise::Unknown, send).await.map(drop)
    }
}

fn mail(header: &Header) -> EffectKey {
    EffectKey::of_thing("test.mail", header)
}

fn header(number: u128) -> Header {
    Header {
        v: 1,
        kind: "MAIL".into(),
        id: EnvelopeId(Uuid::from_u128(number)),
        tenant: "acme".parse().unwrap(),
        recorded_at: SystemClock.now(),
        correlation_id: format!("request-{number}"),
        causation_id: None,
        hops: 0,
        key: Some(format!("o'clock {number}")),
        revision: None,
    }
}

struct Rig {
    database: TestDatabase,
    sqs: TestSqs,
    sent: Arc<AtomicUsize>,
}

impl Rig {
    async fn type_in(&self, words: &[&str]) -> Said {
        let mut variables = self.sqs.environment().to_vec();
        variables.push(("DATABASE_URL", self.database.url().to_owned()));
        variables.push(("USER", "zoe".to_owned()));
        fleetctl(&variables, words).await
    }

    /// Types what a line of shell says, as a shell reads it.
    async fn type_line(&self, line: &str) -> Said {
        let script = format!("for word in {line}; do printf '%s\\0' \"$word\"; done");
        let split = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        let words = String::from_utf8(split.stdout).unwrap();
        let words: Vec<&str> = words.trim_end_matches('\0').split('\0').collect();
        assert_eq!(words[0], "fleetctl");
        self.type_in(&words[1..]).await
    }

    fn start(&self) -> (CancellationToken, tokio::task::JoinHandle<()>) {
        let pool = self.database.connect(Role::Worker);
        let worker = Mailer { effects: PostgresEffects::new(&pool), sent: Arc::clone(&self.sent) };
        let ports = Ports {
            queue: self.sqs.queue(AUDIT_INDEX.name),
            dead_letters: self.sqs.queue(AUDIT_INDEX.dlq),
            attempts: Arc::new(PostgresAttempts::new(&pool)),
            clock: Arc::new(SystemClock),
        };
        let config =
            EngineConfig { wait: Duration::from_secs(1), ..EngineConfig::for_queue(&AUDIT_INDEX) };
        let engine = Engine::new(Arc::new(worker), ports, config).unwrap();
        let drain = CancellationToken::new();
        let running = tokio::spawn({
            let drain = drain.clone();
            async move { assert!(engine.run(drain).await.within_budget) }
        });
        (drain, running)
    }

    /// The dead letters' reasons, once there are `count`.
    async fn reasons(&self, count: usize) -> Vec<String> {
        let words = ["dlq", "list", "audit-index", "--letters", "--json"];
        eventually(PATIENCE, "the letters are there", async || {
            let letters = self.type_in(&words).await.lines();
            let reason = |letter: &serde_json::Value| letter["reason"].as_str().unwrap().to_owned();
            (letters.len() == count).then(|| letters.iter().map(reason).collect())
        })
        .await
    }
}

/// The command in a letter.
fn command(reason: &str) -> &str {
    reason.split('`').nth(1).unwrap()
}

#[tokio::test]
async fn a_doubt_is_settled_by_the_command_in_its_dead_letter() {
    let rig = Rig {
        database: TestDatabase::new().await,
        sqs: TestSqs::start().await,
        sent: Arc::default(),
    };
    rig.sqs.create(&AUDIT_INDEX).await;
    let ledger = PostgresEffects::new(&rig.database.connect(Role::Worker));
    // A worker died in the middle of both.
    let mut messages = Vec::new();
    for number in [1, 2] {
        let header = header(number);
        ledger.begin(&mail(&header), "a worker that died", Duration::ZERO).await.unwrap();
        let body = Envelope::wrap(header, &Mail).unwrap().to_json().unwrap();
        messages.push(Outgoing { body, ..Outgoing::default() });
    }
    assert!(
        rig.sqs.queue(AUDIT_INDEX.name).send(&messages).await.unwrap().iter().all(Result::is_ok)
    );
    let (drain, running) = rig.start();
    let mut reasons = rig.reasons(2).await;
    reasons.sort();
    assert!(reasons.iter().all(|reason| reason.contains("a worker that died")), "{reasons:?}");

    let listed = rig.type_in(&["effects", "list", "--json"]).await.ok().lines();
    assert_eq!((listed.len(), &listed[0]["standing"]), (2, &"unknown".into()));
    let preview = rig.type_in(&["dlq", "redrive", "audit-index", "--json"]).await.ok().lines();
    assert_eq!(preview[0]["would_fail_again"], 2);
    assert!(preview[0]["doubts"].to_string().contains("effects show"), "{preview:?}");

    // As it stands in the letter; then the other one.
    let asks = rig.type_line(command(&reasons[0])).await;
    assert!(asks.code == 64 && asks.err.contains("--yes"), "nobody is at a terminal: {asks:?}");
    let done = format!("{} --yes --json", command(&reasons[0]));
    let settled = rig.type_line(&done).await.ok().lines();
    assert_eq!((&settled[0]["standing"], &settled[0]["by"]), (&"done".into(), &"zoe".into()));
    let again = rig.type_line(&done).await;
    assert!(again.code == 1 && again.err.contains("is done already"), "{again:?}");
    let not_done = command(&reasons[1]).replace("--done", "--not-done");
    rig.type_line(&format!("{not_done} --yes")).await.ok();
    let shown = rig.type_in(&["effects", "show", listed[0]["effect"].as_str().unwrap()]).await.ok();
    assert!(
        shown.out.contains("zoe: WHY") && shown.out.contains("a worker that died"),
        "{shown:?}"
    );

    rig.type_in(&["dlq", "redrive", "audit-index", "--yes"]).await.ok();
    eventually(PATIENCE, "both are acknowledged", async || {
        let depth = rig.sqs.queue(AUDIT_INDEX.name).attributes().await.unwrap().depth;
        (depth.visible + depth.in_flight == 0).then_some(())
    })
    .await;
    drain.cancel();
    running.await.unwrap();
    assert_eq!(rig.sent.load(Ordering::Relaxed), 1, "only what did not happen was done");
    assert!(rig.reasons(0).await.is_empty());
    let none = rig.type_in(&["effects", "list"]).await.ok();
    assert!(none.err.contains("no effect is in doubt"), "{none:?}");
}

#[tokio::test]
async fn what_cannot_be_settled_says_why() {
    let rig = Rig {
        database: TestDatabase::new().await,
        sqs: TestSqs::start().await,
        sent: Arc::default(),
    };
    let ledger = PostgresEffects::new(&rig.database.connect(Role::Worker));
    ledger.begin(&mail(&header(3)), "worker 1", Duration::from_secs(30)).await.unwrap();
    let name = mail(&header(3)).to_string();
    let words = ["effects", "settle", name.as_str(), "--not-done", "--reason", "r", "--yes"];
    let held = rig.type_in(&words).await;
    assert!(held.code == 1 && held.err.contains("is held by a delivery for"), "{held:?}");
    let unheard = rig.type_in(&["effects", "show", "test.mail/acme/key:nobody"]).await;
    assert!(unheard.code == 1 && unheard.err.contains("effects list --all"), "{unheard:?}");
    for wrong in [
        &["effects", "settle", name.as_str(), "--reason", "r"] as &[&str],
        &["effects", "settle", name.as_str(), "--done"],
        &["effects", "settle", name.as_str(), "--done", "--not-done", "--reason", "r"],
        &["effects", "settle", name.as_str(), "--not-done", "--outcome", "o", "--reason", "r"],
        &["effects", "show", "no-name"],
    ] {
        let said = rig.type_in(wrong).await;
        assert_eq!(said.code, 64, "{wrong:?}: {said:?}");
    }
    let down = [("DATABASE_URL", "postgres://u:p@127.0.0.1:1/none".to_owned())];
    let said = fleetctl(&down, &["effects", "list"]).await;
    assert!(said.code == 69 && said.err.contains("hint: check DATABASE_URL"), "{said:?}");
}

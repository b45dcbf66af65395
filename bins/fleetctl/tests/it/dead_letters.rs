//! Dead letters on the emulator: reading loses none, sending back sends the original and only then
//! deletes.

use std::collections::BTreeSet;
use std::time::Duration;

use contracts::catalogue::AUDIT_INDEX;
use queue_core::driver::ReceiveRequest;
use queue_core::{DeadLetter, Outgoing};
use testkit::TestSqs;

use crate::command::{Said, fleetctl};

struct Rig {
    sqs: TestSqs,
}

impl Rig {
    async fn new() -> Self {
        let sqs = TestSqs::start().await;
        sqs.create(&AUDIT_INDEX).await;
        Self { sqs }
    }

    async fn type_in(&self, words: &[&str]) -> Said {
        fleetctl(&self.sqs.environment(), words).await
    }

    async fn put(&self, letters: &[Outgoing]) {
        let dead = self.sqs.queue(AUDIT_INDEX.dlq);
        for batch in letters.chunks(10) {
            assert!(dead.send(batch).await.unwrap().iter().all(Result::is_ok));
        }
    }

    /// Everything that can be received from a queue now, bodies only.
    async fn bodies(&self, name: &str) -> Vec<String> {
        let queue = self.sqs.queue(name);
        let (wait, lease) = (Duration::ZERO, Duration::from_secs(60));
        let mut bodies = Vec::new();
        loop {
            let batch = queue.receive(ReceiveRequest { max: 10, wait, lease }).await.unwrap();
            if batch.is_empty() {
                return bodies;
            }
            bodies.extend(batch.into_iter().map(|message| message.body));
        }
    }

    async fn list(&self, words: &[&str]) -> Vec<serde_json::Value> {
        let all = [&["dlq", "list", "audit-index", "--json"], words].concat();
        self.type_in(&all).await.ok().lines()
    }
}

pub(crate) fn letter(at: usize, code: &str, tenant: &str) -> Outgoing {
    let letter = DeadLetter {
        flotilla_dead_letter: 1,
        queue: AUDIT_INDEX.name.into(),
        worker: "index-worker 0.1.0".into(),
        code: code.into(),
        message: format!("attempt failed: {at}"),
        fingerprint: code.into(),
        message_id: format!("original-{at}"),
        envelope: Some(queue_core::dead_letter::EnvelopeSummary {
            id: format!("e{at}"),
            kind: "INDEX".into(),
            v: 1,
            tenant: tenant.into(),
            correlation_id: "c".into(),
        }),
        parent: None,
        failures: 3,
        receives: 3,
        attempts: Vec::new(),
        first_seen: "2026-11-21T10:00:00Z".parse().unwrap(),
        rejected_at: "2026-11-21T11:00:00Z".parse().unwrap(),
        traceparent: None,
        group: Some(tenant.into()),
        edits: Vec::new(),
        attributes: vec![("type".into(), "INDEX".into())],
        body: format!("{{\"original\":{at}}}"),
    };
    Outgoing { body: letter.to_json().unwrap(), ..Outgoing::default() }
}

#[tokio::test]
async fn listing_shows_every_letter_and_loses_none() {
    let rig = Rig::new().await;
    let mut letters: Vec<_> = (0..23).map(|at| letter(at, "failures-exhausted", "acme")).collect();
    letters.push(Outgoing { body: "raw, from SQS itself".into(), ..Outgoing::default() });
    rig.put(&letters).await;
    for _ in 0..2 {
        let rows = rig.list(&[]).await;
        let ids: BTreeSet<_> = rows.iter().map(|row| row["id"].to_string()).collect();
        assert_eq!((rows.len(), ids.len()), (24, 24), "a second listing sees the same");
        let raw = rows.iter().filter(|row| row["code"] == "moved-by-sqs").count();
        assert_eq!(raw, 1);
    }
    assert_eq!(rig.bodies(AUDIT_INDEX.dlq).await.len(), 24);
}

#[tokio::test]
async fn filters_and_causes_narrow_the_listing() {
    let rig = Rig::new().await;
    rig.put(&[
        letter(1, "failures-exhausted", "acme"),
        letter(2, "message-malformed", "acme"),
        letter(3, "message-malformed", "umbrella"),
    ])
    .await;
    assert_eq!(rig.list(&["--code", "message-malformed"]).await.len(), 2);
    assert_eq!(rig.list(&["--code", "message-malformed", "--tenant", "acme"]).await.len(), 1);
    assert_eq!(rig.list(&["--fingerprint", "failures-exhausted"]).await.len(), 1);
    assert_eq!(rig.list(&["--type", "UPDATE"]).await.len(), 0);
    assert_eq!(rig.list(&["--older-than", "3000d"]).await.len(), 0);
    let causes = rig.list(&["--by-cause"]).await.remove(0);
    assert_eq!(causes.as_array().unwrap().len(), 2);
    assert_eq!(causes[0]["count"], 2);
}

#[tokio::test]
async fn redrive_sends_the_originals_that_were_meant_and_keeps_the_rest() {
    let rig = Rig::new().await;
    let mut letters: Vec<_> = (0..12).map(|at| letter(at, "failures-exhausted", "acme")).collect();
    letters.push(letter(99, "message-malformed", "acme"));
    rig.put(&letters).await;
    let dry = ["dlq", "redrive", "audit-index", "--code", "failures-exhausted", "--dry-run"];
    rig.type_in(&dry).await.ok();
    assert_eq!(rig.list(&[]).await.len(), 13, "a dry run moves nothing");
    let unasked = ["dlq", "redrive", "audit-index", "--code", "failures-exhausted"];
    assert_eq!(rig.type_in(&unasked).await.code, 64, "nobody is there to say yes");
    let go = ["dlq", "redrive", "audit-index", "--code", "failures-exhausted", "--yes", "--json"];
    let done = rig.type_in(&go).await.ok().lines().remove(0);
    assert_eq!((&done["sent"], &done["not_deleted"]), (&12.into(), &0.into()));
    let sent: BTreeSet<String> = rig.bodies(AUDIT_INDEX.name).await.into_iter().collect();
    let originals: BTreeSet<String> = (0..12).map(|at| format!("{{\"original\":{at}}}")).collect();
    assert_eq!(sent, originals);
    assert_eq!(rig.list(&[]).await.len(), 1, "what was not meant is still there");
}

#[tokio::test]
async fn an_original_keeps_its_attributes_and_can_be_mended() {
    let rig = Rig::new().await;
    rig.put(&[letter(1, "message-malformed", "acme"), letter(2, "loop", "acme")]).await;
    let row = rig.list(&["--code", "message-malformed"]).await.remove(0);
    let id = row["id"].as_str().unwrap();
    let body = rig.type_in(&["dlq", "show", "audit-index", id, "--body"]).await.ok().out;
    assert_eq!(body, "{\"original\":1}\n");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mended.json");
    std::fs::write(&path, "{\"mended\":1}\n").unwrap();
    let file = path.to_str().unwrap();
    let both = ["dlq", "redrive", "audit-index", "--body", file, "--yes"];
    assert_eq!(rig.type_in(&both).await.code, 64, "a mended body is for one message");
    let one = ["dlq", "redrive", "audit-index", "--id", id, "--body", file, "--yes"];
    rig.type_in(&one).await.ok();
    let queue = rig.sqs.queue(AUDIT_INDEX.name);
    let (wait, lease) = (Duration::ZERO, Duration::from_secs(60));
    let got = queue.receive(ReceiveRequest { max: 10, wait, lease }).await.unwrap();
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].body, "{\"mended\":1}");
    assert_eq!(got[0].attributes, [("type".to_owned(), "INDEX".to_owned())]);
}

#[tokio::test]
async fn nothing_is_deleted_when_the_queue_does_not_take_it() {
    let rig = Rig::new().await;
    rig.put(&[letter(1, "failures-exhausted", "acme")]).await;
    let mut variables = rig.sqs.environment().to_vec();
    // A queue that does not exist, in front of the same dead letters.
    let url = rig.sqs.url("no-such-queue");
    variables.push((AUDIT_INDEX.env, url));
    let said = fleetctl(&variables, &["dlq", "redrive", "audit-index", "--yes"]).await;
    assert_ne!(said.code, 0, "{said:?}");
    assert_eq!(rig.list(&[]).await.len(), 1);
}

#[tokio::test]
async fn purge_needs_a_filter_and_deletes_only_what_fits() {
    let rig = Rig::new().await;
    rig.put(&[letter(1, "failures-exhausted", "acme"), letter(2, "message-loop", "acme")]).await;
    assert_eq!(rig.type_in(&["dlq", "purge", "audit-index", "--yes"]).await.code, 64);
    let words = ["dlq", "purge", "audit-index", "--code", "message-loop", "--yes", "--json"];
    let done = rig.type_in(&words).await.ok().lines().remove(0);
    assert_eq!(done["deleted"], 1);
    assert_eq!(rig.list(&[]).await[0]["code"], "failures-exhausted");
    rig.type_in(&["dlq", "purge", "audit-index", "--all", "--yes"]).await.ok();
    assert_eq!(rig.list(&[]).await.len(), 0);
}

#[tokio::test]
async fn queues_shows_depth_and_dead_letters() {
    let rig = Rig::new().await;
    let outgoing = Outgoing { body: "{}".into(), ..Outgoing::default() };
    rig.sqs.queue(AUDIT_INDEX.name).send(&[outgoing.clone(), outgoing]).await.unwrap();
    rig.put(&[letter(1, "message-loop", "acme")]).await;
    let rows = rig.type_in(&["queues", "--json"]).await.ok().lines();
    let index = rows.iter().find(|row| row["queue"] == "audit-index").unwrap();
    assert_eq!((&index["waiting"], &index["dead_letters"]), (&2.into(), &1.into()));
    let absent = rows.iter().find(|row| row["queue"] == "audit-archive").unwrap();
    assert!(absent["waiting"].is_null(), "a queue that is not there has no depth");
}

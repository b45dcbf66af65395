//! Dead letters on the emulator: reading loses none, sending back sends the original and only then
//! deletes.

use std::collections::BTreeSet;
use std::time::Duration;

use contracts::catalogue::AUDIT_INDEX;
use queue_core::driver::ReceiveRequest;
use queue_core::{DeadLetter, Outgoing};
use testkit::TestSqs;

use crate::command::{Said, fleetctl};

pub(crate) struct Rig {
    pub(crate) sqs: TestSqs,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        let sqs = TestSqs::start().await;
        sqs.create(&AUDIT_INDEX).await;
        Self { sqs }
    }

    pub(crate) async fn type_in(&self, words: &[&str]) -> Said {
        fleetctl(&self.sqs.environment(), words).await
    }

    pub(crate) async fn put(&self, letters: &[Outgoing]) {
        let dead = self.sqs.queue(AUDIT_INDEX.dlq);
        for batch in letters.chunks(10) {
            assert!(dead.send(batch).await.unwrap().iter().all(Result::is_ok));
        }
    }

    /// Everything that can be received from a queue now, bodies only.
    pub(crate) async fn bodies(&self, name: &str) -> Vec<String> {
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

    pub(crate) async fn list(&self, words: &[&str]) -> Vec<serde_json::Value> {
        let all = [&["dlq", "list", "audit-index", "--letters", "--json"], words].concat();
        self.type_in(&all).await.ok().lines()
    }
}

/// A message that the index worker can read.
pub(crate) fn original(at: usize, tenant: &str) -> String {
    let golden = include_str!("../../../../crates/contracts/golden/index/v1.json").trim_end();
    golden
        .replace("01941f29-7c01-7000-8000-000000000001", &envelope_id(at))
        .replace("\"90d\"", "\"7y\"")
        .replace("\"acme\"", &format!("\"{tenant}\""))
}

pub(crate) fn envelope_id(at: usize) -> String {
    format!("01941f29-7c01-7000-8000-{at:012x}")
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
            id: envelope_id(at),
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
        body: original(at, tenant),
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
async fn filters_narrow_the_listing() {
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
}

#[tokio::test]
async fn letters_are_counted_by_cause_or_by_what_is_asked() {
    let rig = Rig::new().await;
    let mut letters: Vec<_> = (0..12).map(|at| letter(at, "message-malformed", "acme")).collect();
    letters.push(letter(20, "message-malformed", "umbrella"));
    letters.push(letter(21, "failures-exhausted", "acme"));
    letters.push(Outgoing { body: original(22, "acme"), ..Outgoing::default() });
    rig.put(&letters).await;
    let groups = rig.type_in(&["dlq", "list", "audit-index", "--json"]).await.ok().lines();
    let told: Vec<_> = groups
        .iter()
        .map(|group| (group["key"].as_str().unwrap(), group["count"].as_u64().unwrap()))
        .collect();
    let expected = [("message-malformed", 13), ("failures-exhausted", 1), ("moved-by-sqs", 1)];
    assert_eq!(told, expected);
    assert_eq!(
        (&groups[0]["tenants"], &groups[0]["sample"]["code"]),
        (&2.into(), &"message-malformed".into())
    );
    assert_eq!(groups[0]["first_seen"], "2026-11-21T10:00:00Z");
    assert_eq!(groups[2]["sample"]["tenant"], "acme", "read from the raw message's envelope");
    let by = ["dlq", "list", "audit-index", "--by", "tenant", "--json"];
    let tenants = rig.type_in(&by).await.ok().lines();
    assert_eq!((&tenants[0]["key"], &tenants[0]["count"]), (&"acme".into(), &14.into()));
    let table = rig.type_in(&["dlq", "list"]).await.ok().out;
    assert!(table.starts_with("COUNT  FINGERPRINT"), "{table}");
}

#[tokio::test]
async fn a_letter_is_shown_as_its_type_and_one_that_is_none_with_why() {
    let rig = Rig::new().await;
    rig.put(&[letter(1, "failures-exhausted", "acme")]).await;
    rig.put(&[Outgoing { body: "{\"v\":1}".into(), ..Outgoing::default() }]).await;
    let show = async |code: &str, words: &[&str]| {
        let id = rig.list(&["--code", code]).await[0]["id"].as_str().unwrap().to_owned();
        rig.type_in(&[&["dlq", "show", "audit-index", &id], words].concat()).await.ok()
    };
    let shown = show("failures-exhausted", &[]).await.out;
    for line in
        ["body, as INDEX version 1:", "      \"amount\": 12.50", "worker       index-worker 0.1.0"]
    {
        assert!(shown.contains(line), "{line} in {shown}");
    }
    let json = show("failures-exhausted", &["--json"]).await.lines().remove(0);
    assert_eq!(json["decoded"]["type"], "INDEX");
    assert_eq!(json["letter"]["worker"], "index-worker 0.1.0");
    let raw = show("moved-by-sqs", &[]).await.out;
    assert!(raw.contains("original, not decoded: not an envelope: missing field `type`"), "{raw}");
    assert!(raw.contains("  \"v\": 1"), "{raw}");
    assert!(raw.contains("would fail again: its body still does not decode"), "{raw}");
    assert_eq!(show("moved-by-sqs", &["--body"]).await.out, "{\"v\":1}\n");
}

#[tokio::test]
async fn an_edit_must_decode_keeps_the_id_and_says_who() {
    let rig = Rig::new().await;
    let mut broken = letter(1, "message-malformed", "acme");
    broken.body = broken.body.replace("\\\"salt\\\":", "\\\"pepper\\\":");
    rig.put(&[broken, letter(2, "loop", "acme")]).await;
    let id = rig.list(&["--code", "message-malformed"]).await[0]["id"].as_str().unwrap().to_owned();
    let edit = async |words: &[&str]| {
        rig.type_in(&[&["dlq", "edit", "audit-index", &id, "--by", "ana"], words].concat()).await
    };
    assert_eq!(edit(&["--set", "body.salt=00"]).await.code, 64, "why?");
    for (change, why) in [
        ("body.pepper=1", "missing field `salt`"),
        ("type=NO_SUCH", "unknown message type"),
        ("hops=9", "relayed 9 times"),
        ("tenant=", "not a message of"),
    ] {
        let said = edit(&["--set", change, "--why", "a try"]).await;
        assert!(said.code == 1 && said.err.contains(why), "{change}: {said:?}");
    }
    let other = format!("id={}", envelope_id(9));
    let said = edit(&[
        "--set",
        "body.salt=000102030405060708090a0b0c0d0e0f",
        "--set",
        &other,
        "--why",
        "x",
    ])
    .await;
    assert!(said.err.contains("the envelope's id stays"), "{said:?}");
    assert_eq!(rig.list(&[]).await.len(), 2, "nothing was changed so far");
    let mend = ["--set", "body.salt=000102030405060708090a0b0c0d0e0f", "--why", "INC-12, \u{e9}"];
    let said = edit(&mend).await.ok().out;
    assert!(said.contains(&envelope_id(1)), "{said}");
    let rows = rig.list(&["--code", "message-malformed"]).await;
    assert_eq!(rows.len(), 1, "the new one has taken the old one's place");
    let id = rows[0]["id"].as_str().unwrap();
    let shown = rig.type_in(&["dlq", "show", "audit-index", id]).await.ok().out;
    assert!(shown.contains("by ana: INC-12"), "{shown}");
    rig.type_in(&["dlq", "redrive", "audit-index", "--id", id, "--yes"]).await.ok();
    let (wait, lease) = (Duration::ZERO, Duration::from_secs(60));
    let queue = rig.sqs.queue(AUDIT_INDEX.name);
    let got = queue.receive(ReceiveRequest { max: 10, wait, lease }).await.unwrap();
    assert_eq!(got.len(), 1);
    let (edited, whole) = (got[0].attribute("flotilla-edited"), original(1, "acme"));
    assert_eq!(edited, Some("ana: INC-12, "));
    assert!(got[0].body.contains("\"pepper\"") && got[0].body.contains("12.50"), "{}", got[0].body);
    assert_eq!(got[0].attribute("type"), Some("INDEX"));
    assert!(whole.contains(&envelope_id(1)) && got[0].body.contains(&envelope_id(1)));
}

#[tokio::test]
async fn an_editor_gets_the_letter_and_a_file_may_take_its_place() {
    let rig = Rig::new().await;
    rig.put(&[letter(1, "loop", "acme")]).await;
    let id = rig.list(&[]).await[0]["id"].as_str().unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("editor.sh");
    std::fs::write(&script, "sed -i 's/invoice.paid/invoice.void/' \"$1\"\n").unwrap();
    let mut variables = rig.sqs.environment().to_vec();
    variables.push(("VISUAL", format!("sh {}", script.display())));
    variables.push(("USER", "ben".to_owned()));
    variables.push(("PATH", "/usr/bin:/bin".to_owned()));
    let words = ["dlq", "edit", "audit-index", &id, "--why", "voided", "--redrive"];
    fleetctl(&variables, &words).await.ok();
    assert_eq!(rig.list(&[]).await.len(), 0);
    let sent = rig.bodies(AUDIT_INDEX.name).await;
    assert_eq!(
        sent,
        [original(1, "acme").replace("invoice.paid", "invoice.void")],
        "and no other byte"
    );
    let file = folder.path().join("mended.json");
    std::fs::write(&file, "{").unwrap();
    rig.put(&[letter(2, "loop", "acme")]).await;
    let id = rig.list(&[]).await[0]["id"].as_str().unwrap().to_owned();
    let file = file.to_str().unwrap();
    let said =
        rig.type_in(&["dlq", "edit", "audit-index", &id, "--body", file, "--why", "x"]).await;
    assert!(said.code == 1 && said.err.contains("not JSON"), "{said:?}");
}

#[tokio::test]
async fn purge_deletes_only_what_fits_and_stands_in_a_file() {
    let rig = Rig::new().await;
    rig.put(&[letter(1, "failures-exhausted", "acme"), letter(2, "message-loop", "acme")]).await;
    let purge = async |words: &[&str]| {
        rig.type_in(&[&["dlq", "purge", "audit-index", "--json"], words].concat()).await
    };
    assert_eq!(purge(&["--yes"]).await.code, 64, "which?");
    let preview = purge(&["--code", "message-loop"]).await.ok().lines().remove(0);
    assert_eq!(preview["would_delete"], 1);
    assert_eq!(purge(&["--code", "message-loop", "--yes"]).await.code, 64, "no copy");
    assert_eq!(rig.list(&[]).await.len(), 2);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gone.ndjson");
    let file = path.to_str().unwrap();
    let words = ["--code", "message-loop", "--export", file, "--yes"];
    assert_eq!(purge(&words).await.ok().lines()[0]["deleted"], 1);
    let copy: serde_json::Value =
        serde_json::from_str(std::fs::read_to_string(&path).unwrap().trim_end()).unwrap();
    assert_eq!(copy["body"], letter(2, "message-loop", "acme").body);
    assert_eq!(purge(&["--all", "--export", file, "--yes"]).await.code, 64, "an older copy stays");
    assert_eq!(rig.list(&[]).await[0]["code"], "failures-exhausted");
    let other = folder.path().join("all.ndjson");
    purge(&["--all", "--export", other.to_str().unwrap(), "--yes"]).await.ok();
    assert_eq!(rig.list(&[]).await.len(), 0);
}

#[tokio::test]
async fn a_look_that_would_move_letters_is_refused() {
    let rig = Rig::new().await;
    rig.sqs.create_queue("elsewhere").await;
    let arn = "arn:aws:sqs:eu-central-1:000000000000:elsewhere";
    let policy = serde_json::json!({ "deadLetterTargetArn": arn, "maxReceiveCount": 3 });
    rig.sqs.set_attribute(AUDIT_INDEX.dlq, "RedrivePolicy", &policy.to_string()).await;
    rig.put(&[letter(1, "loop", "acme")]).await;
    for _ in 0..4 {
        let said = rig.type_in(&["dlq", "list", "audit-index"]).await;
        assert!(said.code == 1 && said.err.contains("itself redrives"), "{said:?}");
    }
    assert_eq!(rig.bodies(AUDIT_INDEX.dlq).await.len(), 1);
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

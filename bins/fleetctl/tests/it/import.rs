//! Imports against a double of the API: nothing is sent twice under another key, a stopped import
//! goes on where it was, and the server's pace is kept.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use testkit::{Answer, HttpDouble, Seen};

use crate::command::{Said, fleetctl};

fn events(count: usize) -> String {
    let line = |at| format!("{}\n", json!({ "action": "a", "at": at }));
    (0..count).map(line).collect::<Vec<String>>().concat()
}

/// Takes every event; its id is its `at`, so the same event has the same id.
fn taken(seen: &Seen) -> Answer {
    let results: Vec<Value> = seen
        .text()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|event| json!({ "id": format!("id-{}", event["at"]) }))
        .collect();
    Answer::json(json!({ "results": results })).with_status(202)
}

async fn import(double: &HttpDouble, words: &[&str]) -> Said {
    let variables = [
        ("FLOTILLA_URL", double.url()),
        ("FLOTILLA_API_KEY", "flt_test_abcdefgh_0123456789abcdef".to_owned()),
    ];
    fleetctl(&variables, &[&["import", "ndjson"], words].concat()).await
}

struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new(count: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("events.ndjson"), events(count)).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn every_event_is_sent_once_and_its_id_is_kept() {
    let (double, files) = (HttpDouble::start().await, Files::new(25));
    double.programme(taken);
    let (file, receipts) = (files.path("events.ndjson"), files.path("ids"));
    let words = [&file, "--batch", "10", "--receipts", &receipts, "--json"];
    let said = import(&double, &words).await.ok();
    assert_eq!(said.lines()[0]["accepted"], 25);
    let ids = std::fs::read_to_string(&receipts).unwrap();
    let expected = (0..25).map(|at| format!("id-{at}\n")).collect::<Vec<String>>().concat();
    assert_eq!(ids, expected, "in the order of the source");
    let keys: Vec<String> =
        double.seen().iter().map(|seen| seen.header("idempotency-key").to_owned()).collect();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| key.starts_with("import-")));
}

/// Answers a key that was seen before with its ids, as the API does.
fn taken_by_key(seen: &Seen) -> Answer {
    let key = seen.header("idempotency-key").to_owned();
    let count = seen.text().lines().count();
    let results: Vec<Value> = (0..count).map(|at| json!({ "id": format!("{key}-{at}") })).collect();
    Answer::json(json!({ "results": results })).with_status(202)
}

#[tokio::test]
async fn equal_events_are_events_of_their_own_and_a_repeat_is_none() {
    let (double, files) = (HttpDouble::start().await, Files::new(0));
    double.programme(taken_by_key);
    let (one, other, receipts) = (files.path("one"), files.path("other"), files.path("ids"));
    let ids = || {
        let text = std::fs::read_to_string(&receipts).unwrap();
        text.lines().map(str::to_owned).collect::<BTreeSet<String>>().len()
    };
    for file in [&one, &other] {
        std::fs::write(file, "{\"action\":\"heartbeat\"}\n".repeat(20)).unwrap();
    }
    for (file, expected) in [(&one, 20), (&other, 40), (&one, 40)] {
        import(&double, &[file, "--batch", "10", "--receipts", &receipts]).await.ok();
        assert_eq!(ids(), expected, "after {file}");
    }
}

#[tokio::test]
async fn a_stopped_import_goes_on_where_it_was() {
    let (double, files) = (HttpDouble::start().await, Files::new(30));
    let sent = Arc::new(Mutex::new(0));
    let count = Arc::clone(&sent);
    double.programme(move |seen| {
        let mut count = count.lock().unwrap();
        *count += 1;
        // The third request breaks the first run: a key that was revoked meanwhile.
        if *count == 3 { Answer::status(401) } else { taken(seen) }
    });
    let (file, state) = (files.path("events.ndjson"), files.path("state"));
    let words = [&file, "--batch", "10", "--concurrency", "1", "--state", &state, "--json"];
    assert_eq!(import(&double, &words).await.code, 1);
    let said = import(&double, &words).await.ok();
    assert_eq!(said.lines()[0]["accepted"], 10);
    assert_eq!(said.lines()[0]["skipped"], 20);
    let seen = double.seen();
    let key = |at: usize| seen[at].header("idempotency-key").to_owned();
    assert_eq!(key(2), key(3), "the broken batch goes again under its key");
}

#[tokio::test]
async fn too_many_requests_waits_and_sends_the_same_again() {
    let (double, files) = (HttpDouble::start().await, Files::new(5));
    double.next([Answer::too_many(1)]);
    double.programme(taken);
    let said = import(&double, &[&files.path("events.ndjson"), "--json"]).await.ok();
    assert_eq!(said.lines()[0]["accepted"], 5);
    let seen = double.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].text(), seen[1].text());
}

#[tokio::test]
async fn refused_events_are_counted_and_the_others_are_in() {
    let (double, files) = (HttpDouble::start().await, Files::new(2));
    let error = json!({ "code": "invalid-field", "retryable": false });
    let results = json!({ "results": [{ "id": "x" }, { "error": error }] });
    double.always(Answer::json(results).with_status(207));
    let said = import(&double, &[&files.path("events.ndjson"), "--json"]).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert_eq!(said.lines()[0]["accepted"], 1);
    assert_eq!(said.lines()[0]["rejected"], 1);
    assert_eq!(double.seen().len(), 1, "what is refused for good is not tried again");
}

#[tokio::test]
async fn a_dry_run_sends_nothing_and_needs_no_key() {
    let files = Files::new(7);
    let words = ["import", "ndjson", &files.path("events.ndjson"), "--dry-run", "--json"];
    let said = fleetctl(&[], &words).await.ok();
    assert_eq!(said.lines()[0]["events"], 7);
}

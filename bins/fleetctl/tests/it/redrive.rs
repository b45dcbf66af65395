//! Dead letters sent back: the preview, the rate, an operator or a machine that stops in the middle,
//! a second operator, and what would fail again.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use contracts::catalogue::AUDIT_INDEX;
use queue_core::Outgoing;
use serde_json::json;
use testkit::{Answer, HttpDouble, eventually};

use crate::command::fleetctl;
use crate::dead_letters::{Rig, letter, original};
use crate::fleet::Typed;

const PATIENCE: Duration = Duration::from_secs(60);

fn exhausted(count: usize) -> Vec<Outgoing> {
    (0..count).map(|at| letter(at, "failures-exhausted", "acme")).collect()
}

fn originals(count: usize) -> BTreeSet<String> {
    (0..count).map(|at| original(at, "acme")).collect()
}

#[tokio::test]
async fn a_preview_sends_nothing_and_yes_sends_what_is_meant() {
    let rig = Rig::new().await;
    let mut letters = exhausted(12);
    letters.push(letter(99, "message-malformed", "acme"));
    rig.put(&letters).await;
    let words = ["dlq", "redrive", "audit-index", "--code", "failures-exhausted", "--json"];
    let preview = rig.type_in(&words).await.ok().lines().remove(0);
    assert_eq!((&preview["would_send"], &preview["takes_secs"]), (&12.into(), &1.into()));
    assert_eq!(rig.list(&[]).await.len(), 13, "a preview moves nothing");
    let done = rig.type_in(&[&words as &[&str], &["--yes"]].concat()).await.ok().lines().remove(0);
    assert_eq!((&done["sent"], &done["not_deleted"]), (&12.into(), &0.into()));
    let sent: BTreeSet<String> = rig.bodies(AUDIT_INDEX.name).await.into_iter().collect();
    assert_eq!(sent, originals(12));
    assert_eq!(rig.list(&[]).await.len(), 1, "what was not meant is still there");
}

#[tokio::test]
async fn what_can_never_be_handled_is_left_unless_forced() {
    let rig = Rig::new().await;
    rig.put(&exhausted(1)).await;
    rig.put(&[Outgoing { body: "no message".into(), ..Outgoing::default() }]).await;
    let words = ["dlq", "redrive", "audit-index"];
    let told = rig.type_in(&words).await.ok().out;
    assert!(told.contains("would send 1") && told.contains("would be left"), "{told}");
    assert!(told.contains("fleetctl dlq edit audit-index"), "with the command: {told}");
    let done = rig.type_in(&[&words as &[&str], &["--yes", "--json"]].concat()).await.ok();
    assert_eq!(done.lines()[0]["skipped"], 1);
    assert_eq!(rig.list(&[]).await.len(), 1);
    rig.type_in(&[&words as &[&str], &["--yes", "--force"]].concat()).await.ok();
    assert_eq!(rig.bodies(AUDIT_INDEX.name).await.len(), 2);
}

#[tokio::test]
async fn nothing_is_deleted_when_the_queue_does_not_take_it() {
    let rig = Rig::new().await;
    rig.put(&exhausted(1)).await;
    let mut variables = rig.sqs.environment().to_vec();
    // A queue that does not exist, in front of the same dead letters.
    variables.push((AUDIT_INDEX.env, rig.sqs.url("no-such-queue")));
    let said = fleetctl(&variables, &["dlq", "redrive", "audit-index", "--yes"]).await;
    assert_ne!(said.code, 0, "{said:?}");
    assert_eq!(rig.list(&[]).await.len(), 1);
}

#[tokio::test]
async fn the_rate_holds() {
    let rig = Rig::new().await;
    rig.put(&exhausted(30)).await;
    let begun = Instant::now();
    rig.type_in(&["dlq", "redrive", "audit-index", "--rate", "10", "--yes"]).await.ok();
    // The first ten leave at once.
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(rig.bodies(AUDIT_INDEX.name).await.len(), 30);
}

/// Stops a redrive at a random moment, a few times, then lets one run to its end.
async fn stopped_often(stop: impl AsyncFn(Typed)) {
    let rig = Rig::new().await;
    let count = 120;
    rig.put(&exhausted(count)).await;
    let variables = rig.sqs.environment();
    let words = ["dlq", "redrive", "audit-index", "--rate", "100", "--yes"];
    for _ in 0..3 {
        let before = sent(&rig).await;
        let typed = Typed::start(&variables, &words);
        eventually(PATIENCE, "some more are sent", async || {
            (sent(&rig).await > before).then_some(())
        })
        .await;
        stop(typed).await;
    }
    let all = originals(count);
    // What a killed one held comes back with its leases: two minutes, by the emulator's own clock.
    assert!(rig.sqs.hub().advance_clock(130_000));
    rig.type_in(&words).await.ok();
    assert_eq!(rig.list(&[]).await.len(), 0);
    let found: BTreeSet<String> = rig.bodies(AUDIT_INDEX.name).await.into_iter().collect();
    assert_eq!(found, all, "none lost, and a duplicate is the same message");
}

async fn sent(rig: &Rig) -> u64 {
    rig.sqs.queue(AUDIT_INDEX.name).attributes().await.unwrap().depth.visible
}

#[tokio::test]
async fn a_redrive_that_is_killed_loses_nothing_and_goes_on() {
    stopped_often(async |mut typed| {
        typed.child.start_kill().unwrap();
        typed.child.wait().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_interrupted_redrive_gives_back_what_it_holds() {
    let rig = Rig::new().await;
    rig.put(&exhausted(40)).await;
    let words = ["dlq", "redrive", "audit-index", "--rate", "1", "--yes"];
    let typed = Typed::start(&rig.sqs.environment(), &words);
    eventually(PATIENCE, "one is sent", async || (sent(&rig).await > 0).then_some(())).await;
    let id = typed.child.id().and_then(|id| i32::try_from(id).ok()).unwrap();
    let id = rustix::process::Pid::from_raw(id).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    assert_eq!(typed.ended().await, Some(1), "not done, and it says so");
    let moved = usize::try_from(sent(&rig).await).unwrap();
    assert_eq!(rig.list(&[]).await.len(), 40 - moved, "all others are visible at once");
}

#[tokio::test]
async fn two_operators_send_each_letter_once() {
    let rig = Rig::new().await;
    rig.put(&exhausted(60)).await;
    let words = ["dlq", "redrive", "audit-index", "--rate", "50", "--yes", "--json"];
    let (one, other) = tokio::join!(rig.type_in(&words), rig.type_in(&words));
    let sent = |said: &crate::command::Said| said.lines()[0]["sent"].as_u64().unwrap();
    assert_eq!(sent(&one) + sent(&other), 60, "{one:?} {other:?}");
    assert_eq!(rig.bodies(AUDIT_INDEX.name).await.len(), 60);
}

#[tokio::test]
async fn doctor_says_when_a_redrive_would_fail_again() {
    let rig = Rig::new().await;
    let admin = HttpDouble::start().await;
    let status = |version: &str, state: &str| {
        Answer::json(json!({
            "service": "index-worker", "build": { "version": version },
            "sections": { "audit-index": { "breakers": [{ "sink": "opensearch", "state": state }] } },
        }))
    };
    let url = admin.url();
    let found = async || {
        let said = rig.type_in(&["doctor", "--json", "--admin", &url]).await;
        let rows = said.lines();
        let row = rows.iter().find(|row| row["what"] == "dead letters of audit-index");
        let row = row.unwrap_or_else(|| panic!("{said:?}")).clone();
        (row["ok"].as_bool().unwrap(), row["found"].to_string(), row["hint"].to_string())
    };
    rig.put(&[letter(1, "rejected-by-store", "acme")]).await;
    admin.always(status("0.2.0", "closed"));
    let (ok, said, _) = found().await;
    assert!(ok && said.contains("fleetctl dlq redrive audit-index --yes"), "{said}");
    admin.always(status("0.1.0", "closed"));
    let (ok, said, hint) = found().await;
    assert!(
        !ok && said.contains("1 of 1 would fail again: 1 as index-worker 0.1.0 rejected it"),
        "{said}"
    );
    assert!(hint.contains("deploy"), "{hint}");
    admin.always(status("0.2.0", "open"));
    let (ok, said, hint) = found().await;
    assert!(!ok && said.contains("the breaker of opensearch is open"), "{said}");
    assert!(hint.contains("fleetctl doctor"), "{hint}");
    let strange = original(2, "acme").replace("\"INDEX\"", "\"NEWER\"");
    let looped = original(3, "acme").replace("\"hops\":0", "\"hops\":5");
    let aged = original(4, "acme").replace("\"7y\"", "\"7d\"");
    let raw = |body: String| Outgoing { body, ..Outgoing::default() };
    rig.put(&[raw(strange), raw(looped), raw(aged), raw("{".into())]).await;
    admin.always(status("0.1.0", "closed"));
    let (_, said, _) = found().await;
    for why in [
        "the running build does not know it: unknown message type",
        "relayed 5 times",
        "its class 7d is kept no longer than it is old",
        "its body still does not decode",
    ] {
        assert!(said.contains(why), "{why} in {said}");
    }
    assert_eq!(rig.list(&[]).await.len(), 5, "it changes nothing");
}

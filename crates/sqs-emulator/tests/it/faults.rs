//! Faults on purpose: what each does to the caller and to the queue, by header and by rule.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::rig::{Rig, bodies};

async fn with(header: &str, action: &str, body: Value) -> (Rig, Option<crate::support::Reply>) {
    let rig = Rig::start(true, None).await;
    let url = rig.create("q", json!({})).await;
    rig.send(&url, "there").await;
    let mut body = body;
    body["QueueUrl"] = url.into();
    let reply = rig.with_fault(header, action, &body).await;
    (rig, reply)
}

#[tokio::test]
async fn a_refused_call_has_no_effect_and_the_error_of_the_service() {
    for (fault, status, code) in
        [("throttle", 403, "RequestThrottled;Sender"), ("error", 500, "InternalFailure;Receiver")]
    {
        let (rig, reply) = with(fault, "SendMessage", json!({ "MessageBody": "new" })).await;
        let reply = reply.unwrap();
        assert_eq!((reply.status, reply.header("x-amzn-query-error")), (status, Some(code)));
        assert_eq!(rig.receive("q").await, ["there"]);
        rig.stop().await;
    }
}

#[tokio::test]
async fn a_lost_reply_follows_its_effect() {
    let (rig, reply) = with("lost-reply", "SendMessage", json!({ "MessageBody": "new" })).await;
    assert!(reply.is_none(), "{reply:?}");
    assert_eq!(rig.receive("q").await, ["there", "new"]);
    rig.stop().await;
}

#[tokio::test]
async fn a_ghost_receive_leaves_messages_in_flight_and_an_empty_one_is_answered() {
    let (rig, reply) = with("ghost-receive", "ReceiveMessage", json!({})).await;
    assert!(reply.is_none(), "{reply:?}");
    assert_eq!(rig.depth("q").await, [0, 1, 0]);
    let receive = json!({ "QueueUrl": "q" });
    let empty = rig.with_fault("ghost-receive", "ReceiveMessage", &receive).await.unwrap();
    assert_eq!((empty.status, empty.body.as_str()), (200, "{}"));
    rig.stop().await;
}

#[tokio::test]
async fn a_duplicate_is_handed_out_again_at_once() {
    let (rig, reply) = with("duplicate", "ReceiveMessage", json!({})).await;
    assert_eq!(bodies(&reply.unwrap().json()), ["there"]);
    assert_eq!(rig.depth("q").await, [1, 0, 0]);
    assert_eq!(rig.receive("q").await, ["there"]);
    rig.stop().await;
}

#[tokio::test]
async fn latency_comes_before_the_call() {
    let started = Instant::now();
    let (rig, reply) =
        with("latency=120, throttle", "SendMessage", json!({ "MessageBody": "n" })).await;
    assert_eq!(reply.unwrap().status, 403);
    assert!(started.elapsed() >= Duration::from_millis(120));
    rig.stop().await;
}

#[tokio::test]
async fn a_wrong_header_says_what_is_right() {
    for (header, action, text) in [
        ("sloth", "SendMessage", "there are: latency, throttle, error, duplicate"),
        ("latency", "SendMessage", "latency=250"),
        ("latency=60001", "SendMessage", "up to 60000"),
        ("throttle=1", "SendMessage", "only latency takes a value"),
        ("duplicate", "SendMessage", "a ReceiveMessage on a standard queue"),
        ("ghost-receive", "DeleteMessage", "it takes a ReceiveMessage"),
        ("error,error,error,error,error", "SendMessage", "at most 4 faults"),
    ] {
        let (rig, reply) = with(header, action, json!({ "MessageBody": "n" })).await;
        let reply = reply.unwrap();
        assert_eq!(reply.status, 400, "{header}");
        assert!(reply.body.contains(text), "{header}: {}", reply.body);
        rig.stop().await;
    }
}

#[tokio::test]
async fn without_test_controls_nothing_can_be_turned() {
    let rig = Rig::start(false, None).await;
    let url = rig.create("q", json!({})).await;
    let message = json!({ "QueueUrl": url, "MessageBody": "m" });
    let refused = rig.with_fault("throttle", "SendMessage", &message).await.unwrap();
    assert_eq!(refused.status, 400);
    assert!(refused.body.contains("--test-controls"), "{}", refused.body);
    assert_eq!(rig.depth(&url).await, [0, 0, 0]);
    let rules = json!({ "rules": [] });
    for (method, path, body) in [
        ("POST", "/_sqs/clock", json!({ "advance_ms": 1 })),
        ("PUT", "/_sqs/faults", rules),
        ("DELETE", "/_sqs/faults", json!({})),
    ] {
        let reply = rig.turn(method, path, &body).await;
        assert_eq!(reply.status, 403, "{method} {path}");
        assert!(reply.body.contains("--test-controls"), "{}", reply.body);
    }
    assert_eq!(rig.get("/_sqs/clock").await.json()["ahead_ms"], 0);
    assert_eq!(rig.get("/_sqs/faults").await.json(), json!({ "seed": 0, "rules": [] }));
    rig.stop().await;
}

#[tokio::test]
async fn a_rule_meets_every_nth_request_of_its_queue_and_action_so_many_times() {
    let rules = json!({ "rules": [
        { "fault": "throttle", "queue": "ord*", "action": "SendMessage", "every": 3, "count": 2 }
    ] });
    let rig = Rig::start(false, Some(rules)).await;
    rig.create("orders", json!({})).await;
    rig.create("other", json!({})).await;
    let mut refused = Vec::new();
    for n in 1..=12 {
        let message = json!({ "QueueUrl": "orders", "MessageBody": "m" });
        let reply = crate::support::action(rig.addr, "SendMessage", &message).await;
        if reply.status == 403 {
            refused.push(n);
        }
        rig.send("other", "m").await;
    }
    assert_eq!(refused, [3, 6]);
    assert_eq!((rig.depth("orders").await[0], rig.depth("other").await[0]), (10, 12));
    let rule = rig.get("/_sqs/faults").await.json()["rules"][0].take();
    assert_eq!((&rule["matched"], &rule["injected"]), (&json!(12), &json!(2)));
    rig.stop().await;
}

/// The same seed gives the same run, another one another.
#[tokio::test]
async fn chance_can_be_repeated_by_its_seed() {
    async fn run(seed: u64) -> Vec<u16> {
        let rig = Rig::start(true, None).await;
        let rules = json!({ "seed": seed, "rules": [{ "fault": "error", "action": "ListQueues", "probability": 0.3 }] });
        assert_eq!(rig.turn("PUT", "/_sqs/faults", &rules).await.status, 200);
        let mut statuses = Vec::new();
        for _ in 0..60 {
            statuses.push(crate::support::action(rig.addr, "ListQueues", &json!({})).await.status);
        }
        assert_eq!(rig.turn("DELETE", "/_sqs/faults", &json!({})).await.status, 200);
        assert_eq!(crate::support::action(rig.addr, "ListQueues", &json!({})).await.status, 200);
        rig.stop().await;
        statuses
    }
    let first = run(7).await;
    let failed = first.iter().filter(|status| **status == 500).count();
    assert!((6..=32).contains(&failed), "{failed} of 60 at 30 %");
    assert_eq!(run(7).await, first);
    assert_ne!(run(8).await, first);
}

#[tokio::test]
async fn rules_about_messages_meet_only_receives_that_got_some() {
    let rules = json!({ "rules": [
        { "fault": "duplicate", "count": 1 },
        { "fault": "ghost-receive", "queue": "q", "every": 2 },
    ] });
    let rig = Rig::start(true, Some(rules)).await;
    let url = rig.create("q", json!({})).await;
    let fifo = rig.create("f.fifo", json!({ "FifoQueue": "true" })).await;
    rig.send(&fifo, "once").await;
    assert_eq!(rig.receive(&fifo).await, ["once"]);
    assert!(rig.receive(&fifo).await.is_empty(), "a FIFO queue does not double");
    for _ in 0..3 {
        assert!(rig.receive(&url).await.is_empty());
    }
    rig.send(&url, "m").await;
    assert_eq!(rig.receive(&url).await, ["m"]);
    let receive = json!({ "QueueUrl": url });
    let lost = rig.with_fault("latency=1", "ReceiveMessage", &receive).await;
    assert!(lost.is_none(), "the second that got something is a ghost: {lost:?}");
    assert_eq!(rig.depth(&url).await, [0, 1, 0]);
    let rules = rig.get("/_sqs/faults").await.json();
    assert_eq!(rules["rules"][0]["injected"], 1);
    assert_eq!(rules["rules"][1]["matched"], 2);
    rig.stop().await;
}

#[tokio::test]
async fn wrong_rules_change_nothing_and_say_which_and_why() {
    let rig = Rig::start(true, Some(json!({ "rules": [{ "fault": "error" }] }))).await;
    let many = vec![json!({ "fault": "error" }); 101];
    for (rules, text) in [
        (json!({ "rules": [{ "fault": "sloth" }] }), "unknown variant `sloth`"),
        (json!({ "rules": [{ "fault": "error", "color": 1 }] }), "unknown field `color`"),
        (json!({ "rules": many }), "101 fault rules; at most 100"),
        (
            json!({ "rules": [{ "fault": "error" }, { "fault": "latency" }] }),
            "fault rule 2: latency needs delay_ms",
        ),
        (json!({ "rules": [{ "fault": "latency", "delay_ms": 60_001 }] }), "1 to 60000"),
        (json!({ "rules": [{ "fault": "error", "delay_ms": 5 }] }), "for latency only"),
        (json!({ "rules": [{ "fault": "error", "action": "Send" }] }), "'Send' is no action"),
        (
            json!({ "rules": [{ "fault": "duplicate", "action": "SendMessage" }] }),
            "hands out no messages",
        ),
        (json!({ "rules": [{ "fault": "duplicate", "queue": "a.fifo" }] }), "does not double"),
        (json!({ "rules": [{ "fault": "error", "queue": "a*b*" }] }), "one * at its end"),
        (json!({ "rules": [{ "fault": "error", "every": 0 }] }), "start at 1"),
        (json!({ "rules": [{ "fault": "error", "probability": 1.1 }] }), "at most 1"),
        (json!({ "rules": [{ "fault": "error", "probability": 0 }] }), "above 0"),
        (json!({ "rules": [{ "fault": "error", "every": 1, "probability": 1 }] }), "not both"),
        (json!({ "rules": [], "seed": "x".repeat(70_000) }), "at most 65536"),
    ] {
        let reply = rig.turn("PUT", "/_sqs/faults", &rules).await;
        assert_eq!(reply.status, 400, "{rules}");
        assert!(reply.body.contains(text), "{text} in {}", reply.body);
    }
    assert_eq!(rig.get("/_sqs/faults").await.json()["rules"][0]["fault"], "error");
    let form = crate::support::http_at(
        rig.addr,
        "PUT",
        "/_sqs/faults",
        "Content-Type: text/plain\r\n",
        b"{}",
    )
    .await;
    assert_eq!(form.status, 415);
    rig.stop().await;
}

//! The clock that a test moves: everything that ends by then ends now, on the wire and in parked polls.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::rig::{Rig, bodies};

#[tokio::test]
async fn what_ends_by_then_ends_now() {
    let rig = Rig::start(true, None).await;
    let url = rig.create("q", json!({ "MessageRetentionPeriod": "3600" })).await;
    rig.send(&url, "leased").await;
    rig.ok("ReceiveMessage", json!({ "QueueUrl": url, "VisibilityTimeout": 600 })).await;
    rig.ok("SendMessage", json!({ "QueueUrl": url, "MessageBody": "later", "DelaySeconds": 900 }))
        .await;
    let before = rig.get("/_sqs/clock").await.json()["now_ms"].as_i64().unwrap();
    let moved = rig.turn("POST", "/_sqs/clock", &json!({ "advance_seconds": 600 })).await.json();
    assert!(moved["now_ms"].as_i64().unwrap() >= before + 600_000);
    assert_eq!(moved["ahead_ms"], 600_000);
    assert_eq!(rig.depth(&url).await, [1, 0, 1], "the lease has ended, the delay has not");
    rig.turn("POST", "/_sqs/clock", &json!({ "advance_ms": 300_000 })).await;
    assert_eq!(rig.depth(&url).await, [2, 0, 0]);
    rig.turn("POST", "/_sqs/clock", &json!({ "advance_seconds": 3600 })).await;
    assert_eq!(rig.depth(&url).await, [0, 0, 0], "retention");
    rig.stop().await;
}

#[tokio::test]
async fn a_parked_poll_gets_what_becomes_visible_at_once() {
    let rig = Rig::start(true, None).await;
    let url = rig.create("q", json!({})).await;
    rig.ok("SendMessage", json!({ "QueueUrl": url, "MessageBody": "later", "DelaySeconds": 900 }))
        .await;
    let started = Instant::now();
    let poll = {
        let (addr, url) = (rig.addr, url.clone());
        tokio::spawn(async move {
            let body = json!({ "QueueUrl": url, "WaitTimeSeconds": 20 });
            crate::support::action(addr, "ReceiveMessage", &body).await.json()
        })
    };
    // The poll may park before or after the clock moves: both have to end at once.
    rig.turn("POST", "/_sqs/clock", &json!({ "advance_seconds": 900 })).await;
    assert_eq!(bodies(&poll.await.unwrap()), ["later"]);
    assert!(started.elapsed() < Duration::from_secs(10));
    rig.stop().await;
}

#[tokio::test]
async fn it_goes_neither_back_nor_beyond_ten_years() {
    let rig = Rig::start(true, None).await;
    for (body, text) in [
        (json!({ "advance_ms": -1 }), "advance_seconds"),
        (json!({ "back_ms": 1 }), "unknown field"),
        (json!({ "advance_seconds": 315_360_001 }), "ten years"),
        (json!({ "advance_seconds": u64::MAX }), "ten years"),
    ] {
        let reply = rig.turn("POST", "/_sqs/clock", &body).await;
        assert_eq!(reply.status, 400, "{body}");
        assert!(reply.body.contains(text), "{}", reply.body);
    }
    assert_eq!(rig.get("/_sqs/clock").await.json()["ahead_ms"], 0);
    let most = rig.turn("POST", "/_sqs/clock", &json!({ "advance_seconds": 315_360_000 })).await;
    assert_eq!(most.status, 200);
    rig.stop().await;
}

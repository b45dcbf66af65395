//! `Idempotency-Key`: the same ids for 24 hours, also when the first attempt died half way.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use testkit::{Mood as Wire, Proxy, TestDatabase};

use crate::queue::Published;
use crate::scene::{Scene, event, problem, told};
use testkit::QueueMood;

async fn send(scene: &Scene, key: &str, path: &str, body: &Value) -> (u16, Value) {
    let request = scene.post(path).header("idempotency-key", key).json(body);
    told(request.send().await.unwrap()).await
}

#[tokio::test]
async fn the_same_key_gives_the_same_answer_and_no_second_message() {
    let scene = Scene::new().await;
    let first = send(&scene, "k1", "/logs", &event(1)).await;
    assert_eq!(first.0, 202, "{}", first.1);
    assert_eq!(send(&scene, "k1", "/logs", &event(1)).await, first);
    assert_eq!(scene.queue.sent().len(), 1, "published again although it was accepted");
    problem(&send(&scene, "k1", "/logs", &event(2)).await, 422, "idempotency-mismatch");
    let other_route = send(&scene, "k1", "/logs/bulk", &json!([event(1)])).await;
    problem(&other_route, 422, "idempotency-mismatch");
    // The very same bytes, which the other route takes as well: as one line.
    let lines = scene.post("/logs/bulk").header("idempotency-key", "k1");
    let lines = lines.header("content-type", "application/x-ndjson").body(event(1).to_string());
    problem(&told(lines.send().await.unwrap()).await, 422, "idempotency-mismatch");
    assert_ne!(send(&scene, "k2", "/logs", &event(1)).await.1["id"], first.1["id"]);
    let foreign = scene.client.post(scene.url("/logs")).bearer_auth(&scene.foreign_key);
    let foreign = foreign.header("idempotency-key", "k1").json(&event(2)).send().await.unwrap();
    assert_eq!(foreign.status(), 202, "keys belong to a tenant");
}

#[tokio::test]
async fn a_bulk_keeps_its_ids_and_its_refusals() {
    let scene = Scene::new().await;
    let body = json!([event(1), {}, event(3)]);
    let first = send(&scene, "bulk", "/logs/bulk", &body).await;
    assert_eq!(first.0, 207);
    assert_eq!(send(&scene, "bulk", "/logs/bulk", &body).await, first);
    assert_eq!(scene.queue.ids().len(), 2);
}

#[tokio::test]
async fn an_attempt_that_died_before_or_after_publishing_is_one_event() {
    for mood in [QueueMood::Refuses, QueueMood::TakesAndLosesTheAnswer] {
        let scene = Scene::with(&["--publish-deadline-ms=500"]).await;
        scene.queue.mood(mood);
        problem(&send(&scene, "k", "/logs", &event(1)).await, 503, "queue-unavailable");
        scene.queue.mood(QueueMood::Takes);
        let (status, body) = send(&scene, "k", "/logs", &event(1)).await;
        assert_eq!(status, 202, "{body}");
        let ids: BTreeSet<String> = scene.queue.ids().iter().map(ToString::to_string).collect();
        assert_eq!(ids, BTreeSet::from([body["id"].as_str().unwrap().to_owned()]), "{mood:?}");
        let records: BTreeSet<String> =
            scene.queue.items().iter().map(|(_, item)| item.record.get().to_owned()).collect();
        assert_eq!(records.len(), 1, "the same bytes");
    }
}

#[tokio::test]
async fn an_event_that_cannot_be_taken_leaves_its_key_free() {
    let scene = Scene::new().await;
    problem(&send(&scene, "k", "/logs", &json!({})).await, 422, "invalid-field");
    assert_eq!(send(&scene, "k", "/logs", &event(1)).await.0, 202, "mended, under the same key");
}

#[tokio::test]
async fn malformed_keys_are_refused() {
    let scene = Scene::new().await;
    for key in ["", "a b", &"k".repeat(256)] {
        problem(&send(&scene, key, "/logs", &event(1)).await, 400, "invalid-query");
    }
    assert_eq!(send(&scene, &"k".repeat(255), "/logs", &event(1)).await.0, 202);
}

#[tokio::test]
async fn without_postgres_requests_with_a_key_wait_and_others_go_on() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::before(database.url()).await;
    let url = proxy.instead_in(database.url());
    let scene = Scene::on(database, &url, &[]).await;
    assert_eq!(send(&scene, "before", "/logs", &event(1)).await.0, 202);
    for mood in [Wire::Down, Wire::Silent] {
        proxy.mood(mood);
        let refused = send(&scene, "during", "/logs", &event(2)).await;
        problem(&refused, 503, "idempotency-unavailable");
        let response = scene.post("/logs").json(&event(3)).send().await.unwrap();
        assert_eq!(response.status(), 202, "{mood:?}");
    }
    proxy.mood(Wire::Pass);
    assert_eq!(send(&scene, "during", "/logs", &event(2)).await.0, 202);
}

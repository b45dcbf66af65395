//! Each part down at start, down for a while, and slow, under the whole fleet. What the API accepted
//! is stored and found exactly once, and what it could not accept it refused with a reason.

use std::time::Duration;

use testkit::Mood;

use crate::scene::{Part, Scene};

/// Per phase; enough that some are in every buffer when a part goes away.
const EVENTS: usize = 20;
/// Per chunk and direction: above what anything needs, below every timeout.
const SLOW: Duration = Duration::from_millis(150);

async fn down_at_start(part: Part) {
    let Some(mut scene) = Scene::new(part == Part::OpenSearch).await else { return };
    scene.proxy(part).mood(Mood::Down);
    let (api, worker) = (scene.start("ingest-api"), scene.start("index-worker"));
    scene.listens().await;
    for n in 0..3 {
        // Accepted or refused, by what is down; never neither.
        scene.send(n).await;
    }
    scene.proxy(part).mood(Mood::Pass);
    for n in 0..EVENTS {
        scene.send_until_accepted(n).await;
    }
    scene.books_balance().await;
    api.drain().await;
    worker.drain().await;
}

async fn down_for_a_while(part: Part, breaker: Option<&str>) {
    let Some(mut scene) = Scene::new(part == Part::OpenSearch).await else { return };
    let (api, worker) = (scene.start("ingest-api"), scene.start("index-worker"));
    scene.listens().await;
    for n in 0..EVENTS {
        scene.send_until_accepted(n).await;
    }
    scene.proxy(part).mood(Mood::Down);
    for n in 0..EVENTS {
        scene.send(n).await;
    }
    if let Some(sink) = breaker {
        worker.says(&["breaker", sink, "open"]).await;
    }
    scene.proxy(part).mood(Mood::Pass);
    for n in 0..EVENTS {
        scene.send_until_accepted(n).await;
    }
    scene.books_balance().await;
    api.drain().await;
    worker.drain().await;
}

async fn slow(part: Part) {
    let Some(mut scene) = Scene::new(part == Part::OpenSearch).await else { return };
    let (api, worker) = (scene.start("ingest-api"), scene.start("index-worker"));
    scene.listens().await;
    scene.proxy(part).mood(Mood::Slow(SLOW));
    for n in 0..EVENTS / 2 {
        scene.send_until_accepted(n).await;
    }
    scene.books_balance().await;
    scene.proxy(part).mood(Mood::Pass);
    api.drain().await;
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres() {
    down_at_start(Part::Postgres).await;
    down_for_a_while(Part::Postgres, Some("postgres")).await;
    slow(Part::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis() {
    down_at_start(Part::Redis).await;
    down_for_a_while(Part::Redis, Some("redis")).await;
    slow(Part::Redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqs() {
    down_at_start(Part::Sqs).await;
    down_for_a_while(Part::Sqs, None).await;
    slow(Part::Sqs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn opensearch() {
    down_at_start(Part::OpenSearch).await;
    down_for_a_while(Part::OpenSearch, Some("opensearch")).await;
    slow(Part::OpenSearch).await;
}

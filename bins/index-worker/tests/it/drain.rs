//! SIGTERM at random moments under load, on the real process: it ends well inside what ECS gives it,
//! leaves no message hidden, and no message is handled twice because of it. Handlings are counted
//! where each one shows: the live feed, which is told of every handled event and not only of new ones.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use contracts::LogId;
use contracts::audit::IndexMessage;
use futures_util::future::join_all;
use queue_core::{Clock, Outgoing, SystemClock};
use sinks::pubsub::{Feed, FeedConfig, Signal};
use testkit::{TestRedis, eventually};
use tokio::sync::oneshot;

use crate::scene::{PATIENCE, Process, Scene, given};

/// Drains in a test run; `DRAIN_ROUNDS` asks for more.
const ROUNDS: u32 = 40;
/// Fleets side by side.
const LANES: u32 = 2;
/// Messages that each round adds.
const LOAD: u32 = 60;
/// What ECS gives a container to stop, unless it is told otherwise.
const ECS_STOP: Duration = Duration::from_secs(30);

/// How often each log was handled.
type Handled = Arc<Mutex<BTreeMap<LogId, u32>>>;

/// What the rounds of one lane came to.
#[derive(Debug, Default)]
struct Told {
    rounds: u32,
    messages: usize,
    /// Drains that began with messages in hand.
    busy: u32,
    longest: Duration,
}

/// Numbers that look random and are the same in each run; the moments they hit are not.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(self.0 >> 33).unwrap() % limit
    }
}

/// Counts what the feed tells until the scene ends; begins once it listens.
async fn count(scene: &Scene) -> Handled {
    let handled = Handled::default();
    let (listening, listens) = oneshot::channel();
    let (counted, redis, tenant) =
        (Arc::clone(&handled), scene.redis_url.clone(), scene.tenant.clone());
    let ended = scene.ended.clone();
    scene.tasks.spawn(async move {
        let feed = Feed::open(&FeedConfig::new(redis)).unwrap();
        let mut logs = feed.subscribe(&tenant).unwrap();
        assert!(matches!(logs.recv().await, Some(Signal::Gap)), "told once it listens");
        listening.send(()).unwrap();
        while let Some(Some(signal)) = ended.run_until_cancelled(logs.recv()).await {
            let Signal::Item(event) = signal else { panic!("handlings were missed") };
            *counted.lock().unwrap().entry(event.id).or_default() += 1;
        }
        feed.close().await;
    });
    listens.await.unwrap();
    handled
}

async fn load(scene: &Scene, round: u32) {
    let now = SystemClock.now();
    let numbers: Vec<u32> = (0..LOAD).map(|n| round * LOAD + n).collect();
    for batch in numbers.chunks(10) {
        let message = |n: &u32| {
            let item = given(&scene.tenant, now, *n).item;
            let body = scene.envelope(&IndexMessage::Index(item));
            Outgoing { body, ..Outgoing::default() }
        };
        let outgoing: Vec<Outgoing> = batch.iter().map(message).collect();
        let sent = scene.queue.send(&outgoing).await.unwrap();
        assert!(sent.iter().all(Result::is_ok), "{sent:?}");
    }
}

/// A worker that listens to signals.
async fn started(scene: &Scene) -> Process {
    let worker = scene.start(None);
    worker.says(&["\"admin\""]).await;
    worker
}

async fn drains(lane: u32, rounds: u32, redis: &TestRedis) -> Told {
    let scene = Scene::new(&format!("drain-{lane}"), redis).await;
    let handled = count(&scene).await;
    let (mut dice, mut told) = (Dice(lane.into()), Told { rounds, ..Told::default() });
    let sum = || handled.lock().unwrap().values().sum::<u32>();
    for round in 0..rounds {
        load(&scene, round).await;
        let before = sum();
        let mut worker = started(&scene).await;
        let moment = before + dice.below(LOAD);
        eventually(PATIENCE, "the moment", async || (sum() >= moment).then_some(())).await;
        let asked = Instant::now();
        let status = worker.drain().await;
        let took = asked.elapsed();
        let output = worker.output();
        assert_eq!(status.code(), Some(0), "round {round}: {status}\n{output}");
        assert!(took < ECS_STOP, "round {round}: {took:?}\n{output}");
        let depth = scene.admin.attributes(&scene.queue_url).await.unwrap().depth;
        assert_eq!(depth.in_flight, 0, "round {round} leaves messages hidden: {output}");
        let idle = output.contains("DrainReport { in_hand: 0,");
        told.busy += u32::from(!idle);
        told.longest = told.longest.max(took);
    }
    let mut last = started(&scene).await;
    let all = usize::try_from(rounds * LOAD).unwrap();
    eventually(PATIENCE, "everything is handled", async || {
        let depth = scene.admin.attributes(&scene.queue_url).await.unwrap().depth;
        let empty = depth.visible + depth.in_flight + depth.delayed == 0;
        (empty && handled.lock().unwrap().len() == all).then_some(())
    })
    .await;
    assert_eq!(last.drain().await.code(), Some(0));
    let twice: Vec<_> = handled
        .lock()
        .unwrap()
        .iter()
        .filter(|(_, times)| **times != 1)
        .map(|(id, _)| *id)
        .collect();
    assert_eq!(twice, [], "handled more than once");
    told.messages = scene.stored(&scene.tenant).await.unwrap().len();
    assert_eq!(told.messages, all);
    scene.end().await;
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_at_any_moment_leaves_nothing_behind_and_doubles_nothing() {
    let asked = std::env::var_os("DRAIN_ROUNDS").and_then(|text| text.to_str()?.parse().ok());
    let rounds = asked.unwrap_or(ROUNDS).div_ceil(LANES);
    let redis = TestRedis::new().await;
    let lanes = join_all((0..LANES).map(|lane| drains(lane, rounds, &redis))).await;
    let rounds: u32 = lanes.iter().map(|told| told.rounds).sum();
    let busy: u32 = lanes.iter().map(|told| told.busy).sum();
    let messages: usize = lanes.iter().map(|told| told.messages).sum();
    let longest = lanes.iter().map(|told| told.longest).max().unwrap_or_default();
    assert!(busy > 0, "no signal came while messages were in hand");
    println!(
        "drained: {rounds} of {rounds} with exit 0, {busy} with messages in hand, the longest in \
         {longest:.1?}; {messages} messages handled once each, none left hidden"
    );
}

//! What an erasure leaves in the live feed and in search: nothing, whether the log was announced
//! before, is being indexed meanwhile, or Redis is away at that moment.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use audit::retention::Release;
use audit::store::holds;
use audit::workers::IndexWorker;
use audit::workers::index::Announce;
use contracts::audit::{BulkIndex, IndexMessage};
use contracts::errors::{LOG_HELD, PUBSUB_UNAVAILABLE};
use contracts::{LogId, Tenant};
use database::Role;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use queue_core::{ErrorClass, Failure};
use sinks::pubsub::{Feed, FeedConfig, FeedEvent, Signal, Subscription};
use sinks::search::Query;
use sinks::{SinkError, SinkErrorKind};
use testkit::{Mood, Proxy, TestRedis, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::retention::hold;
use crate::scene::{Given, Inserting, Scene, delete, erasure, first_attempt, header, log, tenant};

const SOON: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_taken_back_is_not_announced() {
    // Another worker's erasure, of which search hears nothing: only a look at the tombstones tells.
    let scene = Scene::with(Inserting::by(|inner, logs| {
        async move {
            let done = inner.insert(logs).await?;
            let key = &logs[0].key;
            inner.erase(&erasure(&key.tenant, key.id, key.recorded_at), &[]).await?;
            Ok(done)
        }
        .boxed()
    }))
    .await;
    let acme = tenant("acme");
    let (gone, kept) = (log(&acme, scene.now, 1), log(&acme, scene.now, 2));
    let items = vec![gone.item, kept.item];
    process(&scene, &scene.worker, IndexMessage::BulkIndex(BulkIndex { items })).await.unwrap();
    let found = scene.found(&acme, &Query::default()).await;
    assert_eq!(found, [kept.id], "the document written after the erasure is taken back");
    assert_eq!(scene.feed.ids(), [kept.id], "the erased one reached the feed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_hold_keeps_is_not_erased_until_its_release() {
    let scene = Scene::new().await;
    let acme = tenant("acme");
    let (kept, gone, late) =
        (log(&acme, scene.now, 1), log(&acme, scene.now, 2), log(&acme, scene.now, 3));
    for given in [&kept, &gone] {
        let index = IndexMessage::Index(given.item.clone());
        process(&scene, &scene.worker, index).await.unwrap();
    }
    process(&scene, &scene.worker, delete(&gone)).await.unwrap();
    let owner = scene.cluster.connect(Role::Owner);
    let mut connection = owner.pool().acquire().await.unwrap();
    let of_all = hold(1, &serde_json::json!({}));
    holds::place(&mut connection, &acme, of_all.clone()).await.unwrap();

    let refused = process(&scene, &scene.worker, delete(&kept)).await.unwrap_err();
    let Failure::Reject(reason) = refused else { panic!("{refused:?}") };
    assert_eq!(reason.code, LOG_HELD);
    assert!(scene.stored(&acme).await.contains(&kept.id));
    assert!(scene.found(&acme, &Query::default()).await.contains(&kept.id));
    // A log that is not stored yet may be one that is held; what is erased stays so.
    let unseen = process(&scene, &scene.worker, delete(&late)).await.unwrap_err();
    assert!(matches!(unseen, Failure::Snooze(_)), "{unseen:?}");
    process(&scene, &scene.worker, delete(&gone)).await.unwrap();

    let release = Release { by: serde_json::json!({}), at: scene.now, reason: "settled".into() };
    holds::release(&mut connection, &acme, of_all.id, &release).await.unwrap();
    process(&scene, &scene.worker, delete(&kept)).await.unwrap();
    assert!(!scene.stored(&acme).await.contains(&kept.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_waits_for_a_redis_that_cannot_forget() {
    let scene = Scene::new().await;
    let acme = tenant("acme");
    let given = log(&acme, scene.now, 1);
    let worker = &scene.worker;
    process(&scene, worker, IndexMessage::Index(given.item.clone())).await.unwrap();
    scene.feed.announced.lock().unwrap().clear();
    let down = SinkError::new("redis", SinkErrorKind::Unavailable, "as told");
    scene.feed.failures.lock().unwrap().push(down);
    let failure = process(&scene, worker, delete(&given)).await.unwrap_err();
    let Failure::Retry(error) = failure else { panic!("{failure:?}") };
    assert_eq!((error.code, error.class), (PUBSUB_UNAVAILABLE, ErrorClass::Infrastructure));
    assert!(scene.feed.ids().is_empty(), "forgetting comes before the entries about it");

    process(&scene, worker, delete(&given)).await.unwrap();
    assert_eq!(
        *scene.feed.forgotten.lock().unwrap(),
        std::slice::from_ref(&acme),
        "it is done when it can be"
    );
    let never_stored = log(&acme, scene.now, 2);
    process(&scene, worker, delete(&never_stored)).await.unwrap();
    assert_eq!(scene.feed.forgotten.lock().unwrap().len(), 1, "nobody's readers start over");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_erasure_redis_holds_nothing_of_the_log() {
    let (scene, redis) = (Scene::new().await, TestRedis::new().await);
    let worker = scene.announcing_to(Arc::new(feed(redis.url())));
    let acme = tenant("acme");
    let [gone, kept] = [1, 2].map(|n| log(&acme, scene.now, n));
    for given in [&gone, &kept] {
        process(&scene, &worker, IndexMessage::Index(given.item.clone())).await.unwrap();
    }
    assert!(entries(&redis, STREAM).await.contains(&text(&gone)), "it was announced");
    process(&scene, &worker, delete(&gone)).await.unwrap();
    let left = entries(&redis, STREAM).await;
    assert!(!left.contains(&text(&gone)), "the erased record is in the stream");
    assert!(left.contains("flotilla.log.erased"), "the entry about it is announced");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_cut_off_during_an_erasure_gets_a_gap_and_not_the_log() {
    let (scene, redis) = (Scene::new().await, TestRedis::new().await);
    let proxy = Proxy::before(redis.url()).await;
    let worker = scene.announcing_to(Arc::new(feed(redis.url())));
    let reading = feed(&proxy.instead_in(redis.url()));
    let acme = tenant("acme");
    let [seen, gone, later] = [1, 2, 3].map(|n| log(&acme, scene.now, n));
    let index = async |given: &Given| {
        process(&scene, &worker, IndexMessage::Index(given.item.clone())).await.unwrap();
    };
    let mut reader = reading.subscribe(&acme).unwrap();
    assert_eq!(next(&mut reader).await, None);
    index(&seen).await;
    assert_eq!(next(&mut reader).await, Some(seen.id));
    proxy.mood(Mood::Down);
    eventually(SOON, "cut off", async || (!reading.is_listening()).then_some(())).await;
    index(&gone).await;
    process(&scene, &worker, delete(&gone)).await.unwrap();
    proxy.mood(Mood::Pass);
    assert_eq!(next(&mut reader).await, None, "a gap: what came meanwhile is in PostgreSQL");
    index(&later).await;
    assert_eq!(next(&mut reader).await, Some(later.id));
}

/// Redis, before whose next publish something happens; after it the worker may break off.
struct Meanwhile {
    redis: Feed,
    before: Mutex<Option<BoxFuture<'static, ()>>>,
    breaks_off: bool,
}

#[async_trait]
impl Announce for Meanwhile {
    async fn announce(&self, events: &[FeedEvent]) -> Result<(), SinkError> {
        let before = self.before.lock().unwrap().take();
        if let Some(before) = before {
            before.await;
        }
        self.redis.publish(events).await?;
        if self.breaks_off {
            return Err(SinkError::new("redis", SinkErrorKind::Timeout, "as told"));
        }
        Ok(())
    }

    async fn forget(&self, tenant: &Tenant) -> Result<(), SinkError> {
        self.redis.forget(tenant).await
    }
}

/// Indexes a log whose whole erasure, by another worker, falls between the look for its tombstone and
/// its publish. What the message came to, and the scene.
async fn erased_before_the_publish(
    breaks_off: bool,
) -> (Scene, TestRedis, Given, Result<(), Failure>) {
    let (scene, redis) = (Scene::new().await, TestRedis::new().await);
    let given = log(&tenant("acme"), scene.now, 1);
    let eraser = scene.announcing_to(Arc::new(feed(redis.url())));
    let (header, attempt) = (header(&tenant("acme"), scene.now), first_attempt(scene.now));
    let deletion = delete(&given);
    let before = async move {
        assert!(eraser.process(&header, deletion, attempt).await.unwrap().is_empty());
    };
    let before = Mutex::new(Some(before.boxed()));
    let meanwhile = Meanwhile { redis: feed(redis.url()), before, breaks_off };
    let worker = scene.announcing_to(Arc::new(meanwhile));
    let outcome = process(&scene, &worker, IndexMessage::Index(given.item.clone())).await;
    (scene, redis, given, outcome)
}

const STREAM: &str = "flotilla:live:acme:stream";

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_between_the_look_and_the_publish_leaves_nothing_in_redis() {
    let (scene, redis, given, outcome) = erased_before_the_publish(false).await;
    outcome.unwrap();
    assert!(!entries(&redis, STREAM).await.contains(&text(&given)), "the erased record stays");
    assert!(!scene.stored(&tenant("acme")).await.contains(&given.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broken_off_attempt_published_of_an_erased_log_goes_with_its_redelivery() {
    let (scene, redis, given, outcome) = erased_before_the_publish(true).await;
    assert!(matches!(outcome, Err(Failure::Retry(_))), "{outcome:?}");
    assert!(entries(&redis, STREAM).await.contains(&text(&given)), "it was published");
    let worker = scene.announcing_to(Arc::new(feed(redis.url())));
    process(&scene, &worker, IndexMessage::Index(given.item.clone())).await.unwrap();
    assert!(!entries(&redis, STREAM).await.contains(&text(&given)), "the erased record stays");
}

fn feed(url: &str) -> Feed {
    Feed::open(&FeedConfig::new(url)).unwrap()
}

fn text(given: &Given) -> String {
    given.item.record.get().to_owned()
}

async fn process(
    scene: &Scene,
    worker: &IndexWorker,
    message: IndexMessage,
) -> Result<(), Failure> {
    let header = header(&tenant("acme"), scene.now);
    let parts = worker.process(&header, message, first_attempt(scene.now)).await?;
    assert!(parts.is_empty(), "{parts:?}");
    Ok(())
}

/// The next log's id; `None` is a gap.
async fn next(reader: &mut Subscription<FeedEvent>) -> Option<LogId> {
    match timeout(SOON, reader.recv()).await.expect("a signal soon").expect("the feed is open") {
        Signal::Item(event) => Some(event.id),
        Signal::Gap => None,
    }
}

/// A stream's entries as the server writes them: only the sink links a client.
async fn entries(redis: &TestRedis, stream: &str) -> String {
    let (access, address) = redis.url().trim_start_matches("redis://").rsplit_once('@').unwrap();
    let (_, password) = access.split_once(':').unwrap();
    let address = address.split_once('/').map_or(address, |(address, _)| address);
    let mut connection = TcpStream::connect(address).await.unwrap();
    let calls = format!("AUTH {password}\r\nXRANGE {stream} - +\r\nQUIT\r\n");
    connection.write_all(calls.as_bytes()).await.unwrap();
    let mut reply = Vec::new();
    timeout(SOON, connection.read_to_end(&mut reply)).await.expect("an answer").unwrap();
    let reply = String::from_utf8_lossy(&reply).into_owned();
    assert!(reply.starts_with("+OK\r\n*"), "{reply}");
    reply
}

//! The live feed over a real Redis that is cut, killed, flushed and swallowed by the network.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use chrono::Duration as Micros;
use contracts::Tenant;
use queue_core::Probe as _;
use sinks::pubsub::{
    BUFFER_ITEMS_MAX, Feed, FeedConfig, FeedEvent, READERS_MAX, Signal, Subscription,
};
use testkit::{Mood, Proxy, TestRedis, eventually};
use tokio::time::timeout;

use crate::engines::{id, tenant, time};

const SOON: Duration = Duration::from_secs(90);

fn feed(url: &str) -> Feed {
    let mut config = FeedConfig::new(url);
    config.redis_timeout_ms = 500;
    config.feed_stream_max = 200;
    Feed::open(&config).unwrap()
}

fn event(n: u32) -> FeedEvent {
    FeedEvent {
        tenant: tenant(),
        id: id(n.into()),
        ingest_xid: 1_000 + u64::from(n),
        recorded_at: time() + Micros::microseconds(n.into()),
        record: Some(Bytes::from(format!("{{\"n\":{n}}}"))),
    }
}

fn events(numbers: std::ops::Range<u32>) -> Vec<FeedEvent> {
    numbers.map(event).collect()
}

async fn next<T>(reader: &mut Subscription<T>) -> Signal<T> {
    timeout(SOON, reader.recv()).await.expect("a signal soon").expect("the feed is open")
}

async fn item<T: std::fmt::Debug>(reader: &mut Subscription<T>) -> T {
    match next(reader).await {
        Signal::Item(item) => item,
        Signal::Gap => panic!("a gap in place of an item"),
    }
}

async fn gap<T: std::fmt::Debug>(reader: &mut Subscription<T>) {
    let signal = next(reader).await;
    assert!(matches!(signal, Signal::Gap), "{signal:?} in place of a gap");
}

async fn listening(feed: &Feed) {
    eventually(SOON, "listening", async || feed.is_listening().then_some(())).await;
}

async fn not_listening(feed: &Feed) {
    eventually(SOON, "not listening", async || (!feed.is_listening()).then_some(())).await;
}

/// A publisher at Redis and a reader behind a proxy, who has read event 0.
struct Proxied {
    redis: TestRedis,
    proxy: Proxy,
    publishing: Feed,
    reading: Feed,
    reader: Subscription<FeedEvent>,
}

async fn proxied() -> Proxied {
    let redis = TestRedis::new().await;
    let proxy = Proxy::before(redis.url()).await;
    let (publishing, reading) = (feed(redis.url()), feed(&proxy.instead_in(redis.url())));
    let mut reader = reading.subscribe(&tenant()).unwrap();
    gap(&mut reader).await;
    publishing.publish(&events(0..1)).await.unwrap();
    assert_eq!(item(&mut reader).await, event(0));
    Proxied { redis, proxy, publishing, reading, reader }
}

#[tokio::test]
async fn every_reader_gets_its_tenants_events_in_order() {
    let redis = TestRedis::new().await;
    let (publishing, reading) = (feed(redis.url()), feed(redis.url()));
    let other: Tenant = "other".parse().unwrap();
    let mut one = reading.subscribe(&tenant()).unwrap();
    gap(&mut one).await;
    let mut two = reading.subscribe(&tenant()).unwrap();
    let mut foreign = reading.subscribe(&other).unwrap();
    gap(&mut two).await;
    gap(&mut foreign).await;
    let mut mixed = events(0..150);
    let their = FeedEvent { tenant: other, ..event(7) };
    mixed.push(their.clone());
    publishing.publish(&mixed).await.unwrap();
    for reader in [&mut one, &mut two] {
        for expected in &mixed[..150] {
            assert_eq!(item(reader).await, *expected);
        }
    }
    assert_eq!(item(&mut foreign).await, their);
    reading.probe().await.unwrap();
}

#[tokio::test]
async fn what_came_while_the_connection_was_cut_is_read_from_the_stream() {
    let Proxied { redis: _redis, proxy, publishing, reading, mut reader } = proxied().await;
    proxy.mood(Mood::Down);
    not_listening(&reading).await;
    publishing.publish(&events(1..80)).await.unwrap();
    proxy.mood(Mood::Pass);
    for n in 1..80 {
        assert_eq!(item(&mut reader).await, event(n));
    }
    publishing.publish(&events(80..81)).await.unwrap();
    assert_eq!(item(&mut reader).await, event(80));
}

#[tokio::test]
async fn a_stream_that_was_trimmed_meanwhile_is_a_gap() {
    let Proxied { redis: _redis, proxy, publishing, reading, mut reader } = proxied().await;
    proxy.mood(Mood::Down);
    not_listening(&reading).await;
    // The stream keeps about 200.
    publishing.publish(&events(1..1_000)).await.unwrap();
    proxy.mood(Mood::Pass);
    gap(&mut reader).await;
    publishing.publish(&events(1_000..1_001)).await.unwrap();
    assert_eq!(item(&mut reader).await, event(1_000));
}

#[tokio::test]
async fn a_redis_that_was_killed_and_came_back_empty_is_a_gap() {
    let mut redis = TestRedis::new().await;
    let (publishing, reading) = (feed(redis.url()), feed(redis.url()));
    let mut reader = reading.subscribe(&tenant()).unwrap();
    gap(&mut reader).await;
    publishing.publish(&events(0..3)).await.unwrap();
    for n in 0..3 {
        assert_eq!(item(&mut reader).await, event(n));
    }
    redis.kill().await;
    not_listening(&reading).await;
    assert!(publishing.publish(&events(3..4)).await.is_err());
    assert!(reading.probe().await.is_err());
    redis.start().await;
    gap(&mut reader).await;
    eventually(SOON, "publishing again", async || publishing.publish(&events(4..5)).await.ok())
        .await;
    let first = item(&mut reader).await;
    assert_eq!(first, event(4));
}

#[tokio::test]
async fn a_redis_that_was_flushed_is_a_gap() {
    let redis = TestRedis::new().await;
    let (publishing, reading) = (feed(redis.url()), feed(redis.url()));
    let mut reader = reading.subscribe(&tenant()).unwrap();
    gap(&mut reader).await;
    publishing.publish(&events(0..1)).await.unwrap();
    assert_eq!(item(&mut reader).await, event(0));
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("FLUSHALL").query_async::<()>(&mut connection).await.unwrap();
    publishing.publish(&events(1..2)).await.unwrap();
    gap(&mut reader).await;
    publishing.publish(&events(2..3)).await.unwrap();
    assert_eq!(item(&mut reader).await, event(2));
}

#[tokio::test]
async fn a_forgotten_stream_is_empty_and_other_tenants_keep_theirs() {
    let redis = TestRedis::new().await;
    let feed = feed(redis.url());
    let other: Tenant = "other".parse().unwrap();
    feed.forget(&other).await.unwrap();
    feed.publish(&events(0..5)).await.unwrap();
    feed.publish(&[FeedEvent { tenant: other.clone(), ..event(7) }]).await.unwrap();
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut count = async |tenant: &Tenant| -> usize {
        let stream = format!("flotilla:live:{tenant}:stream");
        redis::cmd("XLEN").arg(stream).query_async(&mut connection).await.unwrap()
    };
    assert_eq!((count(&tenant()).await, count(&other).await), (5, 1));
    feed.forget(&tenant()).await.unwrap();
    assert_eq!((count(&tenant()).await, count(&other).await), (0, 1));
}

/// Again and again, since a stream that was deleted instead may begin anew with an id of the same
/// millisecond, which a listener takes for the entry that it has.
#[tokio::test]
async fn whoever_listens_while_a_stream_is_forgotten_gets_a_gap() {
    let redis = TestRedis::new().await;
    let feed = feed(redis.url());
    let mut reader = feed.subscribe(&tenant()).unwrap();
    gap(&mut reader).await;
    for n in 0..200 {
        feed.publish(&events(2 * n..2 * n + 1)).await.unwrap();
        feed.forget(&tenant()).await.unwrap();
        feed.publish(&events(2 * n + 1..2 * n + 2)).await.unwrap();
        assert_eq!(item(&mut reader).await, event(2 * n));
        gap(&mut reader).await;
    }
}

#[tokio::test]
async fn whoever_was_cut_off_while_a_stream_was_forgotten_gets_a_gap_and_nothing_of_it() {
    let Proxied { redis: _redis, proxy, publishing, reading, mut reader } = proxied().await;
    proxy.mood(Mood::Down);
    not_listening(&reading).await;
    publishing.publish(&events(1..3)).await.unwrap();
    publishing.forget(&tenant()).await.unwrap();
    proxy.mood(Mood::Pass);
    gap(&mut reader).await;
    publishing.publish(&events(3..4)).await.unwrap();
    assert_eq!(item(&mut reader).await, event(3));
}

#[tokio::test]
async fn a_redis_that_is_down_at_the_start_is_waited_for() {
    let mut redis = TestRedis::new().await;
    redis.kill().await;
    let reading = feed(redis.url());
    let mut reader = reading.subscribe(&tenant()).unwrap();
    let nothing = timeout(Duration::from_millis(200), reader.recv()).await;
    assert!(nothing.is_err(), "{nothing:?}: a signal without a subscription in force");
    assert!(!reading.is_listening());
    redis.start().await;
    gap(&mut reader).await;
    listening(&reading).await;
    reading.publish(&events(0..1)).await.unwrap();
    assert_eq!(item(&mut reader).await, event(0));
}

#[tokio::test]
async fn a_network_that_swallows_everything_is_noticed() {
    let Proxied { redis: _redis, proxy, publishing, reading, mut reader } = proxied().await;
    proxy.mood(Mood::Silent);
    not_listening(&reading).await;
    assert!(reading.publish(&events(1..2)).await.is_err());
    assert!(reading.probe().await.is_err());
    proxy.mood(Mood::Pass);
    proxy.cut();
    publishing.publish(&events(2..3)).await.unwrap();
    // Event 1 may have arrived after all: its publisher was told that it is not known. Event 2
    // arrives, or a gap in its place; never nothing.
    while let Signal::Item(event) = next(&mut reader).await {
        if event.id == id(2) {
            break;
        }
        assert_eq!(event.id, id(1));
    }
}

#[tokio::test]
async fn a_slow_reader_is_told_where_it_lost_events_and_goes_on() {
    let redis = TestRedis::new().await;
    let feed = feed(redis.url());
    let (mut slow, mut quick) =
        (feed.subscribe(&tenant()).unwrap(), feed.subscribe(&tenant()).unwrap());
    gap(&mut slow).await;
    gap(&mut quick).await;
    let count = u32::try_from(BUFFER_ITEMS_MAX).unwrap() + 50;
    for n in 0..count {
        feed.publish(&[event(n)]).await.unwrap();
        assert_eq!(item(&mut quick).await, event(n), "the quick one is not held up");
    }
    let mut seen = BTreeSet::new();
    while let Signal::Item(event) = next(&mut slow).await {
        seen.insert(event.ingest_xid);
    }
    assert_eq!(seen.len(), BUFFER_ITEMS_MAX);
    feed.publish(&[event(count)]).await.unwrap();
    assert_eq!(item(&mut slow).await, event(count));
}

#[tokio::test]
async fn revocations_reach_every_process() {
    let redis = TestRedis::new().await;
    let (one, two) = (feed(redis.url()), feed(redis.url()));
    let (mut first, mut second) = (one.revocations().unwrap(), two.revocations().unwrap());
    gap(&mut first).await;
    gap(&mut second).await;
    one.announce_revocation("k3y").await.unwrap();
    assert_eq!(item(&mut first).await, "k3y");
    assert_eq!(item(&mut second).await, "k3y");
}

#[tokio::test]
async fn readers_come_and_go_on_one_connection() {
    let redis = TestRedis::new().await;
    let feed = feed(redis.url());
    for _ in 0..20 {
        let mut reader = feed.subscribe(&tenant()).unwrap();
        gap(&mut reader).await;
        feed.publish(&events(0..1)).await.unwrap();
        assert_eq!(item(&mut reader).await, event(0));
    }
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    eventually(SOON, "no subscription left", async || {
        let channels: Vec<String> =
            redis::cmd("PUBSUB").arg("CHANNELS").query_async(&mut connection).await.unwrap();
        channels.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn readers_are_bounded_and_closing_ends_them() {
    let redis = TestRedis::new().await;
    let feed = feed(redis.url());
    let mut readers: Vec<_> =
        (0..READERS_MAX).map(|_| feed.subscribe(&tenant()).unwrap()).collect();
    assert!(feed.subscribe(&tenant()).is_err());
    gap(&mut readers[0]).await;
    feed.close().await;
    assert!(timeout(SOON, readers[0].recv()).await.unwrap().is_none());
    assert!(feed.subscribe(&tenant()).is_err());
}

#[tokio::test]
async fn tls_to_a_server_without_it_is_an_error() {
    let redis = TestRedis::new().await;
    let feed = feed(&redis.url().replace("redis://", "rediss://"));
    assert!(feed.publish(&events(0..1)).await.is_err());
    let mut reader = feed.subscribe(&tenant()).unwrap();
    assert!(timeout(Duration::from_millis(500), reader.recv()).await.is_err());
    assert!(feed.probe().await.is_err());
    feed.close().await;
}

//! New logs, one and many, good and bad.

use std::time::Duration;

use contracts::Envelope;
use contracts::audit::{BulkIndex, IndexMessage};
use contracts::envelope::Body;
use contracts::errors::{MALFORMED_MESSAGE, REJECTED_BY_STORE};
use contracts::message::Message;
use contracts::{LogId, RetentionClass};
use database::partitions::retire;
use queue_core::{ErrorClass, Failure};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use sinks::search::{MetadataFilter, Query};

use crate::scene::{Scene, first_attempt, header, log, log_of, tenant};

fn bulk(items: Vec<contracts::audit::LogItem>) -> IndexMessage {
    IndexMessage::BulkIndex(BulkIndex { items })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_stored_byte_for_byte_found_and_announced() {
    let scene = Scene::new().await;
    let acme = tenant("acme");
    let given = log(&acme, scene.now, 1);
    let message = IndexMessage::Index(given.item.clone());
    let attempt = first_attempt(scene.now);
    let parts = scene.worker.process(&header(&acme, scene.now), message, attempt).await.unwrap();
    assert!(parts.is_empty());

    let mut connection = scene.database.pool().acquire().await.unwrap();
    let stored = audit::store::find(&mut connection, &acme, given.id).await.unwrap().unwrap();
    assert_eq!(stored.record, given.item.record.get().as_bytes());
    let (sha256, salt, targets): (Vec<u8>, Vec<u8>, Vec<String>) =
        sqlx::query_as("SELECT sha256, leaf_salt, target_ids FROM logs WHERE id = $1")
            .bind(given.id.0)
            .fetch_one(&mut *connection)
            .await
            .unwrap();
    assert_eq!(sha256[..], Sha256::digest(given.item.record.get())[..]);
    assert_eq!(salt, [1; 16]);
    assert_eq!(targets, [r#"t"1"#], "quotes survive the array literal");

    let number = MetadataFilter::Equals { path: "big".into(), value: "1e999999".into() };
    let query = Query { metadata: vec![number], ..Query::default() };
    assert_eq!(scene.found(&acme, &query).await, [given.id]);
    let announced = scene.feed.announced.lock().unwrap().clone();
    assert_eq!(announced.len(), 1);
    assert_eq!(announced[0].ingest_xid, stored.ingest_xid);
    assert_eq!(announced[0].record.as_deref(), Some(given.item.record.get().as_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redelivery_stores_nothing_and_is_announced_again() {
    let scene = Scene::new().await;
    let acme = tenant("acme");
    let items: Vec<_> = (1..=3).map(|n| log(&acme, scene.now, n)).collect();
    let message = || bulk(items.iter().map(|given| given.item.clone()).collect());
    let header = header(&acme, scene.now);
    let attempt = first_attempt(scene.now);
    scene.worker.process(&header, message(), attempt).await.unwrap();
    scene.worker.process(&header, message(), attempt).await.unwrap();
    let expected: Vec<LogId> = items.iter().map(|given| given.id).collect();
    assert_eq!(scene.stored(&acme).await, expected);
    assert_eq!(scene.feed.ids().len(), 6, "a crash after the commit would have lost the rest");
    let announced = scene.feed.announced.lock().unwrap().clone();
    assert_eq!(announced[0].ingest_xid, announced[3].ingest_xid, "the place in the feed stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_item_of_a_bulk_travels_alone_and_the_others_go_on() {
    let scene = Scene::new().await;
    let acme = tenant("acme");
    let (good, stranger, also_good) =
        (log(&acme, scene.now, 1), log(&tenant("globex"), scene.now, 2), log(&acme, scene.now, 3));
    let header = header(&acme, scene.now);
    let message = bulk(vec![good.item, stranger.item.clone(), also_good.item]);
    let attempt = first_attempt(scene.now);
    let parts = scene.worker.process(&header, message, attempt).await.unwrap();
    assert_eq!(scene.stored(&acme).await, [good.id, also_good.id]);
    assert_eq!(parts.len(), 1);
    assert_eq!(parts[0].index, 1);
    assert_eq!(parts[0].reason.code, MALFORMED_MESSAGE);
    assert!(parts[0].reason.message.contains("globex"));

    let envelope = Envelope::from_json(&parts[0].envelope_json).unwrap();
    assert_eq!(envelope.header.causation_id, Some(header.id.to_string()));
    assert_ne!(envelope.header.id, header.id);
    let Body::Inline(body) = envelope.body else { panic!("inline") };
    let IndexMessage::Index(item) = IndexMessage::decode(&envelope.header, &body).unwrap() else {
        panic!("an INDEX message of its own")
    };
    assert_eq!(item.record.get(), stranger.item.record.get());
    assert_eq!(item.salt, stranger.item.salt);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_message_of_one_log_is_rejected_whole() {
    let scene = Scene::new().await;
    let acme = tenant("acme");
    let mut item = log(&acme, scene.now, 1).item;
    item.record = RawValue::from_string("[1]".into()).unwrap();
    let attempt = first_attempt(scene.now);
    let message = IndexMessage::Index(item);
    let failure = scene.worker.process(&header(&acme, scene.now), message, attempt).await;
    let Err(Failure::Reject(reason)) = failure else { panic!("{failure:?}") };
    assert_eq!(reason.code, MALFORMED_MESSAGE);
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_that_only_postgres_knows_is_bisected_out() {
    let scene = Scene::new().await;
    let acme = tenant("acme");
    // Long ago: no partition holds it and none will come.
    let ancient = "2001-02-03T04:05:06Z".parse().unwrap();
    let mut items: Vec<_> = (1..=20).map(|n| log(&acme, scene.now, n).item).collect();
    items.insert(7, log(&acme, ancient, 99).item);
    let attempt = first_attempt(scene.now);
    let parts = scene.worker.process(&header(&acme, scene.now), bulk(items), attempt).await;
    let parts = parts.unwrap();
    assert_eq!(parts.len(), 1);
    assert_eq!((parts[0].index, parts[0].reason.code), (7, REJECTED_BY_STORE));
    assert_eq!(scene.stored(&acme).await.len(), 20);
    assert_eq!(scene.found(&acme, &Query::default()).await.len(), 20);
    assert_eq!(scene.feed.ids().len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_partition_is_late_waits_and_keeps_nobody() {
    let scene = Scene::new().await;
    let acme = tenant("acme");
    // Within its term, and behind the partitions that a fresh database has.
    let behind = scene.now - chrono::TimeDelta::days(60);
    let late = log_of(&acme, behind, 1, RetentionClass::Days90);
    let punctual = log(&acme, scene.now, 2);
    let message = || bulk(vec![late.item.clone(), punctual.item.clone()]);
    let header = header(&acme, scene.now);
    let attempt = first_attempt(scene.now);
    let failure = scene.worker.process(&header, message(), attempt).await;
    let Err(Failure::Retry(error)) = failure else { panic!("{failure:?}") };
    assert_eq!(error.class, ErrorClass::Infrastructure, "it is not the message's fault");
    assert_eq!(scene.found(&acme, &Query::default()).await, [punctual.id]);

    database::partitions::ensure_range(scene.database.pool(), behind, behind).await.unwrap();
    assert!(scene.worker.process(&header, message(), attempt).await.unwrap().is_empty());
    assert_eq!(scene.stored(&acme).await, [late.id, punctual.id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_partition_is_retired_gets_it_back() {
    let scene = Scene::new().await;
    let (acme, pool) = (tenant("acme"), scene.database.pool());
    // Older than its class keeps, and yet it was accepted and never stored.
    let behind = scene.now - chrono::TimeDelta::days(100);
    let (late, later) = (log(&acme, behind, 1), log(&acme, behind, 3));
    let punctual = log(&acme, scene.now, 2);
    let message = || bulk([&late, &punctual, &later].map(|given| given.item.clone()).into());
    let (header, attempt) = (header(&acme, scene.now), first_attempt(scene.now));
    database::partitions::ensure_range(pool, behind, behind).await.unwrap();
    for drop_after in [chrono::TimeDelta::days(7), chrono::TimeDelta::zero()] {
        // The second round drops what the first one has detached, where it does not wait.
        for _ in 0..2 {
            let mut progress = retire::Progress::default();
            retire::round(pool, &mut progress, drop_after).await.unwrap();
        }
        let parts = scene.worker.process(&header, message(), attempt).await.unwrap();
        assert!(parts.is_empty(), "{parts:?}");
        assert_eq!(scene.stored(&acme).await, [late.id, later.id, punctual.id]);
        // It holds rows now, and stays.
        let mut progress = retire::Progress::default();
        retire::round(pool, &mut progress, drop_after).await.unwrap();
        assert_eq!(scene.stored(&acme).await.len(), 3);
        assert_eq!(scene.found(&acme, &Query::default()).await.len(), 3);
        sqlx::query("DELETE FROM logs").execute(pool).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_messages_with_shared_logs_store_each_once() {
    let scene = Scene::new().await;
    let acme = tenant("acme");
    let items: Vec<_> = (0..60).map(|n| log(&acme, scene.now, n).item).collect();
    let runs = (0..40_usize).map(|start| {
        let items: Vec<_> = items.iter().cycle().skip(start).take(25).cloned().collect();
        let (worker, header) = (scene.worker.clone(), header(&acme, scene.now));
        let attempt = first_attempt(scene.now);
        async move { worker.process(&header, bulk(items), attempt).await.unwrap() }
    });
    futures_util::future::join_all(runs).await;
    assert_eq!(scene.stored(&acme).await.len(), 60);
    assert_eq!(scene.found(&acme, &Query::default()).await.len(), 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_is_backfilled_in_commit_order() {
    let scene = Scene::new().await;
    let (acme, globex) = (tenant("acme"), tenant("globex"));
    let attempt = first_attempt(scene.now);
    for n in [3, 1, 2] {
        for tenant in [&acme, &globex] {
            let message = IndexMessage::Index(log(tenant, scene.now, n).item);
            scene.worker.process(&header(tenant, scene.now), message, attempt).await.unwrap();
        }
    }
    let mut connection = scene.database.pool().acquire().await.unwrap();
    let start = (0, LogId(uuid::Uuid::nil()));
    // Transactions of other databases hold the horizon back, too: it is the cluster's.
    let all = testkit::eventually(Duration::from_secs(120), "the horizon passes", async || {
        let all = audit::store::backfill_after(&mut connection, &acme, start, 10).await.unwrap();
        (all.len() == 3).then_some(all)
    })
    .await;
    let expected: Vec<LogId> = [3, 1, 2].into_iter().map(|n| log(&acme, scene.now, n).id).collect();
    assert_eq!(all.iter().map(|log| log.key.id).collect::<Vec<_>>(), expected);
    let after = (all[0].ingest_xid, all[0].key.id);
    let rest = audit::store::backfill_after(&mut connection, &acme, after, 1).await.unwrap();
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0].key.id, expected[1]);
    let position = audit::store::feed_position(&mut connection).await.unwrap();
    assert!(position.horizon > all[2].ingest_xid);
}

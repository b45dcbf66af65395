//! What becomes of a message when a sink fails: infrastructure waits and counts nothing, and the
//! work that was done before the failure is not undone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use audit::model::{Erased, Erasure, NewLog};
use audit::store::StoreError;
use contracts::audit::{BulkIndex, IndexMessage};
use contracts::errors::{DATABASE_UNAVAILABLE, LOG_MISSING, PUBSUB_UNAVAILABLE, REJECTED_BY_STORE};
use database::{DbErrorClass, Role};
use futures_util::FutureExt;
use queue_core::{Attempt, ErrorClass, Failure};
use sinks::search::Query;
use sinks::{SinkError, SinkErrorKind};
use testkit::eventually;

use crate::scene::{
    Inserting, Scene, delete, erasure, first_attempt, header, log, tagged, tenant, update,
};

/// What a message comes to whose first insert fails with `class`; its second goes through.
async fn insert_fails_with(class: DbErrorClass) -> Failure {
    let failed = AtomicBool::new(false);
    let scene = Scene::with(Inserting::by(move |inner, logs| {
        let fails = !failed.swap(true, Ordering::SeqCst);
        async move {
            if fails {
                return Err(StoreError { class, message: "as told".into() });
            }
            inner.insert(logs).await
        }
        .boxed()
    }))
    .await;
    let acme = tenant("acme");
    let message = || IndexMessage::Index(log(&acme, scene.now, 1).item);
    let (header, attempt) = (header(&acme, scene.now), first_attempt(scene.now));
    let failure = scene.worker.process(&header, message(), attempt).await.unwrap_err();
    assert!(scene.stored(&acme).await.is_empty());
    assert!(scene.feed.ids().is_empty());
    scene.worker.process(&header, message(), attempt).await.unwrap();
    assert_eq!(scene.stored(&acme).await.len(), 1);
    failure
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_postgres_never_counts_against_the_message() {
    let Failure::Retry(error) = insert_fails_with(DbErrorClass::Unavailable).await else {
        panic!("a retry")
    };
    assert_eq!((error.code, error.class), (DATABASE_UNAVAILABLE, ErrorClass::Infrastructure));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_ours_counts() {
    let Failure::Retry(error) = insert_fails_with(DbErrorClass::Fault).await else {
        panic!("a retry")
    };
    assert_eq!(error.class, ErrorClass::Handling);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_redis_delays_the_settlement_and_loses_nothing() {
    let scene = Scene::new().await;
    let acme = tenant("acme");
    let down = SinkError::new("redis", SinkErrorKind::Unavailable, "as told");
    scene.feed.failures.lock().unwrap().push(down);
    let given = log(&acme, scene.now, 1);
    let message = || IndexMessage::Index(given.item.clone());
    let (header, attempt) = (header(&acme, scene.now), first_attempt(scene.now));
    let failure = scene.worker.process(&header, message(), attempt).await.unwrap_err();
    let Failure::Retry(error) = failure else { panic!("{failure:?}") };
    assert_eq!((error.code, error.class), (PUBSUB_UNAVAILABLE, ErrorClass::Infrastructure));
    assert_eq!(scene.found(&acme, &Query::default()).await, [given.id], "searchable already");
    assert!(scene.feed.ids().is_empty());

    scene.worker.process(&header, message(), attempt).await.unwrap();
    assert_eq!(scene.feed.ids(), [given.id], "announced when Redis is back");
    assert_eq!(scene.stored(&acme).await, [given.id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_before_its_log_is_snoozed_and_given_up_at_last() {
    let scene = Scene::new().await;
    let acme = tenant("acme");
    let given = log(&acme, scene.now, 1);
    let header = header(&acme, scene.now);
    let message = || IndexMessage::Update(update(&given, Some(&["late"]), None));
    let at = |receives| Attempt { failures: 0, receives, first_seen: scene.now };
    let early = scene.worker.process(&header, message(), at(1)).await.unwrap_err();
    assert!(matches!(early, Failure::Snooze(_)), "{early:?}");
    let last = scene.worker.process(&header, message(), at(16)).await.unwrap_err();
    let Failure::Reject(reason) = last else { panic!("{last:?}") };
    assert_eq!(reason.code, LOG_MISSING);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_log_takes_no_change_and_does_not_come_back() {
    let scene = Scene::new().await;
    let acme = tenant("acme");
    let given = log(&acme, scene.now, 1);
    let attempt = first_attempt(scene.now);
    let process = async |message| {
        let header = header(&acme, scene.now);
        scene.worker.process(&header, message, attempt).await.unwrap();
    };
    process(IndexMessage::Index(given.item.clone())).await;
    process(delete(&given)).await;
    scene.feed.announced.lock().unwrap().clear();
    process(IndexMessage::Update(update(&given, Some(&["late"]), None))).await;
    process(IndexMessage::Index(given.item.clone())).await;
    assert!(!scene.stored(&acme).await.contains(&given.id));
    assert!(scene.found(&acme, &tagged("late")).await.is_empty());
    assert!(scene.feed.ids().is_empty(), "an erased log is not announced again");
}

fn done(erasure: Erasure) -> Erased {
    let Erasure::Done(erased) = erasure else { panic!("{erasure:?}") };
    erased
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_cut_off_before_search_is_finished_by_its_redelivery() {
    let scene = Scene::new().await;
    let acme = tenant("acme");
    let given = log(&acme, scene.now, 1);
    let header_of = || header(&acme, scene.now);
    let attempt = first_attempt(scene.now);
    let index = IndexMessage::Index(given.item.clone());
    scene.worker.process(&header_of(), index, attempt).await.unwrap();

    // The erasure commits, then the worker dies before it reaches search.
    let mut connection = scene.database.pool().acquire().await.unwrap();
    let erasure = erasure(&acme, given.id, scene.now);
    let erased = done(audit::store::erase(&mut connection, &erasure, &[]).await.unwrap());
    assert_eq!(erased.key.as_ref().map(|key| key.id), Some(given.id));
    assert_eq!(scene.found(&acme, &Query::default()).await, [given.id], "search still has it");

    // Its redelivery finds no row and still knows where the document is.
    let again = done(audit::store::erase(&mut connection, &erasure, &[]).await.unwrap());
    assert_eq!(again.key, erased.key);
    scene.worker.process(&header_of(), delete(&given), attempt).await.unwrap();
    assert!(!scene.found(&acme, &Query::default()).await.contains(&given.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_postgres_refuses_is_rejected_at_once() {
    let scene = Scene::new().await;
    let acme = tenant("acme");
    let given = log(&acme, scene.now, 1);
    let (header, attempt) = (header(&acme, scene.now), first_attempt(scene.now));
    let index = IndexMessage::Index(given.item.clone());
    scene.worker.process(&header, index, attempt).await.unwrap();
    let change = IndexMessage::Update(update(&given, Some(&["nul\0"]), None));
    let failure = scene.worker.process(&header, change, attempt).await.unwrap_err();
    let Failure::Reject(reason) = failure else { panic!("{failure:?}") };
    assert_eq!(reason.code, REJECTED_BY_STORE);
}

/// Another transaction stores two logs in the wrong order while the worker stores them in the right
/// one: PostgreSQL breaks off whoever waited first, which is the worker.
#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_is_repeated_free_of_charge() {
    let scene = Scene::new().await;
    let acme = tenant("acme");
    let items: Vec<_> = (1..=2).map(|n| log(&acme, scene.now, n).item).collect();
    let rows: Vec<NewLog> = items
        .iter()
        .map(|item| {
            let record = bytes::Bytes::from(item.record.get().to_owned());
            audit::rules::admit(&acme, record, &item.salt).unwrap()
        })
        .collect();
    let mut other = scene.database.pool().begin().await.unwrap();
    audit::store::insert_rows(&mut other, &rows[1..]).await.unwrap();

    let (worker, header) = (Arc::clone(&scene.worker), header(&acme, scene.now));
    let message = IndexMessage::BulkIndex(BulkIndex { items });
    let attempt = first_attempt(scene.now);
    let working = tokio::spawn(async move { worker.process(&header, message, attempt).await });
    // Only the owner sees what others wait for.
    let owner = scene.cluster.connect(Role::Owner);
    eventually(Duration::from_secs(120), "the worker waits for the other's row", async || {
        let waiting: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity
              WHERE datname = current_database() AND wait_event_type = 'Lock'",
        )
        .fetch_one(owner.pool())
        .await
        .unwrap();
        (waiting == 1).then_some(())
    })
    .await;
    audit::store::insert_rows(&mut other, &rows[..1]).await.unwrap();
    other.commit().await.unwrap();
    assert!(working.await.unwrap().unwrap().is_empty());
    assert_eq!(scene.stored(&acme).await.len(), 2);
    assert_eq!(scene.feed.ids().len(), 2);
}

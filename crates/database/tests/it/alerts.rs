//! Alerts open once whoever finds them, are counted, reminded of, and closed only when the trouble has
//! stayed away.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use database::alerts::{
    self, AlertKey, AlertTimes, NAME_MAX, Notice, Raised, Severity, TEXT_MAX, TITLE_MAX,
};
use database::sqlx::{self, PgPool};
use database::{Database, Role};
use testkit::TestDatabase;

use crate::tenant;

const TIMES: AlertTimes =
    AlertTimes { remind_every: Duration::from_secs(14_400), quiet: Duration::from_secs(300) };

fn at(minutes: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_767_225_600, 0).expect("a time") + TimeDelta::minutes(minutes)
}

async fn raise(pool: &PgPool, key: &AlertKey, minutes: i64) -> Raised {
    let mut connection = pool.acquire().await.expect("a connection");
    let words = ["3 dead letters", "look at them"];
    alerts::raise(&mut connection, key, Severity::Critical, words, at(minutes))
        .await
        .expect("raises")
}

async fn resolve(pool: &PgPool, key: &AlertKey, minutes: i64) -> bool {
    let mut connection = pool.acquire().await.expect("a connection");
    alerts::resolve(&mut connection, key, at(minutes)).await.expect("resolves")
}

/// What is due now, each dealt with.
async fn told(pool: &PgPool, minutes: i64) -> Vec<Notice> {
    alerts::sweep(pool, TIMES, at(minutes)).await.expect("sweeps");
    let due = alerts::due(pool, at(minutes), 100).await.expect("reads");
    for notice in &due {
        alerts::done(pool, notice, at(minutes)).await.expect("writes");
    }
    due
}

async fn kinds(pool: &PgPool, minutes: i64) -> Vec<String> {
    told(pool, minutes).await.into_iter().map(|notice| notice.kind).collect()
}

async fn worker() -> (TestDatabase, Database) {
    let database = TestDatabase::new().await;
    let worker = database.connect(Role::Worker);
    (database, worker)
}

#[tokio::test]
async fn many_that_find_the_same_open_one_alert() {
    let (_database, worker) = worker().await;
    let key = AlertKey::dead_letters("audit-index");
    let raises = (0..20).map(|_| {
        let (pool, key) = (worker.pool().clone(), key.clone());
        tokio::spawn(async move { raise(&pool, &key, 0).await })
    });
    let mut opened = 0;
    for raised in raises.collect::<Vec<_>>() {
        opened += u32::from(raised.await.expect("runs") == Raised::Opened);
    }
    assert_eq!(opened, 1);
    let told = told(worker.pool(), 0).await;
    assert_eq!(
        (told.len(), told[0].kind.as_str(), told[0].tenant.as_str()),
        (1, "opened", "system")
    );
    assert_eq!(raise(worker.pool(), &key, 1).await, Raised::Counted(21));
}

#[tokio::test]
async fn an_open_alert_is_reminded_of_at_its_time_and_not_before() {
    let (_database, worker) = worker().await;
    let (pool, key) = (worker.pool(), AlertKey::partitions("7d"));
    raise(pool, &key, 0).await;
    assert_eq!(kinds(pool, 0).await, ["opened"]);
    for minutes in [1, 120, 239] {
        raise(pool, &key, minutes).await;
        assert_eq!(kinds(pool, minutes).await, [""; 0]);
    }
    let reminder = told(pool, 240).await.remove(0);
    assert_eq!((reminder.kind.as_str(), reminder.raised), ("reminder", 4));
    assert_eq!(kinds(pool, 479).await, [""; 0]);
    // Raised once, by a worker that never comes back to it.
    assert_eq!(kinds(pool, 480).await, ["reminder"]);
}

#[tokio::test]
async fn trouble_that_comes_and_goes_rings_once_and_its_end_is_told_once() {
    let (_database, worker) = worker().await;
    let (pool, key) = (worker.pool(), AlertKey::dead_letters("audit-index"));
    assert!(!resolve(pool, &key, 0).await, "nothing is open");
    raise(pool, &key, 0).await;
    assert_eq!(kinds(pool, 0).await, ["opened"]);
    for minutes in (1..60).step_by(4) {
        assert!(resolve(pool, &key, minutes).await);
        assert_eq!(kinds(pool, minutes + 3).await, [""; 0]);
        assert!(matches!(raise(pool, &key, minutes + 3).await, Raised::Counted(_)));
    }
    assert!(resolve(pool, &key, 61).await);
    assert!(resolve(pool, &key, 64).await);
    assert_eq!(kinds(pool, 65).await, [""; 0]);
    let resolved = told(pool, 66).await.remove(0);
    assert_eq!((resolved.kind.as_str(), resolved.raised), ("resolved", 16));
    assert!(!resolve(pool, &key, 67).await);
    assert_eq!(kinds(pool, 1_000).await, [""; 0], "a closed alert is not reminded of");
    assert_eq!(raise(pool, &key, 1_001).await, Raised::Opened);
    let again = told(pool, 1_001).await.remove(0);
    assert_eq!((again.kind.as_str(), again.raised), ("opened", 1));
    assert_ne!(again.episode, resolved.episode);
}

#[tokio::test]
async fn an_alert_is_raised_with_the_transaction_that_found_it_or_not_at_all() {
    let (_database, worker) = worker().await;
    let key = AlertKey::run_failed(tenant("acme"), "policy-1");
    let mut transaction = worker.pool().begin().await.expect("begins");
    let words = ["a run failed", "why"];
    let raised = alerts::raise(&mut transaction, &key, Severity::Warning, words, at(0)).await;
    assert_eq!(raised.expect("raises"), Raised::Opened);
    transaction.rollback().await.expect("rolls back");
    assert_eq!(told(worker.pool(), 0).await, []);
    let open: i64 = sqlx::query_scalar("SELECT count(*) FROM alerts")
        .fetch_one(worker.pool())
        .await
        .expect("counts");
    assert_eq!(open, 0);
}

#[tokio::test]
async fn two_tenants_alerts_of_one_name_are_two_and_what_is_too_long_is_cut() {
    let (_database, worker) = worker().await;
    for name in ["acme", "globex"] {
        let key = AlertKey::run_failed(tenant(name), &"x".repeat(1_000));
        assert_eq!(key.name().chars().count(), NAME_MAX);
        let mut connection = worker.pool().acquire().await.expect("a connection");
        let (title, text) = ("ä\0".repeat(1_000), "ö".repeat(10_000));
        let words = [title.as_str(), text.as_str()];
        alerts::raise(&mut connection, &key, Severity::Info, words, at(0)).await.expect("raises");
    }
    let told = told(worker.pool(), 0).await;
    assert_eq!(told.len(), 2);
    for notice in told {
        let length = (notice.title.chars().count(), notice.text.chars().count());
        assert_eq!(length, (TITLE_MAX, TEXT_MAX));
    }
}

#[tokio::test]
async fn a_notice_that_is_put_off_comes_again_at_its_time() {
    let (_database, worker) = worker().await;
    raise(worker.pool(), &AlertKey::chain_broken(tenant("acme")), 0).await;
    let due = alerts::due(worker.pool(), at(0), 10).await.expect("reads");
    alerts::later(worker.pool(), &due[0], at(5)).await.expect("writes");
    assert_eq!(alerts::due(worker.pool(), at(4), 10).await.expect("reads"), []);
    let again = alerts::due(worker.pool(), at(5), 10).await.expect("reads").remove(0);
    assert_eq!((again.id, again.attempts), (due[0].id, 1));
}

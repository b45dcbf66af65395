//! One holder at a time: two that want it, a crash, and one that wakes up too late.

use std::time::Duration;

use database::leader::{Lease, acquire};
use database::{Database, Role};
use testkit::{TestDatabase, eventually};

const TTL: Duration = Duration::from_secs(30);

async fn take(database: &Database, holder: &str, ttl: Duration) -> Option<Lease> {
    acquire(database.pool(), "scheduler", holder, ttl).await.expect("asks")
}

#[tokio::test]
async fn of_many_at_once_one_gets_it() {
    let database = TestDatabase::new().await;
    let worker = database.connect(Role::Worker);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..8 {
        let worker = worker.clone();
        tasks.spawn(async move { take(&worker, &format!("holder-{n}"), TTL).await });
    }
    let held: Vec<Lease> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(held.len(), 1);
    assert_eq!(held[0].epoch, 1);
}

#[tokio::test]
async fn a_crashed_holder_is_followed_and_fenced_off() {
    let database = TestDatabase::new().await;
    let worker = database.connect(Role::Worker);
    let pool = worker.pool();
    let short = Duration::from_secs(4);
    let crashed = take(&worker, "one", short).await.expect("is free");
    assert_eq!(take(&worker, "two", TTL).await, None, "held by another");
    // `one` never renews: it has crashed, or sleeps.
    let second = eventually(Duration::from_secs(90), "the term ends", async || {
        take(&worker, "two", TTL).await
    })
    .await;
    assert_eq!(second.epoch, crashed.epoch + 1);
    // It wakes up.
    assert!(!crashed.renew(pool).await.expect("asks"));
    let mut transaction = pool.begin().await.expect("begins");
    assert!(!crashed.guard(&mut transaction).await.expect("asks"));
    assert!(second.guard(&mut transaction).await.expect("asks"));
    drop(transaction);
    // Its release takes nothing from the one that holds it now.
    crashed.release(pool).await.expect("asks");
    assert!(second.renew(pool).await.expect("asks"));
}

#[tokio::test]
async fn a_release_lets_the_next_in_at_once() {
    let database = TestDatabase::new().await;
    let worker = database.connect(Role::Worker);
    let first = take(&worker, "one", TTL).await.expect("is free");
    assert!(first.renew(worker.pool()).await.expect("asks"));
    first.release(worker.pool()).await.expect("gives back");
    assert_eq!(take(&worker, "two", TTL).await.map(|lease| lease.epoch), Some(2));
}

#[tokio::test]
async fn nobody_takes_it_while_a_guarded_transaction_runs() {
    let database = TestDatabase::new().await;
    let worker = database.connect(Role::Worker);
    // Others' statements are hidden from any but the superuser.
    let owner = database.connect(Role::Owner);
    let first = take(&worker, "one", Duration::from_secs(2)).await.expect("is free");
    let mut transaction = worker.pool().begin().await.expect("begins");
    assert!(first.guard(&mut transaction).await.expect("asks"));
    eventually(Duration::from_secs(90), "the term ends", async || {
        says(&worker, "SELECT bool_and(expires_at < clock_timestamp()) FROM leases").await
    })
    .await;
    let other = worker.clone();
    let waiting = tokio::spawn(async move { take(&other, "two", TTL).await });
    eventually(Duration::from_secs(90), "the other waits for the row", async || {
        says(
            &owner,
            "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database()
               AND wait_event_type = 'Lock' AND query LIKE 'INSERT INTO leases%')",
        )
        .await
    })
    .await;
    assert!(!waiting.is_finished());
    transaction.commit().await.expect("commits");
    assert_eq!(waiting.await.expect("joins").map(|lease| lease.epoch), Some(2));
}

/// `Some` when PostgreSQL says true.
async fn says(database: &Database, question: &'static str) -> Option<()> {
    let answer: bool =
        database::sqlx::query_scalar(question).fetch_one(database.pool()).await.expect("answers");
    answer.then_some(())
}

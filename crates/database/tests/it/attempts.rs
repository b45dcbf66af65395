//! The attempt store on PostgreSQL agrees with the one in memory, call by call.

use database::{PostgresAttempts, Role};
use queue_core::attempts::{ATTEMPTS_KEPT, History};
use queue_core::{AttemptStore, MemoryAttempts, RecordedFailure};
use testkit::TestDatabase;

fn failure(n: i64, counts: bool) -> RecordedFailure {
    let mut failure: RecordedFailure = serde_json::from_value(serde_json::json!({
        "at": "2026-01-02T03:04:05.000006Z",
        "code": "internal",
        "error": format!("attempt {n}"),
        "worker": "index-worker 0.1.0",
        "counts": counts,
    }))
    .expect("a failure");
    failure.at += chrono::Duration::seconds(n);
    failure
}

#[tokio::test]
async fn says_what_the_one_in_memory_says() {
    let database = TestDatabase::new().await;
    let worker = database.connect(Role::Worker);
    let (postgres, memory) = (PostgresAttempts::new(&worker), MemoryAttempts::default());
    let kept = i64::try_from(ATTEMPTS_KEPT).expect("a small number");
    for n in 0..kept + 3 {
        let recorded = postgres.record("q", "a", failure(n, n % 3 != 0)).await.expect("records");
        let expected = memory.record("q", "a", failure(n, n % 3 != 0)).await.expect("records");
        assert_eq!(recorded, expected);
    }
    postgres.record("q", "b", failure(0, true)).await.expect("records");
    memory.record("q", "b", failure(0, true)).await.expect("records");
    // Another queue's message of the same id is another message.
    postgres.record("other", "b", failure(9, true)).await.expect("records");

    let asked = ["b", "unknown", "a", "b"].map(str::to_owned);
    let loaded = postgres.load("q", &asked).await.expect("loads");
    assert_eq!(loaded, memory.load("q", &asked).await.expect("loads"));
    assert_eq!(loaded.len(), 4);

    postgres.forget("q", &asked).await.expect("forgets");
    assert_eq!(postgres.load("q", &asked).await.expect("loads"), vec![History::default(); 4]);
    let other = postgres.load("other", &["b".to_owned()]).await.expect("loads");
    assert_eq!(other[0].failures, 1);
}

#[tokio::test]
async fn failures_recorded_at_once_are_all_counted() {
    let database = TestDatabase::new().await;
    let worker = database.connect(Role::Worker);
    let store = PostgresAttempts::new(&worker);
    let calls = (0..10).map(|n| {
        let store = store.clone();
        async move { store.record("q", "m", failure(n, true)).await }
    });
    let mut tasks = tokio::task::JoinSet::new();
    calls.for_each(|call| drop(tasks.spawn(call)));
    for result in tasks.join_all().await {
        result.expect("records");
    }
    let history = store.load("q", &["m".to_owned()]).await.expect("loads").remove(0);
    assert_eq!((history.failures, history.attempts.len()), (10, 10));
}

#[tokio::test]
async fn an_error_that_quotes_nul_is_recorded() {
    let database = TestDatabase::new().await;
    let store = PostgresAttempts::new(&database.connect(Role::Worker));
    let mut quoting = failure(0, true);
    quoting.error = "near \0 at 3".to_owned();
    let history = store.record("q", "m", quoting).await.expect("records");
    assert_eq!(history.attempts[0].error, "near \u{fffd} at 3");
}

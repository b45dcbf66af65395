//! PostgreSQL down, silent, cut off, not migrated: typed errors in bounded time, and work again as
//! soon as it is back.

use std::time::Duration;

use database::sqlx::{self, PgPool};
use database::{Database, DatabaseConfig, DbErrorClass, PostgresAttempts, Role, classify, timed};
use queue_core::{AttemptStore, Probe};
use testkit::{Mood, Proxy, TestDatabase, eventually};
use tokio::time::Instant;

async fn one(pool: &PgPool) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar("SELECT 1").fetch_one(pool).await
}

fn behind(proxy: &Proxy, database: &TestDatabase) -> Database {
    let mut config = DatabaseConfig::for_url(proxy.instead_in(database.url()));
    config.database_acquire_timeout_ms = 300;
    Database::connect(&config, Role::Worker).expect("the URL is our own")
}

#[tokio::test]
async fn down_at_start_is_an_error_of_the_call_and_not_of_the_start() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::before(database.url()).await;
    proxy.mood(Mood::Down);
    let worker = behind(&proxy, &database);
    let began = Instant::now();
    let error = one(worker.pool()).await.expect_err("is down");
    assert_eq!(classify(&error), DbErrorClass::Unavailable, "{error}");
    assert!(worker.probe().await.is_err());
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    proxy.mood(Mood::Pass);
    assert_eq!(one(worker.pool()).await.expect("is back"), 1);
    assert_eq!(worker.probe().await, Ok(()));
}

#[tokio::test]
async fn nobody_listening_is_named() {
    let config = DatabaseConfig::for_url("postgres://flotilla@127.0.0.1:1/flotilla");
    let nowhere = Database::connect(&config, Role::Api).expect("a URL");
    let reason = nowhere.probe().await.expect_err("nobody listens");
    assert!(reason.contains("refused"), "{reason}");
}

#[tokio::test]
async fn a_restart_costs_the_open_connections_only() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::before(database.url()).await;
    let worker = behind(&proxy, &database);
    let mut transaction = worker.pool().begin().await.expect("begins");
    proxy.cut();
    let error = sqlx::query("SELECT 1").execute(&mut *transaction).await.expect_err("is cut");
    assert_eq!(classify(&error), DbErrorClass::Unavailable, "{error}");
    drop(transaction);
    eventually(Duration::from_secs(90), "the pool recovers", async || {
        one(worker.pool()).await.ok()
    })
    .await;
}

#[tokio::test]
async fn silence_is_bounded_from_our_side() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::before(database.url()).await;
    let worker = behind(&proxy, &database);
    assert_eq!(one(worker.pool()).await.expect("works"), 1);
    proxy.mood(Mood::Silent);
    let began = Instant::now();
    let limit = Duration::from_millis(200);
    let error = timed(limit, one(worker.pool())).await.expect_err("is silent");
    assert_eq!(classify(&error), DbErrorClass::Unavailable, "{error}");
    assert!(worker.probe().await.is_err());
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

#[tokio::test]
async fn the_attempt_store_says_that_it_cannot_be_reached() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::before(database.url()).await;
    proxy.mood(Mood::Down);
    let store = PostgresAttempts::new(&behind(&proxy, &database));
    store.load("q", &["m".to_owned()]).await.expect_err("is down");
}

#[tokio::test]
async fn a_slow_statement_is_cancelled_by_the_server() {
    let database = TestDatabase::new().await;
    let mut config = database.config();
    config.database_statement_timeout_secs = 1;
    let worker = Database::connect(&config, Role::Worker).expect("the URL is our own");
    let slow =
        sqlx::query("SELECT pg_sleep(30)").execute(worker.pool()).await.expect_err("is slow");
    assert_eq!(classify(&slow), DbErrorClass::Unavailable, "{slow}");
}

#[tokio::test]
async fn a_full_pool_is_unavailable_and_does_not_turn_readiness_red() {
    let database = TestDatabase::new().await;
    let mut config = database.config();
    (config.database_pool_max, config.database_acquire_timeout_ms) = (1, 100);
    let worker = Database::connect(&config, Role::Worker).expect("the URL is our own");
    let _held = worker.pool().acquire().await.expect("the only one");
    let error = one(worker.pool()).await.expect_err("none is left");
    assert_eq!(classify(&error), DbErrorClass::Unavailable, "{error}");
    assert_eq!(worker.probe().await, Ok(()));
}

#[tokio::test]
async fn a_deadlock_is_to_be_tried_again() {
    let database = TestDatabase::new().await;
    let owner = database.connect(Role::Owner);
    sqlx::query("INSERT INTO tenants (id) VALUES ('a'), ('b')")
        .execute(owner.pool())
        .await
        .expect("two rows");
    let lock = "UPDATE tenants SET sandbox = true WHERE id = $1";
    let mut one = owner.pool().begin().await.expect("begins");
    let mut two = owner.pool().begin().await.expect("begins");
    sqlx::query(lock).bind("a").execute(&mut *one).await.expect("locks a");
    sqlx::query(lock).bind("b").execute(&mut *two).await.expect("locks b");
    let (one, two) = tokio::join!(
        sqlx::query(lock).bind("b").execute(&mut *one),
        sqlx::query(lock).bind("a").execute(&mut *two),
    );
    let lost = one.err().or(two.err()).expect("one of them loses");
    assert_eq!(classify(&lost), DbErrorClass::Retry, "{lost}");
}

#[tokio::test]
async fn not_migrated_is_said_with_what_to_do() {
    let database = TestDatabase::unmigrated().await;
    let worker = database.connect(Role::Worker);
    let reason = worker.probe().await.expect_err("has no tables");
    assert!(reason.contains("fleetctl migrate"), "{reason}");
    let error =
        sqlx::query("SELECT * FROM logs").execute(worker.pool()).await.expect_err("no table");
    assert_eq!(classify(&error), DbErrorClass::Unavailable, "{error}");
}

#[test]
fn a_url_that_cannot_be_read_is_refused_without_repeating_it() {
    for url in
        ["", "localhost/flotilla", "mysql://root:hunter2@db/x", "postgres://u:hunter2@db:port/x"]
    {
        let error = Database::connect(&DatabaseConfig::for_url(url), Role::Api).expect_err(url);
        let text = error.to_string();
        assert!(text.contains("DATABASE_URL") && !text.contains("hunter2"), "{text}");
    }
    let shown = format!("{:?}", DatabaseConfig::for_url("postgres://u:hunter2@db/x"));
    assert!(!shown.contains("hunter2"), "{shown}");
}

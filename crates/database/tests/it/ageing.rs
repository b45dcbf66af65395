//! Rows go at their term, not a moment before, and nothing else goes with them.

use chrono::{DateTime, Duration, Utc};
use database::ageing::{self, ATTEMPTS_TERM, Aged, INGEST_KEYS_TERM};
use database::alerts::{self, ALERTS_TERM, AlertKey, AlertTimes, Severity};
use database::sqlx::{self, PgPool};
use database::{PostgresAttempts, Role};
use queue_core::{AttemptStore, RecordedFailure};
use testkit::TestDatabase;

fn micros(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

async fn ingest_key(owner: &PgPool, key: u8, created_at: DateTime<Utc>) {
    sqlx::query(
        "INSERT INTO ingest_keys (tenant, key_hash, body_sha256, ids, recorded_at, retention_class,
                                  salts, state, created_at)
         VALUES ('acme', $1, sha256(''), '{}', $2, '30d', '{}', 'published', $2)",
    )
    .bind([key; 32].as_slice())
    .bind(created_at)
    .execute(owner)
    .await
    .expect("a key");
}

async fn tombstone(owner: &PgPool, expires_at: DateTime<Utc>) {
    sqlx::query(
        "INSERT INTO tombstones (tenant, id, reason, requester, operation_id, recorded_at, expires_at)
         VALUES ('acme', gen_random_uuid(), 'r', '{}', gen_random_uuid(), $1, $1)",
    )
    .bind(expires_at)
    .execute(owner)
    .await
    .expect("a tombstone");
}

async fn ticket(owner: &PgPool, expires_at: DateTime<Utc>) {
    sqlx::query(
        "INSERT INTO live_tickets (tenant, ticket_sha256, key_id, expires_at)
         VALUES ('acme', sha256(gen_random_uuid()::text::bytea), 'k', $1)",
    )
    .bind(expires_at)
    .execute(owner)
    .await
    .expect("a ticket");
}

async fn effect(owner: &PgPool, expires_at: DateTime<Utc>) {
    sqlx::query(
        "INSERT INTO effects (tenant, scope, key, epoch, holder, since, expires_at)
         VALUES ('acme', 's', gen_random_uuid()::text, 0, '', $1, $1)",
    )
    .bind(expires_at)
    .execute(owner)
    .await
    .expect("an effect");
}

async fn decision(owner: &PgPool, expires_at: DateTime<Utc>) {
    sqlx::query(
        "INSERT INTO effect_decisions (tenant, scope, key, decision, reason, decided_by, holder, since,
                                       expires_at)
         VALUES ('acme', 's', 'k', 'done', 'r', 'u', 'w', $1, $1)",
    )
    .bind(expires_at)
    .execute(owner)
    .await
    .expect("a decision");
}

#[tokio::test]
async fn each_table_at_its_own_term() {
    let database = TestDatabase::new().await;
    let (owner, worker) = (database.connect(Role::Owner), database.connect(Role::Worker));
    let now = micros("2026-06-01T12:00:00Z");
    let moment = Duration::microseconds(1);
    ingest_key(owner.pool(), 1, now - INGEST_KEYS_TERM).await;
    ingest_key(owner.pool(), 2, now - INGEST_KEYS_TERM + moment).await;
    tombstone(owner.pool(), now).await;
    tombstone(owner.pool(), now + moment).await;
    ticket(owner.pool(), now).await;
    ticket(owner.pool(), now + moment).await;
    effect(owner.pool(), now).await;
    effect(owner.pool(), now + moment).await;
    decision(owner.pool(), now).await;
    decision(owner.pool(), now + moment).await;
    alert(worker.pool(), "old", now - ALERTS_TERM).await;
    alert(worker.pool(), "young", now - ALERTS_TERM + moment).await;
    let store = PostgresAttempts::new(&worker);
    for (message, at) in [("old", now - ATTEMPTS_TERM), ("young", now - ATTEMPTS_TERM + moment)] {
        let failure: RecordedFailure = serde_json::from_value(serde_json::json!({
            "at": at, "code": "internal", "error": "e", "worker": "w", "counts": true,
        }))
        .expect("a failure");
        store.record("q", message, failure).await.expect("records");
    }
    let gone = Aged {
        ingest_keys: 1,
        tombstones: 1,
        attempts: 1,
        live_tickets: 1,
        effects: 1,
        effect_decisions: 1,
        alerts: 1,
        alert_notices: 2,
    };
    assert_eq!(ageing::run(worker.pool(), now).await.expect("ages"), gone);
    assert_eq!(ageing::run(worker.pool(), now).await.expect("ages"), Aged::default());
    let left = store.load("q", &["old".to_owned(), "young".to_owned()]).await.expect("loads");
    assert_eq!((left[0].failures, left[1].failures), (0, 1));
}

/// One that closed then, both of its notices dealt with then.
async fn alert(pool: &PgPool, about: &str, at: DateTime<Utc>) {
    let mut connection = pool.acquire().await.expect("a connection");
    let key = AlertKey::dead_letters(about);
    let words = ["title", "text"];
    alerts::raise(&mut connection, &key, Severity::Critical, words, at).await.expect("raises");
    alerts::resolve(&mut connection, &key, at).await.expect("resolves");
    let times = AlertTimes {
        remind_every: std::time::Duration::from_secs(60),
        quiet: std::time::Duration::ZERO,
    };
    alerts::sweep(pool, times, at).await.expect("closes");
    for notice in alerts::due(pool, at, 10).await.expect("reads") {
        alerts::done(pool, &notice, at).await.expect("writes");
    }
}

#[tokio::test]
async fn more_than_one_batch_goes_in_one_run() {
    let database = TestDatabase::new().await;
    let (owner, worker) = (database.connect(Role::Owner), database.connect(Role::Worker));
    let rows = ageing::BATCH + 1;
    sqlx::query(
        "INSERT INTO attempts SELECT 'q', n::text, 1, '[]', '2020-01-01' FROM generate_series(1, $1) AS n",
    )
    .bind(rows)
    .execute(owner.pool())
    .await
    .expect("rows");
    let aged = ageing::run(worker.pool(), micros("2026-06-01T12:00:00Z")).await.expect("ages");
    assert_eq!(aged.attempts, rows.unsigned_abs());
}

//! Reading the table from end to end: which months hold logs of which class.

use audit::store;
use chrono::{DateTime, Utc};
use contracts::RetentionClass::{self, Days30, Days90, Years7};
use database::{Database, Role, partitions};
use testkit::TestDatabase;

/// A row of that class and time; what else is in it does not matter.
async fn put(owner: &Database, class: RetentionClass, at: DateTime<Utc>) {
    let row =
        "INSERT INTO logs (tenant, id, retention_class, recorded_at, record, sha256, leaf_salt,
                                 actor_type, actor_id, action, outcome)
               VALUES ('acme', gen_random_uuid(), $1, $2, '', sha256(''), '', 'user', 'u', 'a',
                       'success')";
    let row = sqlx::query(row).bind(class.as_str()).bind(at);
    row.execute(owner.pool()).await.unwrap();
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

#[tokio::test]
async fn months_are_those_that_hold_logs_oldest_first() {
    let database = TestDatabase::new().await;
    let (owner, worker) = (database.connect(Role::Owner), database.connect(Role::Worker));
    let (from, to) = (at("2025-11-28T00:00:00Z"), at("2026-02-03T00:00:00Z"));
    partitions::ensure_range(owner.pool(), from, to).await.unwrap();
    let mut connection = worker.pool().acquire().await.unwrap();
    assert_eq!(store::months(&mut connection).await.unwrap(), [], "partitions without a log");
    for (class, time) in [
        (Years7, "2026-01-31T23:59:59.999999Z"),
        (Days90, "2026-01-01T00:00:00Z"),
        (Days90, "2025-12-31T23:59:59.999999Z"),
        // Two days, which are two partitions, of one month.
        (Days30, "2026-02-01T10:00:00Z"),
        (Days30, "2026-02-02T10:00:00Z"),
    ] {
        put(&worker, class, at(time)).await;
    }
    let expected = [
        (Days90, at("2025-12-01T00:00:00Z")),
        (Days90, at("2026-01-01T00:00:00Z")),
        (Years7, at("2026-01-01T00:00:00Z")),
        (Days30, at("2026-02-01T00:00:00Z")),
    ];
    assert_eq!(store::months(&mut connection).await.unwrap(), expected);

    assert_eq!(store::logs_estimated(&mut connection, None).await.unwrap(), 0, "not looked at yet");
    sqlx::raw_sql("ANALYZE logs").execute(owner.pool()).await.unwrap();
    assert_eq!(store::logs_estimated(&mut connection, None).await.unwrap(), 5);
    assert_eq!(store::logs_estimated(&mut connection, Some(Days90)).await.unwrap(), 2);
}

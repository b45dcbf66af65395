//! Partitions: made ahead, counted, made by two at once; a row out of range is a named error.

use chrono::{DateTime, Duration, Utc};
use contracts::RetentionClass;
use database::partitions::{self, DAYS_AHEAD, DAYS_BEHIND};
use database::sqlx::{self, PgPool};
use database::{DbErrorClass, Role, classify};
use testkit::TestDatabase;

use crate::now;

async fn insert(
    pool: &PgPool,
    class: RetentionClass,
    at: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO logs (tenant, id, retention_class, recorded_at, record, sha256, leaf_salt,
                           actor_type, actor_id, action, outcome)
         VALUES ('acme', gen_random_uuid(), $1, $2, '', sha256(''), '', 'user', 'u', 'a', 'success')",
    )
    .bind(class.as_str())
    .bind(at)
    .execute(pool)
    .await
    .map(|_| ())
}

#[tokio::test]
async fn migrating_makes_what_the_coming_days_need() {
    let database = TestDatabase::new().await;
    let worker = database.connect(Role::Worker);
    let now = now();
    for class in RetentionClass::ALL {
        for days in [-i64::from(DAYS_BEHIND), 0, i64::from(DAYS_AHEAD)] {
            insert(worker.pool(), class, now + Duration::days(days)).await.expect("inserts");
        }
    }
    let remaining = partitions::remaining(worker.pool(), now).await.expect("counts");
    assert_eq!(remaining.len(), RetentionClass::ALL.len());
    for left in remaining {
        assert!(left.days >= DAYS_AHEAD && !left.alarming(), "{left:?}");
    }
}

#[tokio::test]
async fn two_at_once_make_each_partition_once() {
    let database = TestDatabase::new().await;
    let worker = database.connect(Role::Worker);
    let later = now() + Duration::days(100);
    let (one, two) = tokio::join!(
        partitions::ensure_ahead(worker.pool(), later, 3),
        partitions::ensure_ahead(worker.pool(), later, 3),
    );
    let made = one.expect("makes").made + two.expect("makes").made;
    // 18 days, and the one or two months they lie in, of three classes each.
    let months = made - 3 * 18;
    assert!(months == 3 || months == 6, "{made}");
    assert_eq!(partitions::ensure_ahead(worker.pool(), later, 3).await.expect("looks").made, 0);
    insert(worker.pool(), RetentionClass::Days7, later).await.expect("inserts");
}

#[tokio::test]
async fn a_row_out_of_range_is_a_named_error_and_lands_nowhere() {
    let database = TestDatabase::new().await;
    let worker = database.connect(Role::Worker);
    for at in [now() + Duration::days(900), now() - Duration::days(900)] {
        let error =
            insert(worker.pool(), RetentionClass::Days90, at).await.expect_err("no partition");
        assert_eq!(classify(&error), DbErrorClass::NoPartition, "{error}");
    }
    // A check that fails on the row itself is another matter.
    let error = sqlx::query("UPDATE feed_epoch SET one_row = false")
        .execute(database.connect(Role::Owner).pool())
        .await
        .expect_err("a check");
    assert_eq!(classify(&error), DbErrorClass::Data, "{error}");
}

#[tokio::test]
async fn running_out_rings() {
    let database = TestDatabase::new().await;
    let worker = database.connect(Role::Worker);
    let almost = now() + Duration::days(i64::from(DAYS_AHEAD) - 2);
    let remaining = partitions::remaining(worker.pool(), almost).await.expect("counts");
    let days7 = remaining.iter().find(|left| left.class == RetentionClass::Days7).expect("7d");
    assert!(days7.alarming(), "{days7:?}");
    partitions::ensure_ahead(worker.pool(), almost, DAYS_AHEAD).await.expect("makes");
    let remaining = partitions::remaining(worker.pool(), almost).await.expect("counts");
    assert!(remaining.iter().all(|left| !left.alarming()), "{remaining:?}");
}

#[tokio::test]
async fn writes_go_on_while_a_partition_is_made() {
    let database = TestDatabase::new().await;
    let worker = database.connect(Role::Worker);
    let mut writing = worker.pool().begin().await.expect("begins");
    sqlx::query("DELETE FROM logs WHERE tenant = 'acme'")
        .execute(&mut *writing)
        .await
        .expect("locks");
    // With ACCESS EXCLUSIVE it would wait for the open transaction and fail at its lock timeout.
    let later = now() + Duration::days(200);
    let made = partitions::ensure_range(worker.pool(), later, later).await.expect("makes");
    assert_eq!(made.made, RetentionClass::ALL.len() as u64);
    writing.commit().await.expect("commits");
}

#[tokio::test]
async fn the_worker_makes_partitions_and_no_other_table() {
    let database = TestDatabase::new().await;
    let worker = database.connect(Role::Worker);
    let refused = sqlx::query("CREATE TABLE mine (n int)").execute(worker.pool()).await;
    // No message is to blame for a missing grant.
    assert_eq!(classify(&refused.expect_err("no right")), DbErrorClass::Unavailable);
    let wrong = sqlx::query("SELECT flotilla_make_partition('1d; DROP TABLE logs', now())");
    let wrong = wrong.execute(worker.pool()).await.expect_err("no class");
    assert_eq!(classify(&wrong), DbErrorClass::Data, "{wrong}");
}

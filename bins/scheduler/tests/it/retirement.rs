//! Empty partitions of long ago: detached by one scheduler, dropped days later by whoever is active then.

use std::time::Duration;

use chrono::TimeDelta;
use database::partitions::{self, retire};
use database::{Role, sqlx};
use queue_core::Clock;
use testkit::{TestDatabase, eventually};

use crate::duties::{Hands, quick, run_by};

const DEADLINE: Duration = Duration::from_secs(120);

#[tokio::test]
async fn an_empty_partition_outlives_its_scheduler_and_goes_days_later() {
    let database = TestDatabase::new().await;
    let owner = database.connect(Role::Owner);
    let (pool, clock) = (owner.pool(), Hands::ahead(0));
    let long_ago = clock.now() - TimeDelta::days(100);
    let made = partitions::ensure_range(pool, long_ago, long_ago).await.expect("makes").made;
    let row = "INSERT INTO logs (tenant, id, retention_class, recorded_at, record, sha256, leaf_salt,
                                 actor_type, actor_id, action, outcome)
               VALUES ('acme', gen_random_uuid(), '7y', $1, '', sha256(''), '', 'user', 'u', 'a', 'success')";
    sqlx::query(row).bind(long_ago).execute(pool).await.expect("a row");
    let gone = i64::try_from(made).expect("a few") - 1;

    let first = run_by(quick(database.url()), clock.clone()).await;
    eventually(DEADLINE, "all but the one with a row are detached", async || {
        let summary = retire::summary(pool).await.expect("counts");
        (summary.waiting == gone).then_some(())
    })
    .await;
    first.drained().await;
    let week = "UPDATE detached_partitions SET detached_at = detached_at - interval '7 days'";
    sqlx::query(week).execute(pool).await.expect("time passes");
    let second = run_by(quick(database.url()), clock.clone()).await;
    let summary = eventually(DEADLINE, "they are dropped", async || {
        let summary = retire::summary(pool).await.expect("counts");
        (summary.dropped == gone).then_some(summary)
    })
    .await;
    assert!(summary.waiting == 0 && summary.dropped_bytes > 0, "{summary:?}");
    // What is emptied later is found by a later round of the same scheduler.
    sqlx::query("DELETE FROM logs").execute(pool).await.expect("a cleanup");
    *clock.0.lock().expect("not poisoned") += TimeDelta::hours(1);
    eventually(DEADLINE, "the last one is detached, too", async || {
        (retire::summary(pool).await.expect("counts").waiting == 1).then_some(())
    })
    .await;
    second.drained().await;
}

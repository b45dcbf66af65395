//! What people do to partitions by hand, and what the owner may not see.

use chrono::Duration;
use contracts::RetentionClass;
use database::partitions;
use database::partitions::retire::{self, Progress, Retired};
use database::sqlx::{self, AssertSqlSafe};
use database::{Database, DatabaseConfig, Role};
use testkit::TestDatabase;

use super::{PATIENCE, Scene, WEEK, classes, insert, run, stored};
use crate::now;

#[tokio::test]
async fn what_somebody_wrote_into_by_hand_stays_and_is_named() {
    let scene = Scene::new().await;
    let partition = scene.partition(RetentionClass::Days30).await;
    scene.round().await;
    let copied = format!(
        "INSERT INTO {partition} (tenant, id, retention_class, recorded_at, record, sha256, leaf_salt,
                                  actor_type, actor_id, action, outcome)
         VALUES ('acme', gen_random_uuid(), '30d', '{}', '', sha256(''), '', 'user', 'u', 'a', 'success')",
        scene.long_ago
    );
    let refused = run(scene.worker.pool(), copied.clone()).await;
    assert!(refused.is_err(), "nobody but the owner may");
    scene.run(copied).await;
    scene.days_pass(30).await;
    for _ in 0..2 {
        assert_eq!(scene.round().await.occupied, [partition.as_str()]);
    }
    let summary = retire::summary(scene.worker.pool()).await.expect("counts");
    assert_eq!((summary.waiting, summary.occupied), (1, vec![partition.clone()]));
    // Made again, it is the one that was there, with its row.
    partitions::ensure_range(scene.worker.pool(), scene.long_ago, scene.long_ago)
        .await
        .expect("makes");
    assert_eq!(stored(scene.worker.pool()).await, 1);
    assert_eq!(retire::summary(scene.worker.pool()).await.expect("counts").waiting, 0);
}

/// `DETACH .. CONCURRENTLY` by hand, and interrupted: PostgreSQL wants FINALIZE.
#[tokio::test]
async fn a_detach_that_was_interrupted_is_finished() {
    let scene = Scene::new().await;
    let partition = scene.partition(RetentionClass::Days90).await;
    let mut reading = scene.owner.pool().begin().await.expect("begins");
    sqlx::query("SELECT count(*) FROM logs").fetch_one(&mut *reading).await.expect("reads");
    let mut by_hand = scene.owner.pool().acquire().await.expect("connects");
    let backend: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&mut *by_hand)
        .await
        .expect("answers");
    let detach = format!("ALTER TABLE logs_90d DETACH PARTITION {partition} CONCURRENTLY");
    let waiting = tokio::spawn(async move {
        sqlx::raw_sql(AssertSqlSafe(detach)).execute(&mut *by_hand).await.map(|_| ())
    });
    let count = "SELECT count(*) FROM pg_inherits WHERE inhdetachpending";
    let pending = || sqlx::query_scalar::<_, i64>(count).fetch_one(scene.owner.pool());
    testkit::eventually(PATIENCE, "it waits for the reader", async || {
        (pending().await.expect("counts") == 1).then_some(())
    })
    .await;
    scene.run(format!("SELECT pg_cancel_backend({backend})")).await;
    waiting.await.expect("ends").expect_err("cancelled");
    reading.commit().await.expect("ends");
    assert_eq!(pending().await.expect("counts"), 1);
    // PostgreSQL waits for queries that began before.
    testkit::eventually(PATIENCE, "it is finished", async || {
        scene.round().await;
        (!scene.is_attached(&partition).await).then_some(())
    })
    .await;
    assert_eq!(pending().await.expect("counts"), 0);
    assert_eq!(retire::summary(scene.worker.pool()).await.expect("counts").waiting, 6);
}

/// As on a managed service: no superuser, whom row-level security binds; what it hides is not empty.
#[tokio::test]
async fn rows_that_the_owner_may_not_see_are_rows() {
    let database = TestDatabase::unmigrated().await;
    let superuser = database.connect(Role::Owner);
    let name = database.url().rsplit('/').next().expect("a name");
    let owner = format!("owner_of_{name}");
    for statement in [
        format!("CREATE ROLE {owner} LOGIN CREATEROLE NOSUPERUSER PASSWORD '{name}'"),
        format!("ALTER DATABASE {name} OWNER TO {owner}"),
        format!("ALTER SCHEMA public OWNER TO {owner}"),
    ] {
        run(superuser.pool(), statement).await.expect("prepares");
    }
    let (_, host) = database.url().split_once('@').expect("a user");
    let config = DatabaseConfig::for_url(format!("postgres://{owner}:{name}@{host}"));
    let connect = |role| Database::connect(&config, role).expect("our own URL");
    connect(Role::Owner).migrate().await.expect("migrates");
    let (worker, long_ago) = (connect(Role::Worker), now() - Duration::days(100));
    partitions::ensure_range(worker.pool(), long_ago, long_ago).await.expect("makes");
    insert(worker.pool(), RetentionClass::Days7, long_ago, 1).await.expect("inserts");
    let day = format!("logs_7d_{}", long_ago.format("%Y%m%d"));
    run(connect(Role::Owner).pool(), format!("ALTER TABLE {day} FORCE ROW LEVEL SECURITY"))
        .await
        .expect("forces");
    let mut progress = Progress::default();
    let retired = retire::round(worker.pool(), &mut progress, WEEK).await.expect("a round");
    let [refused] = &retired.failed[..] else { panic!("{retired:?}") };
    assert!(refused.contains("row-level security") && refused.contains(&day), "{refused}");
    // The others are not kept by it.
    assert_eq!(retired.detached.len() as u64, classes() - 1, "{retired:?}");
    run(connect(Role::Owner).pool(), format!("ALTER TABLE {day} NO FORCE ROW LEVEL SECURITY"))
        .await
        .expect("mends");
    let retired = retire::round(worker.pool(), &mut progress, WEEK).await.expect("a round");
    assert_eq!(retired, Retired::default(), "it holds a row");
    assert_eq!(stored(worker.pool()).await, 1);
}

//! Partitions that nothing is left in: they go, days later their disk comes back, and no row ever does.

mod by_hand;

use chrono::{DateTime, Duration, TimeDelta, Utc};
use contracts::RetentionClass;
use database::partitions;
use database::partitions::retire::{self, BUSY_MAX, IDLE_DAYS, Progress, Retired, remake};
use database::sqlx::{self, AssertSqlSafe, PgPool};
use database::{Database, DbErrorClass, Role, classify};
use testkit::TestDatabase;

use crate::now;

const WEEK: TimeDelta = TimeDelta::days(7);
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);

/// A database with one partition per class that is long over, and its roles.
struct Scene {
    // Dropped last.
    _database: TestDatabase,
    owner: Database,
    worker: Database,
    long_ago: DateTime<Utc>,
}

impl Scene {
    async fn new() -> Self {
        let database = TestDatabase::new().await;
        let (owner, worker) = (database.connect(Role::Owner), database.connect(Role::Worker));
        // A month that this lies in was over 69 days ago at least.
        let long_ago = now() - Duration::days(100);
        let made = partitions::ensure_range(worker.pool(), long_ago, long_ago).await;
        assert_eq!(made.expect("makes").made, classes());
        Self { _database: database, owner, worker, long_ago }
    }

    /// A round of a scheduler that has just started.
    async fn round(&self) -> Retired {
        let mut progress = Progress::default();
        retire::round(self.worker.pool(), &mut progress, WEEK).await.expect("a round")
    }

    async fn insert(&self, class: RetentionClass, rows: i32) {
        insert(self.worker.pool(), class, self.long_ago, rows).await.expect("inserts");
    }

    /// The partition that holds that time.
    async fn partition(&self, class: RetentionClass) -> String {
        sqlx::query_scalar(
            "SELECT partition FROM log_partitions
              WHERE class = $1 AND starts_at <= $2 AND ends_at > $2",
        )
        .bind(class.as_str())
        .bind(self.long_ago)
        .fetch_one(self.owner.pool())
        .await
        .expect("a partition")
    }

    /// Its name, whether there is such a table or not.
    fn partition_name(&self, class: RetentionClass) -> String {
        let start = if class.partitions_daily() { "%Y%m%d" } else { "%Y%m" };
        format!("logs_{class}_{}", self.long_ago.format(start))
    }

    async fn is_attached(&self, partition: &str) -> bool {
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM log_partitions WHERE partition = $1)")
            .bind(partition)
            .fetch_one(self.owner.pool())
            .await
            .expect("looks")
    }

    /// Bytes of all partitions, attached or not.
    async fn bytes(&self) -> u64 {
        let bytes: i64 = sqlx::query_scalar(
            "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class
              WHERE relname LIKE 'logs\\_%' AND relkind = 'r'",
        )
        .fetch_one(self.owner.pool())
        .await
        .expect("measures");
        bytes.unsigned_abs()
    }

    /// As if what is detached had been so for so many days longer.
    async fn days_pass(&self, days: i32) {
        sqlx::query(
            "UPDATE detached_partitions SET detached_at = detached_at - make_interval(days => $1)",
        )
        .bind(days)
        .execute(self.owner.pool())
        .await
        .expect("time passes");
    }

    async fn run(&self, statement: impl Into<String>) {
        run(self.owner.pool(), statement).await.expect("runs");
    }
}

fn classes() -> u64 {
    RetentionClass::ALL.len() as u64
}

async fn run(pool: &PgPool, statement: impl Into<String>) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(statement.into())).execute(pool).await.map(|_| ())
}

async fn insert<'c>(
    connection: impl sqlx::PgExecutor<'c>,
    class: RetentionClass,
    at: DateTime<Utc>,
    rows: i32,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO logs (tenant, id, retention_class, recorded_at, record, sha256, leaf_salt,
                           actor_type, actor_id, action, outcome)
         SELECT 'acme', gen_random_uuid(), $1, $2, decode(repeat(md5(n::text), 32), 'hex'), sha256(''), '',
                'user', 'u', 'a', 'success' FROM generate_series(1, $3) AS n",
    )
    .bind(class.as_str())
    .bind(at)
    .bind(rows)
    .execute(connection)
    .await
    .map(|_| ())
}

async fn stored(pool: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM logs").fetch_one(pool).await.expect("counts")
}

#[tokio::test]
async fn what_is_emptied_is_detached_and_dropped_days_later_and_the_disk_comes_back() {
    let scene = Scene::new().await;
    let partition = scene.partition(RetentionClass::Days30).await;
    // So that it is not the autovacuum that is measured.
    scene.run(format!("ALTER TABLE {partition} SET (autovacuum_enabled = off)")).await;
    scene.insert(RetentionClass::Days30, 4_000).await;
    assert_eq!(scene.round().await.detached.len() as u64, classes() - 1, "all but the one in use");
    assert!(scene.is_attached(&partition).await);
    let full = scene.bytes().await;

    sqlx::query("DELETE FROM logs").execute(scene.worker.pool()).await.expect("a cleanup");
    let retired = scene.round().await;
    let [gone] = &retired.detached[..] else { panic!("{retired:?}") };
    assert_eq!(gone.partition, partition);
    assert!(gone.bytes > 2_000_000, "deleting gives nothing back: {gone:?}");
    assert!(!scene.is_attached(&partition).await && !retired.more);
    // It is there for a week yet.
    scene.days_pass(6).await;
    assert_eq!(scene.round().await, Retired::default());
    assert_eq!(retire::summary(scene.worker.pool()).await.expect("counts").waiting, 6);
    scene.days_pass(1).await;
    let before = scene.bytes().await;
    let retired = scene.round().await;
    assert_eq!(retired.dropped.len() as u64, classes());
    let freed: u64 = retired.dropped.iter().map(|gone| gone.bytes).sum();
    let left = scene.bytes().await;
    println!("partitions: {full} bytes full, {before} emptied, {freed} given back, {left} left");
    assert!(freed > 2_000_000 && before - left == freed, "{before} - {left} = {freed}");
    let summary = retire::summary(scene.worker.pool()).await.expect("counts");
    assert_eq!((summary.waiting, summary.dropped), (0, 6));
    assert_eq!(summary.dropped_bytes.unsigned_abs(), freed);
}

#[tokio::test]
async fn what_is_young_or_holds_a_row_stays_whoever_writes_it_when() {
    let scene = Scene::new().await;
    let young = now() - Duration::days(i64::from(IDLE_DAYS) - 1);
    partitions::ensure_range(scene.worker.pool(), young, now()).await.expect("makes");
    scene.insert(RetentionClass::Days7, 1).await;
    let holds = scene.partition(RetentionClass::Days7).await;
    // A row that is on its way into an empty one.
    let being_written = scene.partition(RetentionClass::Days90).await;
    let mut writing = scene.worker.pool().begin().await.expect("begins");
    insert(&mut *writing, RetentionClass::Days90, scene.long_ago, 1).await.expect("inserts");
    let retired = scene.round().await;
    assert_eq!((retired.busy, retired.more), (1, true), "{retired:?}");
    let gone: Vec<&str> = retired.detached.iter().map(|gone| gone.partition.as_str()).collect();
    assert_eq!(gone.len(), 4, "{gone:?}");
    assert!(!gone.contains(&holds.as_str()) && !gone.contains(&being_written.as_str()), "{gone:?}");
    writing.commit().await.expect("commits");
    assert_eq!(scene.round().await, Retired::default());
    assert_eq!(stored(scene.worker.pool()).await, 2);
    // Asked for by name, by a scheduler gone wrong.
    for (partition, says) in [(holds.as_str(), "occupied"), ("tenants", "refused")] {
        let outcome: String =
            sqlx::query_scalar("SELECT outcome FROM flotilla_detach_partition($1)")
                .bind(partition)
                .fetch_one(scene.worker.pool())
                .await
                .expect("asks");
        assert_eq!(outcome, says, "{partition}");
    }
    let all = "SELECT outcome FROM log_partitions, flotilla_detach_partition(partition)
                WHERE ends_at > now() - interval '60 days'";
    let outcomes: Vec<String> =
        sqlx::query_scalar(all).fetch_all(scene.worker.pool()).await.expect("asks");
    assert!(outcomes.len() > 60 && outcomes.iter().all(|said| said == "refused"), "{outcomes:?}");
}

#[tokio::test]
async fn a_death_at_any_step_leaves_the_rest_to_the_next_round() {
    let scene = Scene::new().await;
    let partition = scene.partition(RetentionClass::Year1).await;
    let detach = "SELECT outcome FROM flotilla_detach_partition($1)";
    let mut dying = scene.worker.pool().begin().await.expect("begins");
    let outcome: String =
        sqlx::query_scalar(detach).bind(&partition).fetch_one(&mut *dying).await.expect("detaches");
    assert_eq!(outcome, "detached");
    dying.rollback().await.expect("rolls back");
    // Neither detached nor noted.
    assert!(scene.is_attached(&partition).await);
    assert_eq!(scene.round().await.detached.len() as u64, classes());
    // Between the detach and the drop nothing is in memory; and one that was dropped by hand meanwhile is
    // no trouble, nor one that was attached again.
    scene.run(format!("DROP TABLE {partition}")).await;
    let custom = scene.partition_name(RetentionClass::Custom);
    let (from, to) = (scene.long_ago - Duration::hours(1), scene.long_ago);
    let again = format!(
        "ALTER TABLE logs_custom ATTACH PARTITION {custom} FOR VALUES FROM ('{from}') TO ('{to}')"
    );
    scene.run(again).await;
    scene.days_pass(7).await;
    let dropping = scene.partition_name(RetentionClass::Days30);
    let mut dying = scene.worker.pool().begin().await.expect("begins");
    let outcome: String =
        sqlx::query_scalar("SELECT outcome FROM flotilla_drop_partition($1, '7 days')")
            .bind(&dropping)
            .fetch_one(&mut *dying)
            .await
            .expect("drops");
    assert_eq!(outcome, "dropped");
    dying.rollback().await.expect("rolls back");
    let retired = scene.round().await;
    assert_eq!(retired.dropped.len() as u64, classes() - 1, "{retired:?}");
    let by_hand = retired.dropped.iter().find(|gone| gone.partition == partition);
    assert_eq!(by_hand.map(|gone| gone.bytes), Some(0), "not ours to count");
    // It is a partition again, and goes as one.
    assert_eq!(retired.detached.iter().map(|gone| &gone.partition).collect::<Vec<_>>(), [&custom]);
}

#[tokio::test]
async fn two_schedulers_retire_each_partition_once() {
    let scene = Scene::new().await;
    let mut detached = Vec::new();
    let mut dropped = Vec::new();
    // Who finds the other at a partition leaves it to the next round.
    for _ in 0..20 {
        let (one, two) = tokio::join!(scene.round(), scene.round());
        for retired in [one, two] {
            detached.extend(retired.detached.into_iter().map(|gone| gone.partition));
            dropped.extend(retired.dropped.into_iter().map(|gone| gone.partition));
        }
        scene.days_pass(7).await;
        if dropped.len() as u64 >= classes() {
            break;
        }
    }
    detached.sort_unstable();
    dropped.sort_unstable();
    let all = detached.len();
    detached.dedup();
    assert_eq!((all as u64, detached.len() as u64), (classes(), classes()), "each once");
    assert_eq!(dropped, detached);
}

#[tokio::test]
async fn a_log_that_comes_late_finds_its_partition_again() {
    let scene = Scene::new().await;
    let pool = scene.worker.pool();
    let (class, at) = (RetentionClass::Days7, scene.long_ago);
    let partition = scene.partition(class).await;
    for dropped in [false, true] {
        scene.round().await;
        if dropped {
            scene.days_pass(7).await;
            assert!(!scene.round().await.dropped.is_empty());
        }
        let error = insert(pool, class, at, 1).await.expect_err("no partition");
        assert_eq!(classify(&error), DbErrorClass::NoPartition, "{error}");
        let mut storing = pool.begin().await.expect("begins");
        assert!(remake(&mut storing, class, at).await.expect("makes"));
        // The next round is not in the way of a log that is being stored.
        assert!(scene.round().await.detached.is_empty());
        insert(&mut *storing, class, at, 1).await.expect("inserts");
        storing.commit().await.expect("commits");
        assert!(scene.is_attached(&partition).await);
        scene.round().await;
        assert_eq!(stored(pool).await, 1, "dropped: {dropped}");
        sqlx::query("DELETE FROM logs").execute(pool).await.expect("a cleanup");
    }
    // Where there never was one, the scheduler is behind or the time is wrong: that is another matter.
    let mut connection = pool.acquire().await.expect("connects");
    let never = at - Duration::days(1);
    assert!(!remake(&mut connection, class, never).await.expect("looks"));
}

#[tokio::test]
async fn a_reader_that_lasts_is_not_waited_for_and_holds_up_a_round_three_times_at_most() {
    let scene = Scene::new().await;
    // As a dump does, or an export.
    let mut reading = scene.owner.pool().begin().await.expect("begins");
    sqlx::query("SELECT count(*) FROM logs").fetch_one(&mut *reading).await.expect("reads");
    let retired = scene.round().await;
    assert_eq!((retired.busy, retired.more), (BUSY_MAX, true), "{retired:?}");
    assert!(retired.detached.is_empty());
    insert(scene.worker.pool(), RetentionClass::Days7, now(), 1).await.expect("writes go on");
    reading.commit().await.expect("ends");
    assert_eq!(scene.round().await.detached.len() as u64, classes());
}

#[tokio::test]
async fn a_round_goes_on_where_the_one_before_was_held_up() {
    let scene = Scene::new().await;
    let mut reading = scene.owner.pool().begin().await.expect("begins");
    sqlx::query("SELECT count(*) FROM logs").fetch_one(&mut *reading).await.expect("reads");
    let mut progress = Progress::default();
    let pool = scene.worker.pool();
    retire::round(pool, &mut progress, WEEK).await.expect("a round");
    assert_ne!(progress, Progress::default());
    reading.commit().await.expect("ends");
    // The second half, then from the beginning.
    let second = retire::round(pool, &mut progress, WEEK).await.expect("a round");
    assert_eq!(second.detached.len() as u64, classes() - u64::from(BUSY_MAX));
    assert_eq!(progress, Progress::default());
    let third = retire::round(pool, &mut progress, WEEK).await.expect("a round");
    assert_eq!(third.detached.len() as u64, u64::from(BUSY_MAX));
}

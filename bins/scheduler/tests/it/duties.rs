//! What the active scheduler does, and what it says when it cannot.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chassis::{App, Context, Environment};
use chrono::{DateTime, Days, Utc};
use database::partitions::{self, DAYS_AHEAD};
use database::sqlx::{self, PgPool};
use database::{Database, Role};
use queue_core::Clock;
use scheduler::{Scheduler, SchedulerConfig};
use sinks::objects::{ClaimConfig, ObjectKey, Objects, Write};
use testkit::{Mood, Proxy, TestDatabase, eventually};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

const DEADLINE: Duration = Duration::from_secs(120);

/// A clock that a test moves.
pub(crate) struct Hands(pub(crate) Mutex<DateTime<Utc>>);

impl Clock for Hands {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().expect("not poisoned")
    }
}

impl Hands {
    /// At the machine's time, and so many days on.
    pub(crate) fn ahead(days: u64) -> Arc<Self> {
        Arc::new(Self(Mutex::new(queue_core::SystemClock.now() + Days::new(days))))
    }
}

/// A scheduler that runs until it is drained or dropped.
pub(crate) struct Running {
    pub(crate) context: Context,
    pub(crate) drain: CancellationToken,
    task: AbortOnDropHandle<()>,
}

async fn run(url: &str, clock: Arc<Hands>) -> Running {
    run_with(url, clock, ClaimConfig::default()).await
}

async fn run_with(url: &str, clock: Arc<Hands>, claims: ClaimConfig) -> Running {
    let mut database = database::DatabaseConfig::for_url(url);
    database.database_acquire_timeout_ms = 300;
    run_by(SchedulerConfig { database, claims, ..quick(url) }, clock).await
}

/// Every option by its default, but for the times.
pub(crate) fn quick(url: &str) -> SchedulerConfig {
    let args = ["--scheduler-lease-secs=3", "--scheduler-interval-secs=1"];
    let environment = Environment::empty().with("DATABASE_URL", url);
    chassis::config::parse("scheduler", args, &environment).expect("valid options")
}

pub(crate) async fn run_by(config: SchedulerConfig, clock: Arc<Hands>) -> Running {
    let context = Context::with_clock("scheduler", "0.0.0", Duration::from_secs(5), clock);
    let scheduler = Box::pin(Scheduler::build(config, &context)).await.expect("builds");
    let drain = CancellationToken::new();
    let (inside, draining) = (context.clone(), drain.clone());
    let task = AbortOnDropHandle::new(tokio::spawn(async move {
        scheduler.run(inside, draining).await.expect("runs");
    }));
    Running { context, drain, task }
}

impl Running {
    /// Why it is not ready; empty when it is.
    async fn reasons(&self) -> String {
        self.context.readiness().running();
        let report = self.context.readiness().report().await;
        let reasons = report.checks.into_iter().filter_map(|check| check.reason);
        reasons.collect::<Vec<_>>().join("\n")
    }

    pub(crate) async fn drained(self) {
        self.drain.cancel();
        self.task.await.expect("ends");
    }
}

async fn least_days(pool: &PgPool, now: DateTime<Utc>) -> u32 {
    let remaining = partitions::remaining(pool, now).await.expect("counts");
    remaining.iter().map(|left| left.days).min().expect("classes")
}

#[tokio::test]
async fn makes_partitions_again_as_time_goes_on() {
    let database = TestDatabase::new().await;
    let owner = database.connect(Role::Owner);
    let clock = Hands::ahead(12);
    // Without a scheduler there would be two days left then.
    assert!(least_days(owner.pool(), clock.now()).await < 3);
    let scheduler = run(database.url(), clock.clone()).await;
    let full = async || (least_days(owner.pool(), clock.now()).await >= DAYS_AHEAD).then_some(());
    eventually(DEADLINE, "partitions are made", full).await;
    *clock.0.lock().expect("not poisoned") += chrono::Duration::days(13);
    eventually(DEADLINE, "and again in the next round", full).await;
    scheduler.drained().await;
}

#[tokio::test]
async fn large_bodies_that_nobody_removed_go_at_their_term_and_not_before() {
    let database = TestDatabase::new().await;
    let directory = tempfile::tempdir().expect("a directory");
    let claims =
        ClaimConfig { claim_dir: Some(directory.path().to_owned()), ..ClaimConfig::default() };
    let files = claims.files().expect("a directory is set");
    let body: ObjectKey = "claims/acme/20260101/0f".parse().expect("a name");
    files.put(&body, b"body".to_vec(), Write::Replace).await.expect("puts");
    let clock = Hands::ahead(34);
    let scheduler = run_with(database.url(), clock.clone(), claims).await;
    let swept = |since: DateTime<Utc>| {
        let status = scheduler.context.status();
        async move || {
            let document = status.document();
            let shown: DateTime<Utc> =
                document["sections"]["scheduler"]["sweep_at"].as_str()?.parse().ok()?;
            (since <= shown).then_some(())
        }
    };
    eventually(DEADLINE, "swept", swept(clock.now())).await;
    assert!(files.head(&body).await.expect("looks").is_some(), "a message may still ask for it");
    *clock.0.lock().expect("not poisoned") += chrono::Duration::days(2);
    eventually(DEADLINE, "swept again", swept(clock.now())).await;
    assert_eq!(files.head(&body).await.expect("looks"), None);
    scheduler.drained().await;
}

#[tokio::test]
async fn ages_out_what_has_reached_its_term() {
    let database = TestDatabase::new().await;
    let owner = database.connect(Role::Owner);
    let insert = "INSERT INTO attempts VALUES ('q', 'm', 1, '[]', '2020-01-01')";
    sqlx::query(insert).execute(owner.pool()).await.expect("a row");
    // Of a tenant that asks for no new one.
    let ticket = "INSERT INTO live_tickets VALUES ('acme', sha256('t'), 'k', '2020-01-01')";
    sqlx::query(ticket).execute(owner.pool()).await.expect("a row");
    let scheduler = run(database.url(), Hands::ahead(0)).await;
    eventually(DEADLINE, "the rows are gone", async || {
        let count = "SELECT (SELECT count(*) FROM attempts) + (SELECT count(*) FROM live_tickets)";
        let left: i64 = sqlx::query_scalar(count).fetch_one(owner.pool()).await.expect("counts");
        (left == 0).then_some(())
    })
    .await;
    scheduler.drained().await;
}

#[tokio::test]
async fn readiness_is_red_while_partitions_run_out() {
    let database = TestDatabase::new().await;
    let owner = database.connect(Role::Owner);
    // Making them fails for a reason of its own.
    let break_it = "REVOKE EXECUTE ON FUNCTION flotilla_make_partition FROM flotilla_worker";
    sqlx::raw_sql(break_it).execute(owner.pool()).await.expect("breaks");
    let scheduler = run(database.url(), Hands::ahead(12)).await;
    let reasons = eventually(DEADLINE, "readiness says so", async || {
        let reasons = scheduler.reasons().await;
        (!reasons.is_empty()).then_some(reasons)
    })
    .await;
    assert!(reasons.contains("fewer than 3 days left") && reasons.contains("7d"), "{reasons}");
    let mend = "GRANT EXECUTE ON FUNCTION flotilla_make_partition TO flotilla_worker";
    sqlx::raw_sql(mend).execute(owner.pool()).await.expect("mends");
    eventually(DEADLINE, "readiness is green again", async || {
        scheduler.reasons().await.is_empty().then_some(())
    })
    .await;
    scheduler.drained().await;
}

#[tokio::test]
async fn a_postgres_that_is_down_at_start_is_waited_for() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::before(database.url()).await;
    proxy.mood(Mood::Down);
    let scheduler = run(&proxy.instead_in(database.url()), Hands::ahead(12)).await;
    assert!(scheduler.reasons().await.contains("partitions"));
    proxy.mood(Mood::Pass);
    let owner: Database = database.connect(Role::Owner);
    let clock = Hands::ahead(12);
    eventually(DEADLINE, "it works once PostgreSQL is back", async || {
        (least_days(owner.pool(), clock.now()).await >= DAYS_AHEAD).then_some(())
    })
    .await;
    scheduler.drained().await;
}

#[tokio::test]
async fn a_drained_scheduler_gives_the_lease_back_at_once() {
    let database = TestDatabase::new().await;
    let owner = database.connect(Role::Owner);
    let first = run(database.url(), Hands::ahead(0)).await;
    let held = async || {
        let held: Option<bool> =
            sqlx::query_scalar("SELECT expires_at > clock_timestamp() FROM leases")
                .fetch_optional(owner.pool())
                .await
                .expect("reads");
        held
    };
    eventually(DEADLINE, "it leads", async || held().await.filter(|held| *held)).await;
    first.drained().await;
    assert_eq!(held().await, Some(false));
}

#[tokio::test]
async fn a_unit_that_stands_still_is_told_again_by_who_is_active() {
    let database = TestDatabase::new().await;
    let owner = database.connect(Role::Owner);
    let stands_still = "
        INSERT INTO retention_runs (tenant, id, policy_id, policy_version, requester, then_do, as_of,
                                    state, correlation_id, units, units_open)
        VALUES ('acme', '00000000-0000-0000-0000-000000000001', gen_random_uuid(), 1, '{}',
                'archive_and_delete', now(), 'running', 'c1', 1, 1);
        INSERT INTO archive_units (tenant, id, run_id, number, work, retention_class, hour, first_at,
                                   first_id, last_at, last_id, codec, planned_events, planned_bytes,
                                   updated_at)
        VALUES ('acme', '00000000-0000-0000-0000-000000000002',
                '00000000-0000-0000-0000-000000000001', 1, 'archive', '30d', '2026-01-31T23:00Z',
                '2026-01-31T23:00Z', gen_random_uuid(), '2026-01-31T23:01Z', gen_random_uuid(),
                'zstd', 1, 1, now() - interval '2 hours')";
    sqlx::raw_sql(stands_still).execute(owner.pool()).await.expect("inserts");
    let scheduler = run(database.url(), Hands::ahead(0)).await;
    let status = scheduler.context.status();
    let attended =
        async || status.document()["sections"]["scheduler"]["attended_at"].as_str().map(drop);
    eventually(DEADLINE, "a round", attended).await;
    scheduler.drained().await;
    let told: Vec<String> = sqlx::query_scalar(
        "SELECT convert_from(envelope, 'UTF8')::jsonb #>> '{body,unit_id}' FROM outbox
          WHERE queue = 'audit-archive'",
    )
    .fetch_all(owner.pool())
    .await
    .expect("reads");
    assert_eq!(told, ["00000000-0000-0000-0000-000000000002"]);
}

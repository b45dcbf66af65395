//! SIGKILL of the real process at every enumerated step of the API, with an index worker behind it:
//! what it answered is true, and with a repeat under the same key accepted = stored = searchable,
//! each exactly once.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use audit::crash::CrashPoint;
use audit::store::PostgresLogs;
use audit::workers::IndexWorker;
use audit::workers::index::{BatchLimits, Parts};
use contracts::catalogue;
use database::Role;
use edge::Scope;
use queue_core::driver::Depth;
use queue_core::{
    DrainReport, Engine, EngineConfig, EngineStatus, MemoryAttempts, Ports, SystemClock,
};
use reqwest::Client;
use serde_json::{Value, json};
use sinks::pubsub::{Feed, FeedConfig};
use sinks::search::SearchConfig;
use testkit::{TestDatabase, TestRedis, TestSqs, eventually};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::scene::{PATIENCE, event, make_key, told};

struct World {
    database: TestDatabase,
    redis: TestRedis,
    sqs: TestSqs,
    queue_url: String,
    key: String,
}

impl World {
    async fn new() -> Self {
        let database = TestDatabase::new().await;
        let owner = database.connect(Role::Owner);
        let key = make_key(&owner, "acme", Scope::ALL).await;
        owner.close().await;
        let sqs = TestSqs::start().await;
        let queue_url = sqs.create(&catalogue::AUDIT_INDEX).await.url;
        Self { redis: TestRedis::new().await, database, sqs, queue_url, key }
    }

    /// Starts the API on a free port; `point` is where it dies.
    async fn start(&self, point: Option<CrashPoint>) -> (Child, String) {
        let port = testkit::free_port();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ingest-api"));
        command
            .env_clear()
            .envs(self.sqs.environment())
            .env("DATABASE_URL", self.database.url())
            .env("REDIS_URL", self.redis.url())
            .env(catalogue::AUDIT_INDEX.env, &self.queue_url)
            .env("LISTEN_ADDR", format!("127.0.0.1:{port}"))
            .env("ADMIN_ADDR", "127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true);
        if let Some(point) = point {
            command.env("CRASH_POINT", point.as_str());
        }
        let child = command.spawn().unwrap();
        let base = format!("http://127.0.0.1:{port}");
        eventually(PATIENCE, "the API answers", async || {
            Client::new().get(format!("{base}/healthz")).send().await.ok()
        })
        .await;
        (child, base)
    }

    /// An index worker behind the API, in this process.
    async fn worker(&self) -> Worker {
        let database = self.database.connect(Role::Worker);
        let search = sinks::search::open(&SearchConfig::postgres(), &database).await.unwrap();
        let attempts = Arc::new(MemoryAttempts::default());
        let worker = IndexWorker::new(Parts {
            store: Arc::new(PostgresLogs::new(database)),
            search,
            feed: Arc::new(Feed::open(&FeedConfig::new(self.redis.url())).unwrap()),
            attempts: attempts.clone(),
            clock: Arc::new(SystemClock),
            probes: Vec::new(),
            limits: BatchLimits::default(),
            legacy_tenants: Vec::new(),
        });
        let ports = Ports {
            queue: self.sqs.queue(catalogue::AUDIT_INDEX.name),
            dead_letters: self.sqs.queue(catalogue::AUDIT_INDEX.dlq),
            attempts,
            clock: Arc::new(SystemClock),
        };
        let wait = Duration::from_secs(1);
        let config = EngineConfig { wait, ..EngineConfig::for_worker::<IndexWorker>() };
        let engine = Engine::new(Arc::new(worker), ports, config).unwrap();
        let (status, drain) = (engine.status(), CancellationToken::new());
        Worker {
            status,
            _running: tokio::spawn(engine.run(drain.clone())),
            _drain: drain.drop_guard(),
        }
    }

    /// Waits until the queue is empty, nothing in flight.
    async fn settled(&self) {
        let queue = self.sqs.queue(catalogue::AUDIT_INDEX.name);
        eventually(PATIENCE, "the queue is empty", async || {
            let depth = queue.attributes().await.unwrap().depth;
            (depth == Depth::default()).then_some(())
        })
        .await;
    }

    /// Ids of the stored logs of that action, as often as they are there.
    async fn stored(&self, action: &str) -> Vec<String> {
        let owner = self.database.connect(Role::Owner);
        let query = "SELECT id::text FROM logs WHERE action = $1 AND tenant = 'acme' ORDER BY 1";
        let ids = sqlx::query_scalar(query).bind(action).fetch_all(owner.pool()).await.unwrap();
        owner.close().await;
        ids
    }

    /// Ids of the logs that the API finds, as often as it shows them.
    async fn found(&self, base: &str, action: &str) -> Vec<String> {
        let request = Client::new().get(format!("{base}/logs?limit=500&action={action}"));
        let (status, page) = told(request.bearer_auth(&self.key).send().await.unwrap()).await;
        assert_eq!(status, 200, "{page}");
        let logs = page["logs"].as_array().unwrap().iter();
        let mut ids: Vec<String> = logs.map(|log| log["id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    }

    /// Posts until there is an answer, as a client does; the accepted ids.
    async fn retry(&self, base: &str, idempotency: &str, body: &Value) -> Vec<String> {
        let (status, told) = eventually(PATIENCE, "an answer", async || {
            post(base, &self.key, idempotency, body).await.filter(|(status, _)| *status < 500)
        })
        .await;
        assert_eq!(status, 202, "{told}");
        let results = told["results"].as_array().unwrap().iter();
        let mut ids: Vec<String> =
            results.map(|result| result["id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    }
}

/// Works until it is dropped.
struct Worker {
    status: Arc<EngineStatus>,
    _running: JoinHandle<DrainReport>,
    _drain: DropGuard,
}

async fn post(base: &str, key: &str, idempotency: &str, body: &Value) -> Option<(u16, Value)> {
    let request = Client::new().post(format!("{base}/logs/bulk")).bearer_auth(key);
    let request = request.header("idempotency-key", idempotency).json(body);
    Some(told(request.send().await.ok()?).await)
}

async fn killed(child: &mut Child) {
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    assert_eq!(status.signal(), Some(9));
}

fn events(action: &str) -> Value {
    let events = (0..3).map(|n| {
        let mut event = event(n);
        event["action"] = json!(action);
        event
    });
    events.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_after_a_kill_at_any_step_is_one_event() {
    let world = World::new().await;
    let worker = world.worker().await;
    let mut all = Vec::new();
    for point in [CrashPoint::AfterReserve, CrashPoint::AfterPublish, CrashPoint::AfterMark] {
        let name = point.as_str();
        let body = events(name);
        let (mut child, base) = world.start(Some(point)).await;
        let answer = post(&base, &world.key, name, &body).await;
        assert!(answer.is_none(), "{point:?} was not reached: {answer:?}");
        killed(&mut child).await;

        let (mut child, base) = world.start(None).await;
        let accepted = world.retry(&base, name, &body).await;
        assert_eq!(world.retry(&base, name, &body).await, accepted, "{point:?}: other ids");
        world.settled().await;
        assert_eq!(accepted.len(), 3);
        assert_eq!(world.stored(name).await, accepted, "{point:?}: accepted and stored differ");
        let found = world.found(&base, name).await;
        assert_eq!(found, accepted, "{point:?}: accepted and searchable differ");
        all.extend(accepted);
        child.kill().await.unwrap();
    }
    let unique: BTreeSet<&String> = all.iter().collect();
    assert_eq!(unique.len(), 9);
    assert!(worker.status.snapshot().totals.settled >= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_whose_answer_is_lost_is_done_once() {
    let world = World::new().await;
    let (mut child, base) = world.start(Some(CrashPoint::AfterChangePublish)).await;
    let ids = world.retry(&base, "k", &events("to.erase")).await;
    let worker = world.worker().await;
    world.settled().await;
    let url = |base: &str| format!("{base}/logs/{}?reason=asked", ids[0]);
    let erase = |base: &str| Client::new().delete(url(base)).bearer_auth(&world.key).send();
    let answer = erase(&base).await;
    assert!(answer.is_err(), "the point was not reached: {answer:?}");
    killed(&mut child).await;

    let (mut child, base) = world.start(None).await;
    // The repeat comes before the worker has erased it, or after: both are one erasure.
    let (status, told) = told(erase(&base).await.unwrap()).await;
    assert!([202, 404].contains(&status), "{status}: {told}");
    world.settled().await;
    assert_eq!(world.stored("to.erase").await, ids[1..]);
    assert_eq!(world.found(&base, "to.erase").await, ids[1..]);
    assert_eq!(world.stored("flotilla.log.erased").await.len(), 1, "one audit entry");
    let (status, _) = crate::scene::told(erase(&base).await.unwrap()).await;
    assert_eq!(status, 404);
    child.kill().await.unwrap();
    drop(worker);
}

/// The list in `audit::crash` and the steps tried here are the same.
#[test]
fn every_step_of_the_api_is_tried() {
    let tried = [
        CrashPoint::AfterReserve,
        CrashPoint::AfterPublish,
        CrashPoint::AfterMark,
        CrashPoint::AfterChangePublish,
    ];
    assert_eq!(CrashPoint::API, tried);
}

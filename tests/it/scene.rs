//! One fleet under test: the API and the index worker as processes, every part behind a proxy that
//! can be told to misbehave, and the books of what was accepted.

use std::collections::BTreeSet;
use std::time::Duration;

use contracts::catalogue::AUDIT_INDEX;
use database::api_keys::NewKey;
use database::{Database, Role};
use queue_core::Driver;
use reqwest::StatusCode;
use serde_json::{Value, json};
use testkit::{Proxy, TestDatabase, TestOpenSearch, TestRedis, TestSqs, eventually};
use uuid::Uuid;

use crate::process::Process;

/// Longer than a lease (30 s), a breaker's longest pause and a slow machine together.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

const TENANT: &str = "acme";

/// A part of the fleet that can be in trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Postgres,
    Redis,
    Sqs,
    OpenSearch,
}

/// Everything around the two processes.
pub(crate) struct Scene {
    pub(crate) postgres: Proxy,
    pub(crate) redis: Proxy,
    pub(crate) sqs: Proxy,
    pub(crate) opensearch: Option<Proxy>,
    environment: Vec<(&'static str, String)>,
    key: String,
    port: u16,
    client: reqwest::Client,
    accepted: BTreeSet<Uuid>,
    folder: tempfile::TempDir,
    database: TestDatabase,
    queues: TestSqs,
    dead_letters: std::sync::Arc<dyn Driver>,
    _redis: TestRedis,
}

impl Scene {
    /// `None` when OpenSearch is wanted and cannot be had, which testkit has then said aloud.
    pub(crate) async fn new(with_opensearch: bool) -> Option<Self> {
        let opensearch = if with_opensearch { Some(TestOpenSearch::new().await?) } else { None };
        let (database, redis, queues) =
            (TestDatabase::new().await, TestRedis::new().await, TestSqs::start().await);
        let made = queues.create(&AUDIT_INDEX).await;
        let key = make_key(&database).await;
        let proxies = (
            Proxy::before(database.url()).await,
            Proxy::before(redis.url()).await,
            Proxy::before(&queues.endpoint()).await,
        );
        let port = testkit::free_port();
        let mut environment = vec![
            ("DATABASE_URL", proxies.0.instead_in(database.url())),
            ("REDIS_URL", proxies.1.instead_in(redis.url())),
            (AUDIT_INDEX.env, proxies.2.instead_in(&made.url)),
            ("ADMIN_ADDR", "127.0.0.1:0".to_owned()),
            ("LISTEN_ADDR", format!("127.0.0.1:{port}")),
            ("WORKER_WAIT_SECS", "1".to_owned()),
            ("LOG_FORMAT", "json".to_owned()),
        ];
        environment.extend(queues.environment_at(&proxies.2.instead_in(&queues.endpoint())));
        let mut search = None;
        if let Some(part) = &opensearch {
            let proxy = Proxy::before(part.url()).await;
            environment.push(("OPENSEARCH_URL", proxy.instead_in(part.url())));
            environment.push(("OPENSEARCH_INDEX_PREFIX", part.prefix().replace('-', "x")));
            search = Some(proxy);
        }
        Some(Self {
            postgres: proxies.0,
            redis: proxies.1,
            sqs: proxies.2,
            opensearch: search,
            environment,
            key,
            port,
            client: reqwest::Client::new(),
            accepted: BTreeSet::new(),
            folder: tempfile::tempdir().unwrap(),
            dead_letters: queues.queue(AUDIT_INDEX.dlq),
            database,
            queues,
            _redis: redis,
        })
    }

    pub(crate) fn proxy(&self, part: Part) -> &Proxy {
        match part {
            Part::Postgres => &self.postgres,
            Part::Redis => &self.redis,
            Part::Sqs => &self.sqs,
            Part::OpenSearch => self.opensearch.as_ref().unwrap(),
        }
    }

    /// One more variable for processes that start from now on.
    pub(crate) fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.environment.push((name, value.into()));
    }

    pub(crate) fn start(&self, name: &str) -> Process {
        Process::start(name, self.folder.path(), &self.environment)
    }

    /// Waits until the API answers at all; its parts may be down.
    pub(crate) async fn listens(&self) {
        let url = self.url("/healthz");
        eventually(PATIENCE, "the API listens", async || {
            self.client.get(&url).send().await.ok().map(|_| ())
        })
        .await;
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Sends one event; notes its id when, and only when, the API said 202.
    pub(crate) async fn send(&mut self, n: usize) -> StatusCode {
        self.send_traced(n, "").await
    }

    /// The same, as part of the trace that `traceparent` names.
    pub(crate) async fn send_traced(&mut self, n: usize, traceparent: &str) -> StatusCode {
        let event = json!({
            "actor": {"type": "user", "id": format!("u-{n}")},
            "action": "door.opened",
            "outcome": "success",
            "metadata": {"n": n},
        });
        let request = self.client.post(self.url("/logs")).bearer_auth(&self.key).json(&event);
        let answer = request.header("traceparent", traceparent).send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        let body: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
        if status == StatusCode::ACCEPTED {
            self.accepted.insert(body["id"].as_str().unwrap().parse().unwrap());
        } else {
            assert!(body["code"].is_string() && body["detail"].is_string(), "{status} {body}");
        }
        status
    }

    /// Sends until one is accepted.
    pub(crate) async fn send_until_accepted(&mut self, n: usize) {
        eventually(PATIENCE, "an event is accepted", async || {
            (self.send(n).await == StatusCode::ACCEPTED).then_some(())
        })
        .await;
    }

    /// Accepted = stored = found, each once, nothing dead, nothing left on the queue.
    pub(crate) async fn books_balance(&self) {
        let database = self.database.connect(Role::Worker);
        eventually(PATIENCE, "every accepted event is stored", async || {
            (stored(&database).await? == self.accepted).then_some(())
        })
        .await;
        eventually(PATIENCE, "every accepted event is found", async || {
            (self.found().await? == self.accepted).then_some(())
        })
        .await;
        let queue = self.queues.queue(AUDIT_INDEX.name);
        eventually(PATIENCE, "the queue is empty", async || {
            let depth = queue.attributes().await.ok()?.depth;
            (depth.visible + depth.in_flight + depth.delayed == 0).then_some(())
        })
        .await;
        let dead = self.dead_letters.attributes().await.unwrap().depth;
        assert_eq!(dead.visible + dead.in_flight, 0, "an outage is nobody's dead letter");
    }

    async fn found(&self) -> Option<BTreeSet<Uuid>> {
        // By action, too: the audit entries of searches name what was searched for.
        let url = self.url("/logs?q=door.opened&action=door.opened&limit=500");
        let answer = self.client.get(url).bearer_auth(&self.key).send().await.unwrap();
        if !answer.status().is_success() {
            return None;
        }
        let body: Value = answer.json().await.unwrap();
        let logs = body["logs"].as_array().unwrap();
        let set: BTreeSet<Uuid> =
            logs.iter().map(|log| log["id"].as_str().unwrap().parse().unwrap()).collect();
        assert_eq!(logs.len(), set.len(), "found once");
        Some(set)
    }
}

/// `None` where PostgreSQL has no time for the question.
async fn stored(database: &Database) -> Option<BTreeSet<Uuid>> {
    let query = "SELECT id FROM logs WHERE tenant = $1 AND action NOT LIKE 'flotilla.%'";
    let rows: Vec<Uuid> =
        sqlx::query_scalar(query).bind(TENANT).fetch_all(database.pool()).await.ok()?;
    let set: BTreeSet<Uuid> = rows.iter().copied().collect();
    assert_eq!(rows.len(), set.len(), "stored once");
    Some(set)
}

async fn make_key(database: &TestDatabase) -> String {
    let owner = database.connect(Role::Owner);
    database::tenants::create(
        owner.pool(),
        &TENANT.parse().unwrap(),
        contracts::RetentionClass::Days90,
        false,
    )
    .await
    .unwrap();
    let key = edge::key::generate("test");
    let scopes = ["logs:write".to_owned(), "logs:read".to_owned()];
    let new = NewKey {
        key_id: &key.key_id,
        tenant: &TENANT.parse().unwrap(),
        env: "test",
        secret_sha256: key.secret_sha256,
        scopes: &scopes,
        name: "test",
        expires_at: None,
    };
    database::api_keys::create(owner.pool(), new).await.unwrap();
    key.text
}

//! One API under test: its database, its Redis, its queue, two tenants with keys.

use std::sync::Arc;
use std::time::Duration;

use audit::store::{LogStore, PostgresLogs};
use chassis::{App, Context, Ended};
use contracts::audit::IndexMessage;
use contracts::{RetentionClass, Tenant};
use database::{Database, Role, api_keys, tenants};
use edge::Scope;
use ingest_api::{ApiConfig, IngestApi};
use queue_core::{Clock, Driver, SystemClock};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use sinks::pubsub::{Feed, FeedConfig, FeedEvent};
use sinks::search::{SearchConfig, SharedSearch};
use testkit::{TestDatabase, TestRedis};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::queue::Published;
use testkit::QueueDouble;

pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Scene {
    pub(crate) base: String,
    pub(crate) client: Client,
    pub(crate) queue: Arc<QueueDouble>,
    /// All scopes but import, tenant acme.
    pub(crate) key: String,
    /// All scopes, tenant umbrella.
    pub(crate) foreign_key: String,
    pub(crate) database: TestDatabase,
    pub(crate) redis: TestRedis,
    pub(crate) context: Context,
    pub(crate) drain: CancellationToken,
    running: JoinHandle<Ended>,
}

/// A key of a tenant that is made where it is missing.
pub(crate) async fn make_key(owner: &Database, tenant: &str, scopes: &[Scope]) -> String {
    let tenant: Tenant = tenant.parse().unwrap();
    tenants::create(owner.pool(), &tenant, RetentionClass::Days30, false).await.unwrap();
    let key = edge::generate("test");
    let scopes: Vec<String> = scopes.iter().map(|scope| scope.as_str().to_owned()).collect();
    let new = api_keys::NewKey {
        key_id: &key.key_id,
        tenant: &tenant,
        env: "test",
        secret_sha256: key.secret_sha256,
        scopes: &scopes,
        name: "test",
        expires_at: None,
    };
    api_keys::create(owner.pool(), new).await.unwrap();
    key.text
}

pub(crate) fn key_id(key: &str) -> &str {
    key.split('_').nth(2).unwrap()
}

impl Scene {
    pub(crate) async fn new() -> Self {
        Self::with(&[]).await
    }

    /// With these flags besides.
    pub(crate) async fn with(flags: &[&str]) -> Self {
        let database = TestDatabase::new().await;
        let url = database.url().to_owned();
        Self::on(database, &url, flags).await
    }

    /// By that clock.
    pub(crate) async fn by(clock: Arc<dyn Clock>) -> Self {
        let database = TestDatabase::new().await;
        let url = database.url().to_owned();
        Self::made(database, &url, &[], clock).await
    }

    /// On a database that the API reaches by another URL.
    pub(crate) async fn on(database: TestDatabase, url: &str, flags: &[&str]) -> Self {
        Self::made(database, url, flags, Arc::new(SystemClock)).await
    }

    async fn made(
        database: TestDatabase,
        url: &str,
        flags: &[&str],
        clock: Arc<dyn Clock>,
    ) -> Self {
        let redis = TestRedis::new().await;
        let owner = database.connect(Role::Owner);
        let mine: Vec<Scope> =
            Scope::ALL.iter().copied().filter(|scope| *scope != Scope::LogsImport).collect();
        let key = make_key(&owner, "acme", &mine).await;
        let foreign_key = make_key(&owner, "umbrella", Scope::ALL).await;
        owner.close().await;
        let mut arguments = vec![
            format!("--database-url={url}"),
            format!("--redis-url={}", redis.url()),
            "--listen-addr=127.0.0.1:0".to_owned(),
            "--index-queue-url=http://localhost:1/000000000000/audit-log-index-queue".to_owned(),
            "--aws-region=us-east-1".to_owned(),
        ];
        arguments.extend(flags.iter().map(ToString::to_string));
        let none = chassis::Environment::empty();
        let config = chassis::config::parse::<ApiConfig>("test", arguments, &none).unwrap();
        assert!(IngestApi::check(&config).is_empty(), "{:?}", IngestApi::check(&config));
        let queue = Arc::new(QueueDouble::default());
        let context = Context::with_clock("ingest-api", "0", Duration::from_secs(20), clock);
        let driver: Arc<dyn Driver> = queue.clone();
        let api = IngestApi::build_with(config, driver, &context).await.unwrap();
        let base = format!("http://{}", api.address());
        let drain = CancellationToken::new();
        let (inside, stop) = (context.clone(), drain.clone());
        let running = tokio::spawn(async move { api.run(inside, stop).await.unwrap() });
        let client = Client::builder().build().unwrap();
        Self { base, client, queue, key, foreign_key, database, redis, context, drain, running }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(self.url(path)).bearer_auth(&self.key)
    }

    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(self.url(path)).bearer_auth(&self.key)
    }

    /// Drains it and says how that ended.
    pub(crate) async fn end(self) -> Ended {
        self.leave().await.0
    }

    /// The same, with the database, which is there for as long as this is.
    pub(crate) async fn leave(self) -> (Ended, TestDatabase) {
        self.drain.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.running).await.unwrap().unwrap();
        self.context.end().await;
        (ended, self.database)
    }

    /// Does the index worker's part with everything that was sent.
    pub(crate) async fn store(&self) -> Stored {
        let database = self.database.connect(Role::Worker);
        let search = sinks::search::open(&SearchConfig::postgres(), &database).await.unwrap();
        let feed = Feed::open(&FeedConfig::new(self.redis.url())).unwrap();
        let stored = Stored { database, search, feed };
        stored.store(&self.queue).await;
        stored
    }
}

/// The stores as the worker sees them.
pub(crate) struct Stored {
    pub(crate) database: Database,
    search: SharedSearch,
    pub(crate) feed: Feed,
}

impl Stored {
    /// Stores what the queue has; what is stored already stays.
    pub(crate) async fn store(&self, queue: &QueueDouble) {
        let logs = PostgresLogs::new(self.database.clone());
        for (header, item) in queue.items() {
            let record = bytes::Bytes::from(item.record.get().to_owned());
            let new = audit::rules::admit(&header.tenant, record.clone(), &item.salt).unwrap();
            let inserted = logs.insert(std::slice::from_ref(&new)).await.unwrap();
            if inserted.new_rows == 0 {
                continue;
            }
            self.search.index(std::slice::from_ref(&new.document)).await.unwrap();
            let event = FeedEvent {
                tenant: header.tenant,
                id: new.key.id,
                ingest_xid: inserted.ingest_xid,
                recorded_at: new.key.recorded_at,
                record: Some(record),
            };
            // Redis may be down on purpose.
            self.feed.publish(&[event]).await.ok();
        }
        for (header, message) in queue.messages() {
            if let IndexMessage::Update(update) = message {
                let revision = audit::model::NewRevision {
                    envelope_id: header.id,
                    tags: update.tags,
                    annotation: update.annotation,
                    actor: json!(update.requester),
                    recorded_at: update.recorded_at,
                };
                logs.revise(&header.tenant, update.log_id, &revision).await.unwrap();
            }
        }
    }
}

/// An event that can be told apart.
pub(crate) fn event(n: usize) -> Value {
    json!({
        "actor": {"type": "user", "id": format!("u{n}")},
        "action": "doc.read",
        "targets": [{"type": "doc", "id": format!("d{n}")}],
        "outcome": "success",
        "metadata": {"n": n},
    })
}

/// Status and body.
pub(crate) async fn told(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let bytes = response.bytes().await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

/// A problem document of that status and code, complete in form.
#[track_caller]
pub(crate) fn problem(told: &(u16, Value), status: u16, code: &str) {
    let (got, body) = told;
    assert_eq!((*got, body["code"].as_str()), (status, Some(code)), "{body}");
    assert_eq!(body["status"], status, "{body}");
    assert_eq!(body["type"], format!("/docs#{code}"), "{body}");
    for member in ["title", "detail", "hint", "request_id"] {
        assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {body}");
    }
}

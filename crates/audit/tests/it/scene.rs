//! What the index worker's tests stand on: a real database, a search engine, a feed that remembers,
//! and messages made as the API makes them.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use audit::event::{self, EventLimits, Origin, Rules, Stamp};
use audit::model::{
    Erasure, Inserted, LogKey, NewErasure, NewLog, NewRevision, Revised, StoredLog,
};
use audit::store::{LogStore, PostgresLogs, StoreError};
use audit::workers::index::{Announce, BatchLimits, IndexWorker, Parts};
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use contracts::audit::{Delete, IndexMessage, LogItem, Requester, Update};
use contracts::{EnvelopeId, Header, LogId, RetentionClass, Tenant};
use database::{Database, Role};
use futures_util::future::BoxFuture;
use queue_core::{Attempt, Clock, MemoryAttempts, SystemClock};
use sinks::SinkError;
use sinks::pubsub::FeedEvent;
use sinks::search::{Query, SearchConfig, SharedSearch};
use testkit::TestDatabase;
use uuid::Uuid;

/// Remembers what was announced; fails as often as it is told.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    pub(crate) announced: Mutex<Vec<FeedEvent>>,
    pub(crate) forgotten: Mutex<Vec<Tenant>>,
    pub(crate) failures: Mutex<Vec<SinkError>>,
}

#[async_trait]
impl Announce for Feed {
    async fn announce(&self, events: &[FeedEvent]) -> Result<(), SinkError> {
        if let Some(error) = self.failures.lock().unwrap().pop() {
            return Err(error);
        }
        self.announced.lock().unwrap().extend_from_slice(events);
        Ok(())
    }

    async fn forget(&self, tenant: &Tenant) -> Result<(), SinkError> {
        if let Some(error) = self.failures.lock().unwrap().pop() {
            return Err(error);
        }
        self.forgotten.lock().unwrap().push(tenant.clone());
        Ok(())
    }
}

impl Feed {
    pub(crate) fn ids(&self) -> Vec<LogId> {
        self.announced.lock().unwrap().iter().map(|event| event.id).collect()
    }
}

/// A store whose inserts go another way; everything else is the real one's.
pub(crate) struct Inserting<F> {
    inner: Arc<dyn LogStore>,
    insert: F,
}

impl<F> Inserting<F>
where
    F: for<'a> Fn(&'a dyn LogStore, &'a [NewLog]) -> BoxFuture<'a, Result<Inserted, StoreError>>
        + Send
        + Sync
        + 'static,
{
    /// Wraps the store of a [`Scene::with`]; `insert` gets the real one.
    pub(crate) fn by(insert: F) -> impl FnOnce(Arc<dyn LogStore>) -> Arc<dyn LogStore> {
        move |inner| Arc::new(Self { inner, insert })
    }
}

#[async_trait]
impl<F> LogStore for Inserting<F>
where
    F: for<'a> Fn(&'a dyn LogStore, &'a [NewLog]) -> BoxFuture<'a, Result<Inserted, StoreError>>
        + Send
        + Sync
        + 'static,
{
    async fn insert(&self, logs: &[NewLog]) -> Result<Inserted, StoreError> {
        (self.insert)(&*self.inner, logs).await
    }

    async fn fetch(&self, keys: &[LogKey]) -> Result<Vec<StoredLog>, StoreError> {
        self.inner.fetch(keys).await
    }

    async fn revise(
        &self,
        tenant: &Tenant,
        id: LogId,
        revision: &NewRevision,
    ) -> Result<Revised, StoreError> {
        self.inner.revise(tenant, id, revision).await
    }

    async fn erase(&self, erasure: &NewErasure, audit: &[NewLog]) -> Result<Erasure, StoreError> {
        self.inner.erase(erasure, audit).await
    }

    async fn erased_among(&self, keys: &[(&Tenant, LogId)]) -> Result<Vec<usize>, StoreError> {
        self.inner.erased_among(keys).await
    }
}

/// An erasure without an audit entry, as PostgreSQL alone sees it.
pub(crate) fn erasure(tenant: &Tenant, id: LogId, at: DateTime<Utc>) -> NewErasure {
    NewErasure {
        tenant: tenant.clone(),
        id,
        reason: "r".into(),
        requester: serde_json::json!({}),
        operation_id: EnvelopeId(Uuid::new_v4()),
        recorded_at: at,
    }
}

fn worker(
    database: &Database,
    store: Arc<dyn LogStore>,
    search: SharedSearch,
    feed: Arc<dyn Announce>,
) -> IndexWorker {
    IndexWorker::new(Parts {
        store,
        search,
        feed,
        attempts: Arc::new(MemoryAttempts::default()),
        clock: Arc::new(SystemClock),
        probes: Vec::new(),
        limits: BatchLimits::default(),
        legacy_tenants: vec!["legacy-shop".parse().unwrap()],
    })
    .forwarding(database)
}

/// A worker on a database of its own.
pub(crate) struct Scene {
    pub(crate) database: Database,
    pub(crate) search: SharedSearch,
    pub(crate) feed: Arc<Feed>,
    pub(crate) worker: Arc<IndexWorker>,
    pub(crate) now: DateTime<Utc>,
    pub(crate) cluster: TestDatabase,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        Self::with(|store| store).await
    }

    /// A scene whose store is wrapped, to fail on command.
    pub(crate) async fn with(wrap: impl FnOnce(Arc<dyn LogStore>) -> Arc<dyn LogStore>) -> Self {
        let cluster = TestDatabase::new().await;
        let database = cluster.connect(Role::Worker);
        let search = sinks::search::open(&SearchConfig::postgres(), &database).await.unwrap();
        let feed = Arc::new(Feed::default());
        let store = wrap(Arc::new(PostgresLogs::new(database.clone())));
        let announce = Arc::clone(&feed) as Arc<dyn Announce>;
        let worker = worker(&database, store, Arc::clone(&search), announce);
        let now = SystemClock.now().duration_trunc(TimeDelta::milliseconds(1)).unwrap();
        Self { database, search, feed, worker: Arc::new(worker), now, cluster }
    }

    /// A second worker on the same stores, whose announcements go elsewhere.
    pub(crate) fn announcing_to(&self, feed: Arc<dyn Announce>) -> IndexWorker {
        let store = Arc::new(PostgresLogs::new(self.database.clone()));
        worker(&self.database, store, Arc::clone(&self.search), feed)
    }

    /// The owner's pool: what no worker may do.
    pub(crate) fn owner(&self) -> Database {
        self.cluster.connect(Role::Owner)
    }

    /// Ids that a query finds, newest first.
    pub(crate) async fn found(&self, tenant: &Tenant, query: &Query) -> Vec<LogId> {
        let page = self.search.search(tenant, query, 100, None).await.unwrap();
        page.hits.into_iter().map(|hit| hit.id).collect()
    }

    /// Ids of the tenant's stored logs, oldest first.
    pub(crate) async fn stored(&self, tenant: &Tenant) -> Vec<LogId> {
        sqlx::query_scalar::<_, Uuid>(
            "SELECT id FROM logs WHERE tenant = $1 ORDER BY recorded_at, id",
        )
        .bind(tenant.as_str())
        .fetch_all(self.database.pool())
        .await
        .unwrap()
        .into_iter()
        .map(LogId)
        .collect()
    }
}

/// A log that can be made into messages.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) id: LogId,
    pub(crate) recorded_at: DateTime<Utc>,
    pub(crate) item: LogItem,
}

/// The `n`th log of a tenant, recorded `n` milliseconds after `at`.
pub(crate) fn log(tenant: &Tenant, at: DateTime<Utc>, n: u8) -> Given {
    log_of(tenant, at, n, RetentionClass::Days30)
}

pub(crate) fn log_of(tenant: &Tenant, at: DateTime<Utc>, n: u8, class: RetentionClass) -> Given {
    let recorded_at = at + TimeDelta::milliseconds(n.into());
    let id = LogId(contracts::ids::uuid_v7_at(recorded_at, [n; 10]));
    let text = format!(
        r#"{{"actor":{{"type":"user","id":"user-{n}"}},"action":"thing.done","targets":[{{"type":"thing","id":"t\"{n}"}}],"outcome":"success","metadata":{{"n":{n},"big":1e999999}}}}"#
    );
    let rules = Rules::at(recorded_at, EventLimits::default(), false);
    let event = event::validate_text(&text, &rules).unwrap();
    let stamp = Stamp { id, tenant: tenant.clone(), recorded_at, class };
    let source = Origin { key_id: "k1".into(), ip: None, user_agent: None };
    let record = event::record_bytes(&stamp, &source, &event).unwrap();
    let item = LogItem { salt: hex::encode([n; 16]), record };
    Given { id, recorded_at, item }
}

pub(crate) fn header(tenant: &Tenant, at: DateTime<Utc>) -> Header {
    Header {
        v: 1,
        kind: "INDEX".into(),
        id: EnvelopeId(Uuid::new_v4()),
        tenant: tenant.clone(),
        recorded_at: at,
        correlation_id: "test".into(),
        causation_id: None,
        hops: 0,
        key: None,
        revision: None,
    }
}

pub(crate) fn update(given: &Given, tags: Option<&[&str]>, annotation: Option<&str>) -> Update {
    Update {
        log_id: given.id,
        tags: tags.map(|tags| tags.iter().map(|tag| (*tag).to_owned()).collect()),
        annotation: annotation.map(ToOwned::to_owned),
        requester: Requester { key_id: "k1".into(), ip: None },
        recorded_at: given.recorded_at + TimeDelta::seconds(1),
    }
}

pub(crate) fn delete(given: &Given) -> IndexMessage {
    IndexMessage::Delete(Delete {
        log_id: given.id,
        reason: "asked for".into(),
        requester: Requester { key_id: "k1".into(), ip: None },
        recorded_at: given.recorded_at + TimeDelta::seconds(2),
    })
}

pub(crate) fn first_attempt(at: DateTime<Utc>) -> Attempt {
    Attempt { failures: 0, receives: 1, first_seen: at }
}

pub(crate) fn tenant(name: &str) -> Tenant {
    name.parse().unwrap()
}

pub(crate) fn tagged(tag: &str) -> Query {
    Query { tags: vec![tag.to_owned()], ..Query::default() }
}

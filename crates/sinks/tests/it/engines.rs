//! The engines under test, each empty and a test's own, and documents to put into them.

use std::sync::Arc;

use chrono::{DateTime, Duration, Utc};
use contracts::{LogId, RetentionClass, Tenant};
use database::Role;
use serde_json::value::RawValue;
use sinks::search::{
    Document, DocumentRef, Entity, Indexed, OpenSearchSink, PostgresSearch, Query, Search,
    SearchConfig, SortKey,
};
use testkit::{TestDatabase, TestOpenSearch};
use uuid::Uuid;

/// One engine, seen by a worker (writes) and by the API (searches).
pub(crate) struct Engine {
    pub(crate) name: &'static str,
    pub(crate) writer: Arc<dyn Search>,
    pub(crate) reader: Arc<dyn Search>,
    _database: Option<TestDatabase>,
}

impl Engine {
    pub(crate) async fn postgres() -> Self {
        let database = TestDatabase::new().await;
        let config = SearchConfig::postgres();
        let on = |role| PostgresSearch::new(&config, database.connect(role));
        let (writer, reader) = (Arc::new(on(Role::Worker)), Arc::new(on(Role::Api)));
        Self { name: "postgres", writer, reader, _database: Some(database) }
    }

    pub(crate) async fn opensearch() -> Option<Self> {
        let config = opensearch_config().await?;
        let writer = OpenSearchSink::new(&config).await.unwrap();
        let reader = OpenSearchSink::new(&config).await.unwrap();
        Some(Self {
            name: "opensearch",
            writer: Arc::new(writer),
            reader: Arc::new(reader),
            _database: None,
        })
    }

    /// Every engine that this machine has.
    pub(crate) async fn all() -> Vec<Self> {
        let mut engines = vec![Self::postgres().await];
        engines.extend(Self::opensearch().await);
        engines
    }

    /// Writes documents that must all be taken.
    pub(crate) async fn write(&self, documents: &[Document]) -> Vec<Indexed> {
        let outcomes = self.writer.index(documents).await.unwrap();
        self.writer.refresh().await.unwrap();
        outcomes.into_iter().map(|outcome| outcome.unwrap()).collect()
    }

    pub(crate) async fn erase(&self, logs: &[DocumentRef]) {
        let outcomes = self.writer.erase(logs).await.unwrap();
        self.writer.refresh().await.unwrap();
        assert!(outcomes.iter().all(Result::is_ok), "{}: {outcomes:?}", self.name);
    }

    /// Every id that is found, read in pages of `limit`.
    pub(crate) async fn found_by(
        &self,
        tenant: &Tenant,
        query: &Query,
        limit: usize,
    ) -> Vec<LogId> {
        let mut ids = Vec::new();
        let mut after: Option<SortKey> = None;
        loop {
            let page = self.reader.search(tenant, query, limit, after).await.unwrap();
            ids.extend(page.hits.iter().map(|hit| hit.id));
            after = page.next;
            if after.is_none() {
                return ids;
            }
        }
    }

    pub(crate) async fn found(&self, query: &Query) -> Vec<LogId> {
        self.found_by(&tenant(), query, 100).await
    }

    /// What a `q` finds.
    pub(crate) async fn q(&self, q: &str) -> Vec<LogId> {
        self.found(&Query { words: Query::parse_q(q).unwrap(), ..Query::default() }).await
    }
}

/// A configuration of a test's own on the shared node.
pub(crate) async fn opensearch_config() -> Option<SearchConfig> {
    let node = TestOpenSearch::new().await?;
    let mut config = SearchConfig::opensearch(node.url());
    config.opensearch_index_prefix = node.prefix().replace('-', "x");
    config.search_timeout_secs = 60;
    Some(config)
}

pub(crate) fn tenant() -> Tenant {
    "acme".parse().unwrap()
}

pub(crate) fn time() -> DateTime<Utc> {
    "2026-11-21T12:00:00.000001Z".parse().unwrap()
}

/// The `n`th id; higher is later in the order of ids.
pub(crate) fn id(n: u128) -> LogId {
    LogId(Uuid::from_u128(0x0190_a6a0_0000_7000_8000_0000_0000_0000 + n))
}

/// The `n`th plain document, `n` microseconds after [`time`].
pub(crate) fn document(n: u32) -> Document {
    Document {
        tenant: tenant(),
        id: id(n.into()),
        class: RetentionClass::Days30,
        recorded_at: time() + Duration::microseconds(n.into()),
        revision: 0,
        occurred_at: None,
        actor: Entity { kind: "user".into(), id: format!("u{n}"), name: None },
        action: "user.login".into(),
        targets: Vec::new(),
        outcome: "success".into(),
        tags: Vec::new(),
        annotation: None,
        metadata: None,
        text: Vec::new(),
    }
}

pub(crate) fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

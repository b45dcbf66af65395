//! What the cleanup's tests stand on: the archive's scene, a search engine that can be away, the worker,
//! and what has to be true of what it left.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use audit::cleanup::Survivors;
use audit::lifecycle::{Run, RunState, Unit, UnitState};
use audit::model::NewLog;
use audit::workers::cleanup::{CleanupWorker, Parts};
use contracts::audit::lifecycle::{CleanupArchived, CleanupExpired, CleanupMessage, Then};
use contracts::{LogId, Tenant};
use evidence::Codec;
use evidence::document::{Body, Document, Receipt};
use queue_core::{Clock, Delivery, Failure, Probe, SystemClock, Worker};
use sinks::SinkError;
use sinks::error::ItemError;
use sinks::search::{
    Document as Searched, DocumentRef, Indexed, Page, Partition, Query, Rebuild, Rebuilt, Search,
    SearchConfig, SharedSearch, SinkErrorKind, SortKey,
};
use testkit::TestOpenSearch;
use uuid::Uuid;

use crate::archive::scene::{Scene as Archived, acme, v7};
use crate::scene::{first_attempt, header};

/// Search that is away, or that forgets nothing, on command.
pub(crate) struct Moody {
    inner: SharedSearch,
    pub(crate) down: AtomicBool,
    pub(crate) forgets_nothing: AtomicBool,
}

impl Moody {
    fn check(&self) -> Result<(), SinkError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(SinkError::new("search", SinkErrorKind::Unavailable, "as the test wants"));
        }
        Ok(())
    }
}

#[async_trait]
impl Probe for Moody {
    fn name(&self) -> &'static str {
        "search"
    }
    async fn probe(&self) -> Result<(), String> {
        self.inner.probe().await
    }
}

#[async_trait]
impl Search for Moody {
    async fn ensure(&self) -> Result<(), SinkError> {
        self.inner.ensure().await
    }
    async fn index(
        &self,
        documents: &[Searched],
    ) -> Result<Vec<Result<Indexed, ItemError>>, SinkError> {
        self.inner.index(documents).await
    }
    async fn erase(&self, logs: &[DocumentRef]) -> Result<Vec<Result<(), ItemError>>, SinkError> {
        self.check()?;
        if self.forgets_nothing.load(Ordering::SeqCst) {
            return Ok(vec![Ok(()); logs.len()]);
        }
        self.inner.erase(logs).await
    }
    async fn search(
        &self,
        tenant: &Tenant,
        query: &Query,
        limit: usize,
        after: Option<SortKey>,
    ) -> Result<Page, SinkError> {
        self.inner.search(tenant, query, limit, after).await
    }
    async fn count(&self, tenant: &Tenant, query: &Query) -> Result<u64, SinkError> {
        self.inner.count(tenant, query).await
    }
    async fn remaining(&self, tenant: &Tenant, logs: &[LogId]) -> Result<u64, SinkError> {
        self.check()?;
        self.inner.remaining(tenant, logs).await
    }
    async fn refresh(&self) -> Result<(), SinkError> {
        self.inner.refresh().await
    }
    async fn begin_rebuild(&self, partition: Partition) -> Result<Rebuild, SinkError> {
        self.inner.begin_rebuild(partition).await
    }
    async fn fill(
        &self,
        rebuild: &Rebuild,
        documents: &[Searched],
    ) -> Result<Vec<Result<Indexed, ItemError>>, SinkError> {
        self.inner.fill(rebuild, documents).await
    }
    async fn finish_rebuild(&self, rebuild: Rebuild) -> Result<Rebuilt, SinkError> {
        self.inner.finish_rebuild(rebuild).await
    }
    async fn abandon_rebuild(&self, rebuild: Rebuild) -> Result<(), SinkError> {
        self.inner.abandon_rebuild(rebuild).await
    }
}

pub(crate) struct Scene {
    pub(crate) archive: Archived,
    pub(crate) search: Arc<Moody>,
    pub(crate) worker: Arc<CleanupWorker>,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        let archive = Archived::new().await;
        let search =
            sinks::search::open(&SearchConfig::postgres(), &archive.database).await.unwrap();
        Self::on(archive, search)
    }

    /// With OpenSearch, where this machine has it.
    pub(crate) async fn with_opensearch() -> Option<Self> {
        let node = TestOpenSearch::new().await?;
        let mut config = SearchConfig::opensearch(node.url());
        config.opensearch_index_prefix = node.prefix().replace('-', "x");
        config.search_timeout_secs = 60;
        let archive = Archived::new().await;
        let search = sinks::search::open(&config, &archive.database).await.unwrap();
        Some(Self::on(archive, search))
    }

    pub(crate) fn on(archive: Archived, search: SharedSearch) -> Self {
        let (down, forgets_nothing) = (AtomicBool::new(false), AtomicBool::new(false));
        let search = Arc::new(Moody { inner: search, down, forgets_nothing });
        let worker = CleanupWorker::new(Parts {
            database: archive.database.clone(),
            objects: archive.store.clone(),
            search: search.clone(),
            clock: Arc::new(SystemClock),
            survivors: Survivors::read(&["RDS snapshots=P35D".into()]).unwrap(),
        });
        Self { archive, search, worker: Arc::new(worker) }
    }

    /// Stores and indexes logs at these milliseconds of the hour.
    pub(crate) async fn logs(&self, at_millis: impl IntoIterator<Item = i64>) -> Vec<NewLog> {
        let hour = self.archive.hour;
        let log = |at| self.archive.log(at, LogId(v7(hour, at)), "a.b", 20);
        self.store(at_millis.into_iter().map(log).collect()).await
    }

    pub(crate) async fn store(&self, logs: Vec<NewLog>) -> Vec<NewLog> {
        self.archive.insert(logs.clone()).await;
        let documents: Vec<Searched> = logs.iter().map(|log| log.document.clone()).collect();
        for outcome in self.search.index(&documents).await.unwrap() {
            outcome.unwrap();
        }
        logs
    }

    /// A run whose units are archived and sealed, and stored.
    pub(crate) async fn sealed(&self) -> Run {
        let (run, _) = self.archive.run(Then::ArchiveAndDelete, Codec::Zstd).await;
        self.archive.archive(&run).await.unwrap();
        self.archive.verify().await;
        self.archive.state(run.new.id).await
    }

    /// Handles a cleanup of each unit of the run, as the outbox holds it.
    pub(crate) async fn clean(&self, run: &Run) -> Result<(), Failure> {
        for unit in self.archive.units(run.new.id).await {
            self.handle(CleanupMessage::Archived(archived_message(&unit))).await?;
        }
        Ok(())
    }

    pub(crate) async fn handle(&self, message: CleanupMessage) -> Result<(), Failure> {
        let now = SystemClock.now();
        let delivery = Delivery::detached(header(&acme(), now), message, first_attempt(now));
        self.worker.handle(delivery).await
    }

    /// Ids that PostgreSQL has of the hour.
    pub(crate) async fn stored(&self) -> BTreeSet<Uuid> {
        let ids: Vec<Uuid> =
            sqlx::query_scalar("SELECT id FROM logs WHERE tenant = 'acme' AND action LIKE 'a.%'")
                .fetch_all(self.archive.database.pool())
                .await
                .unwrap();
        ids.into_iter().collect()
    }

    /// How many of these search finds.
    pub(crate) async fn found(&self, logs: &[NewLog]) -> u64 {
        let ids: Vec<LogId> = logs.iter().map(|log| log.key.id).collect();
        self.search.refresh().await.unwrap();
        let mut found = 0;
        for ids in ids.chunks(1_000) {
            found += self.search.inner.remaining(&acme(), ids).await.unwrap();
        }
        found
    }

    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(self.archive.database.pool()).await.unwrap()
    }

    /// The receipts of the chain, in order.
    pub(crate) async fn receipts(&self) -> Vec<Receipt> {
        let documents: Vec<Vec<u8>> = sqlx::query_scalar(
            "SELECT document FROM chain_documents WHERE kind = 'receipt' ORDER BY sequence",
        )
        .fetch_all(self.archive.database.pool())
        .await
        .unwrap();
        let receipt = |bytes: &Vec<u8>| match serde_json::from_slice::<Document>(bytes) {
            Ok(Document { body: Body::Receipt(receipt), .. }) => *receipt,
            other => panic!("{other:?}"),
        };
        documents.iter().map(receipt).collect()
    }

    /// An auditor finds nothing wrong.
    pub(crate) async fn audited(&self) {
        let report = self.archive.verify().await;
        let findings: Vec<_> = report.tenants.iter().flat_map(|tenant| &tenant.findings).collect();
        assert!(findings.is_empty(), "{findings:?}");
    }

    /// The run is over like that, its counters add up, and nothing is pending.
    pub(crate) async fn ended(&self, run: &Run, state: RunState) -> Run {
        let run = self.archive.state(run.new.id).await;
        assert_eq!(run.state, state, "{run:?}");
        assert!(run.counters.adds_up(run.new.then), "{:?}", run.counters);
        for unit in self.archive.units(run.new.id).await {
            assert!(unit.state.ended(), "{unit:?}");
            assert_eq!(unit.receipt.is_some(), unit.counters.deleted.events > 0, "{unit:?}");
            assert!(unit.state != UnitState::Deleted || unit.receipt.is_some());
        }
        let pending = "SELECT count(*) FROM cleanups WHERE ended_at IS NULL";
        assert_eq!(self.count(pending).await, 0);
        assert_eq!(self.count("SELECT count(*) FROM cleanup_batches").await, 0);
        run
    }
}

pub(crate) fn archived_message(unit: &Unit) -> CleanupArchived {
    let manifest = unit.manifest.unwrap();
    CleanupArchived {
        run_id: unit.run_id,
        unit_id: unit.id,
        manifest_sequence: manifest.sequence,
        manifest_sha256: manifest.sha256.to_string(),
    }
}

pub(crate) fn expired_message(unit: &Unit, policy_id: Uuid) -> CleanupExpired {
    CleanupExpired {
        run_id: unit.run_id,
        policy_id,
        policy_version: 3,
        manifest_sequence: unit.manifest.unwrap().sequence,
        object: unit.object.clone().unwrap(),
    }
}

pub(crate) fn ids(logs: &[NewLog]) -> BTreeSet<Uuid> {
    logs.iter().map(|log| log.key.id.0).collect()
}

//! The whole way from `POST` to searchable with the release binaries as processes, once with each
//! search engine, and what each process costs in memory, idle and at its highest under these loads.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use chrono::{DateTime, Utc};
use database::{Database, Role};
use sinks::search::{Query, Search, SearchConfig, TimeRange};

use crate::backends::Backends;
use crate::books::Books;
use crate::client::Client;
use crate::process::Process;
use crate::report::{Figure, Report};
use crate::searchable::{self, OFFERED};
use crate::sqs::{self, SqsLocal, free_port};
use crate::{bulk, machine, postgres, samples};

/// After this long without work memory is read as idle.
const IDLE: Duration = Duration::from_secs(3);
/// The binaries, in the order of the table.
const BINARIES: [&str; 4] = ["ingest-api", "index-worker", "scheduler", "sqs-local"];

/// Highest of both runs, in mebibytes, and what those runs lost.
#[derive(Default)]
struct Memory {
    idle: BTreeMap<&'static str, f64>,
    loaded: BTreeMap<&'static str, f64>,
    books: Books,
}

/// Takes the figures.
pub async fn run(report: &mut Report, seconds: u64) -> anyhow::Result<()> {
    let mut memory = Memory::default();
    with_engine(report, &mut memory, "PostgreSQL search", None, seconds).await?;
    let folder = tempfile::tempdir()?;
    let opensearch = local_services::OpenSearch::start(folder.path()).await?;
    let url = Some(opensearch.url());
    with_engine(report, &mut memory, "OpenSearch", url, seconds).await?;
    opensearch.stop().await?;
    for name in BINARIES {
        let idle = Figure::new(format!("memory, {name}, idle"), memory.idle[name], "MB");
        let loaded = Figure::new(format!("memory, {name}, loaded"), memory.loaded[name], "MB");
        let loaded = loaded.books(memory.books).beside("highest of both runs");
        // The goal is for a worker.
        let worker = name == "index-worker";
        report.add(if worker { idle.below(60.0) } else { idle });
        report.add(if worker { loaded.below(200.0) } else { loaded });
    }
    Ok(())
}

/// The product's processes and what they stand on.
struct Running {
    api: SocketAddr,
    processes: Vec<(&'static str, Process)>,
    server: SqsLocal,
    queue: String,
    search: Arc<dyn Search>,
    backends: Backends,
    _folder: tempfile::TempDir,
}

async fn with_engine(
    report: &mut Report,
    memory: &mut Memory,
    engine: &str,
    opensearch: Option<String>,
    seconds: u64,
) -> anyhow::Result<()> {
    let running = Running::start(opensearch).await?;
    tokio::time::sleep(IDLE).await;
    running.note(&mut memory.idle, |(now, _)| now)?;
    running.warm(seconds).await?;

    let seen = searchable::measure(running.api, &running.backends.key, seconds).await?;
    let found = Client::new(running.api, &running.backends.key).walk((seen.since, None)).await?;
    let stored = running.stored(seen.since).await?;
    let books = Books::compare(&seen.accepted, &found);
    let books = books.worse(Books::compare(&seen.accepted, &stored));
    let name = |share| format!("POST to searchable, {engine}, {OFFERED:.0} messages/s: {share}");
    let p50 = Figure::new(name("p50"), seen.percentile(0.5), "s").below(1.0).books(books);
    report.add(p50);
    let p99 = Figure::new(name("p99"), seen.percentile(0.99), "s").below(2.0).books(books);
    report.add(p99.beside(format!("slowest {:.3} s", seen.percentile(1.0))));
    memory.books = memory.books.and(books);

    let bulk = bulk::measure(running.api, &running.backends.key, seconds, |since| {
        running.searchable(since)
    })
    .await?;
    let stored = running.stored(bulk.since).await?;
    let books = bulk.books.worse(Books::compare(&bulk.accepted, &stored));
    let name = format!("POST to searchable, {engine}, bulks of 100");
    let figure = Figure::new(name, bulk.rate, "events/s").at_least(1_000.0).books(books);
    let note = format!("the API took {:.0} events/s; refused {}", bulk.taken, bulk.refused);
    report.add(figure.beside(note));
    memory.books = memory.books.and(books);
    running.note(&mut memory.loaded, |(_, highest)| highest)
}

impl Running {
    async fn start(opensearch: Option<String>) -> anyhow::Result<Self> {
        let backends = Backends::start().await?;
        let server = SqsLocal::start().await?;
        let (queue, _) = sqs::create(&server.client(), "audit-log-index-queue").await?;
        let port = free_port()?;
        let mut environment = vec![
            ("DATABASE_URL", backends.postgres.url()),
            ("REDIS_URL", backends.redis.url()),
            ("AWS_ENDPOINT_URL", server.endpoint.clone()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_SQS_INDEX_QUEUE_URL", queue.clone()),
            ("ADMIN_ADDR", "127.0.0.1:0".to_owned()),
            ("LISTEN_ADDR", format!("127.0.0.1:{port}")),
            ("RATE_PER_KEY", "1000000".to_owned()),
            ("RATE_BURST_PER_KEY", "1000000".to_owned()),
        ];
        environment.extend(opensearch.clone().map(|url| ("OPENSEARCH_URL", url)));
        let folder = tempfile::tempdir()?;
        let mut processes = Vec::new();
        for name in BINARIES.into_iter().filter(|name| *name != "sqs-local") {
            processes.push((name, Process::start(name, folder.path(), &environment, &[])?));
        }
        let config = SearchConfig { opensearch_url: opensearch, ..SearchConfig::postgres() };
        let reader = postgres::config(&backends.postgres.url())?;
        let search = sinks::search::open(&config, &Database::connect(&reader, Role::Api)?).await?;
        let api = SocketAddr::from(([127, 0, 0, 1], port));
        let mut running = Self { api, processes, server, queue, search, backends, _folder: folder };
        running.listens().await?;
        Ok(running)
    }

    async fn listens(&mut self) -> anyhow::Result<()> {
        for _ in 0..1_000 {
            if tokio::net::TcpStream::connect(self.api).await.is_ok() {
                return Ok(());
            }
            for (_, process) in &mut self.processes {
                process.lives()?;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("ingest-api does not listen: {}", self.processes[0].1.output())
    }

    /// Connections, prepared statements and the index are there before anything is timed.
    async fn warm(&self, seconds: u64) -> anyhow::Result<()> {
        searchable::measure(self.api, &self.backends.key, (seconds / 4).max(1)).await.map(|_| ())
    }

    /// Ids in the system of record since then.
    async fn stored(&self, since: DateTime<Utc>) -> anyhow::Result<Vec<u128>> {
        let config = postgres::config(&self.backends.postgres.url())?;
        let owner = Database::connect(&config, Role::Owner)?;
        let ids = sqlx::query_scalar("SELECT id FROM logs WHERE recorded_at >= $1");
        let ids: Vec<uuid::Uuid> = ids.bind(since).fetch_all(owner.pool()).await?;
        owner.close().await;
        Ok(ids.into_iter().map(|id| id.as_u128()).collect())
    }

    /// How many logs since then a search finds; none while the queue is not empty, since counting
    /// costs the engine more than asking the queue.
    async fn searchable(&self, since: DateTime<Utc>) -> anyhow::Result<u64> {
        let (visible, in_flight) = sqs::depth(&self.server.client(), &self.queue).await?;
        if visible + in_flight > 0 {
            return Ok(0);
        }
        let recorded_at = TimeRange { from: Some(since), to: None };
        let query = Query { recorded_at, ..Query::default() };
        Ok(self.search.count(&samples::tenant(), &query).await?)
    }

    fn note(
        &self,
        into: &mut BTreeMap<&'static str, f64>,
        take: impl Fn((f64, f64)) -> f64,
    ) -> anyhow::Result<()> {
        let mut all = vec![("sqs-local", machine::memory(self.server.pid())?)];
        for (name, process) in &self.processes {
            all.push((name, process.memory()?));
        }
        for (name, memory) in all {
            let value = into.entry(name).or_default();
            *value = value.max(take(memory));
        }
        Ok(())
    }
}

//! The index queue drained by the real index worker on the real engine: with stub sinks, with
//! PostgreSQL, with OpenSearch, each beside a bare loop that does only the sink's part, its batch size
//! swept and its best taken.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use async_trait::async_trait;
use audit::model::{Erased, Inserted, LogKey, NewErasure, NewLog, NewRevision, Revised, StoredLog};
use audit::store::{LogStore, PostgresLogs, StoreError};
use audit::workers::index::{Announce, BatchLimits, IndexWorker, Parts};
use chrono::Utc;
use contracts::{LogId, Tenant};
use database::{Database, Role};
use queue_core::engine::{Engine, EngineConfig, Ports};
use queue_core::{MemoryAttempts, Probe, SystemClock};
use sinks::pubsub::FeedEvent;
use sinks::search::{
    Document, DocumentRef, Indexed, ItemError, Page, Partition, Query, Rebuild, Rebuilt, Search,
    SinkError, SinkErrorKind, SortKey,
};
use tokio_util::sync::CancellationToken;

use crate::books::Books;
use crate::engine::median;
use crate::report::{Goal, Report};
use crate::samples;
use crate::sqs::{self, SqsLocal};

const NAME: &str = "audit-log-index-queue";

/// Notes the ids of what is published, which is the worker's last step, and passes nothing on.
struct Notes {
    seen: Mutex<Vec<u128>>,
    expected: usize,
    done: CancellationToken,
}

impl Notes {
    fn new(expected: usize) -> Arc<Self> {
        Arc::new(Self { seen: Mutex::default(), expected, done: CancellationToken::new() })
    }
}

#[async_trait]
impl Announce for Notes {
    async fn announce(&self, events: &[FeedEvent]) -> Result<(), SinkError> {
        let mut seen = self.seen.lock().expect("nobody panics");
        seen.extend(events.iter().map(|event| event.id.0.as_u128()));
        if seen.len() >= self.expected {
            self.done.cancel();
        }
        Ok(())
    }

    /// Ids are all that is kept, and they are what is counted.
    async fn forget(&self, _: &Tenant) -> Result<(), SinkError> {
        Ok(())
    }
}

/// A store that says yes.
pub struct StubStore;

#[async_trait]
impl LogStore for StubStore {
    async fn insert(&self, logs: &[NewLog]) -> Result<Inserted, StoreError> {
        Ok(Inserted { ingest_xid: 1, new_rows: logs.len() as u64 })
    }
    async fn fetch(&self, _keys: &[LogKey]) -> Result<Vec<StoredLog>, StoreError> {
        Ok(Vec::new())
    }
    async fn revise(&self, _: &Tenant, _: LogId, _: &NewRevision) -> Result<Revised, StoreError> {
        Ok(Revised::Missing)
    }
    async fn erase(&self, _: &NewErasure, _: &[NewLog]) -> Result<Erased, StoreError> {
        Ok(Erased { key: None, ingest_xid: 1 })
    }
    async fn erased_among(&self, _: &[(&Tenant, LogId)]) -> Result<Vec<usize>, StoreError> {
        Ok(Vec::new())
    }
}

/// A search engine that says yes.
pub struct StubSearch;

#[async_trait]
impl Probe for StubSearch {
    fn name(&self) -> &'static str {
        "stub"
    }
    async fn probe(&self) -> Result<(), String> {
        Ok(())
    }
}

fn none<T>() -> Result<T, SinkError> {
    Err(SinkError::new("stub", SinkErrorKind::Unavailable, "the stub holds nothing"))
}

#[async_trait]
impl Search for StubSearch {
    async fn ensure(&self) -> Result<(), SinkError> {
        Ok(())
    }
    async fn index(&self, documents: &[Document]) -> Result<Vec<Result<Indexed, ItemError>>, SinkError> {
        Ok(documents.iter().map(|_| Ok(Indexed::Written)).collect())
    }
    async fn erase(&self, logs: &[DocumentRef]) -> Result<Vec<Result<(), ItemError>>, SinkError> {
        Ok(logs.iter().map(|_| Ok(())).collect())
    }
    async fn search(&self, _: &Tenant, _: &Query, _: usize, _: Option<SortKey>) -> Result<Page, SinkError> {
        none()
    }
    async fn count(&self, _: &Tenant, _: &Query) -> Result<u64, SinkError> {
        none()
    }
    async fn refresh(&self) -> Result<(), SinkError> {
        Ok(())
    }
    async fn begin_rebuild(&self, _: Partition) -> Result<Rebuild, SinkError> {
        none()
    }
    async fn fill(&self, _: &Rebuild, _: &[Document]) -> Result<Vec<Result<Indexed, ItemError>>, SinkError> {
        none()
    }
    async fn finish_rebuild(&self, _: Rebuild) -> Result<Rebuilt, SinkError> {
        none()
    }
    async fn abandon_rebuild(&self, _: Rebuild) -> Result<(), SinkError> {
        none()
    }
}

/// Drains `count` logs at `per_message` and returns logs per second and the books.
pub async fn drain(
    server: &SqsLocal,
    store: Arc<dyn LogStore>,
    search: Arc<dyn Search>,
    count: usize,
    per_message: usize,
) -> anyhow::Result<(f64, Books)> {
    let client = server.client();
    let name = format!("{NAME}-{}", uuid::Uuid::new_v4().simple());
    let (url, dead) = sqs::create(&client, &name).await?;
    let (ids, bodies) = samples::messages(count, per_message);
    sqs::fill(&client, &url, bodies).await?;
    let notes = Notes::new(count);
    let worker = Arc::new(IndexWorker::new(Parts {
        store,
        search,
        feed: Arc::clone(&notes) as Arc<dyn Announce>,
        attempts: Arc::new(MemoryAttempts::default()),
        clock: Arc::new(SystemClock),
        probes: Vec::new(),
        limits: BatchLimits::default(),
        legacy_tenants: Vec::new(),
    }));
    let sqs = crate::product_sqs(server).await?;
    let ports = Ports {
        queue: sqs.queue(NAME, &url),
        dead_letters: sqs.queue("dlq", &dead),
        attempts: Arc::new(MemoryAttempts::default()),
        clock: Arc::new(SystemClock),
    };
    let config = EngineConfig { wait: Duration::from_secs(1), ..EngineConfig::for_worker::<IndexWorker>() };
    let engine = Engine::new(worker, ports, config)?;
    let start = Instant::now();
    let mut took = Duration::ZERO;
    let (report, ()) = tokio::join!(engine.run(notes.done.clone()), async {
        notes.done.cancelled().await;
        took = start.elapsed();
    });
    anyhow::ensure!(report.fault.is_none(), "{report:?}");
    let seen = notes.seen.lock().expect("nobody panics").clone();
    Ok((count as f64 / took.as_secs_f64(), Books::compare(&ids, &seen)))
}

/// Stub sinks, at one and at a hundred logs per message.
pub async fn stub(report: &mut Report, scale: usize) -> anyhow::Result<()> {
    let server = SqsLocal::start().await?;
    for (per_message, count, goal) in [(1, 1_000 * scale, 25_000.0), (100, 4_000 * scale, 100_000.0)] {
        let (mut rates, mut books) = (Vec::new(), String::new());
        for _ in 0..3 {
            let (rate, one) =
                drain(&server, Arc::new(StubStore), Arc::new(StubSearch), count, per_message).await?;
            rates.push(rate);
            books = one.to_string();
        }
        let name = format!("drain, stub sinks, {per_message} logs per message");
        report.add(&name, median(rates), "logs/s", Goal::AtLeast(goal), books);
    }
    Ok(())
}

/// PostgreSQL beside a bare loop that inserts the same rows.
pub async fn postgres(report: &mut Report, scale: usize) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let postgres = local_services::Postgres::start(folder.path()).await?;
    let owner = Database::connect(&config(&postgres.url())?, Role::Owner)?;
    owner.migrate().await?;
    database::partitions::ensure_ahead(owner.pool(), Utc::now(), 14).await?;
    let worker = Database::connect(&config(&postgres.url())?, Role::Worker)?;
    let server = SqsLocal::start().await?;
    let count = 1_000 * scale;
    let (mut bare, mut best_batch) = (0.0_f64, 0);
    for batch in [200, 1_000, 4_000] {
        let rate = bare_inserts(&worker, count, batch).await?;
        if rate > bare {
            (bare, best_batch) = (rate, batch);
        }
    }
    let (mut rates, mut books) = (Vec::new(), String::new());
    for _ in 0..3 {
        let store = Arc::new(PostgresLogs::new(worker.clone()));
        let (rate, one) = drain(&server, store, Arc::new(StubSearch), count, 100).await?;
        rates.push(rate);
        books = one.to_string();
    }
    let ours = median(rates);
    let note = format!("{ours:.0} against {bare:.0} logs/s, its best at {best_batch} rows; {books}");
    report.add("drain into PostgreSQL / bare insert loop", ours / bare, "ratio", Goal::AtLeast(0.8), note);
    owner.close().await;
    worker.close().await;
    postgres.stop().await?;
    Ok(())
}

/// Options for a database at that URL.
pub fn config(url: &str) -> anyhow::Result<database::DatabaseConfig> {
    use clap::{Args, FromArgMatches};
    let command = database::DatabaseConfig::augment_args(clap::Command::new("bench"));
    let matches = command.try_get_matches_from(["bench", "--database-url", url])?;
    Ok(database::DatabaseConfig::from_arg_matches(&matches)?)
}

/// The same rows by the same statement shape, two connections, nothing else done.
async fn bare_inserts(database: &Database, count: usize, batch: usize) -> anyhow::Result<f64> {
    let logs = samples::new_logs(count);
    let start = Instant::now();
    let halves: Vec<Vec<NewLog>> = logs.chunks(count.div_ceil(2)).map(<[NewLog]>::to_vec).collect();
    let tasks: Vec<_> = halves
        .into_iter()
        .map(|half| {
            let pool = database.pool().clone();
            tokio::spawn(async move {
                for chunk in half.chunks(batch) {
                    bare_insert(&pool, chunk).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

async fn bare_insert(pool: &sqlx::PgPool, logs: &[NewLog]) -> anyhow::Result<()> {
    let text = |take: fn(&NewLog) -> &str| logs.iter().map(take).collect::<Vec<&str>>();
    let list = |values: Vec<&str>| format!("{{{}}}", values.join(","));
    sqlx::query(
        "INSERT INTO logs (tenant, id, retention_class, recorded_at, record, sha256, leaf_salt,
                           actor_type, actor_id, action, outcome, target_types, target_ids)
         SELECT a, b, c, d, e, f, g, h, i, j, k, l::text[], m::text[]
           FROM unnest($1::text[], $2::uuid[], $3::text[], $4::timestamptz[], $5::bytea[],
                       $6::bytea[], $7::bytea[], $8::text[], $9::text[], $10::text[], $11::text[],
                       $12::text[], $13::text[]) AS n (a, b, c, d, e, f, g, h, i, j, k, l, m)
         ON CONFLICT DO NOTHING",
    )
    .bind(text(|log| log.key.tenant.as_str()))
    .bind(logs.iter().map(|log| log.key.id.0).collect::<Vec<_>>())
    .bind(text(|log| log.key.class.as_str()))
    .bind(logs.iter().map(|log| log.key.recorded_at).collect::<Vec<_>>())
    .bind(logs.iter().map(|log| &log.record[..]).collect::<Vec<_>>())
    .bind(logs.iter().map(|log| &log.sha256[..]).collect::<Vec<_>>())
    .bind(logs.iter().map(|log| &log.salt[..]).collect::<Vec<_>>())
    .bind(text(|log| &log.document.actor.kind))
    .bind(text(|log| &log.document.actor.id))
    .bind(text(|log| &log.document.action))
    .bind(text(|log| &log.document.outcome))
    .bind(logs.iter().map(|l| list(l.document.targets.iter().map(|t| &*t.kind).collect())).collect::<Vec<_>>())
    .bind(logs.iter().map(|l| list(l.document.targets.iter().map(|t| &*t.id).collect())).collect::<Vec<_>>())
    .execute(pool)
    .await
    .context("bare insert")?;
    Ok(())
}

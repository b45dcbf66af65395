//! `POST /logs` beside a bare axum handler that parses the same body: with a stub transport, and
//! through `sqs-local` on the same cores. The load generator shares the cores with both.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use axum::Json;
use axum::http::StatusCode;
use axum::routing::post;
use chassis::App;
use chassis::config::{Environment, parse};
use contracts::RetentionClass;
use database::api_keys::NewKey;
use database::{Database, Role};
use ingest_api::{ApiConfig, IngestApi};
use queue_core::driver::{EntryResults, Outgoing, QueueAttributes, ReceiveRequest};
use queue_core::{Driver, DriverError, Received};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::books::Books;
use crate::engine::median;
use crate::load::{self, Load, Outcome};
use crate::report::{Goal, Report};
use crate::samples;
use crate::sqs::{self, SqsLocal};

const CONNECTIONS: usize = 32;
const ROUNDS: usize = 3;

/// Accepts everything and keeps it, so that the books can be compared afterwards.
#[derive(Debug, Default)]
struct StubQueue {
    sent: Mutex<Vec<String>>,
}

#[async_trait]
impl Driver for StubQueue {
    fn queue(&self) -> &str {
        "stub"
    }
    async fn receive(&self, _request: ReceiveRequest) -> Result<Vec<Received>, DriverError> {
        Ok(Vec::new())
    }
    async fn settle(&self, receipts: &[String]) -> Result<EntryResults, DriverError> {
        Ok(vec![Ok(()); receipts.len()])
    }
    async fn extend(&self, entries: &[(String, Duration)]) -> Result<EntryResults, DriverError> {
        Ok(vec![Ok(()); entries.len()])
    }
    async fn send(&self, entries: &[Outgoing]) -> Result<EntryResults, DriverError> {
        let mut sent = self.sent.lock().expect("nobody panics");
        sent.extend(entries.iter().map(|entry| entry.body.clone()));
        Ok(vec![Ok(()); entries.len()])
    }
    async fn attributes(&self) -> Result<QueueAttributes, DriverError> {
        Ok(QueueAttributes::default())
    }
}

/// PostgreSQL and Redis for the API, and a key for it.
pub struct Backends {
    pub postgres: local_services::Postgres,
    pub redis: local_services::Redis,
    pub key: String,
    _folder: tempfile::TempDir,
}

impl Backends {
    /// Starts both, migrates, makes a tenant and a key.
    pub async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let postgres = local_services::Postgres::start(&folder.path().join("postgres")).await?;
        let redis = local_services::Redis::start(&folder.path().join("redis")).await?;
        let owner = Database::connect(&crate::drain::config(&postgres.url())?, Role::Owner)?;
        owner.migrate().await?;
        database::partitions::ensure_ahead(owner.pool(), chrono::Utc::now(), 14).await?;
        let tenant = samples::tenant();
        database::tenants::create(owner.pool(), &tenant, RetentionClass::Days90, false).await?;
        let key = edge::key::generate("bench");
        let scopes = ["logs:write".to_owned(), "logs:read".to_owned()];
        let new = NewKey {
            key_id: &key.key_id,
            tenant: &tenant,
            env: "bench",
            secret_sha256: key.secret_sha256,
            scopes: &scopes,
            name: "bench",
            expires_at: None,
        };
        database::api_keys::create(owner.pool(), new).await?;
        owner.close().await;
        Ok(Self { postgres, redis, key: key.text, _folder: folder })
    }
}

struct Served {
    addr: SocketAddr,
    drain: CancellationToken,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

async fn serve(backends: &Backends, queue: Arc<dyn Driver>) -> anyhow::Result<Served> {
    let config: ApiConfig = parse(
        "bench",
        [
            "--listen-addr=127.0.0.1:0".to_owned(),
            format!("--database-url={}", backends.postgres.url()),
            format!("--redis-url={}", backends.redis.url()),
            "--index-queue-url=http://127.0.0.1:1/000000000000/audit-log-index-queue".to_owned(),
            "--aws-endpoint-url=http://127.0.0.1:1".to_owned(),
            "--aws-region=us-east-1".to_owned(),
            "--rate-per-key=1000000".to_owned(),
            "--rate-burst-per-key=1000000".to_owned(),
        ],
        &Environment::empty(),
    )
    .map_err(|error| anyhow::anyhow!("{error}"))?;
    let context = chassis::Context::new("bench", "0", Duration::from_secs(30));
    let api = IngestApi::build_with(config, queue, &context).await.map_err(|e| anyhow::anyhow!("{e}"))?;
    let (addr, drain) = (api.address(), CancellationToken::new());
    let run = api.run(context, drain.clone());
    let task = tokio::spawn(async move {
        run.await.map(|_| ()).map_err(|error| anyhow::anyhow!("{error}"))
    });
    Ok(Served { addr, drain, task })
}

async fn bare() -> anyhow::Result<(SocketAddr, tokio::task::JoinHandle<std::io::Result<()>>)> {
    async fn take(Json(body): Json<Value>) -> (StatusCode, Json<Value>) {
        let id = uuid::Uuid::now_v7();
        (StatusCode::ACCEPTED, Json(json!({"id": id, "action": body["action"]})))
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let router = axum::Router::new().route("/logs", post(take));
    Ok((addr, tokio::spawn(async move { axum::serve(listener, router).await })))
}

fn load(addr: SocketAddr, key: Option<&str>, seconds: u64, rate: Option<f64>) -> Load {
    let authorization = key.map(|key| format!("Bearer {key}"));
    Load {
        addr,
        connections: CONNECTIONS,
        duration: Duration::from_secs(seconds),
        rate,
        requests: Arc::new(move |connection, n| {
            let event = samples::event(connection as u64 * 1_000_003 + n);
            load::post("/logs", authorization.as_deref(), event.as_bytes())
        }),
        status: 202,
    }
}

/// Takes the figures.
pub async fn run(report: &mut Report, seconds: u64) -> anyhow::Result<()> {
    let backends = Backends::start().await?;
    let (bare_addr, bare_task) = bare().await?;
    let stub = Arc::new(StubQueue::default());
    let served = serve(&backends, Arc::clone(&stub) as Arc<dyn Driver>).await?;
    let top = compare(report, "stub transport", 0.5, bare_addr, &served, &backends.key, seconds).await?;
    let mut accepted = top.accepted;
    let half = at_half(report, "stub transport", top.rate / 2.0, &served, &backends.key, seconds).await?;
    accepted.extend(ids(&half)?);
    let sent = sent_ids(&stub.sent.lock().expect("nobody panics"))?;
    served.drain.cancel();
    served.task.await??;
    let books = Books::compare(&accepted, &sent);
    report.add("POST /logs, stub transport: accepted and not sent", books.lost as f64, "events", Goal::Below(0.5), books.to_string());

    let server = SqsLocal::start().await?;
    let (url, _) = sqs::create(&server.client(), "audit-log-index-queue").await?;
    let driver = crate::product_sqs(&server).await?.queue("audit-log-index-queue", &url);
    let served = serve(&backends, Arc::clone(&driver)).await?;
    let top = compare(report, "sqs-local", 0.25, bare_addr, &served, &backends.key, seconds).await?;
    at_half(report, "sqs-local", top.rate / 2.0, &served, &backends.key, seconds).await?;
    served.drain.cancel();
    served.task.await??;
    bare_task.abort();
    Ok(())
}

struct Top {
    rate: f64,
    accepted: Vec<u128>,
}

async fn compare(
    report: &mut Report,
    name: &str,
    goal: f64,
    bare_addr: SocketAddr,
    served: &Served,
    key: &str,
    seconds: u64,
) -> anyhow::Result<Top> {
    let (mut ours, mut bare, mut accepted) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(load::run(load(bare_addr, None, seconds, None)).await?.rate());
        let outcome = load::run(load(served.addr, Some(key), seconds, None)).await?;
        ensure!(outcome.other.is_empty(), "refused: {:?}", outcome.other);
        accepted.extend(ids(&outcome)?);
        ours.push(outcome.rate());
    }
    let (ours, bare) = (median(ours), median(bare));
    let note = format!("{ours:.0} against {bare:.0} requests/s");
    let name = format!("POST /logs, {name} / bare axum handler");
    report.add(&name, ours / bare, "ratio", Goal::AtLeast(goal), note);
    Ok(Top { rate: ours, accepted })
}

async fn at_half(
    report: &mut Report,
    name: &str,
    rate: f64,
    served: &Served,
    key: &str,
    seconds: u64,
) -> anyhow::Result<Outcome> {
    let mut outcome = load::run(load(served.addr, Some(key), seconds, Some(rate))).await?;
    ensure!(outcome.other.is_empty(), "refused: {:?}", outcome.other);
    let p50 = outcome.percentile(0.5).as_secs_f64() * 1e3;
    let p99 = outcome.percentile(0.99).as_secs_f64() * 1e3;
    let note = format!("p50 {p50:.2} ms, offered {rate:.0}, got {:.0} requests/s", outcome.rate());
    let name = format!("POST /logs, {name}: p99 at half its top speed");
    report.add(&name, p99, "ms", Goal::Below(10.0), note);
    Ok(outcome)
}

fn ids(outcome: &Outcome) -> anyhow::Result<Vec<u128>> {
    outcome.bodies.iter().map(|body| id_of(&serde_json::from_slice(body)?)).collect()
}

fn id_of(value: &Value) -> anyhow::Result<u128> {
    let id = value["id"].as_str().context("an id")?;
    Ok(id.parse::<uuid::Uuid>()?.as_u128())
}

fn sent_ids(bodies: &[String]) -> anyhow::Result<Vec<u128>> {
    let mut ids = Vec::new();
    for body in bodies {
        let envelope: Value = serde_json::from_str(body)?;
        match envelope["body"]["items"].as_array() {
            Some(items) => {
                for item in items {
                    ids.push(id_of(&item["record"])?);
                }
            }
            None => ids.push(id_of(&envelope["body"]["record"])?),
        }
    }
    Ok(ids)
}

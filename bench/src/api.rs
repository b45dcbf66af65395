//! `POST /logs` beside a bare axum handler that parses the same body: with a stub transport, and
//! through `sqs-local` on the same cores. Throughput first, then the latencies of both at half of our
//! top speed. The load generator shares the cores with both.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Json;
use axum::http::StatusCode;
use axum::routing::post;
use axum::serve::ListenerExt;
use chassis::App;
use chassis::config::{Environment, parse};
use ingest_api::{ApiConfig, IngestApi};
use queue_core::driver::{EntryResults, Outgoing, QueueAttributes, ReceiveRequest};
use queue_core::{Driver, DriverError, Received};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::backends::Backends;
use crate::books::Books;
use crate::load::{self, Load, Outcome};
use crate::pile::Pile;
use crate::report::{Figure, Report};
use crate::sqs::{self, SqsLocal};
use crate::{ids, machine, median, samples};

const CONNECTIONS: usize = 64;
const ROUNDS: usize = 3;

/// Accepts everything and keeps it, so that the books can be compared afterwards.
#[derive(Debug, Default)]
struct StubQueue {
    sent: Mutex<Pile>,
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
        entries.iter().for_each(|entry| sent.push(entry.body.as_bytes()));
        Ok(vec![Ok(()); entries.len()])
    }
    async fn attributes(&self) -> Result<QueueAttributes, DriverError> {
        Ok(QueueAttributes::default())
    }
}

/// Where accepted events end up, and how to take them out again.
enum Transport {
    Stub(Arc<StubQueue>),
    Sqs { server: SqsLocal, url: String },
}

impl Transport {
    async fn sqs() -> anyhow::Result<Self> {
        let server = SqsLocal::start().await?;
        let (url, _) = sqs::create(&server.client(), "audit-log-index-queue").await?;
        Ok(Self::Sqs { server, url })
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Stub(_) => "stub transport",
            Self::Sqs { .. } => "sqs-local",
        }
    }

    async fn driver(&self) -> anyhow::Result<Arc<dyn Driver>> {
        Ok(match self {
            Self::Stub(stub) => Arc::clone(stub) as Arc<dyn Driver>,
            Self::Sqs { server, url } => {
                sqs::product(server).await?.queue("audit-log-index-queue", url)
            }
        })
    }

    /// Empties it; the ids of every log in it.
    async fn take(&self) -> anyhow::Result<Vec<u128>> {
        let bodies = match self {
            Self::Stub(stub) => std::mem::take(&mut *stub.sent.lock().expect("nobody panics")),
            Self::Sqs { server, url } => {
                sqs::read_out(&server.client(), url).await?.into_iter().collect()
            }
        };
        ids::of_messages(&bodies)
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
    let api = IngestApi::build_with(config, queue, &context).await;
    let api = api.map_err(|error| anyhow::anyhow!("{error}"))?;
    let (addr, drain) = (api.address(), CancellationToken::new());
    let run = api.run(context, drain.clone());
    let task =
        tokio::spawn(
            async move { run.await.map(|_| ()).map_err(|error| anyhow::anyhow!("{error}")) },
        );
    Ok(Served { addr, drain, task })
}

/// Parses the body and answers with an id and a time, as we do; nothing else.
async fn bare() -> anyhow::Result<(SocketAddr, tokio::task::JoinHandle<std::io::Result<()>>)> {
    async fn take(Json(body): Json<Value>) -> (StatusCode, Json<Value>) {
        let (id, now) = (uuid::Uuid::now_v7(), machine::now());
        std::hint::black_box(body);
        (StatusCode::ACCEPTED, Json(json!({"id": id.to_string(), "recorded_at": now})))
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let listener = listener.tap_io(|stream| {
        stream.set_nodelay(true).ok();
    });
    let router = axum::Router::new().route("/logs", post(take));
    Ok((addr, tokio::spawn(async move { axum::serve(listener, router).await })))
}

/// Both servers, and how long each of their loads runs.
struct Bench {
    bare: SocketAddr,
    ours: SocketAddr,
    key: String,
    duration: Duration,
}

impl Bench {
    async fn bare(&self, rate: Option<f64>) -> anyhow::Result<Outcome> {
        load::run(self.load(self.bare, samples::posts(None), rate)).await?.all_taken()
    }

    async fn ours(&self, rate: Option<f64>) -> anyhow::Result<Outcome> {
        let authorization = format!("Bearer {}", self.key);
        let requests = samples::posts(Some(&authorization));
        load::run(self.load(self.ours, requests, rate)).await?.all_taken()
    }

    fn load(&self, addr: SocketAddr, requests: load::Requests, rate: Option<f64>) -> Load {
        let (connections, duration) = (CONNECTIONS, self.duration);
        Load { addr, connections, duration, rate, requests, answers: None }
    }
}

/// Takes the figures.
pub async fn run(report: &mut Report, seconds: u64) -> anyhow::Result<()> {
    let backends = Backends::start().await?;
    let (bare, bare_task) = bare().await?;
    let transports = [(Transport::Stub(Arc::default()), 0.5), (Transport::sqs().await?, 0.25)];
    for (transport, goal) in transports {
        let served = serve(&backends, transport.driver().await?).await?;
        let bench = Bench {
            bare,
            ours: served.addr,
            key: backends.key.clone(),
            duration: Duration::from_secs(seconds),
        };
        let top = top_speed(report, &bench, &transport, goal).await?;
        at_half(report, &bench, &transport, top / 2.0).await?;
        served.drain.cancel();
        served.task.await??;
    }
    bare_task.abort();
    Ok(())
}

/// Rounds of both in turns, and what became of what we accepted.
async fn rounds(
    bench: &Bench,
    transport: &Transport,
    rate: Option<f64>,
) -> anyhow::Result<(Vec<Outcome>, Vec<Outcome>, Books)> {
    let (mut bare, mut ours, mut books) = (Vec::new(), Vec::new(), Books::default());
    for _ in 0..ROUNDS {
        bare.push(bench.bare(rate).await?);
        let outcome = bench.ours(rate).await?;
        let accepted = ids::of_answers(&outcome.bodies)?;
        books = books.and(Books::compare(&accepted, &transport.take().await?));
        ours.push(outcome);
    }
    Ok((bare, ours, books))
}

async fn top_speed(
    report: &mut Report,
    bench: &Bench,
    transport: &Transport,
    goal: f64,
) -> anyhow::Result<f64> {
    let (bare, ours, books) = rounds(bench, transport, None).await?;
    let rate =
        |outcomes: &[Outcome]| median(&outcomes.iter().map(Outcome::rate).collect::<Vec<_>>());
    let (bare, ours) = (rate(&bare), rate(&ours));
    let name = transport.name();
    report.add(Figure::new(format!("bare axum handler, beside {name}"), bare, "requests/s"));
    report.add(Figure::new(format!("POST /logs, {name}"), ours, "requests/s").books(books));
    let name = format!("POST /logs, {name} / bare axum handler");
    report.add(Figure::new(name, ours / bare, "ratio").at_least(goal).books(books));
    Ok(ours)
}

async fn at_half(
    report: &mut Report,
    bench: &Bench,
    transport: &Transport,
    rate: f64,
) -> anyhow::Result<()> {
    let (mut bare, mut ours, books) = rounds(bench, transport, Some(rate)).await?;
    let at = |outcomes: &mut [Outcome], share| {
        median(&outcomes.iter_mut().map(|outcome| outcome.percentile(share)).collect::<Vec<_>>())
    };
    let (bare50, bare99) = (at(&mut bare, 0.5), at(&mut bare, 0.99));
    let (ours50, ours99) = (at(&mut ours, 0.5), at(&mut ours, 0.99));
    let got = median(&ours.iter().map(Outcome::rate).collect::<Vec<_>>());
    let what = format!("POST /logs, {} at half its top speed", transport.name());
    let p50 = Figure::new(format!("{what}: p50"), ours50, "ms").books(books);
    report.add(p50.beside(format!("bare handler at that rate {bare50:.3} ms")));
    let p99 = Figure::new(format!("{what}: p99"), ours99, "ms").below(10.0).books(books);
    let note =
        format!("bare handler {bare99:.3} ms; {rate:.0} requests/s offered, {got:.0} answered");
    report.add(p99.beside(note));
    Ok(())
}

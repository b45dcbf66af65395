//! How soon a message that is sent to an idle engine is in its handler: sender and engine in one
//! process and so on one clock, one long poll open, from the begin of the send call to the begin of the
//! handler.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use queue_core::engine::{Engine, EngineConfig, Ports};
use queue_core::{Delivery, EngineStatus, Failure, MemoryAttempts, SystemClock, Worker};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

use crate::books::Books;
use crate::ping::{self, Ping};
use crate::report::{Figure, Report};
use crate::sqs::{self, SqsLocal};

/// A message that takes longer is lost.
const LIMIT: Duration = Duration::from_secs(5);
/// After the poll has begun, until it is open at the server; the rest of the pause varies, so that no
/// rhythm of ours or of a timer's is met.
const PAUSE: Duration = Duration::from_millis(5);
const PAUSES: u64 = 7;

/// Tells when it begins with what.
struct Bell(UnboundedSender<(u128, Instant)>);

impl Worker for Bell {
    const NAME: &'static str = "bell";
    type Message = Ping;
    async fn handle(&self, delivery: Delivery<Ping>) -> Result<(), Failure> {
        self.0.send((delivery.header.id.0.as_u128(), Instant::now())).ok();
        Ok(())
    }
}

/// Takes the figures.
pub async fn run(report: &mut Report, samples: usize) -> anyhow::Result<()> {
    let server = SqsLocal::start().await?;
    let client = server.client();
    let (url, dead) = sqs::create(&client, "bell").await?;
    let sqs = sqs::product(&server).await?;
    let ports = Ports {
        queue: sqs.queue("bell", &url),
        dead_letters: sqs.queue("bell-dlq", &dead),
        attempts: Arc::new(MemoryAttempts::default()),
        clock: Arc::new(SystemClock),
    };
    let (bell, rings) = unbounded_channel();
    let engine = Engine::new(Arc::new(Bell(bell)), ports, EngineConfig::for_worker::<Bell>())?;
    let (status, drain) = (engine.status(), CancellationToken::new());
    let (ids, bodies) = ping::bodies(samples);
    let (latencies, seen) = tokio::select! {
        ended = engine.run(drain.clone()) => anyhow::bail!("{ended:?}"),
        rung = ring(&client, &url, bodies, &status, rings) => rung?,
    };
    let books = Books::compare(&ids, &seen);
    for (name, share, goal) in [("p50", 0.5, None), ("p99", 0.99, Some(3.0))] {
        let last = latencies.len().saturating_sub(1);
        let at = (last as f64 * share).ceil() as usize;
        let value = latencies.get(at).context("a sample")?.as_secs_f64() * 1e3;
        let figure = Figure::new(format!("engine: wake latency {name}"), value, "ms").books(books);
        let figure = figure.beside(format!("{} samples", latencies.len()));
        report.add(goal.map_or_else(|| figure.clone(), |goal| figure.clone().below(goal)));
    }
    Ok(())
}

/// Sends each body to the idle engine; latencies in order of size, and the ids that came.
async fn ring(
    client: &aws_sdk_sqs::Client,
    url: &str,
    bodies: Vec<String>,
    status: &EngineStatus,
    mut rings: UnboundedReceiver<(u128, Instant)>,
) -> anyhow::Result<(Vec<Duration>, Vec<u128>)> {
    let (mut latencies, mut seen) = (Vec::new(), Vec::new());
    for (n, body) in bodies.into_iter().enumerate() {
        idle(status).await?;
        tokio::time::sleep(PAUSE + Duration::from_millis(n as u64 % PAUSES)).await;
        let sent = Instant::now();
        client.send_message().queue_url(url).message_body(body).send().await?;
        if let Ok(Some((id, began))) = tokio::time::timeout(LIMIT, rings.recv()).await {
            latencies.push(began.duration_since(sent));
            seen.push(id);
        }
    }
    latencies.sort_unstable();
    Ok((latencies, seen))
}

/// Until one poll has begun.
async fn idle(status: &EngineStatus) -> anyhow::Result<()> {
    let deadline = Instant::now() + LIMIT;
    while status.snapshot().pollers != 1 {
        anyhow::ensure!(Instant::now() < deadline, "no poll is open: {:?}", status.snapshot());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

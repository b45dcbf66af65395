//! The engine with every duty on, beside a bare aws-sdk loop with eight pollers: the same messages
//! from the same server, a handler that only notes the id.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::DeleteMessageBatchRequestEntry;
use contracts::catalogue::{AUDIT_INDEX, QueueSpec};
use contracts::{DecodeError, Header, Message};
use queue_core::driver::{EntryResults, Outgoing, QueueAttributes, ReceiveRequest};
use queue_core::engine::{Engine, EngineConfig, Ports};
use queue_core::{Delivery, Driver, DriverError, Failure, MemoryAttempts, Received, SystemClock, Worker};
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use crate::books::Books;
use crate::report::{Goal, Report};
use crate::sqs::{self, SqsLocal};

const POLLERS: usize = 8;
const NAME: &str = "audit-log-index-queue";

/// A message that carries only its id.
struct Ping;

impl Message for Ping {
    const QUEUE: &'static QueueSpec = &AUDIT_INDEX;
    fn kind(&self) -> &'static str {
        "PING"
    }
    fn version(&self) -> u32 {
        1
    }
    fn body_json(&self) -> Result<String, serde_json::Error> {
        Ok("{}".into())
    }
    fn decode(header: &Header, _body: &RawValue) -> Result<Self, DecodeError> {
        if header.kind == "PING" { Ok(Self) } else { Err(DecodeError::UnknownType(header.kind.clone())) }
    }
}

struct Note {
    seen: Mutex<Vec<u128>>,
    expected: usize,
    done: CancellationToken,
}

impl Worker for Note {
    const NAME: &'static str = "note";
    type Message = Ping;
    async fn handle(&self, delivery: Delivery<Ping>) -> Result<(), Failure> {
        let mut seen = self.seen.lock().expect("no handler panics");
        seen.push(delivery.header.id.0.as_u128());
        if seen.len() >= self.expected {
            self.done.cancel();
        }
        Ok(())
    }
}

/// Counts what a driver is asked to do.
#[derive(Debug)]
struct Counted {
    inner: Arc<dyn Driver>,
    calls: AtomicU64,
}

impl Counted {
    fn one(&self) -> &dyn Driver {
        self.calls.fetch_add(1, Ordering::Relaxed);
        &*self.inner
    }
}

#[async_trait]
impl Driver for Counted {
    fn queue(&self) -> &str {
        self.inner.queue()
    }
    async fn receive(&self, request: ReceiveRequest) -> Result<Vec<Received>, DriverError> {
        self.one().receive(request).await
    }
    async fn settle(&self, receipts: &[String]) -> Result<EntryResults, DriverError> {
        self.one().settle(receipts).await
    }
    async fn extend(&self, entries: &[(String, Duration)]) -> Result<EntryResults, DriverError> {
        self.one().extend(entries).await
    }
    async fn send(&self, entries: &[Outgoing]) -> Result<EntryResults, DriverError> {
        self.one().send(entries).await
    }
    async fn attributes(&self) -> Result<QueueAttributes, DriverError> {
        self.one().attributes().await
    }
}

fn bodies(count: usize) -> (Vec<u128>, Vec<String>) {
    let ids: Vec<u128> = (0..count).map(|_| uuid::Uuid::now_v7().as_u128()).collect();
    let bodies = ids
        .iter()
        .map(|id| {
            format!(
                r#"{{"v":1,"type":"PING","id":"{}","tenant":"bench","recorded_at":"2025-01-01T00:00:00Z","correlation_id":"b","body":{{}}}}"#,
                uuid::Uuid::from_u128(*id)
            )
        })
        .collect();
    (ids, bodies)
}

/// Takes the figures.
pub async fn run(report: &mut Report, count: usize) -> anyhow::Result<()> {
    let server = SqsLocal::start().await?;
    let (mut bare, mut ours, mut calls, mut notes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..3 {
        let (rate, books) = bare_loop(&server, count, round).await?;
        notes.push(format!("bare: {books}"));
        bare.push(rate);
        let (rate, per_message, books) = engine(&server, count, round).await?;
        notes.push(format!("engine: {books}"));
        ours.push(rate);
        calls.push(per_message);
    }
    let (bare, ours) = (median(bare), median(ours));
    let note = format!("{ours:.0} against {bare:.0} msg/s; {}", notes.join("; "));
    report.add("engine / bare aws-sdk loop, 8 pollers", ours / bare, "ratio", Goal::AtLeast(0.9), note);
    report.add("engine: SQS calls per message", median(calls), "calls", Goal::Below(0.21), "ideal 0.2");
    Ok(())
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

async fn engine(server: &SqsLocal, count: usize, round: usize) -> anyhow::Result<(f64, f64, Books)> {
    let client = server.client();
    let (url, dead) = sqs::create(&client, &format!("{NAME}-ours-{round}")).await?;
    let (ids, bodies) = bodies(count);
    sqs::fill(&client, &url, bodies).await?;
    let sqs = crate::product_sqs(server).await?;
    let queue = Arc::new(Counted { inner: sqs.queue(NAME, &url), calls: AtomicU64::new(0) });
    let done = CancellationToken::new();
    let worker =
        Arc::new(Note { seen: Mutex::default(), expected: count, done: done.clone() });
    let ports = Ports {
        queue: Arc::clone(&queue) as Arc<dyn Driver>,
        dead_letters: sqs.queue("dlq", &dead),
        attempts: Arc::new(MemoryAttempts::default()),
        clock: Arc::new(SystemClock),
    };
    let config = EngineConfig { wait: Duration::from_secs(1), ..EngineConfig::for_worker::<Note>() };
    let engine = Engine::new(Arc::clone(&worker), ports, config)?;
    let start = Instant::now();
    let drain = done.clone();
    let mut took = Duration::ZERO;
    let (report, ()) = tokio::join!(engine.run(drain), async {
        done.cancelled().await;
        took = start.elapsed();
    });
    anyhow::ensure!(report.fault.is_none(), "{report:?}");
    let calls = queue.calls.load(Ordering::Relaxed) as f64 / count as f64;
    let seen = worker.seen.lock().expect("no handler panics").clone();
    Ok((count as f64 / took.as_secs_f64(), calls, Books::compare(&ids, &seen)))
}

async fn bare_loop(server: &SqsLocal, count: usize, round: usize) -> anyhow::Result<(f64, Books)> {
    let client = server.client();
    let (url, _) = sqs::create(&client, &format!("{NAME}-bare-{round}")).await?;
    let (ids, bodies) = bodies(count);
    sqs::fill(&client, &url, bodies).await?;
    let seen = Arc::new(Mutex::new(Vec::with_capacity(count)));
    let start = Instant::now();
    let pollers: Vec<_> = (0..POLLERS)
        .map(|_| tokio::spawn(bare_poller(server.client(), url.clone(), Arc::clone(&seen), count)))
        .collect();
    for poller in pollers {
        poller.await??;
    }
    let took = start.elapsed();
    let seen = seen.lock().expect("no poller panics").clone();
    Ok((count as f64 / took.as_secs_f64(), Books::compare(&ids, &seen)))
}

/// What a careful person writes first: receive ten, handle, delete ten.
async fn bare_poller(
    client: Client,
    url: String,
    seen: Arc<Mutex<Vec<u128>>>,
    count: usize,
) -> anyhow::Result<()> {
    loop {
        if seen.lock().expect("no poller panics").len() >= count {
            return Ok(());
        }
        let received = client
            .receive_message()
            .queue_url(&url)
            .max_number_of_messages(10)
            .wait_time_seconds(1)
            .send()
            .await?;
        let mut entries = Vec::with_capacity(10);
        for (at, message) in received.messages().iter().enumerate() {
            let header: Header = serde_json::from_str(message.body().unwrap_or_default())?;
            seen.lock().expect("no poller panics").push(header.id.0.as_u128());
            let receipt = message.receipt_handle().unwrap_or_default();
            entries.push(
                DeleteMessageBatchRequestEntry::builder().id(at.to_string()).receipt_handle(receipt).build()?,
            );
        }
        if !entries.is_empty() {
            client.delete_message_batch().queue_url(&url).set_entries(Some(entries)).send().await?;
        }
    }
}

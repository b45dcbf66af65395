//! The engine with every duty on, beside a bare aws-sdk loop with eight pollers: the same messages
//! from the same server, a handler that only notes the id, both timed until the last message is
//! deleted.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::DeleteMessageBatchRequestEntry;
use contracts::catalogue::{AUDIT_INDEX, QueueSpec};
use contracts::{DecodeError, Header, Message};
use queue_core::{Delivery, Failure, Worker};
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use crate::books::Books;
use crate::report::{Figure, Report};
use crate::sqs::{self, SqsLocal};
use crate::{median, work_off};

const POLLERS: usize = 8;

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
        match header.kind.as_str() {
            "PING" => Ok(Self),
            _ => Err(DecodeError::UnknownType(header.kind.clone())),
        }
    }
}

#[derive(Default)]
struct Note {
    seen: Mutex<Vec<u128>>,
}

impl Worker for Note {
    const NAME: &'static str = "note";
    type Message = Ping;
    async fn handle(&self, delivery: Delivery<Ping>) -> Result<(), Failure> {
        let id = delivery.header.id.0.as_u128();
        self.seen.lock().expect("no handler panics").push(id);
        Ok(())
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
    let (mut bare, mut ours, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    let (mut bare_books, mut books) = (Books::default(), Books::default());
    for _ in 0..3 {
        let (rate, one) = bare_loop(&server, count).await?;
        bare.push(rate);
        bare_books = bare_books.and(one);
        let (ids, bodies) = bodies(count);
        let worker = Arc::new(Note::default());
        let run = work_off::run(&server, Arc::clone(&worker), bodies).await?;
        ours.push(count as f64 / run.took.as_secs_f64());
        calls.push(run.calls);
        books = books.and(Books::compare(&ids, &worker.seen.lock().expect("no handler panics")));
    }
    let (bare, ours) = (median(&bare), median(&ours));
    let unit = "messages/s";
    report.add(Figure::new("bare aws-sdk-sqs loop, 8 pollers", bare, unit).books(bare_books));
    report.add(Figure::new("engine", ours, unit).books(books));
    let ratio = Figure::new("engine / bare aws-sdk-sqs loop", ours / bare, "ratio");
    report.add(ratio.at_least(0.9).books(books));
    let calls = Figure::new("engine: SQS calls per message", median(&calls), "calls");
    report.add(calls.at_most(0.21).books(books).beside("a receive and a delete per ten are 0.2"));
    Ok(())
}

/// What the pollers share.
struct Shared {
    seen: Mutex<Vec<u128>>,
    deleted: Mutex<usize>,
    count: usize,
    done: CancellationToken,
}

async fn bare_loop(server: &SqsLocal, count: usize) -> anyhow::Result<(f64, Books)> {
    let client = server.client();
    let name = format!("bare-{}", uuid::Uuid::new_v4().simple());
    let (url, _) = sqs::create(&client, &name).await?;
    let (ids, bodies) = bodies(count);
    sqs::fill(&client, &url, bodies).await?;
    let shared = Arc::new(Shared {
        seen: Mutex::new(Vec::with_capacity(count)),
        deleted: Mutex::new(0),
        count,
        done: CancellationToken::new(),
    });
    let start = Instant::now();
    let pollers: Vec<_> = (0..POLLERS)
        .map(|_| tokio::spawn(bare_poller(server.client(), url.clone(), Arc::clone(&shared))))
        .collect();
    tokio::time::timeout(Duration::from_secs(180), shared.done.cancelled()).await?;
    // The pollers that wait for more are not waited for.
    let took = start.elapsed();
    for poller in pollers {
        poller.await??;
    }
    let seen = shared.seen.lock().expect("no poller panics");
    Ok((count as f64 / took.as_secs_f64(), Books::compare(&ids, &seen)))
}

/// What a careful person writes first: receive ten, handle, delete ten.
async fn bare_poller(client: Client, url: String, shared: Arc<Shared>) -> anyhow::Result<()> {
    while !shared.done.is_cancelled() {
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
            shared.seen.lock().expect("no poller panics").push(header.id.0.as_u128());
            let receipt = message.receipt_handle().unwrap_or_default();
            let entry = DeleteMessageBatchRequestEntry::builder();
            entries.push(entry.id(at.to_string()).receipt_handle(receipt).build()?);
        }
        if entries.is_empty() {
            continue;
        }
        let call = client.delete_message_batch().queue_url(&url).set_entries(Some(entries));
        let count = call.send().await?.successful().len();
        let mut deleted = shared.deleted.lock().expect("no poller panics");
        *deleted += count;
        if *deleted >= shared.count {
            shared.done.cancel();
        }
    }
    Ok(())
}

//! The bare aws-sdk loop that the engine is compared with: eight pollers, a handler that notes the id,
//! timed until the last message is deleted.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::DeleteMessageBatchRequestEntry;
use contracts::Header;
use tokio_util::sync::CancellationToken;

use crate::books::Books;
use crate::sqs::{self, SqsLocal};
use crate::{machine, ping};

/// Pollers.
pub const POLLERS: usize = 8;

/// What the pollers share.
struct Shared {
    seen: Mutex<Vec<u128>>,
    deleted: Mutex<usize>,
    count: usize,
    done: CancellationToken,
}

/// How it went.
pub struct Run {
    /// Messages per second until the last one was deleted.
    pub rate: f64,
    /// Processor seconds of this process.
    pub processor: f64,
    /// Sent against seen.
    pub books: Books,
}

/// Fills a queue of its own with `count` messages and works it off.
pub async fn run(server: &SqsLocal, count: usize) -> anyhow::Result<Run> {
    let client = server.client();
    let name = format!("bare-{}", uuid::Uuid::new_v4().simple());
    let (url, _) = sqs::create(&client, &name).await?;
    let (ids, bodies) = ping::bodies(count);
    sqs::fill(&client, &url, bodies).await?;
    let shared = Arc::new(Shared {
        seen: Mutex::new(Vec::with_capacity(count)),
        deleted: Mutex::new(0),
        count,
        done: CancellationToken::new(),
    });
    let (before, _) = machine::processor_seconds()?;
    let start = Instant::now();
    let pollers: Vec<_> = (0..POLLERS)
        .map(|_| tokio::spawn(poller(server.client(), url.clone(), Arc::clone(&shared))))
        .collect();
    tokio::time::timeout(Duration::from_secs(180), shared.done.cancelled()).await?;
    // The pollers that wait for more are not waited for.
    let (took, (after, _)) = (start.elapsed(), machine::processor_seconds()?);
    for poller in pollers {
        poller.await??;
    }
    let seen = shared.seen.lock().expect("no poller panics");
    let rate = count as f64 / took.as_secs_f64();
    Ok(Run { rate, processor: after - before, books: Books::compare(&ids, &seen) })
}

/// What a careful person writes first: receive ten, handle, delete ten.
async fn poller(client: Client, url: String, shared: Arc<Shared>) -> anyhow::Result<()> {
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

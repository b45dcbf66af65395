//! Drains `N` messages from a queue with the crate `shove`, as its documentation sets up consumers:
//! a registry with a fixed number of consumers, or batch consumers. Speaks the contender's language:
//! the same variables, the same line.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Parser;
use serde::{Deserialize, Serialize};
use shove::batch_consumer::BatchConsumerOptions;
use shove::sns::{SnsClient, SnsConfig, SqsConsumerGroupConfig, SqsConsumerGroupRegistry};
use shove::{
    BatchMessageHandler, Broker, JsonCodec, MessageHandler, MessageMetadata, NotSequenced, Outcome,
    QueueTopology, Sqs, Topic, TopologyBuilder,
};
use tokio::sync::Notify;
use uuid::Uuid;

/// Messages in a batch at most (SQS).
const BATCH_MAX: usize = 10;

/// What to drain and how.
#[derive(Parser)]
struct Options {
    /// Name of the queue.
    #[arg(env = "QUEUE")]
    queue: String,
    /// Messages in it.
    #[arg(env = "N")]
    n: u64,
    /// Consumers.
    #[arg(env = "CONSUMERS")]
    consumers: u16,
    /// Messages that a consumer handles at once; 0 takes the batch consumer.
    #[arg(env = "PREFETCH")]
    prefetch: u16,
    /// Where the ids that were handled are written, one a line.
    #[arg(env = "IDS")]
    ids: PathBuf,
    /// Seconds after which it gives up.
    #[arg(env = "LIMIT_SECONDS", default_value_t = 120)]
    limit: u64,
}

static TOPOLOGY: OnceLock<QueueTopology> = OnceLock::new();

/// Of a message, what is noted.
#[derive(Serialize, Deserialize)]
struct Ping {
    id: Uuid,
}

struct Pings;

impl Topic for Pings {
    type Message = Ping;
    type Codec = JsonCodec;
    fn topology() -> &'static QueueTopology {
        TOPOLOGY.get().expect("set before anything is registered")
    }
}

impl NotSequenced for Pings {}

/// Notes ids, and tells when it has as many as are to come.
#[derive(Clone)]
struct Note(Arc<Seen>);

struct Seen {
    ids: Mutex<Vec<Uuid>>,
    count: AtomicU64,
    wanted: u64,
    done: Notify,
}

impl Seen {
    fn note(&self, ids: impl Iterator<Item = Uuid>) {
        let mut seen = self.ids.lock().expect("no handler panics");
        let before = seen.len();
        seen.extend(ids);
        let added = (seen.len() - before) as u64;
        drop(seen);
        if self.count.fetch_add(added, Ordering::Relaxed) + added >= self.wanted {
            self.done.notify_one();
        }
    }
}

impl MessageHandler<Pings> for Note {
    type Context = ();
    async fn handle(&self, message: Ping, _: MessageMetadata, (): &()) -> Outcome {
        self.0.note(std::iter::once(message.id));
        Outcome::Ack
    }
}

impl BatchMessageHandler<Pings> for Note {
    type Context = ();
    async fn handle_batch(&self, messages: Vec<(Ping, MessageMetadata)>, (): &()) -> Outcome {
        self.0.note(messages.iter().map(|(message, _)| message.id));
        Outcome::Ack
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let topology = TopologyBuilder::new(&options.queue).build();
    TOPOLOGY.set(topology).map_err(|_| anyhow::anyhow!("set twice"))?;
    let seen = Arc::new(Seen {
        ids: Mutex::new(Vec::with_capacity(usize::try_from(options.n)?)),
        count: AtomicU64::new(0),
        wanted: options.n,
        done: Notify::new(),
    });
    // The SDK takes the endpoints of SQS and SNS from their own variables.
    let config = SnsConfig { region: Some("us-east-1".into()), endpoint_url: None };
    let client = SnsClient::new(&config).await?;
    let limit = Duration::from_secs(options.limit);
    let took = if options.prefetch == 0 {
        batches(&client, &options, &seen, limit).await?
    } else {
        messages(&client, &options, &seen, limit).await?
    };
    let ids = seen.ids.lock().expect("no handler panics");
    let lines: Vec<String> = ids.iter().map(Uuid::to_string).collect();
    std::fs::write(&options.ids, lines.join("\n"))
        .with_context(|| format!("{}", options.ids.display()))?;
    let (handled, seconds) = (ids.len(), took.as_secs_f64());
    println!("shove handled={handled} seconds={seconds:.3} rate={:.0}", handled as f64 / seconds);
    Ok(())
}

/// Until everything is handled; what is acknowledged after that is not waited for, in its favour.
async fn all(seen: &Seen, start: Instant, limit: Duration) -> anyhow::Result<Duration> {
    if tokio::time::timeout(limit, seen.done.notified()).await.is_err() {
        bail!("{} of {} handled in {limit:?}", seen.count.load(Ordering::Relaxed), seen.wanted);
    }
    Ok(start.elapsed())
}

async fn messages(
    client: &SnsClient,
    options: &Options,
    seen: &Arc<Seen>,
    limit: Duration,
) -> anyhow::Result<Duration> {
    let mut registry = SqsConsumerGroupRegistry::new(client.clone());
    let config = SqsConsumerGroupConfig::new(options.consumers..=options.consumers)
        .with_prefetch_count(options.prefetch)
        .with_concurrent_processing(true);
    let handler = Note(Arc::clone(seen));
    registry.register::<Pings, Note>(config, move || handler.clone(), ()).await?;
    let start = Instant::now();
    registry.start_all();
    let took = all(seen, start, limit).await?;
    registry.shutdown_all().await;
    Ok(took)
}

async fn batches(
    client: &SnsClient,
    options: &Options,
    seen: &Arc<Seen>,
    limit: Duration,
) -> anyhow::Result<Duration> {
    let broker = Broker::<Sqs>::from_client(client.clone());
    broker.topology().declare::<Pings>().await?;
    let start = Instant::now();
    let shutdown = client.shutdown_token();
    let consumers: Vec<_> = (0..options.consumers)
        .map(|_| {
            let broker = Broker::<Sqs>::from_client(client.clone());
            let (handler, shutdown) = (Note(Arc::clone(seen)), shutdown.clone());
            tokio::spawn(async move {
                let options = BatchConsumerOptions::<Sqs>::new()
                    .with_max_batch_size(BATCH_MAX)
                    .with_shutdown(shutdown);
                broker.batch_consumer().run::<Pings, Note>(handler, (), options).await
            })
        })
        .collect();
    let took = all(seen, start, limit).await?;
    shutdown.cancel();
    for consumer in consumers {
        consumer.await??;
    }
    Ok(took)
}

//! The live feed over Redis: pub/sub for speed, a capped stream per tenant to resume from, and an
//! honest [`Signal::Gap`] whenever what came in between cannot be proved, so that the reader
//! backfills from the database. Nothing here is a record of anything: Redis may lose all of it.

mod buffer;
pub mod config;
pub mod event;
mod listener;
mod publisher;
mod topic;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use contracts::Tenant;
use queue_core::Probe;

pub use buffer::{BUFFER_BYTES_MAX, BUFFER_ITEMS_MAX};
pub use config::FeedConfig;
pub use event::FeedEvent;
pub use listener::READERS_MAX;

use self::buffer::Buffer;
use self::listener::Listener;
use self::publisher::{Publisher, failed};
use self::topic::Topic;
use crate::error::{SinkError, SinkErrorKind};
use crate::events::{told, whole};

/// The sink's name in metrics and errors.
pub const NAME: &str = "redis";

/// What a reader of a tenant's feed gets.
#[derive(Clone, Debug)]
pub enum Signal<T> {
    /// One item. Repeats happen (redelivered messages are published again): drop them by id.
    Item(T),
    /// Items may have been missed before this point: at the very start, after a connection was
    /// lost and the stream does not prove that nothing came, and when the reader was too slow for
    /// its buffer. Backfill from the database; what comes after this signal was published after
    /// the subscription was in force. A transaction that was still open when the signal was given
    /// can commit below an id already seen: backfill until `pg_snapshot_xmin` has passed the
    /// snapshot that was current at the signal.
    Gap,
}

/// The feed: publishing, and as many subscriptions as there are viewers over one connection.
/// Cloning shares it; dropping the last clone ends it.
#[derive(Clone)]
pub struct Feed {
    publisher: Publisher,
    listening: Arc<Listening>,
}

/// Ends the listening task with the last feed.
struct Listening(Arc<Listener>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("listening", &self.is_listening()).finish_non_exhaustive()
    }
}

impl Feed {
    /// Prepares the feed; connects when first used. Needs a tokio runtime.
    pub fn open(config: &FeedConfig) -> Result<Self, SinkError> {
        let client =
            redis::Client::open(config.redis_url.as_str()).map_err(|error| failed(&error))?;
        let publisher = Publisher::new(client.clone(), config)?;
        let listener = Listener::new(client, publisher.clone(), config.timeout());
        Ok(Self { publisher, listening: Arc::new(Listening(listener)) })
    }

    /// Publishes stored logs: into the tenant's capped stream and to everyone who listens now, in
    /// the order given. On an error some may have been published.
    pub async fn publish(&self, events: &[FeedEvent]) -> Result<(), SinkError> {
        let items =
            events.iter().map(|event| (Topic::live(&event.tenant), event.encode())).collect();
        told(NAME, "publish", whole, self.publisher.publish(items)).await
    }

    /// Listens to a tenant's logs, also while Redis is down. The first signal is a
    /// [`Signal::Gap`], given once the subscription is in force at Redis. An error only when the
    /// feed is closed or [`READERS_MAX`] is reached.
    pub fn subscribe(&self, tenant: &Tenant) -> Result<Subscription<FeedEvent>, SinkError> {
        self.listen(Topic::live(tenant), FeedEvent::decode)
    }

    /// Takes everything out of a tenant's capped stream, after which none of it can be read from
    /// Redis any more. Readers notice at the next log, or when they come back: they get a
    /// [`Signal::Gap`] and backfill from the database, which knows what was erased. What was
    /// delivered to a process before stays delivered.
    pub async fn forget(&self, tenant: &Tenant) -> Result<(), SinkError> {
        told(NAME, "forget", whole, self.publisher.forget(&Topic::live(tenant))).await
    }

    /// Tells every process that an API key was revoked.
    pub async fn announce_revocation(&self, key_id: &str) -> Result<(), SinkError> {
        let item = (Topic::revocations(), key_id.as_bytes().to_vec());
        told(NAME, "publish", whole, self.publisher.publish(vec![item])).await
    }

    /// Listens to revoked key ids. On [`Signal::Gap`] forget everything that is cached about keys.
    pub fn revocations(&self) -> Result<Subscription<String>, SinkError> {
        self.listen(Topic::revocations(), |bytes| String::from_utf8(bytes.to_vec()).ok())
    }

    fn listen<T>(
        &self,
        topic: Topic,
        decode: fn(&Bytes) -> Option<T>,
    ) -> Result<Subscription<T>, SinkError> {
        let listener = self.listening.0.clone();
        let (number, buffer) = listener.add(&topic)?;
        Ok(Subscription { listener, topic, number, buffer, decode })
    }

    /// Whether the listening connection is in force now. While it is not, a live reader polls the
    /// database.
    pub fn is_listening(&self) -> bool {
        self.listening.0.is_listening()
    }

    /// Ends the listening connection and every subscription, and waits until it has ended.
    pub async fn close(&self) {
        self.listening.0.close().await;
    }
}

#[async_trait]
impl Probe for Feed {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn probe(&self) -> Result<(), String> {
        self.publisher.ping().await.map_err(|error| error.message)
    }
}

/// One reader. Dropping it ends the subscription.
pub struct Subscription<T> {
    listener: Arc<Listener>,
    topic: Topic,
    number: u64,
    buffer: Arc<Buffer>,
    decode: fn(&Bytes) -> Option<T>,
}

impl<T> Subscription<T> {
    /// The next signal; `None` when the feed was closed. Cancel-safe.
    pub async fn recv(&mut self) -> Option<Signal<T>> {
        Some(match self.buffer.next().await? {
            // What cannot be read is of another version: the database has it.
            Signal::Item(bytes) => (self.decode)(&bytes).map_or(Signal::Gap, Signal::Item),
            Signal::Gap => Signal::Gap,
        })
    }
}

impl<T> fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl<T> Drop for Subscription<T> {
    fn drop(&mut self) {
        self.listener.remove(&self.topic, self.number);
    }
}

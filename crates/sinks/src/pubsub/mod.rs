//! The live feed over Redis: pub/sub for speed, a capped stream per tenant to resume from, and an
//! honest [`Signal::Gap`] whenever what came in between cannot be proved, so that the reader
//! backfills from the database. Nothing here is a record of anything: Redis may lose all of it.

pub mod config;
pub mod event;

use async_trait::async_trait;
use contracts::Tenant;
use queue_core::Probe;

pub use config::FeedConfig;
pub use event::FeedEvent;

use crate::error::{SinkError, SinkErrorKind};

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
#[derive(Clone)]
pub struct Feed {}

impl Feed {
    /// Prepares the feed; connects when first used.
    pub fn open(config: &FeedConfig) -> Result<Self, SinkError> {
        let _ = config;
        Err(SinkError::new(NAME, SinkErrorKind::Unavailable, "not there yet"))
    }

    /// Publishes stored logs: into the tenant's capped stream and to everyone who listens now, in
    /// the order given. On an error some may have been published.
    #[expect(clippy::unused_async, reason = "the body follows")]
    pub async fn publish(&self, events: &[FeedEvent]) -> Result<(), SinkError> {
        let _ = events;
        Err(SinkError::new(NAME, SinkErrorKind::Unavailable, "not there yet"))
    }

    /// Listens to a tenant's logs. Always succeeds while there is room: the first signal is a
    /// [`Signal::Gap`], given once the subscription is in force at Redis.
    pub fn subscribe(&self, tenant: &Tenant) -> Result<Subscription<FeedEvent>, SinkError> {
        let _ = tenant;
        Err(SinkError::new(NAME, SinkErrorKind::Unavailable, "not there yet"))
    }

    /// Tells every process that an API key was revoked.
    #[expect(clippy::unused_async, reason = "the body follows")]
    pub async fn announce_revocation(&self, key_id: &str) -> Result<(), SinkError> {
        let _ = key_id;
        Err(SinkError::new(NAME, SinkErrorKind::Unavailable, "not there yet"))
    }

    /// Listens to revoked key ids. On [`Signal::Gap`] forget everything that is cached about keys.
    pub fn revocations(&self) -> Result<Subscription<String>, SinkError> {
        Err(SinkError::new(NAME, SinkErrorKind::Unavailable, "not there yet"))
    }

    /// Whether the listening connection is in force now. While it is not, a live reader polls the
    /// database.
    pub fn is_listening(&self) -> bool {
        false
    }

    /// Ends the listening connection and every subscription.
    #[expect(clippy::unused_async, reason = "the body follows")]
    pub async fn close(&self) {}
}

#[async_trait]
impl Probe for Feed {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn probe(&self) -> Result<(), String> {
        Err("not there yet".into())
    }
}

/// One reader. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription<T> {
    _items: std::marker::PhantomData<T>,
}

impl<T> Subscription<T> {
    /// The next signal; `None` when the feed was closed. Cancel-safe.
    #[expect(clippy::unused_async, reason = "the body follows")]
    pub async fn recv(&mut self) -> Option<Signal<T>> {
        None
    }
}

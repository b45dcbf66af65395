//! Accepting events: checked, stamped with id, time and class, reserved under the idempotency key
//! where one is given, published. It answers per event and never says yes before the queue has.
//!
//! **Idempotency**: ids are reserved in PostgreSQL before anything is published. A repeat of the same
//! body gets the same ids, and is published again unless the first attempt is known to have been; the
//! worker stores an id once. Without a key nothing is promised and PostgreSQL is not needed: the class
//! comes with the API key's cache entry, at most 30 s old, or 10 minutes while PostgreSQL is down.

mod stamps;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use contracts::audit::LogItem;
use contracts::errors::{IDEMPOTENCY_MISMATCH, IDEMPOTENCY_UNAVAILABLE};
use contracts::{ErrorCode, LogId, RetentionClass, Tenant};
use database::Database;
use queue_core::Clock;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::crash::{self, CrashPoint};
use crate::event::{self, EventLimits, Invalid, Origin, Rules, Stamp, Validated};
use crate::publish::{PublishError, Publisher, Trace};
use crate::store::{Reservation, mark_published, reserve_ingest_key};
use stamps::Stamps;

/// A reservation that takes longer has failed.
pub const RESERVE_TIMEOUT: Duration = Duration::from_secs(2);
/// Marking a key as published is worth this much of the client's time: without the mark a repeat
/// publishes again, which changes nothing.
const MARK_TIMEOUT: Duration = Duration::from_millis(500);

/// Who sends, and under which rules.
#[derive(Clone, Debug)]
pub struct Sender {
    /// Whose events these are.
    pub tenant: Tenant,
    /// Class of the tenant's new logs.
    pub class: RetentionClass,
    /// Whether events from long ago are taken.
    pub import: bool,
    /// What the records say about where they came from.
    pub origin: Origin,
    /// What the messages say about the request.
    pub trace: Trace,
}

/// An idempotency key with the body it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// SHA-256 of the key; the key itself is not stored.
    pub key_hash: [u8; 32],
    /// SHA-256 of the request: route and body.
    pub body_sha256: [u8; 32],
}

impl IdempotencyKey {
    /// A key's text and what was sent under it.
    pub fn new(key: &str, route: &str, body: &[u8]) -> Self {
        let mut request = Sha256::new();
        request.update(route);
        request.update([0]);
        request.update(body);
        Self { key_hash: Sha256::digest(key).into(), body_sha256: request.finalize().into() }
    }
}

/// What became of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The queue has it.
    Accepted {
        /// The log's id.
        id: LogId,
        /// The server's time.
        recorded_at: DateTime<Utc>,
    },
    /// It cannot be taken as it is.
    Invalid(Invalid),
    /// The queue did not take it; the same event may be taken later.
    NotPublished(PublishError),
}

/// Why a request as a whole is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The idempotency key belongs to another body.
    #[error("the idempotency key was used with another body in the last 24 hours")]
    Mismatch,
    /// Keys cannot be checked now.
    #[error("idempotency keys cannot be checked now: {0}")]
    KeysUnavailable(String),
    /// The buffers are full or the queue does not answer.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl Refused {
    /// The registry's entry.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Mismatch => IDEMPOTENCY_MISMATCH,
            Self::KeysUnavailable(_) => IDEMPOTENCY_UNAVAILABLE,
            Self::Publish(error) => error.code(),
        }
    }
}

/// An event of a request: raw JSON, or the reason why its part of the body is none.
pub type Piece<'a> = Result<&'a RawValue, Invalid>;

/// Accepts events for one process.
#[derive(Clone)]
pub struct Ingest {
    publisher: Publisher,
    database: Database,
    clock: Arc<dyn Clock>,
    limits: EventLimits,
}

impl std::fmt::Debug for Ingest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ingest").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Ingest {
    /// `database` is used for idempotency keys alone.
    pub fn new(
        publisher: Publisher,
        database: Database,
        clock: Arc<dyn Clock>,
        limits: EventLimits,
    ) -> Self {
        Self { publisher, database, clock, limits }
    }

    /// Takes the events of one request; one answer each, in their order. Nothing is published after
    /// `until`.
    pub async fn accept(
        &self,
        sender: &Sender,
        key: Option<IdempotencyKey>,
        pieces: &[Piece<'_>],
        until: Instant,
    ) -> Result<Vec<Taken>, Refused> {
        let now = stamps::whole_micros(self.clock.now());
        let mut checked = self.check(sender, pieces, now);
        let mut stamps = Stamps::new(now, sender.class, pieces.len());
        let mut published = false;
        if let Some(key) = key
            && let Some(first) = self.reserve(sender, key, &mut stamps, &checked, until).await?
        {
            // The first attempt's time decides again, so that a repeat gets the same answers.
            checked = self.check(sender, pieces, stamps.recorded_at());
            published = first;
        }
        crash::reach(CrashPoint::AfterReserve);
        if published || checked.iter().all(Result::is_err) {
            return Ok(answers(&stamps, checked, |_| Ok(())));
        }
        let items = records(sender, &stamps, &checked)?;
        let outcomes = self.publisher.publish(&sender.tenant, items, &sender.trace, until).await?;
        crash::reach(CrashPoint::AfterPublish);
        if let Some(key) = key
            && outcomes.iter().all(Result::is_ok)
        {
            self.mark(sender, key).await;
            crash::reach(CrashPoint::AfterMark);
        }
        let mut outcomes = outcomes.into_iter();
        Ok(answers(&stamps, checked, |_| match outcomes.next() {
            Some(outcome) => outcome.map(|_| ()),
            None => Err(PublishError::Unavailable("the publisher broke off".into())),
        }))
    }

    fn check(
        &self,
        sender: &Sender,
        pieces: &[Piece<'_>],
        now: DateTime<Utc>,
    ) -> Vec<Result<Validated, Invalid>> {
        let rules = Rules::at(now, self.limits, sender.import);
        let check = |piece: &Piece<'_>| match piece {
            Ok(raw) => event::validate(raw, &rules),
            Err(invalid) => Err(invalid.clone()),
        };
        pieces.iter().map(check).collect()
    }

    /// Reserves the ids, or takes over those of the first request with this key and tells whether
    /// it was published. `None`: the key is ours.
    async fn reserve(
        &self,
        sender: &Sender,
        key: IdempotencyKey,
        stamps: &mut Stamps,
        checked: &[Result<Validated, Invalid>],
        until: Instant,
    ) -> Result<Option<bool>, Refused> {
        let offer = stamps.reservation(key.body_sha256);
        // A request of which nothing can be taken reserves nothing: its key stays free for the
        // mended body. It may still be the repeat of one that was taken when its times were good.
        let nothing_to_take = checked.iter().all(Result::is_err);
        let reserving = async {
            let mut transaction = self.database.tenant(&sender.tenant).await?;
            let found =
                reserve_ingest_key(&mut transaction, &sender.tenant, &key.key_hash, &offer).await?;
            if nothing_to_take && found == Reservation::New {
                transaction.rollback().await?;
            } else {
                transaction.commit().await?;
            }
            Ok(found)
        };
        match database::timed(query_time(until), reserving).await {
            Ok(Reservation::New) => Ok(None),
            Ok(Reservation::Repeat { first, published }) => {
                stamps.take_over(first);
                Ok(Some(published))
            }
            Ok(Reservation::Mismatch) => Err(Refused::Mismatch),
            Err(error) => {
                tracing::warn!(%error, "idempotency key not reserved");
                Err(Refused::KeysUnavailable("PostgreSQL did not answer".into()))
            }
        }
    }

    /// Best effort: see [`MARK_TIMEOUT`].
    async fn mark(&self, sender: &Sender, key: IdempotencyKey) {
        let marking = async {
            let mut transaction = self.database.tenant(&sender.tenant).await?;
            mark_published(&mut transaction, &sender.tenant, &key.key_hash).await?;
            transaction.commit().await
        };
        if let Err(error) = database::timed(MARK_TIMEOUT, marking).await {
            tracing::debug!(%error, "idempotency key not marked as published");
        }
    }
}

/// What a query may take in a request that must be answered by `until`.
pub(crate) fn query_time(until: Instant) -> Duration {
    RESERVE_TIMEOUT.min(until.saturating_duration_since(Instant::now()))
}

/// The records of the valid events, in order.
fn records(
    sender: &Sender,
    stamps: &Stamps,
    checked: &[Result<Validated, Invalid>],
) -> Result<Vec<LogItem>, PublishError> {
    let valid =
        checked.iter().enumerate().filter_map(|(at, event)| Some((at, event.as_ref().ok()?)));
    valid
        .map(|(at, event)| {
            let stamp = Stamp {
                id: stamps.id(at),
                tenant: sender.tenant.clone(),
                recorded_at: stamps.recorded_at_of(at),
                class: stamps.class(),
            };
            let record = event::record_bytes(&stamp, &sender.origin, event)
                .map_err(|error| PublishError::Unavailable(error.to_string()))?;
            Ok(LogItem { salt: hex::encode(stamps.salt(at)), record })
        })
        .collect()
}

/// One answer per event; `published` is asked for the valid ones, in order.
fn answers(
    stamps: &Stamps,
    checked: Vec<Result<Validated, Invalid>>,
    mut published: impl FnMut(usize) -> Result<(), PublishError>,
) -> Vec<Taken> {
    checked
        .into_iter()
        .enumerate()
        .map(|(at, event)| match event {
            Err(invalid) => Taken::Invalid(invalid),
            Ok(_) => match published(at) {
                Ok(()) => {
                    Taken::Accepted { id: stamps.id(at), recorded_at: stamps.recorded_at_of(at) }
                }
                Err(error) => Taken::NotPublished(error),
            },
        })
        .collect()
}

//! From accepted events to the index queue: concurrent requests of a tenant share few messages, all
//! buffers are bounded, and success is reported only after the broker has said that it has the
//! message. It stores nothing and retries nothing beyond the request's own deadline.
//!
//! What can still go wrong: a call whose answer is lost may have taken effect, so an event that was
//! refused here can still arrive. Its id was never told to anyone; a client that repeats the request
//! under an idempotency key gets one event all the same.

mod config;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use contracts::audit::{IndexMessage, LogItem};
use contracts::errors::{OVERLOADED, QUEUE_UNAVAILABLE};
use contracts::{EnvelopeId, ErrorCode, Message, Tenant};
use queue_core::coalesce::{CoalesceLimits, Coalescer, Full};
use queue_core::driver::BATCH_ENTRIES_MAX;
use queue_core::send::{SendError, SendLimits, Sender};
use queue_core::trace::{self, Origin};
use queue_core::{ClaimStore, Clock, Driver, Packer};
use tokio::time::Instant;
use tracing::{Instrument, Span};

pub use config::PublishConfig;
pub use wire::Trace;

/// What an item's own JSON costs beside its record: salt, member names, comma.
const ITEM_OVERHEAD: usize = 64;
/// What an envelope's header costs.
const ENVELOPE_OVERHEAD: usize = 1_024;
/// Messages of a tenant on their way at the same time. Few, so that under load its requests meet in
/// one message; a lone request waits for nobody.
const TENANT_MESSAGES_IN_FLIGHT_MAX: usize = 2;
/// Calls to the queue at the same time. Few, so that messages of many tenants share them.
const CALLS_IN_FLIGHT_MAX: usize = 8;
/// Messages on their way at the same time, over all tenants: as many as those calls hold.
const MESSAGES_IN_FLIGHT_MAX: usize = CALLS_IN_FLIGHT_MAX * BATCH_ENTRIES_MAX;

/// Why an event was not published, or is not known to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// A bounded buffer is full; nothing was sent.
    #[error("{0}")]
    Overloaded(&'static str),
    /// The broker did not accept it in time, or refuses it.
    #[error("the queue did not accept it: {0}")]
    Unavailable(String),
}

impl PublishError {
    /// The registry's entry.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Overloaded(_) => OVERLOADED,
            Self::Unavailable(_) => QUEUE_UNAVAILABLE,
        }
    }

    /// Seconds after which a client should try again.
    pub fn retry_after_secs(&self) -> u32 {
        match self {
            Self::Overloaded(_) => 1,
            Self::Unavailable(_) => 5,
        }
    }
}

impl From<Full> for PublishError {
    fn from(full: Full) -> Self {
        match full {
            Full::Process => Self::Overloaded("this server's buffer is full"),
            Full::Key => Self::Overloaded("the tenant's buffer is full"),
            Full::Closed => Self::Overloaded("this server is stopping"),
            Full::Broken => Self::Unavailable("the publisher broke off".into()),
        }
    }
}

impl From<SendError> for PublishError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Full(full) => full.into(),
            SendError::TooLarge(_) | SendError::Unavailable(_) | SendError::Refused(_) => {
                Self::Unavailable(error.to_string())
            }
        }
    }
}

/// One event waiting for its message.
struct Parcel {
    item: LogItem,
    trace: Trace,
    /// The request's span.
    origin: Origin,
    /// When its request gives up; sending it later would only keep others waiting.
    until: Instant,
}

/// What a caller gets for one event: the message that carries it.
type Outcome = Result<EnvelopeId, PublishError>;

/// Publishes to the index queue. Cheap to clone; clones share buffers.
#[derive(Clone)]
pub struct Publisher {
    coalescer: Coalescer<Tenant, Parcel, Outcome>,
    sender: Sender,
    clock: Arc<dyn Clock>,
    deadline: Duration,
    chunk_bytes_max: usize,
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

impl Publisher {
    /// A publisher to `driver`'s queue.
    pub fn new(driver: Arc<dyn Driver>, config: &PublishConfig, clock: Arc<dyn Clock>) -> Self {
        Self::with_claims(driver, config, clock, None)
    }

    /// The same, with a store for messages over the broker's limit.
    pub fn with_claims(
        driver: Arc<dyn Driver>,
        config: &PublishConfig,
        clock: Arc<dyn Clock>,
        claims: Option<Arc<dyn ClaimStore>>,
    ) -> Self {
        let deadline = config.deadline();
        let sender = Sender::new(
            driver,
            SendLimits {
                attempts: config.publish_attempts,
                deadline,
                linger: Duration::ZERO,
                batches_in_flight_max: CALLS_IN_FLIGHT_MAX,
                // What the coalescer admits must always fit, escapes and headers included.
                pending_bytes_max: config.bytes_max().saturating_mul(2),
            },
        )
        .packing(Packer::new(claims).compressing_from(config.message_bytes_max()));
        let limits = CoalesceLimits {
            items_max: config.publish_message_events_max as usize,
            bytes_max: config.message_bytes_max().saturating_sub(ENVELOPE_OVERHEAD),
            linger: config.linger(),
            batches_in_flight_max: MESSAGES_IN_FLIGHT_MAX,
            batches_in_flight_per_key_max: TENANT_MESSAGES_IN_FLIGHT_MAX,
            pending_bytes_max: config.bytes_max(),
            pending_bytes_per_key_max: config.tenant_bytes_max(),
        };
        let (out, now) = (sender.clone(), Arc::clone(&clock));
        let coalescer = Coalescer::new(limits, move |tenant, parcels| {
            send_parcels(out.clone(), Arc::clone(&now), tenant, parcels)
        });
        let chunk_bytes_max = config.tenant_bytes_max() / 2;
        Self { coalescer, sender, clock, deadline, chunk_bytes_max }
    }

    /// From a request's start to its answer, at most.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Publishes a request's events; one outcome each, in their order. An error when the buffers
    /// take none of them. Ends by `until`.
    ///
    /// Escapes can make a request's events several times as large as its body, larger than all of
    /// the tenant's buffer; so they are admitted in parts of half of it, one after the other.
    pub async fn publish(
        &self,
        tenant: &Tenant,
        items: Vec<LogItem>,
        trace: &Trace,
        until: Instant,
    ) -> Result<Vec<Outcome>, PublishError> {
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(items.len());
        let origin = Origin::here();
        let mut parcels = items.into_iter().map(|item| {
            let bytes = item.record.get().len() + ITEM_OVERHEAD;
            (Parcel { item, trace: trace.clone(), origin: origin.clone(), until }, bytes)
        });
        let mut next = parcels.next();
        while let Some((first, bytes)) = next.take() {
            let mut total = bytes;
            let mut part = vec![(first, bytes)];
            for (parcel, bytes) in parcels.by_ref() {
                if total + bytes > self.chunk_bytes_max {
                    next = Some((parcel, bytes));
                    break;
                }
                total += bytes;
                part.push((parcel, bytes));
            }
            let count = part.len();
            match self.publish_part(tenant, part, until).await {
                Ok(part) => outcomes.extend(part),
                Err(error) if outcomes.is_empty() && next.is_none() => return Err(error),
                Err(error) => outcomes.extend(std::iter::repeat_n(Err(error), count)),
            }
        }
        Ok(outcomes)
    }

    async fn publish_part(
        &self,
        tenant: &Tenant,
        part: Vec<(Parcel, usize)>,
        until: Instant,
    ) -> Result<Vec<Outcome>, PublishError> {
        let count = u64::try_from(part.len()).unwrap_or(u64::MAX);
        let call = self.coalescer.call_many(tenant.clone(), part);
        let outcome = match tokio::time::timeout_at(until, call).await {
            Ok(outcome) => outcome.map_err(PublishError::from),
            Err(_) => Err(PublishError::Unavailable("no answer in time".into())),
        };
        let label = outcome.as_ref().map_or_else(|error| error.code().code, |_| "answered");
        metrics::counter!("flotilla_publish_events_total", "outcome" => label).increment(count);
        outcome
    }

    /// Publishes a change or an erasure; its envelope's id is the operation id.
    pub async fn change(
        &self,
        tenant: &Tenant,
        message: &IndexMessage,
        trace: &Trace,
    ) -> Result<EnvelopeId, PublishError> {
        let id = wire::new_envelope_id(self.clock.now());
        let span = publishing(id, 1);
        trace::batch(&span, [&Origin::here()]);
        let trace = trace.within(&span);
        let (envelope, frame) = wire::outgoing(id, tenant, message, &trace, self.clock.now())
            .map_err(|error| PublishError::Unavailable(error.to_string()))?;
        self.sender.send_envelope(&envelope, frame).instrument(span).await?;
        Ok(id)
    }

    /// Bytes admitted and not answered.
    pub fn pending_bytes(&self) -> usize {
        self.coalescer.pending_bytes()
    }

    /// Refuses new events and returns when every one taken has its outcome.
    pub async fn close(&self) {
        self.coalescer.close().await;
        self.sender.close().await;
    }
}

/// The span of one message's way to the queue, in traces only.
fn publishing(id: EnvelopeId, events: usize) -> Span {
    tracing::debug_span!(
        target: trace::TARGET,
        parent: None,
        "publish",
        otel.kind = "producer",
        queue = IndexMessage::QUEUE.name,
        %id,
        events
    )
}

/// Sends one batch of a tenant as one message.
async fn send_parcels(
    sender: Sender,
    clock: Arc<dyn Clock>,
    tenant: Tenant,
    parcels: Vec<Parcel>,
) -> Vec<Outcome> {
    let now = Instant::now();
    let in_time: Vec<bool> = parcels.iter().map(|parcel| parcel.until > now).collect();
    let sent = send_in_time(sender, clock, tenant, parcels, now).await;
    in_time
        .into_iter()
        .map(|in_time| {
            if in_time {
                sent.clone()
            } else {
                Err(PublishError::Unavailable("the deadline passed in the buffer".into()))
            }
        })
        .collect()
}

async fn send_in_time(
    sender: Sender,
    clock: Arc<dyn Clock>,
    tenant: Tenant,
    parcels: Vec<Parcel>,
    now: Instant,
) -> Outcome {
    let live: Vec<Parcel> = parcels.into_iter().filter(|parcel| parcel.until > now).collect();
    // Many requests, one message: it carries the first one's ids, the log line names the message.
    let Some(first) = live.first() else {
        return Err(PublishError::Unavailable("the deadline passed in the buffer".into()));
    };
    let id = wire::new_envelope_id(clock.now());
    let span = publishing(id, live.len());
    trace::batch(&span, live.iter().map(|parcel| &parcel.origin));
    let trace = first.trace.within(&span);
    let message = wire::bundle(live.into_iter().map(|parcel| parcel.item).collect());
    let (envelope, frame) = wire::outgoing(id, &tenant, &message, &trace, clock.now())
        .map_err(|error| PublishError::Unavailable(error.to_string()))?;
    metrics::histogram!("flotilla_publish_message_bytes").record(wire::size(&envelope, &frame));
    match sender.send_envelope(&envelope, frame).instrument(span.clone()).await {
        Ok(()) => Ok(id),
        Err(error) => {
            trace::failed(&span, &error);
            tracing::warn!(%error, envelope_id = %id, "message not accepted by the queue");
            Err(error.into())
        }
    }
}

#[cfg(test)]
mod tests;

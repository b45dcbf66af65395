//! What a worker is: a struct with its policy as constants and one method. A handler never
//! acknowledges, extends, sleeps, spawns or reads the clock; it says what happened.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use contracts::{ErrorCode, Header, Message};
use tokio_util::sync::CancellationToken;

use crate::breaker::Probe;
use crate::claim::ClaimStore;
use crate::lease::Lease;
use crate::park::ParkStore;

/// Who is to blame, and so whether an error counts against the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// A sink or the network: never counts, feeds the breaker.
    Infrastructure,
    /// Somebody else was faster: never counts, says nothing about the sink, soon tried again.
    Contention,
    /// The message or our code: counts against the limit.
    Handling,
}

/// Why an attempt failed.
#[derive(Debug, Clone)]
pub struct Error {
    /// Entry of the registry.
    pub code: ErrorCode,
    /// Who is to blame.
    pub class: ErrorClass,
    /// The error chain as text, `a: b: c`.
    pub message: String,
}

impl Error {
    /// A sink or the network failed.
    pub fn infrastructure(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, class: ErrorClass::Infrastructure, message: message.into() }
    }

    /// The message or our code failed.
    pub fn handling(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, class: ErrorClass::Handling, message: message.into() }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code.code, self.message)
    }
}

/// Why a message will never succeed.
#[derive(Debug, Clone)]
pub struct Reason {
    /// Entry of the registry.
    pub code: ErrorCode,
    /// What was wrong, for a person.
    pub message: String,
}

/// What a handler can answer besides success; a closed vocabulary.
#[derive(Debug, Clone)]
pub enum Failure {
    /// Try again by the message's schedule.
    Retry(Error),
    /// Try again after at least this long, because the sink said so.
    RetryAfter(Error, Duration),
    /// Not yet; uses up no attempt.
    Snooze(Duration),
    /// Later messages of the group wait, durably, in order (FIFO).
    Park(Reason),
    /// To the dead-letter queue now.
    Reject(Reason),
    /// The effect may or may not have happened and the third party cannot tell.
    Unknown(Reason),
}

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Failures recorded so far that count against the limit.
    pub failures: u32,
    /// Receives so far, this one included.
    pub receives: u32,
    /// When it was first sent.
    pub first_seen: DateTime<Utc>,
}

/// One bad item of a bulk message, dead-lettered on its own while the good ones are acknowledged.
#[derive(Debug, Clone)]
pub struct RejectedPart {
    /// Position in the parent.
    pub index: usize,
    /// A whole envelope of its own as JSON, so that redriving it redoes only this item.
    pub envelope_json: String,
    /// Why.
    pub reason: Reason,
}

/// A message in a handler's hands.
#[derive(Debug)]
pub struct Delivery<M> {
    /// The envelope without its body.
    pub header: Header,
    /// The typed message.
    pub message: M,
    /// Where it stands.
    pub attempt: Attempt,
    /// Cancelled when the lease is lost or the drain budget ends; a handler that loops checks it.
    pub cancelled: CancellationToken,
    pub(crate) parts: Arc<Mutex<Vec<RejectedPart>>>,
    pub(crate) lease: Arc<Lease>,
}

impl<M> Delivery<M> {
    /// A delivery outside an engine, for tests of a handler; nothing keeps its lease.
    pub fn detached(header: Header, message: M, attempt: Attempt) -> Self {
        let lease = Arc::new(Lease::detached());
        let cancelled = lease.cancelled().clone();
        Self { header, message, attempt, cancelled, parts: Arc::default(), lease }
    }

    /// The parts set aside so far.
    pub fn rejected_parts(&self) -> Vec<RejectedPart> {
        self.parts.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// The parts set aside so far, readable after the handler has taken the delivery.
    pub fn parts(&self) -> Arc<Mutex<Vec<RejectedPart>>> {
        Arc::clone(&self.parts)
    }

    /// Sets one item of a bulk message aside for the dead-letter queue. Takes effect when the
    /// handler succeeds: the parts are sent first, then the message is settled.
    pub fn reject_part(&self, part: RejectedPart) {
        self.parts.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(part);
    }

    /// Says that the handler is getting on; without it for [`Worker::PROGRESS_TIMEOUT`] the
    /// handler is cancelled and the attempt counts as a timeout.
    pub fn progress(&self) {
        self.lease.progress();
    }
}

/// A worker: its policy as constants, its work as one method.
pub trait Worker: Send + Sync + 'static {
    /// The one name: of the binary, the compose service, the metric label.
    const NAME: &'static str;
    /// Messages in hand at most.
    const CONCURRENCY: usize = 256;
    /// Bytes of their bodies and attributes at most; handling needs memory on top.
    const BYTES_IN_HAND: usize = crate::config::BYTES_IN_HAND;
    /// A handler that makes no progress for this long is cancelled.
    const PROGRESS_TIMEOUT: Duration = Duration::from_secs(120);
    /// One queue carries several types; `Message::QUEUE` names the catalogue entry.
    type Message: Message;

    /// Does the work. Returning `Ok` is the only way to success; the engine settles after it.
    fn handle(
        &self,
        delivery: Delivery<Self::Message>,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Where bodies over the broker's limit are. Without one, a message whose body is an object waits
    /// for a worker that has one.
    fn claims(&self) -> Option<Arc<dyn ClaimStore>> {
        None
    }

    /// The sinks that this worker cannot do without; each gets a breaker.
    fn probes(&self) -> Vec<Arc<dyn Probe>> {
        Vec::new()
    }

    /// Where groups of a FIFO queue are parked; without it a worker on one is refused.
    fn parking(&self) -> Option<Arc<dyn ParkStore>> {
        None
    }
}

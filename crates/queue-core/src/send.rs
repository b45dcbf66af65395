//! Sending: concurrent sends are packed into few batch calls by count and bytes, and each caller
//! gets the outcome of its own message. A message is sent only when the broker has said so.

use std::sync::Arc;
use std::time::Duration;

use contracts::Envelope;
use tokio::time::Instant;

use crate::claim::{PackError, Packer};
use crate::coalesce::{CoalesceLimits, Coalescer, Full};
use crate::driver::{BATCH_ENTRIES_MAX, Driver, DriverError, EntryError, Outgoing};

/// Bytes per message and per batch (SQS, since August 2025).
pub const SEND_BYTES_MAX: usize = 1_048_576;

/// Pause before a failed call or entry is tried again, doubled each time.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Bounds of a [`Sender`].
#[derive(Clone, Copy, Debug)]
pub struct SendLimits {
    /// Calls at most per message, the first included.
    pub attempts: u32,
    /// From [`Sender::send`] to its answer, at most. An entry not yet on its way by then is not
    /// sent; one on its way may still arrive.
    pub deadline: Duration,
    /// How long a message may wait for company; zero packs what arrives while a call runs.
    pub linger: Duration,
    /// Calls at the same time.
    pub batches_in_flight_max: usize,
    /// Bytes taken and not answered; more is refused at once.
    pub pending_bytes_max: usize,
}

impl Default for SendLimits {
    /// For a request in whose answer somebody waits: two attempts within 4 s, 32 MiB pending.
    fn default() -> Self {
        Self {
            attempts: 2,
            deadline: Duration::from_secs(4),
            linger: Duration::ZERO,
            batches_in_flight_max: 16,
            pending_bytes_max: 32 << 20,
        }
    }
}

/// Why a message was not sent, or not known to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The bounded buffer is full, or closing; nothing was sent.
    #[error("not taken: {0}")]
    Full(Full),
    /// Larger than the broker takes; it will never be sent.
    #[error("message of {0} bytes, the limit is {SEND_BYTES_MAX}")]
    TooLarge(usize),
    /// Not accepted within the attempts and the deadline; it may still have arrived.
    #[error("not accepted in time: {0}")]
    Unavailable(String),
    /// The broker refuses it and would again.
    #[error("refused: {0}")]
    Refused(String),
}

impl From<PackError> for SendError {
    fn from(error: PackError) -> Self {
        match error {
            PackError::TooLarge(bytes) => Self::TooLarge(bytes),
            PackError::Store(_) => Self::Unavailable(error.to_string()),
            PackError::Unwritable(why) => Self::Refused(why),
        }
    }
}

#[derive(Clone, Debug)]
struct Entry {
    outgoing: Outgoing,
    until: Instant,
}

/// Sends to one queue. Cheap to clone; clones share the batches.
#[derive(Clone, Debug)]
pub struct Sender {
    coalescer: Coalescer<(), Entry, Result<(), SendError>>,
    deadline: Duration,
    packer: Packer,
}

impl Sender {
    /// A sender to `driver`'s queue.
    pub fn new(driver: Arc<dyn Driver>, limits: SendLimits) -> Self {
        let attempts = limits.attempts.max(1);
        let coalescer = Coalescer::new(
            CoalesceLimits {
                items_max: BATCH_ENTRIES_MAX,
                bytes_max: SEND_BYTES_MAX,
                linger: limits.linger,
                batches_in_flight_max: limits.batches_in_flight_max,
                batches_in_flight_per_key_max: limits.batches_in_flight_max,
                pending_bytes_max: limits.pending_bytes_max,
                pending_bytes_per_key_max: limits.pending_bytes_max,
            },
            move |(), entries| send_batch(Arc::clone(&driver), entries, attempts),
        );
        Self { coalescer, deadline: limits.deadline, packer: Packer::default() }
    }

    /// The same, packing large bodies as `packer` does.
    #[must_use]
    pub fn packing(self, packer: Packer) -> Self {
        Self { packer, ..self }
    }

    /// Sends one message of ours, its body packed where it is large. `frame` is everything but the
    /// body. What was put into the object store for a message that was certainly not sent is removed
    /// again.
    pub async fn send_envelope(
        &self,
        envelope: &Envelope,
        frame: Outgoing,
    ) -> Result<(), SendError> {
        let until = Instant::now() + self.deadline;
        let room = SEND_BYTES_MAX.saturating_sub(frame.size());
        let packing = tokio::time::timeout_at(until, self.packer.pack(envelope, room)).await;
        let mut packed = match packing {
            Ok(packed) => packed?,
            Err(_) => return Err(SendError::Unavailable("object store: no answer in time".into())),
        };
        let outgoing = Outgoing { body: std::mem::take(&mut packed.text), ..frame };
        let sent = self.send_until(outgoing, until).await;
        match sent {
            // It may have arrived.
            Ok(()) | Err(SendError::Unavailable(_)) => {}
            Err(_) => self.packer.give_back(&packed).await,
        }
        sent
    }

    /// Sends one message; `Ok` only after the broker has accepted it.
    pub async fn send(&self, outgoing: Outgoing) -> Result<(), SendError> {
        self.send_until(outgoing, Instant::now() + self.deadline).await
    }

    async fn send_until(&self, outgoing: Outgoing, until: Instant) -> Result<(), SendError> {
        let size = outgoing.size();
        if size > SEND_BYTES_MAX {
            return Err(SendError::TooLarge(size));
        }
        let call = self.coalescer.call((), Entry { outgoing, until }, size);
        match tokio::time::timeout_at(until, call).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(Full::Broken)) => Err(SendError::Unavailable(Full::Broken.to_string())),
            Ok(Err(full)) => Err(SendError::Full(full)),
            Err(_) => Err(SendError::Unavailable(format!("no answer in {:?}", self.deadline))),
        }
    }

    /// How it packs.
    pub(crate) fn packer(&self) -> &Packer {
        &self.packer
    }

    /// Bytes taken and not answered.
    pub fn pending_bytes(&self) -> usize {
        self.coalescer.pending_bytes()
    }

    /// Refuses new messages and returns when those taken have their outcome.
    pub async fn close(&self) {
        self.coalescer.close().await;
    }
}

/// Sends a batch, what failed transiently again while attempts and deadlines allow.
async fn send_batch(
    driver: Arc<dyn Driver>,
    entries: Vec<Entry>,
    attempts: u32,
) -> Vec<Result<(), SendError>> {
    let late = || Err(SendError::Unavailable("the deadline passed before a call was free".into()));
    let mut results: Vec<Result<(), SendError>> = entries.iter().map(|_| late()).collect();
    // What is still to be sent, and its place in the results.
    let (mut untils, mut batch): (Vec<_>, Vec<Outgoing>) =
        entries.into_iter().enumerate().map(|(at, e)| ((at, e.until), e.outgoing)).unzip();
    let mut pause = RETRY_PAUSE;
    for attempt in 1..=attempts {
        let now = Instant::now();
        keep(&mut untils, &mut batch, |(_, until)| until > now);
        let Some(until) = untils.iter().map(|(_, until)| *until).max() else { break };
        let mut all = |error: SendError| {
            for (at, _) in &untils {
                results[*at] = Err(error.clone());
            }
        };
        match tokio::time::timeout_at(until, driver.send(&batch)).await {
            Err(_) => {
                all(SendError::Unavailable("no answer in time".into()));
                break;
            }
            Ok(Err(DriverError::Refused(why))) => {
                all(SendError::Refused(why));
                break;
            }
            Ok(Err(error)) => all(SendError::Unavailable(error.to_string())),
            Ok(Ok(outcomes)) => {
                let mut outcomes = outcomes.into_iter();
                keep(&mut untils, &mut batch, |(at, _)| {
                    let (result, again) = judged(outcomes.next());
                    results[at] = result;
                    again
                });
            }
        }
        if batch.is_empty() || attempt == attempts {
            break;
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    results
}

/// Keeps the entries that `wanted` keeps, in both lists.
fn keep(
    untils: &mut Vec<(usize, Instant)>,
    batch: &mut Vec<Outgoing>,
    mut wanted: impl FnMut((usize, Instant)) -> bool,
) {
    let kept: Vec<bool> = untils.iter().map(|until| wanted(*until)).collect();
    let mut of_untils = kept.iter();
    untils.retain(|_| of_untils.next().is_some_and(|kept| *kept));
    let mut of_batch = kept.iter();
    batch.retain(|_| of_batch.next().is_some_and(|kept| *kept));
}

/// What a call said of one entry, and whether it may succeed when tried again.
fn judged(outcome: Option<Result<(), EntryError>>) -> (Result<(), SendError>, bool) {
    match outcome {
        Some(Ok(())) => (Ok(()), false),
        Some(Err(EntryError::Refused(why))) => (Err(SendError::Refused(why)), false),
        Some(Err(error)) => (Err(SendError::Unavailable(error.to_string())), true),
        None => (Err(SendError::Unavailable("the answer did not mention it".into())), true),
    }
}

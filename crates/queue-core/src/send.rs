//! Sending: concurrent sends are packed into few batch calls by count and bytes, and each caller
//! gets the outcome of its own message. A message is sent only when the broker has said so.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

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
                pending_bytes_max: limits.pending_bytes_max,
                pending_bytes_per_key_max: limits.pending_bytes_max,
            },
            move |(), entries| send_batch(Arc::clone(&driver), entries, attempts),
        );
        Self { coalescer, deadline: limits.deadline }
    }

    /// Sends one message; `Ok` only after the broker has accepted it.
    pub async fn send(&self, outgoing: Outgoing) -> Result<(), SendError> {
        let size = outgoing.size();
        if size > SEND_BYTES_MAX {
            return Err(SendError::TooLarge(size));
        }
        let until = Instant::now() + self.deadline;
        let call = self.coalescer.call((), Entry { outgoing, until }, size);
        match tokio::time::timeout_at(until, call).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(Full::Broken)) => Err(SendError::Unavailable(Full::Broken.to_string())),
            Ok(Err(full)) => Err(SendError::Full(full)),
            Err(_) => Err(SendError::Unavailable(format!("no answer in {:?}", self.deadline))),
        }
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
    let mut open: Vec<usize> = (0..entries.len()).collect();
    let mut pause = RETRY_PAUSE;
    for attempt in 1..=attempts {
        let now = Instant::now();
        open.retain(|&at| entries[at].until > now);
        let Some(until) = open.iter().map(|&at| entries[at].until).max() else { break };
        let batch: Vec<Outgoing> = open.iter().map(|&at| entries[at].outgoing.clone()).collect();
        match tokio::time::timeout_at(until, driver.send(&batch)).await {
            Err(_) => {
                for &at in &open {
                    results[at] = Err(SendError::Unavailable("no answer in time".into()));
                }
                break;
            }
            Ok(Err(DriverError::Refused(why))) => {
                for &at in &open {
                    results[at] = Err(SendError::Refused(why.clone()));
                }
                break;
            }
            Ok(Err(error)) => {
                for &at in &open {
                    results[at] = Err(SendError::Unavailable(error.to_string()));
                }
            }
            Ok(Ok(outcomes)) => note_outcomes(&mut open, outcomes, &mut results),
        }
        if open.is_empty() || attempt == attempts {
            break;
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    results
}

/// Writes down what a call said of each entry; keeps open what may succeed when tried again.
fn note_outcomes(
    open: &mut Vec<usize>,
    outcomes: Vec<Result<(), EntryError>>,
    results: &mut [Result<(), SendError>],
) {
    let mut outcomes = outcomes.into_iter();
    open.retain(|&at| {
        let outcome = outcomes.next();
        let (result, again) = match outcome {
            Some(Ok(())) => (Ok(()), false),
            Some(Err(EntryError::Refused(why))) => (Err(SendError::Refused(why)), false),
            Some(Err(error)) => (Err(SendError::Unavailable(error.to_string())), true),
            None => (Err(SendError::Unavailable("the answer did not mention it".into())), true),
        };
        results[at] = result;
        again
    });
}

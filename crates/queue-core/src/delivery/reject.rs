//! Rejecting: the dead letter is sent first, and only when the dead-letter queue has it may the
//! original be deleted. A letter too large for the broker travels as the original with its reason in
//! the attributes.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use contracts::{Envelope, ErrorCode, Header};
use futures_util::future::join_all;

use crate::attempts::History;
use crate::claim::Packed;
use crate::clock::Clock;
use crate::dead_letter::{DEAD_LETTER_VERSION, DeadLetter, EnvelopeSummary, Parent, fingerprint};
use crate::driver::{Driver, Outgoing, Received};
use crate::events::{self, Meters};
use crate::send::{SEND_BYTES_MAX, SendError, SendLimits, Sender};
use crate::trace::TRACEPARENT;
use crate::worker::RejectedPart;

/// Attribute with the code, on every message that the engine sends to a dead-letter queue.
pub const CODE_ATTRIBUTE: &str = "flotilla-code";
/// Attribute with the reason, on an original that was too large to be wrapped.
pub const REASON_ATTRIBUTE: &str = "flotilla-reason";
/// Attribute with the fingerprint, on the same.
pub const FINGERPRINT_ATTRIBUTE: &str = "flotilla-fingerprint";
/// Attribute with the worker and its version, on the same.
pub const WORKER_ATTRIBUTE: &str = "flotilla-worker";
/// Bytes of the reason kept in that attribute.
const REASON_BYTES_MAX: usize = 1_024;
/// What an original is packed to where its letter is too large: inside a letter its quotes are
/// escaped, and there is the rest of the letter.
const LETTER_BODY_BYTES_MAX: usize = SEND_BYTES_MAX / 4;
/// Attributes that SQS takes per message.
const ATTRIBUTES_MAX: usize = 10;

/// The way to the dead-letter queue.
pub(crate) struct DeadLetters {
    pub(crate) sender: Sender,
    pub(crate) queue: &'static str,
    /// The dead-letter queue of a FIFO queue is one, and wants a deduplication id.
    pub(crate) fifo: bool,
    pub(crate) worker: String,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) meters: Arc<Meters>,
}

/// A message to reject and why.
pub(crate) struct Rejection<'a> {
    pub(crate) received: &'a Received,
    /// What a redrive sends.
    pub(crate) body: &'a str,
    pub(crate) header: Option<&'a Header>,
    pub(crate) code: ErrorCode,
    pub(crate) reason: &'a str,
    pub(crate) history: &'a History,
}

impl DeadLetters {
    pub(crate) fn sender(driver: Arc<dyn Driver>) -> Sender {
        Sender::new(
            driver,
            SendLimits { attempts: 3, deadline: Duration::from_secs(10), ..SendLimits::default() },
        )
    }

    /// Sends a dead letter for a whole message.
    pub(crate) async fn send(&self, rejection: &Rejection<'_>) -> Result<(), SendError> {
        let letter = self.letter(rejection);
        let reason = rejection.reason;
        self.dispatch(letter, rejection.code, reason, rejection.received.group.clone(), None).await
    }

    /// Sends one dead letter per part, each naming its parent. All or an error: a part that was sent
    /// is sent again when the parent comes back, which readers tell by parent and index.
    pub(crate) async fn send_parts(
        &self,
        received: &Received,
        header: &Header,
        history: &History,
        parts: &[RejectedPart],
    ) -> Result<(), SendError> {
        let sends = parts.iter().map(|part| async move {
            let own: Option<Header> = serde_json::from_str(&part.envelope_json).ok();
            let whole = Rejection {
                received,
                body: &part.envelope_json,
                header: own.as_ref(),
                code: part.reason.code,
                reason: &part.reason.message,
                history,
            };
            let letter = DeadLetter {
                parent: Some(Parent {
                    id: header.id.to_string(),
                    message_id: received.message_id.clone(),
                    index: part.index,
                }),
                ..self.letter(&whole)
            };
            let (code, reason) = (part.reason.code, &part.reason.message);
            self.dispatch(letter, code, reason, received.group.clone(), Some(part.index)).await
        });
        join_all(sends).await.into_iter().collect()
    }

    fn letter(&self, rejection: &Rejection<'_>) -> DeadLetter {
        let Rejection { received, body, header, code, reason, history } = rejection;
        let kind = header.map_or("", |header| header.kind.as_str());
        let own = header.map_or_else(Vec::new, own_words);
        DeadLetter {
            flotilla_dead_letter: DEAD_LETTER_VERSION,
            queue: self.queue.to_owned(),
            worker: self.worker.clone(),
            code: code.code.to_owned(),
            message: (*reason).to_owned(),
            fingerprint: fingerprint(kind, code, reason, &own),
            message_id: received.message_id.clone(),
            envelope: header.map(EnvelopeSummary::from),
            parent: None,
            failures: history.failures,
            receives: received.receives,
            attempts: history.attempts.clone(),
            first_seen: first_seen(received),
            rejected_at: self.clock.now(),
            traceparent: received.attribute(TRACEPARENT).map(ToOwned::to_owned),
            group: received.group.clone(),
            edits: Vec::new(),
            attributes: received.attributes.clone(),
            body: (*body).to_owned(),
        }
    }

    async fn dispatch(
        &self,
        letter: DeadLetter,
        code: ErrorCode,
        reason: &str,
        group: Option<String>,
        part: Option<usize>,
    ) -> Result<(), SendError> {
        let (outgoing, packed) = match wrapped(&letter)? {
            whole if whole.size() <= SEND_BYTES_MAX => (whole, None),
            _ => self.lighter(&letter).await,
        };
        let deduplication = self.fifo.then(|| deduplication(&letter.message_id, part));
        let outgoing = Outgoing { group, deduplication, ..outgoing };
        match self.sender.send(outgoing).await {
            Ok(()) => {
                events::DeadLettered {
                    message: &letter.message_id,
                    code: code.code,
                    reason,
                    fingerprint: &letter.fingerprint,
                    part,
                }
                .emit(&self.meters);
                Ok(())
            }
            Err(error) => {
                // Unavailable: it may have arrived.
                if let Some(packed) = packed.filter(|_| !matches!(error, SendError::Unavailable(_)))
                {
                    self.sender.packer().give_back(&packed).await;
                }
                events::NotDeadLettered { message: &letter.message_id, error: &error.to_string() }
                    .emit(&self.meters);
                Err(error)
            }
        }
    }
}

impl DeadLetters {
    /// The letter with its original packed, so that it fits with all that explains it; a redrive
    /// sends the same message. Where it cannot be packed, the original as it was.
    async fn lighter(&self, letter: &DeadLetter) -> (Outgoing, Option<Packed>) {
        let Ok(envelope) = Envelope::from_json(&letter.body) else { return (raw(letter), None) };
        let always = self.sender.packer().clone().compressing_from(0);
        let Ok(packed) = always.pack(&envelope, LETTER_BODY_BYTES_MAX).await else {
            return (raw(letter), None);
        };
        match wrapped(&DeadLetter { body: packed.text.clone(), ..letter.clone() }) {
            Ok(lighter) if lighter.size() <= SEND_BYTES_MAX => (lighter, Some(packed)),
            _ => {
                always.give_back(&packed).await;
                (raw(letter), None)
            }
        }
    }
}

fn wrapped(letter: &DeadLetter) -> Result<Outgoing, SendError> {
    Ok(Outgoing {
        body: letter.to_json().map_err(|error| SendError::Refused(error.to_string()))?,
        attributes: vec![(CODE_ATTRIBUTE.to_owned(), letter.code.clone())],
        ..Outgoing::default()
    })
}

/// The same letter sent again within the broker's window, after a lost answer or a crash between
/// letter and delete, is one letter.
fn deduplication(message_id: &str, part: Option<usize>) -> String {
    match part {
        Some(part) => format!("letter-{message_id}-{part}"),
        None => format!("letter-{message_id}"),
    }
}

/// The original as it was, its reason in the attributes, as far as they and the limit allow.
fn raw(letter: &DeadLetter) -> Outgoing {
    let mut attributes = vec![
        (CODE_ATTRIBUTE.to_owned(), letter.code.clone()),
        (FINGERPRINT_ATTRIBUTE.to_owned(), letter.fingerprint.clone()),
        (WORKER_ATTRIBUTE.to_owned(), letter.worker.clone()),
    ];
    // Characters that a broker may refuse in an attribute are not worth the letter.
    let reason: String = letter
        .message
        .chars()
        .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
        .take(REASON_BYTES_MAX)
        .collect();
    if !reason.is_empty() {
        attributes.push((REASON_ATTRIBUTE.to_owned(), reason));
    }
    let taken = attributes.len();
    attributes.extend(letter.attributes.iter().take(ATTRIBUTES_MAX - taken).cloned());
    let mut outgoing = Outgoing { body: letter.body.clone(), attributes, ..Outgoing::default() };
    // The original fitted with its own attributes; ours give way before it does.
    while outgoing.size() > SEND_BYTES_MAX && outgoing.attributes.pop().is_some() {}
    outgoing
}

/// What of a message may stand in an error's text as a plain word.
fn own_words(header: &Header) -> Vec<&str> {
    let tenant = header.tenant.as_str();
    let ids = [Some(&header.correlation_id), header.causation_id.as_ref(), header.key.as_ref()];
    std::iter::once(tenant).chain(ids.into_iter().flatten().map(String::as_str)).collect()
}

/// When a message was first sent, by the broker's clock.
pub(crate) fn first_seen(received: &Received) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(received.sent_at_ms).unwrap_or_default()
}

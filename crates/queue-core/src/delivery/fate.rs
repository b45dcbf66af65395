//! From what happened to what becomes of a message: failures are recorded, the table is asked, and
//! its answer is carried out as far as it concerns this message alone: rejected, deleted. What is to
//! be given back is left to the caller, since on FIFO a whole group is given back with it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use contracts::{ErrorCode, Header, Schedule, errors};

use super::decode;
use super::reject::Rejection;
use super::{ALONE_LATER, Core, NOTE_FROM};
use crate::attempts::{History, RecordedFailure};
use crate::backoff;
use crate::decide::{self, Action, Event, Standing};
use crate::driver::Received;
use crate::events::{self, Outcome};
use crate::fetch::Taken;
use crate::lease::Held;
use crate::park::admit::{marker, unmarked};
use crate::park::{ParkStoreError, Place};
use crate::recall::{self, Postponed};
use crate::settle::Settled;
use crate::worker::{Error, Worker};

/// A message in hand with what is known of it.
pub(crate) struct Case<'a> {
    pub(super) received: &'a Received,
    pub(super) held: &'a Held,
    pub(crate) header: Option<Header>,
    pub(super) history: History,
    pub(super) schedule: Schedule,
}

/// What a message's stay came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing is left to do.
    Over {
        /// How it ended.
        outcome: Outcome,
        /// The broker has confirmed that the message is deleted.
        gone: bool,
    },
    /// It has to be given back.
    Back {
        /// How it ends when the broker confirms that.
        outcome: Outcome,
        /// Whole seconds; zero means now.
        delay: Duration,
        /// Where an outage is to blame: not before this may it be called back when that is over.
        recall: Option<Duration>,
    },
}

impl Fate {
    /// It belongs to somebody else, or will.
    const LOST: Self = Self::Over { outcome: Outcome::Lost, gone: false };
}

impl<'a> Case<'a> {
    pub(crate) fn of(
        taken: &'a Taken,
        header: Option<Header>,
        history: History,
        schedule: Schedule,
    ) -> Self {
        Self { received: &taken.received, held: &taken.held, header, history, schedule }
    }

    fn identity(&self) -> String {
        identity(self.header.as_ref(), self.received)
    }
}

/// What a message's past is kept under: our envelope id, or the broker's id without an envelope.
pub(crate) fn identity(header: Option<&Header>, received: &Received) -> String {
    header.map_or_else(|| received.message_id.clone(), |header| header.id.to_string())
}

/// Whether a record says that the message was about to run alone.
fn marks_alone(record: &RecordedFailure) -> bool {
    !record.counts && record.code == errors::CRASH_LOOP.code
}

impl<W: Worker> Core<W> {
    /// Gives a message back where its fate says so, and counts its end.
    pub(crate) async fn end(&self, taken: Taken, fate: Fate) {
        let outcome = match fate {
            Fate::Over { outcome, .. } => outcome,
            Fate::Back { outcome, delay, recall } => {
                let postponed = Postponed::now(delay, recall);
                match self.settler.give_back(&taken.held, delay).await {
                    Settled::Confirmed => {
                        self.recall.remember(postponed, [&taken]);
                        outcome
                    }
                    Settled::Unconfirmed => Outcome::Lost,
                }
            }
        };
        self.meters.ended(outcome);
        // Room and lease go with it, after the settle.
        drop(taken);
    }

    /// Records a failure; tells whether the store has it.
    pub(crate) async fn record(&self, case: &mut Case<'_>, error: &Error, counts: bool) -> bool {
        let failure = RecordedFailure {
            at: self.clock.now(),
            code: error.code.code.to_owned(),
            error: error.message.clone(),
            worker: self.label.clone(),
            counts,
            receives: case.received.receives,
        };
        let message = case.identity();
        let recorded = self.recorder.record(&message, failure.clone(), &case.history).await;
        case.history = recorded.history;
        events::AttemptFailed {
            message: &message,
            failure: &failure,
            failures: case.history.failures,
        }
        .emit(&self.meters);
        recorded.stored
    }

    /// Records that a message was given back on purpose, where that might be taken for a crash.
    pub(crate) async fn note(&self, case: &mut Case<'_>, code: ErrorCode, why: &str) {
        let ran_alone = case.history.attempts.last().is_some_and(marks_alone);
        if ran_alone || self.standing(case).unaccounted >= NOTE_FROM {
            Box::pin(self.record(case, &Error::infrastructure(code, why), false)).await;
        }
    }

    /// Asks the table and carries out its answer, but for giving back.
    pub(crate) async fn apply(&self, case: &Case<'_>, event: Event, reason: &str) -> Fate {
        let standing = self.standing(case);
        let (delay, outcome) = match decide::decide(event, &standing, &case.schedule) {
            Action::Settle => return self.done(case, Outcome::Settled).await,
            Action::Drop => return self.done(case, Outcome::Dropped).await,
            Action::Leave => return Fate::LOST,
            Action::Park(code) => match self.park(case, Place::First, code, reason).await {
                Ok(true) => return self.settle(case, Outcome::Parked).await,
                Ok(false) => (self.delay_after_rejection(case, &standing), Outcome::Retried),
                Err(_) => return self.store_is_down(case),
            },
            Action::Reject(code) => match self.park(case, Place::Rejected, code, reason).await {
                Ok(true) => return Box::pin(self.reject(case, code, reason)).await,
                Ok(false) => (self.delay_after_rejection(case, &standing), Outcome::Retried),
                Err(_) => return self.store_is_down(case),
            },
            Action::Retry { interval, at_least } => {
                (self.jitter.delay(interval, at_least), Outcome::Retried)
            }
            Action::Snooze(delay) if event == Event::Drained => {
                case.held.wait_for(&self.polls_over).await;
                (delay, Outcome::Released)
            }
            Action::Snooze(delay) => (delay, Outcome::Snoozed),
            // Only an arrival is answered with these, and `arrive` has taken them.
            Action::Run | Action::RunAlone => (ALONE_LATER, Outcome::Snoozed),
        };
        Fate::Back { outcome, delay, recall: recall::not_before(event) }
    }

    pub(crate) fn delay_after_rejection(&self, case: &Case<'_>, standing: &Standing) -> Duration {
        match decide::decide(Event::NotDeadLettered, standing, &case.schedule) {
            Action::Retry { interval, at_least } => self.jitter.delay(interval, at_least),
            _ => ALONE_LATER,
        }
    }

    /// Parks the group of a message on FIFO; elsewhere there is none, and all is well. `false` when
    /// there is no room.
    async fn park(
        &self,
        case: &Case<'_>,
        place: Place,
        code: ErrorCode,
        reason: &str,
    ) -> Result<bool, ParkStoreError> {
        let Some(parking) = &self.parking else { return Ok(true) };
        let (received, header) = (case.received, case.header.as_ref());
        Box::pin(parking.park::<W::Message>(received, header, place, code, reason)).await
    }

    /// Without the parking store nothing of the group may go on; no attempt is used up.
    pub(crate) fn store_is_down(&self, case: &Case<'_>) -> Fate {
        self.breakers.failed("the parking store does not answer");
        let (at_least, interval) = backoff::infrastructure(case.received.receives);
        let delay = self.jitter.delay(interval, at_least);
        let recall = recall::not_before(Event::SinkDown);
        Fate::Back { outcome: Outcome::Retried, delay, recall }
    }

    /// Sends the dead letter of a message whose group is parked where there is one, then deletes it.
    pub(crate) async fn reject(&self, case: &Case<'_>, code: ErrorCode, reason: &str) -> Fate {
        let reason = if reason.is_empty() { code.title } else { reason };
        let received = Received { attributes: unmarked(case.received), ..case.received.clone() };
        let rejection = Rejection {
            received: &received,
            body: &decode::resendable::<W::Message>(case.received),
            header: case.header.as_ref(),
            code,
            reason,
            history: &case.history,
        };
        if self.dead_letters.send(&rejection).await.is_err() {
            let delay = self.delay_after_rejection(case, &self.standing(case));
            return Fate::Back { outcome: Outcome::Retried, delay, recall: None };
        }
        if let Some(parking) = &self.parking
            && parking.lettered::<W::Message>(case.received, case.header.as_ref()).await.is_err()
        {
            return self.store_is_down(case);
        }
        self.settle(case, Outcome::DeadLettered).await
    }

    /// A message's work is done: one that was released from a parked group leaves its line first.
    async fn done(&self, case: &Case<'_>, outcome: Outcome) -> Fate {
        if let Some(parking) = &self.parking
            && let Some(marker) = marker(case.received)
            && parking.handled(case.received, marker).await.is_err()
        {
            // It comes again, and costs no work then.
            self.settler.remember(&case.received.message_id);
            return self.store_is_down(case);
        }
        self.settle(case, outcome).await
    }

    /// Deletes a message whose work is done, and what was recorded of it.
    pub(crate) async fn settle(&self, case: &Case<'_>, outcome: Outcome) -> Fate {
        if !case.history.attempts.is_empty() {
            self.recorder.forget(&case.identity()).await;
        }
        // Unconfirmed or not, the work is done; the settler remembers it for a redelivery.
        let gone = self.settler.delete(case.held).await == Settled::Confirmed;
        Fate::Over { outcome, gone }
    }

    pub(crate) fn standing(&self, case: &Case<'_>) -> Standing {
        let receives = case.received.receives;
        let last = case.history.attempts.last().filter(|last| last.receives <= receives);
        let since = receives - last.map_or(0, |last| last.receives);
        let age = self.clock.now().timestamp_millis().saturating_sub(case.received.sent_at_ms);
        Standing {
            failures: case.history.failures,
            receives,
            unaccounted: since,
            ran_alone: since > 0 && last.is_some_and(marks_alone),
            processed: self.settler.processed(&case.received.message_id),
            age: Duration::from_millis(u64::try_from(age).unwrap_or(0)),
            retention: Duration::from_secs(self.retention_secs.load(Ordering::Relaxed)),
        }
    }
}

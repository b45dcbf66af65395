//! One message's way through the engine: decoded, judged, handled, judged again, settled. Each step
//! is a file; what to do between them is the table's answer in `decide`, carried out here.
//!
//! There is a future per message in hand, and it is copied when it is made. What hardly any message comes
//! to is boxed, so that each is not as large as the rarest way through it.

pub(crate) mod decode;
pub(crate) mod fate;
pub(crate) mod handle;
mod packed;
pub mod reject;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use contracts::catalogue::QueueKind;
use contracts::{Header, Message, Schedule, errors};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;

use crate::attempts::History;
use crate::attempts::recorder::Recorder;
use crate::backoff::Jitter;
use crate::breaker::Breakers;
use crate::claim::Unpacker;
use crate::clock::Clock;
use crate::decide::{self, Action, Event};
use crate::events::{self, Meters};
use crate::fetch::permits::Permits;
use crate::fetch::{Batch, Taken};
use crate::group::Groups;
use crate::lease::Cause;
use crate::park::admit::Parking;
use crate::recall::Recall;
use crate::settle::Settler;
use crate::trace::TRACEPARENT;
use crate::worker::{Attempt, Error, Failure, Worker};
use decode::{Decoded, Undecodable, Why};
use fate::{Case, Fate};
use handle::{Answer, handle};
use reject::{DeadLetters, first_seen};

/// From this many receives without a recorded outcome on, releases and snoozes are recorded too, so
/// that they are not taken for crashes; below it they cost no write.
const NOTE_FROM: u32 = decide::UNACCOUNTED_RECEIVES_MAX / 2;
/// A message that waits for its turn to run alone is given back for this long when another one is
/// before it.
const ALONE_LATER: Duration = Duration::from_secs(30);

/// What every delivery of an engine works with.
pub(crate) struct Core<W: Worker> {
    pub(crate) worker: Arc<W>,
    pub(crate) label: String,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) permits: Arc<Permits>,
    pub(crate) settler: Arc<Settler>,
    pub(crate) breakers: Arc<Breakers>,
    pub(crate) recall: Arc<Recall>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) unpacker: Unpacker,
    pub(crate) dead_letters: DeadLetters,
    pub(crate) jitter: Arc<Jitter>,
    pub(crate) meters: Arc<Meters>,
    /// How long the queue keeps a message, in seconds.
    pub(crate) retention_secs: Arc<AtomicU64>,
    /// Where groups are parked; on FIFO always.
    pub(crate) parking: Option<Arc<Parking>>,
    /// The FIFO groups in hand.
    pub(crate) groups: Groups,
    /// One message at a time runs alone.
    pub(crate) alone: tokio::sync::Mutex<()>,
    pub(crate) drain: CancellationToken,
    pub(crate) polls_over: CancellationToken,
}

/// What decoding a message came to.
pub(crate) type Reading<M> = Result<Decoded<M>, Undecodable>;

impl<W: Worker> Core<W> {
    /// Carries a batch to its end: each message for itself, on FIFO each group for itself.
    pub(crate) async fn process(self: Arc<Self>, batch: Batch) {
        if self.drain.is_cancelled() {
            let releases = FuturesUnordered::new();
            for taken in batch {
                releases.push(self.release_unstarted(taken));
            }
            return releases.for_each(|()| std::future::ready(())).await;
        }
        if W::Message::QUEUE.kind == QueueKind::Fifo {
            return self.process_groups(batch).await;
        }
        let (mut first, mut again) = (Vec::new(), Vec::new());
        for taken in batch {
            let decoded = decode::decode::<W::Message>(&taken.received);
            let known = taken.received.receives > 1;
            if known { again.push((taken, decoded)) } else { first.push((taken, decoded)) }
        }
        let fresh = async {
            let mut runs = FuturesUnordered::new();
            for (taken, decoded) in first {
                runs.push(self.carry(taken, decoded, History::default()));
            }
            while runs.next().await.is_some() {}
        };
        tokio::join!(fresh, self.process_again(again));
    }

    /// Messages that were received before: what is known of them is asked for first.
    async fn process_again(&self, again: Vec<(Taken, Reading<W::Message>)>) {
        if again.is_empty() {
            return;
        }
        let ids: Vec<String> = again.iter().map(|(taken, read)| key(taken, read)).collect();
        let loaded = self.recorder.load(&ids).await;
        let mut runs = FuturesUnordered::new();
        match loaded {
            Ok(histories) => {
                for ((taken, decoded), history) in again.into_iter().zip(histories) {
                    runs.push(self.carry(taken, decoded, history));
                }
                while runs.next().await.is_some() {}
            }
            Err(error) => {
                // Without its past a message cannot be judged.
                self.breakers.failed(&error.to_string());
                let runs = FuturesUnordered::new();
                for (taken, decoded) in again {
                    events::RecordFailed { message: &taken.received.message_id, error: &error }
                        .emit(&self.meters);
                    runs.push(self.postpone(taken, header(decoded)));
                }
                runs.for_each(|()| std::future::ready(())).await;
            }
        }
    }

    async fn postpone(&self, taken: Taken, header: Option<Header>) {
        let mut case = Case::of(&taken, header, History::default(), Schedule::STANDARD);
        self.note(&mut case, errors::RELEASED, "its past could not be asked for").await;
        let fate = self.apply(&case, Event::SinkDown, "attempt store").await;
        self.end(taken, fate).await;
    }

    async fn release_unstarted(&self, taken: Taken) {
        let header = header(decode::decode::<W::Message>(&taken.received));
        let mut case = Case::of(&taken, header, History::default(), Schedule::STANDARD);
        self.note(&mut case, errors::RELEASED, "received while draining").await;
        let fate = self.apply(&case, Event::Drained, "").await;
        self.end(taken, fate).await;
    }

    async fn carry(&self, taken: Taken, decoded: Reading<W::Message>, history: History) {
        let fate = self.work(&taken, decoded, history).await;
        self.end(taken, fate).await;
    }

    /// Judges a message, hands it to the handler where that is the judgement, and tells its fate.
    pub(crate) async fn work(
        &self,
        taken: &Taken,
        decoded: Reading<W::Message>,
        history: History,
    ) -> Fate {
        match decoded {
            Ok(decoded) => {
                let schedule = decoded.message.schedule();
                let header = decoded.header.clone();
                let case = Case::of(taken, Some(header), history, schedule);
                self.arrive(case, decoded).await
            }
            Err(Undecodable { header: Some(header), packed: Some(body), .. }) => {
                Box::pin(self.work_packed(taken, *header, *body, history)).await
            }
            Err(Undecodable { header, why, reason, .. }) => {
                let header = header.map(|header| *header);
                let case = Case::of(taken, header, history, Schedule::STANDARD);
                let event = match why {
                    _ if self.settler.processed(&taken.received.message_id) => Event::Arrived,
                    Why::Unknown => Event::Unknown,
                    Why::Never(code) => Event::Undecodable(code),
                };
                self.apply(&case, event, &reason).await
            }
        }
    }

    async fn arrive(&self, mut case: Case<'_>, decoded: Decoded<W::Message>) -> Fate {
        let standing = self.standing(&case);
        match decide::decide(Event::Arrived, &standing, &case.schedule) {
            Action::Run => self.run(&mut case, decoded).await,
            Action::RunAlone => Box::pin(self.run_alone(&mut case, decoded)).await,
            _ => {
                let last = case.history.attempts.last();
                let reason = last.map(|last| last.error.clone()).unwrap_or_default();
                self.apply(&case, Event::Arrived, &reason).await
            }
        }
    }

    async fn run(&self, case: &mut Case<'_>, decoded: Decoded<W::Message>) -> Fate {
        let attempt = Attempt {
            failures: case.history.failures,
            receives: case.received.receives,
            first_seen: first_seen(case.received),
        };
        let (lease, trace) = (case.held.lease(), case.received.attribute(TRACEPARENT));
        let answer = handle(&*self.worker, decoded, attempt, lease, trace, &self.meters).await;
        self.conclude(case, answer).await
    }

    /// Runs a message while nothing else is polled or handled: if it kills the process, it was this
    /// one.
    async fn run_alone(&self, case: &mut Case<'_>, decoded: Decoded<W::Message>) -> Fate {
        let Ok(_turn) = self.alone.try_lock() else {
            return self.apply(case, Event::Snoozed(ALONE_LATER), "another one runs alone").await;
        };
        let cancelled = case.held.lease().cancelled();
        let _others = tokio::select! {
            biased;
            others = self.permits.take_the_others() => others,
            () = self.drain.cancelled() => return self.apply(case, Event::Drained, "").await,
            () = cancelled.cancelled() => {
                let why = case.held.lease().cause().unwrap_or(Cause::Lost);
                return self.conclude(case, Answer::Cancelled(why)).await;
            }
        };
        let receives = case.received.receives;
        events::RunsAlone { message: &case.received.message_id, receives }.emit(&self.meters);
        let text = format!("{receives} receives without an outcome: runs alone");
        let error = Error::infrastructure(errors::CRASH_LOOP, text);
        if !self.record(case, &error, false).await {
            return self.apply(case, Event::SinkDown, "attempt store").await;
        }
        self.run(case, decoded).await
    }

    /// Turns the handler's answer into an event of the table, and records a failure before anything
    /// is given back.
    async fn conclude(&self, case: &mut Case<'_>, answer: Answer) -> Fate {
        let (error, at_least) = match answer {
            Answer::Done(parts) => {
                self.breakers.succeeded();
                if !parts.is_empty()
                    && let Some(header) = &case.header
                    && Box::pin(self.dead_letters.send_parts(
                        case.received,
                        header,
                        &case.history,
                        &parts,
                    ))
                    .await
                    .is_err()
                {
                    return self.apply(case, Event::NotDeadLettered, "").await;
                }
                return self.apply(case, Event::Succeeded, "").await;
            }
            Answer::Failed(Failure::Retry(error)) => (error, Duration::ZERO),
            Answer::Failed(Failure::RetryAfter(error, delay)) => (error, delay),
            Answer::Failed(Failure::Snooze(delay)) => {
                self.note(case, errors::SNOOZED, "snoozed").await;
                return self.apply(case, Event::Snoozed(delay), "").await;
            }
            Answer::Failed(Failure::Park(reason)) => {
                return self.apply(case, Event::Parked(reason.code), &reason.message).await;
            }
            Answer::Failed(Failure::Reject(reason) | Failure::Unknown(reason)) => {
                return self.apply(case, Event::Rejected(reason.code), &reason.message).await;
            }
            Answer::Panicked(text) => {
                (Error::handling(errors::HANDLER_PANIC, text), Duration::ZERO)
            }
            Answer::Cancelled(Cause::Stuck) => {
                let text = "no progress in time, or the lease reached its ceiling";
                (Error::handling(errors::HANDLER_TIMEOUT, text), Duration::ZERO)
            }
            Answer::Cancelled(Cause::Lost) => {
                // The process lives: whatever took so long, it was no crash.
                self.note(case, errors::RELEASED, "its lease was lost meanwhile").await;
                return self.apply(case, Event::LeaseLost, "").await;
            }
            Answer::Cancelled(Cause::Drain) => {
                self.note(case, errors::RELEASED, "the drain budget ended").await;
                return self.apply(case, Event::Drained, "").await;
            }
            Answer::Cancelled(Cause::SinkDown) => {
                self.note(case, errors::RELEASED, "a sink is down").await;
                return self.apply(case, Event::SinkDown, "a sink is down").await;
            }
        };
        let counts = error.class.counts();
        if error.class.feeds_breaker() {
            self.breakers.failed(&error.to_string());
        }
        if !Box::pin(self.record(case, &error, counts)).await {
            self.breakers.failed("the attempt store does not answer");
        }
        let event = Event::Failed { class: error.class, at_least };
        self.apply(case, event, &error.message).await
    }
}

/// The header, also where the rest could not be read.
fn header<M>(reading: Reading<M>) -> Option<Header> {
    match reading {
        Ok(decoded) => Some(decoded.header),
        Err(undecodable) => undecodable.header.map(|header| *header),
    }
}

/// What is asked for a message's past.
pub(crate) fn key<M>(taken: &Taken, reading: &Reading<M>) -> String {
    let header = match reading {
        Ok(decoded) => Some(&decoded.header),
        Err(undecodable) => undecodable.header.as_deref(),
    };
    fate::identity(header, &taken.received)
}

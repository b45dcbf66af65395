//! Calling back: an outage gives messages back with pauses of minutes, and when it is over nobody
//! wants to wait for them. The process remembers, bounded, what it gave back because of an outage,
//! and when the cause is over it makes those messages visible again, in batches, each at most once per
//! give-back, spread over time. It never calls back while a sink is known to be down, in a drain, or
//! before the time that a sink asked for, and never what a message's own failure has postponed.
//!
//! **When a cause is over.** Nothing has failed by infrastructure for [`QUIET`], no breaker is open,
//! and a message has been handled since: then everything is called back. Where no message is left to
//! be handled, since all of them wait, one is called back to try, then two, then four, as long as
//! nothing fails.
//!
//! **What it may cost.** A call back is a receive sooner, and receives are what the queue's redrive
//! counts. So a message that was received more than [`RECEIVES_MAX`] times stays where it is: if all
//! of those were for nothing, 13 more receives at no less than 150 s each outlast another half an
//! hour (see [`crate::backoff::INFRASTRUCTURE`]). That also bounds what a message costs that alone is
//! to blame for its "infrastructure" errors.
//!
//! **Whose lease it is.** On a standard queue an old receipt works and would set the lease of whoever
//! has the message now. So nothing is called back that is about to come back by itself: a call takes
//! effect within its limit, and [`WORTH`] is longer.
//!
//! **FIFO.** What was given back in one call, a message and what follows it in its group, is called
//! back in one call, for the same time. Should an entry fail, the broker keeps the group's order all
//! the same: it hands out nothing of a group while any of it is hidden.
//!
//! A process that dies forgets; then the pause itself is the bound.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::{self, Jitter};
use crate::breaker::Breakers;
use crate::config::LEASE_CEILING;
use crate::decide::Event;
use crate::driver::{BATCH_ENTRIES_MAX, CALL_MAX, Driver, within_limit};
use crate::events::{self, Meters};
use crate::fetch::Taken;
use crate::worker::ErrorClass;

/// Messages remembered at most, per engine; beyond it those with the most receives come back by
/// themselves.
pub const REMEMBERED_MAX: usize = 10_000;
/// A message that was received more often is not called back.
pub const RECEIVES_MAX: u32 = 12;
/// So long nothing must have failed by infrastructure; also between two tries where no message has
/// been handled since.
pub const QUIET: Duration = Duration::from_secs(5);
/// Messages called back are spread so that no more than these become visible per second.
pub const PER_SECOND: u32 = 200;
/// They are spread over at least this long.
const SPREAD_MIN: Duration = Duration::from_secs(2);
/// What comes back by itself within this, beyond the time that a call back would set, is left alone.
pub const WORTH: Duration = CALL_MAX.saturating_add(Duration::from_secs(5));
/// Between two looks, while anything is remembered.
const LOOK: Duration = Duration::from_secs(1);

/// From when on a message may be called back after this event, counted from its give-back; `None`
/// where the event is the message's own.
pub(crate) fn not_before(event: Event) -> Option<Duration> {
    match event {
        Event::SinkDown => Some(Duration::ZERO),
        Event::Failed { class: ErrorClass::Infrastructure, at_least } => Some(at_least),
        _ => None,
    }
}

/// A give-back that is about to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Postponed {
    from: Instant,
    delay: Duration,
    not_before: Option<Duration>,
}

impl Postponed {
    /// Counted from before its call: the message is not visible earlier.
    pub(crate) fn now(delay: Duration, not_before: Option<Duration>) -> Self {
        Self { from: Instant::now(), delay, not_before }
    }
}

/// What was given back in one call: a message, on FIFO with those behind it.
#[derive(Debug)]
struct GivenBack {
    receipts: Vec<String>,
    not_before: Instant,
}

/// Fewest receives first, then what comes back first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    receives: u32,
    visible_at: Instant,
    number: u64,
}

#[derive(Debug, Default)]
struct Table {
    waiting: BTreeMap<Place, GivenBack>,
    messages: usize,
    number: u64,
}

impl Table {
    fn forget(&mut self, gone: impl Fn(&Place) -> bool) {
        let messages = &mut self.messages;
        self.waiting.retain(|place, given_back| {
            let stays = !gone(place);
            *messages -= if stays { 0 } else { given_back.receipts.len() };
            stays
        });
    }

    /// The next ones of at most `most` that fit one call.
    fn batch(&mut self, most: usize) -> Vec<(Place, GivenBack)> {
        let (mut batch, mut entries) = (Vec::new(), 0);
        while batch.len() < most
            && let Some(first) = self.waiting.first_entry()
            && entries + first.get().receipts.len() <= BATCH_ENTRIES_MAX
        {
            entries += first.get().receipts.len();
            batch.push(first.remove_entry());
        }
        self.messages -= entries;
        batch
    }
}

/// What this process has given back because of an outage, and the task that calls it back.
pub(crate) struct Recall {
    table: Mutex<Table>,
    filled: Notify,
    driver: Arc<dyn Driver>,
    breakers: Arc<Breakers>,
    jitter: Arc<Jitter>,
    meters: Arc<Meters>,
    drain: CancellationToken,
}

impl Recall {
    pub(crate) fn new(
        driver: &Arc<dyn Driver>,
        breakers: &Arc<Breakers>,
        jitter: &Arc<Jitter>,
        meters: &Arc<Meters>,
        drain: &CancellationToken,
    ) -> Self {
        Self {
            table: Mutex::default(),
            filled: Notify::new(),
            driver: Arc::clone(driver),
            breakers: Arc::clone(breakers),
            jitter: Arc::clone(jitter),
            meters: Arc::clone(meters),
            drain: drain.clone(),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Messages were given back in one call, and the broker has confirmed it.
    pub(crate) fn remember<'a>(
        &self,
        postponed: Postponed,
        messages: impl IntoIterator<Item = &'a Taken>,
    ) {
        let Postponed { from, delay, not_before: Some(not_before) } = postponed else { return };
        let (mut receipts, mut receives) = (Vec::new(), 0);
        for Taken { received, held, .. } in messages {
            // At the broker's ceiling it comes back sooner than it was told to.
            if held.lease().received_at().elapsed() + delay >= LEASE_CEILING {
                return;
            }
            receives = received.receives.max(receives);
            receipts.push(held.lease().receipt());
        }
        if receives <= RECEIVES_MAX && delay > WORTH && receipts.len() <= BATCH_ENTRIES_MAX {
            let given_back = GivenBack { receipts, not_before: from + not_before };
            self.keep(receives, from + delay, given_back);
        }
    }

    fn keep(&self, receives: u32, visible_at: Instant, given_back: GivenBack) {
        let mut table = self.table();
        table.number += 1;
        table.messages += given_back.receipts.len();
        let place = Place { receives, visible_at, number: table.number };
        table.waiting.insert(place, given_back);
        while table.messages > REMEMBERED_MAX
            && let Some((_, last)) = table.waiting.pop_last()
        {
            table.messages -= last.receipts.len();
        }
        self.meters.postponed(table.messages);
        drop(table);
        self.filled.notify_one();
    }

    /// Forgets what comes back by itself soon; how many messages are left.
    fn look(&self, now: Instant) -> usize {
        let mut table = self.table();
        table.forget(|place| place.visible_at <= now + WORTH);
        self.meters.postponed(table.messages);
        table.messages
    }
}

/// How many are called back where no message has been handled since the last failure.
#[derive(Debug, Default)]
struct Ramp {
    failed_at: Option<Instant>,
    doublings: u32,
    next: Option<Instant>,
}

impl Ramp {
    /// A failure starts it over, at the pace that it has.
    fn step(&mut self, now: Instant, failed_at: Option<Instant>) -> usize {
        if self.failed_at != failed_at {
            *self = Self { failed_at, doublings: 0, next: self.next };
        }
        if self.next.is_some_and(|next| now < next) {
            return 0;
        }
        self.next = Some(now + QUIET);
        let most = 1 << self.doublings;
        self.doublings = (self.doublings + 1).min(REMEMBERED_MAX.ilog2());
        most
    }
}

impl Recall {
    /// Runs until it is dropped; sleeps while nothing is remembered.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut ramp = Ramp::default();
        while !self.drain.is_cancelled() {
            if self.look(Instant::now()) == 0 {
                tokio::select! {
                    biased;
                    () = self.drain.cancelled() => {}
                    () = self.filled.notified() => {}
                }
                continue;
            }
            tokio::select! {
                biased;
                () = self.drain.cancelled() => {}
                () = tokio::time::sleep(LOOK) => {
                    let most = self.may_call_back(&mut ramp);
                    self.call_back(most).await;
                }
            }
        }
        // A background task that ends is a fault of the engine.
        std::future::pending::<()>().await;
    }

    /// Whether the sinks are known or believed to be down.
    fn down(&self) -> bool {
        let failed = self.breakers.failed_at();
        self.breakers.open() || failed.is_some_and(|at| at.elapsed() < QUIET)
    }

    /// How much may be called back now.
    fn may_call_back(&self, ramp: &mut Ramp) -> usize {
        if self.down() {
            0
        } else if self.breakers.at_rest() {
            usize::MAX
        } else {
            ramp.step(Instant::now(), self.breakers.failed_at())
        }
    }

    /// Calls back at most so many, batch after batch, until something fails again.
    async fn call_back(&self, mut most: usize) {
        let messages = self.table().messages.min(most);
        let messages = u32::try_from(messages).unwrap_or(u32::MAX);
        let spread = SPREAD_MIN.max(Duration::from_secs(1) * messages / PER_SECOND);
        while most > 0 && !self.down() && !self.drain.is_cancelled() {
            self.look(Instant::now());
            let batch = self.table().batch(most);
            if batch.is_empty() {
                return;
            }
            most -= batch.len();
            let now = Instant::now();
            let mut entries = Vec::new();
            for (place, GivenBack { receipts, not_before }) in batch {
                let delay = self.jitter.full(spread).max(not_before.saturating_duration_since(now));
                let delay = backoff::whole_seconds(delay).max(Duration::from_secs(1));
                if now + delay + WORTH < place.visible_at {
                    entries.extend(receipts.into_iter().map(|receipt| (receipt, delay)));
                }
            }
            if !entries.is_empty() {
                self.call(&entries).await;
            }
        }
    }

    /// One call, never repeated: it may have taken effect, and by then somebody else may have them.
    async fn call(&self, entries: &[(String, Duration)]) {
        self.meters.called("extend");
        let answer = within_limit(self.driver.extend(entries)).await;
        let messages = answer.as_ref().map_or(0, |results| {
            // A receipt that is not the newest any more, or is gone, is nobody's fault.
            results.iter().filter(|result| result.is_ok()).count()
        });
        let left = entries.len().saturating_sub(messages);
        events::CalledBack { messages, left, error: answer.as_ref().err() }.emit(&self.meters);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::asking::Asking;
    use crate::fetch::gate::Gate;
    use crate::status::EngineStatus;

    fn recall() -> Recall {
        let status = Arc::new(EngineStatus::new("jobs".into(), "test"));
        let meters = Arc::new(Meters::new("jobs", "test", status));
        let breakers = Breakers::new(&[], Arc::new(Gate::new(1)), Arc::clone(&meters));
        let driver: Arc<dyn Driver> = Arc::new(Asking::new().0);
        let (breakers, jitter) = (Arc::new(breakers), Arc::new(Jitter::new(Some(1))));
        Recall::new(&driver, &breakers, &jitter, &meters, &CancellationToken::new())
    }

    fn group(of: usize) -> GivenBack {
        GivenBack { receipts: vec![String::new(); of], not_before: Instant::now() }
    }

    #[test]
    fn no_more_is_remembered_than_stated_and_those_with_the_most_receives_go_first() {
        let (recall, now) = (recall(), Instant::now());
        recall.keep(9, now + WORTH * 2, group(1));
        for at in 0..1_000 {
            recall.keep(3, now + WORTH * 2 + Duration::from_millis(at), group(10));
        }
        let table = recall.table();
        assert_eq!((table.messages, table.waiting.len()), (REMEMBERED_MAX, 1_000));
        assert!(table.waiting.keys().all(|place| place.receives == 3));
    }

    #[test]
    fn what_comes_back_soon_is_forgotten() {
        let (recall, now) = (recall(), Instant::now());
        recall.keep(1, now + WORTH, group(2));
        recall.keep(1, now + WORTH + Duration::from_secs(1), group(3));
        assert_eq!(recall.look(now), 3);
        assert_eq!(recall.look(now + Duration::from_secs(1)), 0);
    }

    #[test]
    fn a_batch_fits_a_call_and_splits_no_group() {
        let (recall, at) = (recall(), Instant::now() + WORTH * 2);
        for (receives, of) in [(1, 4), (2, 4), (3, 4), (4, 10), (5, 1)] {
            recall.keep(receives, at, group(of));
        }
        let sizes = |most| -> Vec<usize> {
            let batch = recall.table().batch(most);
            batch.iter().map(|(_, group)| group.receipts.len()).collect()
        };
        assert_eq!(sizes(1), [4]);
        assert_eq!(sizes(9), [4, 4]);
        assert_eq!([sizes(9), sizes(9), sizes(9)], [vec![10], vec![1], vec![]]);
        assert_eq!(recall.table().messages, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn tries_double_while_nothing_fails_and_keep_their_pace_when_something_does() {
        let (mut ramp, start) = (Ramp::default(), Instant::now());
        let mut steps = |failed_at, seconds: std::ops::Range<u64>| -> Vec<usize> {
            let at = |second| start + Duration::from_secs(second);
            seconds
                .map(|second| ramp.step(at(second), failed_at))
                .filter(|most| *most > 0)
                .collect()
        };
        assert_eq!(steps(None, 0..16), [1, 2, 4, 8]);
        assert_eq!(steps(Some(start), 16..30), [1, 2]);
    }
}

//! FIFO: a batch is split into chains by message group. Chains run side by side, the messages of a
//! chain strictly in order, one at a time, each only after the delete of the one before it has been
//! confirmed; the others of the chain wait, leased.
//!
//! What becomes of the first of a chain holds for all behind it: where it is given back, they are,
//! for as long, in one call, and without a handler's having seen them. Where a lease is lost, its own
//! or that of one that waits, or a delete is not confirmed, somebody else may have the group: what
//! comes after goes back unstarted. Other groups do not notice. What comes after a message that was
//! rejected is parked: see [`crate::park`].
//!
//! The broker hands out nothing of a group while any of it is in flight, so one chain per group is
//! what a fleet has. Two meet only when leases were lost; then the later one goes back for a moment.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use contracts::{Message, Schedule, errors};
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;

use crate::attempts::{AttemptStoreError, History};
use crate::decide::{self, Action, Event};
use crate::delivery::fate::{Case, Fate};
use crate::delivery::{Core, Reading, decode, key};
use crate::driver::Received;
use crate::events::{self, Outcome};
use crate::fetch::{Batch, Taken};
use crate::lease::Cause;
use crate::park::admit::marker;
use crate::park::{Admission, MARKER_ATTRIBUTE, ParkReason, ParkStoreError};
use crate::recall::Postponed;
use crate::settle::Settled;
use crate::worker::Worker;

/// A chain that meets another one of its group in this process, or comes with a message of it that is
/// in hand already, is given back for this long.
const APART: Duration = Duration::from_secs(1);
/// Why messages go back unstarted, for those whose releases are recorded.
const BEHIND: &str = "behind another message of its group";

/// The groups in hand.
#[derive(Debug, Default)]
pub(crate) struct Groups(Mutex<BTreeSet<String>>);

/// A group's turn; dropping it ends it.
struct Turn<'a> {
    groups: &'a Groups,
    group: String,
}

impl Groups {
    fn locked(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, group: &str) -> Option<Turn<'_>> {
        let entered = self.locked().insert(group.to_owned());
        entered.then(|| Turn { groups: self, group: group.to_owned() })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.groups.locked().remove(&self.group);
    }
}

/// One message of a chain.
struct Link<M> {
    taken: Taken,
    reading: Reading<M>,
    /// What is known of its past, or why that could not be asked for.
    history: Result<History, AttemptStoreError>,
}

impl<M: Message> Link<M> {
    fn case(&self) -> Case<'_> {
        let header = match &self.reading {
            Ok(decoded) => Some(decoded.header.clone()),
            Err(undecodable) => undecodable.header.as_deref().cloned(),
        };
        let history = self.history.clone().unwrap_or_default();
        Case::of(&self.taken, header, history, self.schedule())
    }

    fn schedule(&self) -> Schedule {
        self.reading.as_ref().map_or(Schedule::STANDARD, |decoded| decoded.message.schedule())
    }
}

type Chain<M> = VecDeque<Link<M>>;

impl<W: Worker> Core<W> {
    /// Carries a batch of a FIFO queue to its end.
    pub(crate) async fn process_groups(&self, batch: Batch) {
        let groups = by_group(self.links(batch).await);
        let parked = self.parked(&groups).await;
        let mut chains = FuturesUnordered::new();
        for (at, (group, chain)) in groups.into_iter().enumerate() {
            let parked = parked.as_ref().map(|parked| parked[at]).map_err(Clone::clone);
            chains.push(self.chain(group, chain, parked));
        }
        while chains.next().await.is_some() {}
    }

    /// Which groups are parked: asked for every batch, since it may be another worker that parked one.
    async fn parked(
        &self,
        groups: &[(String, Chain<W::Message>)],
    ) -> Result<Vec<bool>, ParkStoreError> {
        let Some(parking) = &self.parking else { return Ok(vec![false; groups.len()]) };
        let names: Vec<String> = groups.iter().map(|(group, _)| group.clone()).collect();
        parking.parked(&names).await
    }

    /// Reads the messages and what is known of those that were received before.
    async fn links(&self, batch: Batch) -> Vec<Link<W::Message>> {
        let mut links: Vec<_> = batch
            .into_iter()
            .map(|taken| {
                let reading = decode::decode::<W::Message>(&taken.received);
                Link { taken, reading, history: Ok(History::default()) }
            })
            .collect();
        let again = |link: &&mut Link<W::Message>| link.taken.received.receives > 1;
        let keys: Vec<String> =
            links.iter_mut().filter(again).map(|link| key(&link.taken, &link.reading)).collect();
        if keys.is_empty() {
            return links;
        }
        let again = links.iter_mut().filter(again);
        match self.recorder.load(&keys).await {
            Ok(known) => again.zip(known).for_each(|(link, history)| link.history = Ok(history)),
            Err(error) => {
                self.breakers.failed(&error.to_string());
                again.for_each(|link| link.history = Err(error.clone()));
            }
        }
        links
    }

    async fn chain(
        &self,
        group: String,
        mut chain: Chain<W::Message>,
        parked: Result<bool, ParkStoreError>,
    ) {
        if chain.iter().any(|link| link.taken.behind_held) {
            // The one in hand is being worked on or given back; its new lease holds the group.
            return self.hold(chain, APART, Outcome::Held).await;
        }
        if let Some(error) = chain.iter().find_map(|link| link.history.clone().err()) {
            return self.postpone_chain(chain, &error).await;
        }
        let Ok(mut parked) = parked else {
            let Some(first) = chain.pop_front() else { return };
            let fate = self.store_is_down(&first.case());
            return self.break_off(first.taken, fate, chain).await;
        };
        let Some(turn) = self.groups.enter(&group) else {
            return self.hold(chain, APART, Outcome::Held).await;
        };
        while let Some(first) = chain.pop_front() {
            if let Some((taken, fate)) = self.turn(first, &mut chain, &mut parked).await {
                // No handler runs any more: the group may come back at once.
                drop(turn);
                return self.break_off(taken, fate, chain).await;
            }
        }
    }

    /// Without their past the messages of a chain cannot be judged.
    async fn postpone_chain(&self, mut chain: Chain<W::Message>, error: &AttemptStoreError) {
        let Some(first) = chain.pop_front() else { return };
        let message = &first.taken.received.message_id;
        events::RecordFailed { message, error }.emit(&self.meters);
        let mut case = first.case();
        self.note(&mut case, errors::RELEASED, "its past could not be asked for").await;
        let fate = self.apply(&case, Event::SinkDown, "attempt store").await;
        self.break_off(first.taken, fate, chain).await;
    }

    /// The first of a chain has its turn. Answers it with its fate where the next may not start.
    async fn turn(
        &self,
        mut first: Link<W::Message>,
        behind: &mut Chain<W::Message>,
        parked: &mut bool,
    ) -> Option<(Taken, Fate)> {
        if let Some(event) = self.may_not_start(&first.taken) {
            let fate = self.unstarted(&first, event).await;
            return Some((first.taken, fate));
        }
        let admitted = if *parked || marker(&first.taken.received).is_some() {
            self.admit(&mut first, parked).await
        } else {
            Ok(())
        };
        let (taken, fate) = match admitted {
            Ok(()) => self.start(first, behind).await,
            Err(fate) => (first.taken, fate),
        };
        let Fate::Over { outcome, gone: true } = fate else { return Some((taken, fate)) };
        self.meters.ended(outcome);
        *parked |= matches!(outcome, Outcome::DeadLettered | Outcome::Parked);
        None
    }

    async fn start(
        &self,
        first: Link<W::Message>,
        behind: &mut Chain<W::Message>,
    ) -> (Taken, Fate) {
        if self.suspected(&first) {
            // It will run while nothing else is in hand, those behind it included.
            self.hold(std::mem::take(behind), Duration::ZERO, Outcome::Held).await;
        }
        let Link { taken, reading, history } = first;
        let work = self.work(&taken, reading, history.unwrap_or_default());
        let fate = self.unless_draining(work, behind).await;
        (taken, fate)
    }

    /// A message of a parked group, or one that was released from it, is judged by the store. `Ok`
    /// when it runs, as what it was when it was parked.
    async fn admit(&self, first: &mut Link<W::Message>, parked: &mut bool) -> Result<(), Fate> {
        let Some(parking) = &self.parking else { return Ok(()) };
        let case = first.case();
        let header = case.header.as_ref();
        let asked = parking.admit::<W::Message>(&first.taken.received, header).await;
        let Ok(admission) = asked else { return Err(self.store_is_down(&case)) };
        match admission {
            Admission::Open => *parked = false,
            Admission::Turn { body, mut attributes } => {
                let received = &mut first.taken.received;
                let mark = received.attributes.iter().find(|(name, _)| name == MARKER_ATTRIBUTE);
                attributes.extend(mark.cloned());
                (received.body, received.attributes) = (body, attributes);
                first.reading = decode::decode::<W::Message>(received);
            }
            Admission::InLine => return Err(self.settle(&case, Outcome::Parked).await),
            Admission::Done => return Err(self.settle(&case, Outcome::Dropped).await),
            Admission::Unlettered(ParkReason { code, message }) => {
                let code = errors::CODES.iter().find(|known| known.code == code);
                let code = code.copied().unwrap_or(errors::INTERNAL);
                return Err(self.reject(&case, code, &message).await);
            }
            Admission::Full => {
                let delay = self.delay_after_rejection(&case, &self.standing(&case));
                return Err(Fate::Back { outcome: Outcome::Held, delay, recall: None });
            }
        }
        Ok(())
    }

    /// Works on the first of a chain; when a drain begins meanwhile, those behind it are given back
    /// without waiting for its end.
    async fn unless_draining(
        &self,
        work: impl Future<Output = Fate>,
        behind: &mut Chain<W::Message>,
    ) -> Fate {
        tokio::pin!(work);
        let behind = tokio::select! {
            biased;
            fate = &mut work => return fate,
            () = self.drain.cancelled() => std::mem::take(behind),
        };
        let (fate, ()) = tokio::join!(work, self.hold(behind, Duration::ZERO, Outcome::Released));
        fate
    }

    /// What keeps a message from being started although its turn has come.
    fn may_not_start(&self, taken: &Taken) -> Option<Event> {
        let lease = taken.held.lease();
        match lease.cause() {
            Some(Cause::Lost) => return Some(Event::LeaseLost),
            // It has waited until the broker's ceiling, or the budget's end.
            Some(Cause::Stuck | Cause::Drain) => return Some(Event::Drained),
            Some(Cause::SinkDown) => return Some(Event::SinkDown),
            None => {}
        }
        if lease.ended() {
            Some(Event::LeaseLost)
        } else if self.drain.is_cancelled() {
            Some(Event::Drained)
        } else {
            self.breakers.open().then_some(Event::SinkDown)
        }
    }

    async fn unstarted(&self, first: &Link<W::Message>, event: Event) -> Fate {
        let mut case = first.case();
        if event != Event::LeaseLost {
            self.note(&mut case, errors::RELEASED, "its turn came too late").await;
        }
        self.apply(&case, event, "a sink is down").await
    }

    /// Whether it is about to run alone.
    fn suspected(&self, first: &Link<W::Message>) -> bool {
        let standing = self.standing(&first.case());
        let action = decide::decide(Event::Arrived, &standing, &first.schedule());
        first.reading.is_ok() && action == Action::RunAlone
    }

    /// Ends a chain whose first message is not out of the way: what is behind it goes back too.
    async fn break_off(&self, taken: Taken, fate: Fate, behind: Chain<W::Message>) {
        let (outcome, delay, recall) = match fate {
            Fate::Over { outcome, .. } => {
                self.meters.ended(outcome);
                drop(taken);
                return self.hold(behind, Duration::ZERO, Outcome::Held).await;
            }
            Fate::Back { outcome, delay, recall } => (outcome, delay, recall),
        };
        self.note_all(&behind).await;
        let chain = || std::iter::once(&taken).chain(behind.iter().map(|link| &link.taken));
        let postponed = Postponed::now(delay, recall);
        let settled = self.settler.give_back_all(chain().map(|taken| &taken.held), delay).await;
        let confirmed = chain().zip(&settled).filter(|(_, told)| **told == Settled::Confirmed);
        self.recall.remember(postponed, confirmed.map(|(taken, _)| taken));
        let of_those_behind =
            if outcome == Outcome::Released { Outcome::Released } else { Outcome::Held };
        self.count(std::iter::once(outcome).chain(std::iter::repeat(of_those_behind)), settled);
    }

    /// Gives messages back unstarted, all for as long.
    async fn hold(&self, chain: Chain<W::Message>, delay: Duration, outcome: Outcome) {
        if chain.is_empty() {
            return;
        }
        if outcome == Outcome::Released {
            join_all(chain.iter().map(|link| link.taken.held.wait_for(&self.polls_over))).await;
        }
        self.note_all(&chain).await;
        let held = chain.iter().map(|link| &link.taken.held);
        let settled = self.settler.give_back_all(held, delay).await;
        self.count(std::iter::repeat(outcome), settled);
    }

    fn count(&self, outcomes: impl Iterator<Item = Outcome>, settled: Vec<Settled>) {
        for (outcome, settled) in outcomes.zip(settled) {
            self.meters.ended(match settled {
                Settled::Confirmed => outcome,
                Settled::Unconfirmed => Outcome::Lost,
            });
        }
    }

    /// Records that they were given back unstarted, where that might be taken for crashes: to wait
    /// behind another one is no attempt.
    async fn note_all(&self, chain: &Chain<W::Message>) {
        join_all(chain.iter().map(|link| async move {
            let mut case = link.case();
            self.note(&mut case, errors::RELEASED, BEHIND).await;
        }))
        .await;
    }
}

/// Splits a batch by group, groups and messages in the order of the batch; inside a group the
/// broker's own numbers win. Messages without a group are one group: order is the safe side.
fn by_group<M>(links: Vec<Link<M>>) -> Vec<(String, Chain<M>)> {
    let mut chains: Vec<(String, Chain<M>)> = Vec::new();
    for link in links {
        let group = link.taken.received.group.clone().unwrap_or_default();
        match chains.iter_mut().find(|(other, _)| *other == group) {
            Some((_, chain)) => chain.push_back(link),
            None => chains.push((group, VecDeque::from([link]))),
        }
    }
    for (_, chain) in &mut chains {
        chain
            .make_contiguous()
            .sort_by(|a, b| position(&a.taken.received).cmp(&position(&b.taken.received)));
    }
    chains
}

/// A broker's sequence number, which has up to 128 bits, as something that compares like it.
fn position(received: &Received) -> Option<(usize, &str)> {
    let digits = received.sequence.as_deref()?.trim_start_matches('0');
    Some((digits.len(), digits))
}

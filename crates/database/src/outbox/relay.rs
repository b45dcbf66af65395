//! The relay: sends what the outbox holds for its queues, page by page, each group in the order of its ids
//! and the groups in turn. Any number of them may run, in schedulers, active or not; of each queue one has
//! its turn. While it sends it holds no connection: a step takes one and gives it back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use contracts::catalogue::QueueKind;
use contracts::{QueueSpec, Schedule};
use futures_util::future::join_all;
use queue_core::backoff::{Jitter, interval};
use queue_core::{Driver, SendError, SendLimits, Sender};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::events::{PassFailed, Published, Refused, Unavailable, counted};
use super::page::{self, Held, QueueFigures, Waiting, Wanted};
use crate::error::timed;
use crate::pool::Database;

/// How long a queue that does not answer is left alone.
const UNAVAILABLE: Schedule = Schedule {
    base: Duration::from_secs(1),
    ceiling: Duration::from_secs(15),
    failures_max: u32::MAX,
};
/// How long a refused message waits.
const REFUSED: Schedule = Schedule {
    base: Duration::from_secs(5),
    ceiling: Duration::from_secs(600),
    failures_max: u32::MAX,
};
/// Between two counts of what waits.
const COUNT: Duration = Duration::from_secs(10);
/// One call to PostgreSQL.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Bounds of a [`Relay`].
#[derive(Clone, Copy, Debug)]
pub struct RelayLimits {
    /// Messages of a page at most.
    pub page_rows: u32,
    /// Bytes of a page, but for its first message.
    pub page_bytes: u32,
    /// Between two looks where there was nothing more to send.
    pub sweep: Duration,
    /// How long the drain may go on sending what is left.
    pub drain: Duration,
    /// How long a relay has a queue that it took. Half of it is what sending a page may take; after a crash
    /// the queue waits for the rest.
    pub lease: Duration,
}

impl Default for RelayLimits {
    /// 100 messages or 8 MiB; a look every second; 5 s of drain; a minute per page, 30 s of it to send.
    fn default() -> Self {
        Self {
            page_rows: 100,
            page_bytes: 8 << 20,
            sweep: Duration::from_secs(1),
            drain: Duration::from_secs(5),
            lease: Duration::from_secs(60),
        }
    }
}

/// A sender as relays use it: patient, and in order. Give it a packer where bodies may be large.
pub fn sender(queue: Arc<dyn Driver>) -> Sender {
    let limits = SendLimits {
        attempts: 3,
        deadline: Duration::from_secs(10),
        batches_in_flight_max: 4,
        ..SendLimits::default()
    };
    Sender::new(queue, limits)
}

/// What one pass over the queues did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Messages that the broker has accepted.
    pub sent: u64,
    /// Messages that it did not accept now.
    pub left: u64,
    /// A page was full: there may be more at once.
    pub more: bool,
}

/// Sends what the outbox holds.
#[derive(Debug)]
pub struct Relay {
    database: Database,
    routes: Vec<(&'static QueueSpec, Sender)>,
    limits: RelayLimits,
    jitter: Jitter,
    /// By queue: the group whose turn came last.
    turns: Mutex<BTreeMap<&'static str, String>>,
}

impl Relay {
    /// A relay for these queues. Needs [`crate::Role::Worker`].
    pub fn new(database: &Database, routes: Vec<(&'static QueueSpec, Sender)>) -> Self {
        Self {
            database: database.clone(),
            routes,
            limits: RelayLimits::default(),
            jitter: Jitter::new(None),
            turns: Mutex::default(),
        }
    }

    /// With other bounds.
    #[must_use]
    pub fn limited(self, limits: RelayLimits) -> Self {
        Self { limits, ..self }
    }

    fn queues(&self) -> Vec<&'static str> {
        self.routes.iter().map(|(spec, _)| spec.key).collect()
    }

    /// What waits for its queues.
    pub async fn figures(&self) -> Result<Vec<QueueFigures>, sqlx::Error> {
        timed(CALL_TIMEOUT, page::figures(self.database.pool(), &self.queues())).await
    }

    /// Sends until `drain`, and what is left then for [`RelayLimits::drain`] at most. What is not sent
    /// stays for another relay, or for the next start. Part of the work, not a background task: a task
    /// that is dropped in the middle may send a page twice.
    pub async fn run(&self, drain: CancellationToken) {
        let mut counted_at: Option<Instant> = None;
        while !drain.is_cancelled() {
            if counted_at.is_none_or(|at| at.elapsed() >= COUNT) {
                self.count().await;
                counted_at = Some(Instant::now());
            }
            match self.pass().await {
                Ok(Passed { more: true, .. }) => continue,
                Ok(_) => {}
                Err(error) => PassFailed { error: &error }.emit(),
            }
            tokio::select! {
                () = drain.cancelled() => {}
                () = tokio::time::sleep(self.limits.sweep) => {}
            }
        }
        tokio::time::timeout(self.limits.drain, self.flush()).await.ok();
    }

    async fn count(&self) {
        match self.figures().await {
            Ok(figures) => counted(&figures),
            Err(error) => PassFailed { error: &error }.emit(),
        }
    }

    /// Passes until nothing is left that can be sent now.
    pub async fn flush(&self) {
        while matches!(self.pass().await, Ok(Passed { sent, .. }) if sent > 0) {}
    }

    /// One page of each queue that has something to send, the queues at the same time.
    pub async fn pass(&self) -> Result<Passed, sqlx::Error> {
        let (pool, queues) = (self.database.pool(), self.queues());
        timed(CALL_TIMEOUT, page::ensure(pool, &queues)).await?;
        let due = timed(CALL_TIMEOUT, page::due(pool, &queues)).await?;
        let due = self.routes.iter().filter(|(spec, _)| due.iter().any(|key| key == spec.key));
        let pages = join_all(due.map(|(spec, sender)| self.page(spec, sender))).await;
        let mut total = Passed::default();
        for page in pages {
            let page = page?;
            total.sent += page.sent;
            total.left += page.left;
            total.more |= page.more;
        }
        Ok(total)
    }

    /// Reads, sends and takes out one page. A death before the end sends the page again.
    async fn page(&self, spec: &'static QueueSpec, to: &Sender) -> Result<Passed, sqlx::Error> {
        let pool = self.database.pool();
        let taken = timed(CALL_TIMEOUT, page::take(pool, spec.key, self.limits.lease)).await?;
        let Some(held) = taken else { return Ok(Passed::default()) };
        let until = Instant::now() + self.limits.lease / 2;
        let (waiting, more) = self.read(spec).await?;
        let outcomes = send(to, spec.kind == QueueKind::Fifo, &waiting, until).await;
        let settled = self.settle(spec, held, &waiting, outcomes).await?;
        let passed = Passed {
            sent: settled.sent,
            left: waiting.len() as u64 - settled.sent,
            more: more && settled.unavailable.is_none(),
        };
        if passed.sent > 0 {
            Published { queue: spec.key, messages: passed.sent }.emit();
        }
        if let Some((messages, error)) = settled.unavailable {
            Unavailable { queue: spec.key, messages, error: &error }.emit();
        }
        Ok(passed)
    }

    /// The next page, of the groups whose turn it is, and whether there may be more at once.
    async fn read(&self, spec: &'static QueueSpec) -> Result<(Vec<Waiting>, bool), sqlx::Error> {
        let RelayLimits { page_rows, page_bytes, .. } = self.limits;
        let mut after = self.turn(spec);
        loop {
            let wanted = Wanted {
                queue: spec.key,
                fifo: spec.kind == QueueKind::Fifo,
                rows: i64::from(page_rows),
                bytes: i64::from(page_bytes),
                after: &after,
            };
            let waiting = timed(CALL_TIMEOUT, page::read(self.database.pool(), wanted)).await?;
            if waiting.is_empty() && !after.is_empty() {
                after.clear();
                continue;
            }
            let bytes: usize = waiting.iter().map(|row| row.envelope.len()).sum();
            let full = waiting.len() == page_rows as usize || bytes >= page_bytes as usize;
            // Where not every group had its turn, the next page begins behind the last that had.
            let last = waiting.last().filter(|last| full && last.turn == 1);
            self.note_turn(spec, last.map_or("", |last| last.group.as_str()));
            return Ok((waiting, full || !after.is_empty()));
        }
    }

    fn turn(&self, spec: &QueueSpec) -> String {
        let turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.get(spec.key).cloned().unwrap_or_default()
    }

    fn note_turn(&self, spec: &'static QueueSpec, group: &str) {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.insert(spec.key, group.to_owned());
    }

    /// Takes out what was sent, marks what was refused, and gives the queue back.
    async fn settle(
        &self,
        spec: &QueueSpec,
        held: Held,
        waiting: &[Waiting],
        outcomes: Vec<Outcome>,
    ) -> Result<Settled, sqlx::Error> {
        let (mut sent, mut refused) = (Vec::with_capacity(waiting.len()), Vec::new());
        let mut unavailable: Option<(u64, String)> = None;
        for (row, outcome) in waiting.iter().zip(outcomes) {
            match outcome {
                Outcome::Sent => sent.push(row.id),
                Outcome::Behind => {}
                Outcome::Unavailable(error) => {
                    unavailable.get_or_insert((0, error)).0 += 1;
                }
                Outcome::Refused(error) => {
                    Refused { queue: spec.key, id: row.id, error: &error }.emit();
                    refused.push((row, error));
                }
            }
        }
        let failures = match &unavailable {
            Some(_) if sent.is_empty() => held.failures.saturating_add(1),
            Some(_) => 1,
            None => 0,
        };
        let wait = (failures > 0).then(|| self.jitter.full(interval(&UNAVAILABLE, failures)));
        let marking = async {
            let mut transaction = self.database.pool().begin().await?;
            for (row, error) in &refused {
                // Not less than half: full jitter could try a hopeless message at once.
                let whole = interval(&REFUSED, row.refusals + 1);
                let wait = whole / 2 + self.jitter.full(whole / 2);
                page::refused(&mut transaction, row.id, wait, error).await?;
            }
            page::forget(&mut transaction, &sent).await?;
            page::answered(&mut transaction, spec.key, held, failures, wait).await?;
            transaction.commit().await
        };
        timed(CALL_TIMEOUT, marking).await?;
        Ok(Settled { sent: sent.len() as u64, unavailable })
    }
}

/// What became of a page.
struct Settled {
    sent: u64,
    /// How many the queue did not answer, and why the first.
    unavailable: Option<(u64, String)>,
}

/// What became of one message.
#[derive(Debug)]
enum Outcome {
    /// The broker has it.
    Sent,
    /// Not tried: a message before it, of its group, did not leave.
    Behind,
    /// It may be sent, and may have arrived.
    Unavailable(String),
    /// The broker would refuse it again.
    Refused(String),
}

/// Sends a page until that time; the outcomes are in its order. On a FIFO queue a group's messages leave one
/// after the other, and none that is behind one which did not.
async fn send(to: &Sender, fifo: bool, waiting: &[Waiting], until: Instant) -> Vec<Outcome> {
    if !fifo {
        return join_all(waiting.iter().map(|row| send_one(to, row, until))).await;
    }
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, row) in waiting.iter().enumerate() {
        groups.entry(&row.group).or_default().push(at);
    }
    let groups = groups.into_values().map(async |places| {
        let mut outcomes = Vec::with_capacity(places.len());
        let mut going = true;
        for at in places {
            let outcome =
                if going { send_one(to, &waiting[at], until).await } else { Outcome::Behind };
            going = matches!(outcome, Outcome::Sent);
            outcomes.push((at, outcome));
        }
        outcomes
    });
    let mut outcomes: Vec<_> = join_all(groups).await.into_iter().flatten().collect();
    outcomes.sort_by_key(|(at, _)| *at);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

async fn send_one(to: &Sender, row: &Waiting, until: Instant) -> Outcome {
    let (envelope, frame) = match super::read(&row.envelope, &row.frame) {
        Ok(read) => read,
        Err(unreadable) => return Outcome::Refused(unreadable.to_string()),
    };
    match tokio::time::timeout_at(until, to.send_envelope(&envelope, frame)).await {
        Ok(Ok(())) => Outcome::Sent,
        Ok(Err(error @ (SendError::TooLarge(_) | SendError::Refused(_)))) => {
            Outcome::Refused(error.to_string())
        }
        Ok(Err(error @ (SendError::Full(_) | SendError::Unavailable(_)))) => {
            Outcome::Unavailable(error.to_string())
        }
        Err(_elapsed) => Outcome::Unavailable("no answer while the queue was ours".to_owned()),
    }
}

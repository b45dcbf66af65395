//! The relay: sends what the outbox holds for its queues, in the order of the ids, page by page. Any
//! number of them may run; of each queue one has its turn. It runs in a worker's process for the
//! queues that this worker fills, and in the scheduler for whatever was left.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use contracts::catalogue::QueueKind;
use contracts::{QueueSpec, Schedule};
use futures_util::future::join_all;
use queue_core::backoff::{Jitter, interval};
use queue_core::{Driver, SendError, SendLimits, Sender};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::events::{PassFailed, Published, Refused, Unavailable, counted};
use super::page::{self, QueueFigures, Waiting};
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
    /// Messages of a page at most; one transaction each.
    pub page_rows: u32,
    /// Bytes of a page, but for its first message.
    pub page_bytes: u32,
    /// Between two looks while nobody wakes it.
    pub sweep: Duration,
    /// How long the drain may go on sending what is left.
    pub drain: Duration,
}

impl Default for RelayLimits {
    /// 100 messages or 8 MiB; a look every second; 5 s of drain.
    fn default() -> Self {
        Self {
            page_rows: 100,
            page_bytes: 8 << 20,
            sweep: Duration::from_secs(1),
            drain: Duration::from_secs(5),
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

/// Wakes a relay of this process.
#[derive(Clone, Debug, Default)]
pub struct Waker(Arc<Notify>);

impl Waker {
    /// Something was committed to the outbox.
    pub fn wake(&self) {
        self.0.notify_one();
    }
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
    waker: Waker,
}

impl Relay {
    /// A relay for these queues. Needs [`crate::Role::Worker`].
    pub fn new(database: &Database, routes: Vec<(&'static QueueSpec, Sender)>) -> Self {
        Self {
            database: database.clone(),
            routes,
            limits: RelayLimits::default(),
            jitter: Jitter::new(None),
            waker: Waker::default(),
        }
    }

    /// With other bounds.
    #[must_use]
    pub fn limited(self, limits: RelayLimits) -> Self {
        Self { limits, ..self }
    }

    /// Wakes it.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
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
                () = self.waker.0.notified() => {}
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

    /// Reads, sends and takes out one page. A death before the commit sends the page again.
    async fn page(&self, spec: &'static QueueSpec, to: &Sender) -> Result<Passed, sqlx::Error> {
        let mut transaction = timed(CALL_TIMEOUT, self.database.pool().begin()).await?;
        let taken = timed(CALL_TIMEOUT, page::take(&mut transaction, spec.key)).await?;
        let Some(failures) = taken else { return Ok(Passed::default()) };
        let fifo = spec.kind == QueueKind::Fifo;
        let RelayLimits { page_rows, page_bytes, .. } = self.limits;
        let (rows, bytes) = (i64::from(page_rows), i64::from(page_bytes));
        let read = page::read(&mut transaction, spec.key, fifo, rows, bytes);
        let waiting = timed(CALL_TIMEOUT, read).await?;
        let full = waiting.len() == page_rows as usize
            || waiting.iter().map(|row| row.envelope.len()).sum::<usize>() >= page_bytes as usize;
        let outcomes = send(to, fifo, &waiting).await;

        let mut sent = Vec::with_capacity(waiting.len());
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
                    // Not less than half: full jitter could try a hopeless message at once.
                    let whole = interval(&REFUSED, row.refusals + 1);
                    let wait = whole / 2 + self.jitter.full(whole / 2);
                    let mark = page::refused(&mut transaction, row.id, wait, &error);
                    timed(CALL_TIMEOUT, mark).await?;
                }
            }
        }
        timed(CALL_TIMEOUT, page::forget(&mut transaction, &sent)).await?;
        let failures = match &unavailable {
            Some(_) if sent.is_empty() => failures.saturating_add(1),
            Some(_) => 1,
            None => 0,
        };
        let wait = (failures > 0).then(|| self.jitter.full(interval(&UNAVAILABLE, failures)));
        let mark = page::answered(&mut transaction, spec.key, failures, wait);
        timed(CALL_TIMEOUT, mark).await?;
        timed(CALL_TIMEOUT, transaction.commit()).await?;

        let passed = Passed {
            sent: sent.len() as u64,
            left: (waiting.len() - sent.len()) as u64,
            more: full && unavailable.is_none(),
        };
        if passed.sent > 0 {
            Published { queue: spec.key, messages: passed.sent }.emit();
        }
        if let Some((messages, error)) = unavailable {
            Unavailable { queue: spec.key, messages, error: &error }.emit();
        }
        Ok(passed)
    }
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

/// Sends a page; the outcomes are in its order. On a FIFO queue a group's messages leave one after the
/// other, and none that is behind one which did not.
async fn send(to: &Sender, fifo: bool, waiting: &[Waiting]) -> Vec<Outcome> {
    if !fifo {
        return join_all(waiting.iter().map(|row| send_one(to, row))).await;
    }
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, row) in waiting.iter().enumerate() {
        groups.entry(&row.group).or_default().push(at);
    }
    let groups = groups.into_values().map(async |places| {
        let mut outcomes = Vec::with_capacity(places.len());
        let mut going = true;
        for at in places {
            let outcome = if going { send_one(to, &waiting[at]).await } else { Outcome::Behind };
            going = matches!(outcome, Outcome::Sent);
            outcomes.push((at, outcome));
        }
        outcomes
    });
    let mut outcomes: Vec<_> = join_all(groups).await.into_iter().flatten().collect();
    outcomes.sort_by_key(|(at, _)| *at);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

async fn send_one(to: &Sender, row: &Waiting) -> Outcome {
    let (envelope, frame) = match super::read(&row.envelope, &row.frame) {
        Ok(read) => read,
        Err(unreadable) => return Outcome::Refused(unreadable.to_string()),
    };
    match to.send_envelope(&envelope, frame).await {
        Ok(()) => Outcome::Sent,
        Err(error @ (SendError::TooLarge(_) | SendError::Refused(_))) => {
            Outcome::Refused(error.to_string())
        }
        Err(error @ (SendError::Full(_) | SendError::Unavailable(_))) => {
            Outcome::Unavailable(error.to_string())
        }
    }
}

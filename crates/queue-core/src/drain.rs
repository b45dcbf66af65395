//! The drain, in a fixed order inside a stated budget: polls finish, handlers finish, acknowledgements
//! flush to empty, what never started is given back at once, a report says how it went. It aborts no
//! poll and deletes nothing that was not handled.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::attempts::recorder::Recorder;
use crate::config::SETTLE_RESERVE;
use crate::engine::DrainReport;
use crate::events::{self, Meters};
use crate::lease::{Cause, Leases};
use crate::send::Sender;
use crate::settle::Settler;
use crate::status::EngineStatus;

pub(crate) struct Drain {
    pub(crate) budget: Duration,
    pub(crate) deliveries: TaskTracker,
    pub(crate) leases: Arc<Leases>,
    pub(crate) settler: Arc<Settler>,
    pub(crate) dead_letters: Sender,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) status: Arc<EngineStatus>,
    pub(crate) meters: Arc<Meters>,
}

impl Drain {
    /// Runs after the drain token was cancelled; `polls` ends when the last poll has come back.
    pub(crate) async fn run(self, polls: &mut JoinHandle<()>) -> DrainReport {
        let started = Instant::now();
        let deadline = started + self.budget;
        let in_hand = self.status.in_flight.load(Ordering::Relaxed);
        let (ended, released) = (read(&self.status.ended), read(&self.status.released));
        let unconfirmed = read(&self.status.unconfirmed);
        events::DrainStarted { in_hand, budget: self.budget }.emit(&self.meters);
        let mut cancelled = 0;
        let finish = async {
            // What the last polls bring is given back by the deliveries they start.
            let _ended = polls.await;
            self.deliveries.close();
            self.deliveries.wait().await;
        };
        tokio::pin!(finish);
        if tokio::time::timeout_at(deadline - SETTLE_RESERVE, &mut finish).await.is_err() {
            cancelled = self.leases.cancel_all(Cause::Drain);
            let _late = tokio::time::timeout_at(deadline, &mut finish).await;
        }
        let flush = async { tokio::join!(self.settler.close(), self.dead_letters.close()) };
        // What the attempt store could not take would be gone with the process: one more try.
        let kept = tokio::time::timeout_at(deadline, self.recorder.write_kept());
        let (flushed, _kept) = tokio::join!(tokio::time::timeout_at(deadline, flush), kept);
        let unconfirmed = read(&self.status.unconfirmed).saturating_sub(unconfirmed);
        let unsettled = self.status.in_flight.load(Ordering::Relaxed) + unconfirmed;
        let released = read(&self.status.released).saturating_sub(released);
        let ended = read(&self.status.ended).saturating_sub(ended);
        let report = DrainReport {
            in_hand,
            finished: ended.saturating_sub(released),
            released: released.saturating_sub(cancelled),
            cancelled,
            unsettled,
            took: started.elapsed(),
            within_budget: flushed.is_ok() && unsettled == 0 && cancelled == 0,
            fault: None,
        };
        events::DrainEnded { report: &report }.emit(&self.meters);
        report
    }
}

fn read(figure: &AtomicU64) -> usize {
    usize::try_from(figure.load(Ordering::Relaxed)).unwrap_or(usize::MAX)
}

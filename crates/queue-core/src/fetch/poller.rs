//! One poller: room, then one long poll with an attempt timeout above its wait, then the batch is
//! handed on. A poll that has begun is always awaited, also in a drain: SQS hands the messages of an
//! aborted one to nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use contracts::Schedule;
use tokio::time::Instant;

use super::gate::Flow;
use super::{Batch, Fetcher};
use crate::backoff;
use crate::driver::{BATCH_ENTRIES_MAX, DriverError, ReceiveRequest, Received};
use crate::events;

/// Between polls that fail.
const POLL_RETRY: Schedule = Schedule {
    base: Duration::from_secs(1),
    ceiling: Duration::from_secs(30),
    failures_max: u32::MAX,
};

/// Since when a poller polls, readable by the watchdog.
#[derive(Debug)]
pub(super) struct Beat {
    started: Instant,
    /// Milliseconds after `started`, plus one; zero while it is not polling.
    since: AtomicU64,
}

impl Beat {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), since: AtomicU64::new(0) }
    }

    fn begin(&self) {
        let at = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.since.store(at + 1, Ordering::Relaxed);
    }

    fn end(&self) {
        self.since.store(0, Ordering::Relaxed);
    }

    /// How long the current poll has been running.
    pub(super) fn polling_for(&self) -> Option<Duration> {
        let at = self.since.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.started.elapsed().saturating_sub(Duration::from_millis(at)))
    }
}

/// Polls until the drain begins.
pub(super) async fn run(fetcher: Arc<Fetcher>, index: usize, beat: Arc<Beat>) {
    let pass = fetcher.gate.pass(index);
    let mut failures = 0;
    loop {
        let flow = tokio::select! {
            biased;
            () = fetcher.drain.cancelled() => return,
            flow = pass.opened() => flow,
        };
        let want = if flow == Flow::OneByOne { 1 } else { BATCH_ENTRIES_MAX };
        let room = tokio::select! {
            biased;
            () = fetcher.drain.cancelled() => return,
            room = fetcher.permits.take(want) => room,
        };
        let Some(room) = room else { return };
        // It may have taken a while to get them.
        if pass.now() != flow {
            continue;
        }
        let asked = room.messages();
        beat.begin();
        let answer = poll(&fetcher, asked).await;
        let received_at = Instant::now();
        beat.end();
        fetcher.status.polled();
        match answer {
            Ok(messages) => {
                failures = 0;
                fetcher.gate.polled(asked, messages.len());
                if let Some(batch) = fetcher.take(messages, room, received_at) {
                    dispatch(&fetcher, batch, flow).await;
                }
            }
            Err(error) => {
                drop(room);
                failures += 1;
                fetcher.gate.poll_failed();
                let pause = fetcher.jitter.full(backoff::interval(&POLL_RETRY, failures))
                    + Duration::from_millis(100);
                events::PollFailed { error: &error, pause }.emit(&fetcher.meters);
                tokio::select! {
                    biased;
                    () = fetcher.drain.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
    }
}

async fn poll(fetcher: &Fetcher, max: usize) -> Result<Vec<Received>, DriverError> {
    let request = ReceiveRequest { max, wait: fetcher.wait, lease: fetcher.lease };
    fetcher.meters.called("receive");
    fetcher.status.pollers.fetch_add(1, Ordering::Relaxed);
    let _polling = Polling(&fetcher.status.pollers);
    let limit = fetcher.attempt_max;
    tokio::time::timeout(limit, fetcher.driver.receive(request))
        .await
        .unwrap_or_else(|_| Err(DriverError::Timeout(format!("no answer in {limit:?}"))))
}

/// Counts a poller while it polls, also when it is dropped half-way.
struct Polling<'a>(&'a std::sync::atomic::AtomicUsize);

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn dispatch(fetcher: &Fetcher, batch: Batch, flow: Flow) {
    let work = fetcher.deliveries.spawn((fetcher.dispatch)(batch));
    if flow == Flow::OneByOne {
        // The trial: its outcome decides about the next poll, where there is one.
        tokio::select! {
            biased;
            _ended = work => {}
            () = fetcher.drain.cancelled() => {}
        }
    }
}

//! Time in a simulated world: tokio's, which is paused and jumps from event to event; the broker's and
//! the ledger's, which goes on while processes stand still; and the processes' wall clocks, which may
//! be wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use queue_core::Clock;
use tokio::time::Instant;

/// 2026-01-01, so that times look like times.
pub(super) const EPOCH_MS: i64 = 1_767_225_600_000;

#[derive(Debug)]
pub(super) struct Time {
    started: Instant,
    /// By which servers are ahead of the processes' durations.
    ahead_ms: AtomicI64,
    /// By which the processes' wall clocks are wrong.
    jumped_ms: AtomicI64,
}

impl Time {
    pub(super) fn new() -> Arc<Self> {
        let (ahead_ms, jumped_ms) = (AtomicI64::new(0), AtomicI64::new(0));
        Arc::new(Self { started: Instant::now(), ahead_ms, jumped_ms })
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The servers' time.
    pub(super) fn now_ms(&self) -> i64 {
        let elapsed = i64::try_from(self.elapsed().as_millis()).unwrap();
        EPOCH_MS + elapsed + self.ahead_ms.load(Ordering::Relaxed)
    }

    pub(super) fn suspend(&self, seconds: u64) {
        self.ahead_ms.fetch_add(i64::try_from(seconds * 1_000).unwrap(), Ordering::Relaxed);
    }

    pub(super) fn jump(&self, seconds: i64) {
        self.jumped_ms.store(seconds * 1_000, Ordering::Relaxed);
    }
}

/// The clock of a server.
pub(super) struct ServerClock(pub(super) Arc<Time>);

/// The clock of a process.
pub(super) struct WallClock(pub(super) Arc<Time>);

impl Clock for ServerClock {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.0.now_ms()).unwrap()
    }
}

impl Clock for WallClock {
    fn now(&self) -> DateTime<Utc> {
        let wrong = self.0.jumped_ms.load(Ordering::Relaxed);
        DateTime::from_timestamp_millis(self.0.now_ms() + wrong).unwrap()
    }
}

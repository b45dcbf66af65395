//! The server's clock: milliseconds since the epoch that never go back while it runs. It follows
//! tokio's clock, so that a test which pauses that one moves the broker's time too.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started_at_ms: i64,
    started: Instant,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "the one place here that reads the clock")]
    pub(crate) fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let started_at_ms = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
        Self { started_at_ms, started: Instant::now() }
    }

    pub(crate) fn now_ms(&self) -> i64 {
        let elapsed = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.started_at_ms.saturating_add(elapsed)
    }

    /// When that time comes, on tokio's clock.
    pub(crate) fn instant(&self, at_ms: i64) -> Instant {
        let after = u64::try_from(at_ms.saturating_sub(self.started_at_ms)).unwrap_or(0);
        self.started + Duration::from_millis(after)
    }
}

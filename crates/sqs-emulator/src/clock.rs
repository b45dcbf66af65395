//! The server's clock: milliseconds since the epoch that never go back while it runs. It follows
//! tokio's clock, so that a test which pauses that one moves the broker's time too, and can be moved
//! ahead of it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// How far a clock can be moved ahead, milliseconds: ten years.
pub(crate) const AHEAD_MS_MAX: i64 = 10 * 365 * 86_400_000;

#[derive(Debug)]
pub(crate) struct Clock {
    started_at_ms: i64,
    started: Instant,
    ahead_ms: AtomicI64,
}

impl Clock {
    /// Starts at the system's time, or at `not_before` when that is later.
    #[expect(clippy::disallowed_methods, reason = "the one place here that reads the clock")]
    pub(crate) fn start(not_before_ms: i64) -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let started_at_ms = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
        let ahead_ms = not_before_ms.saturating_sub(started_at_ms).max(0);
        Self { started_at_ms, started: Instant::now(), ahead_ms: AtomicI64::new(ahead_ms) }
    }

    pub(crate) fn now_ms(&self) -> i64 {
        let elapsed = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.started_at_ms.saturating_add(elapsed).saturating_add(self.ahead_ms())
    }

    /// Milliseconds ahead of the system's clock.
    pub(crate) fn ahead_ms(&self) -> i64 {
        self.ahead_ms.load(Ordering::Relaxed)
    }

    /// Moves it ahead; `false`, and nothing happens, when that is too far.
    pub(crate) fn advance(&self, ms: u64) -> bool {
        let further = |ahead: i64| {
            let moved = ahead.checked_add(i64::try_from(ms).ok()?)?;
            (moved <= AHEAD_MS_MAX).then_some(moved)
        };
        self.ahead_ms.fetch_update(Ordering::Relaxed, Ordering::Relaxed, further).is_ok()
    }

    /// When that time comes, on tokio's clock.
    pub(crate) fn instant(&self, at_ms: i64) -> Instant {
        let after = at_ms.saturating_sub(self.started_at_ms).saturating_sub(self.ahead_ms());
        self.started + Duration::from_millis(u64::try_from(after).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_moves_ahead_as_far_as_allowed_and_never_back() {
        let clock = Clock::start(0);
        let before = clock.now_ms();
        assert!(clock.advance(60_000));
        assert_eq!((clock.now_ms(), clock.ahead_ms()), (before + 60_000, 60_000));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(clock.now_ms(), before + 61_000);
        assert_eq!(clock.instant(before + 61_500), Instant::now() + Duration::from_millis(500));
        let rest = u64::try_from(AHEAD_MS_MAX - 60_000).unwrap();
        assert!(!clock.advance(rest + 1));
        assert!(!clock.advance(u64::MAX));
        assert!(clock.advance(rest));
        assert_eq!(Clock::start(before + 5_000).now_ms(), before + 5_000, "goes on where it was");
    }
}

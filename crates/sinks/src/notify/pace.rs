//! At most one message per interval and target, before it is sent: Slack disables an app that ignores
//! its limit. It knows this process alone; what other processes send shows as a 429, which closes the
//! target here too.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Targets remembered. Only those used within the last interval matter.
const TARGETS_MAX: usize = 4_096;

/// When each target may be sent to next.
pub(super) struct Pace {
    interval: Duration,
    /// Waited for at most; beyond it nothing is reserved.
    wait_max: Duration,
    next: Mutex<HashMap<String, Instant>>,
}

/// A target is its URL, which is a password: only how many there are is shown.
impl std::fmt::Debug for Pace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let targets = self.next.lock().unwrap_or_else(PoisonError::into_inner).len();
        f.debug_struct("Pace").field("targets", &targets).finish_non_exhaustive()
    }
}

impl Pace {
    pub(super) fn new(interval: Duration, wait_max: Duration) -> Self {
        Self { interval, wait_max, next: Mutex::default() }
    }

    /// Waits for the target's turn; where it is too far away answers how far, and takes none.
    pub(super) async fn turn(&self, target: &str) -> Result<(), Duration> {
        let at = self.reserve(target, Instant::now())?;
        tokio::time::sleep_until(at).await;
        Ok(())
    }

    fn reserve(&self, target: &str, now: Instant) -> Result<Instant, Duration> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if next.len() >= TARGETS_MAX {
            next.retain(|_, at| *at > now);
        }
        let at = next.get(target).copied().filter(|at| *at > now).unwrap_or(now);
        let wait = at - now;
        if wait > self.wait_max {
            return Err(wait);
        }
        if next.len() >= TARGETS_MAX && !next.contains_key(target) {
            return Err(self.interval);
        }
        next.insert(target.to_owned(), at + self.interval);
        Ok(at)
    }

    /// Nothing goes to the target for so long.
    pub(super) fn close(&self, target: &str, length: Duration) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let until = Instant::now() + length;
        let at = next.entry(target.to_owned()).or_insert(until);
        *at = until.max(*at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn one_a_second_per_target_and_no_wait_beyond_the_limit() {
        let pace = Pace::new(SECOND, 2 * SECOND);
        let started = Instant::now();
        for _ in 0..3 {
            pace.turn("a").await.unwrap();
        }
        assert_eq!(started.elapsed(), 2 * SECOND);
        pace.turn("b").await.unwrap();
        assert_eq!(started.elapsed(), 2 * SECOND, "another target does not wait");
        pace.close("a", 30 * SECOND);
        assert_eq!(pace.turn("a").await, Err(30 * SECOND));
        tokio::time::advance(30 * SECOND).await;
        assert_eq!(pace.turn("a").await, Ok(()), "and what was refused reserved nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let pace = Pace::new(SECOND, SECOND);
        for target in 0..TARGETS_MAX {
            pace.reserve(&target.to_string(), Instant::now()).unwrap();
        }
        assert_eq!(pace.turn("one more").await, Err(SECOND));
        tokio::time::advance(SECOND).await;
        assert_eq!(pace.turn("one more").await, Ok(()));
    }
}

//! Capacity: one permit per message in hand, taken before a poll, so that nothing is fetched that
//! cannot start. What a poll did not use goes back at once; the rest when each message ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a poller waits for room for a whole batch before it asks for less: fuller polls are
/// fewer calls.
const PATIENCE: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(crate) struct Permits {
    semaphore: Arc<Semaphore>,
    total: usize,
}

impl Permits {
    pub(crate) fn new(total: usize) -> Self {
        Self { semaphore: Arc::new(Semaphore::new(total)), total }
    }

    /// Takes `want` permits, or after [`PATIENCE`] what there is, at least one.
    pub(crate) async fn take(&self, want: usize) -> Option<OwnedSemaphorePermit> {
        let want = u32::try_from(want.clamp(1, self.total)).unwrap_or(1);
        if let Ok(permit) = Arc::clone(&self.semaphore).try_acquire_many_owned(want) {
            return Some(permit);
        }
        let whole = Arc::clone(&self.semaphore).acquire_many_owned(want);
        if let Ok(permit) = tokio::time::timeout(PATIENCE, whole).await {
            return permit.ok();
        }
        let mut permit = Arc::clone(&self.semaphore).acquire_owned().await.ok()?;
        for _ in 1..want {
            match Arc::clone(&self.semaphore).try_acquire_owned() {
                Ok(more) => permit.merge(more),
                Err(_) => break,
            }
        }
        Some(permit)
    }

    /// Takes all that one message in hand does not hold: nothing else is handled or polled then.
    pub(crate) async fn take_the_others(&self) -> Option<OwnedSemaphorePermit> {
        let others = u32::try_from(self.total - 1).unwrap_or(u32::MAX);
        Arc::clone(&self.semaphore).acquire_many_owned(others).await.ok()
    }
}

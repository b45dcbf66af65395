//! The one place where tests wait for a condition: polled, with a deadline, never a bare sleep.

use std::time::Duration;

use tokio::time::Instant;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// Waits until `condition` gives a value and returns it; panics with `what` after the deadline.
#[track_caller]
pub fn eventually<T>(
    deadline: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let end = Instant::now() + deadline;
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            assert!(
                Instant::now() < end,
                "not within {deadline:?}: {what} (waited for at {caller})"
            );
            tokio::time::sleep(LOOK).await;
        }
    }
}

//! The one place where tests wait for a condition: polled, with a deadline, never a bare sleep.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;

/// Between the first two looks; each further one waits longer, so that looking is never the load.
const LOOK_FIRST: Duration = Duration::from_millis(10);
/// Between two looks at most.
const LOOK_LAST: Duration = Duration::from_millis(200);

/// Waits until `condition` gives a value and returns it; panics with `what` after the deadline.
#[track_caller]
pub fn eventually<T>(
    deadline: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> impl Future<Output = T> {
    agrees(deadline, what, async move || condition().await.ok_or("not yet"))
}

/// Waits until `look` gives a value and returns it; panics after the deadline with `what` and with
/// what the last look found instead.
#[track_caller]
pub fn agrees<T, E: Display>(
    deadline: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let end = Instant::now() + deadline;
        let mut wait = LOOK_FIRST;
        loop {
            match look().await {
                Ok(value) => return value,
                Err(instead) => assert!(
                    Instant::now() < end,
                    "not within {deadline:?}: {what}: {instead} (waited for at {caller})"
                ),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 5 / 4).min(LOOK_LAST);
        }
    }
}

/// Runs of [`in_time`] at most.
const TRIES: usize = 5;

/// The outcome of the first run of `exchange` that takes less than `limit`; panics with `what` when
/// none does. A machine that stalls makes one run late, code that is late is late every time.
pub async fn in_time<T>(limit: Duration, what: &str, mut exchange: impl AsyncFnMut() -> T) -> T {
    let mut took = Vec::new();
    for _ in 0..TRIES {
        let begun = Instant::now();
        let outcome = exchange().await;
        took.push(begun.elapsed());
        if begun.elapsed() < limit {
            return outcome;
        }
    }
    panic!("not once within {limit:?}: {what}: {took:?}");
}

//! Policies' schedules and the archive's own term, followed at a pace of their own: a slot is late by
//! seconds, whatever else the scheduler is at.

use std::sync::Arc;
use std::time::Duration;

use audit::{expiry, scheduling};
use database::{Database, sqlx};
use queue_core::Clock;
use tokio_util::sync::CancellationToken;

use crate::State;
use crate::events::{DutyFailed, SchedulesFollowed};

/// Between two rounds.
const EVERY: Duration = Duration::from_secs(10);
/// Between two rounds while there is more: what was missed is caught up at this pace.
const WHILE_MORE: Duration = Duration::from_secs(1);
/// One statement of ours may be swallowed by the network; the server's own limits do not help then.
const ROUND_TIMEOUT: Duration = Duration::from_secs(60);

/// Round after round until `drain`. Dropping it between two statements leaves nothing half done: each
/// policy is a transaction.
pub(crate) async fn perform(
    database: &Database,
    clock: &Arc<dyn Clock>,
    state: &State,
    (interval, drain): (Duration, &CancellationToken),
) {
    while !drain.is_cancelled() {
        let now = clock.now();
        let round = async {
            let followed = scheduling::follow(database, now).await?;
            Ok::<_, sqlx::Error>((followed, expiry::follow(database, now).await?))
        };
        let wait = match tokio::time::timeout(ROUND_TIMEOUT, round).await {
            Ok(Ok((followed, expiring))) => {
                SchedulesFollowed { followed, expiring }.emit();
                if followed.failed > 0 {
                    let error = format!("{} policies could not be followed", followed.failed);
                    DutyFailed { duty: "schedules", error: &error }.emit();
                }
                state.change(|snapshot| snapshot.schedules_at = Some(now));
                let more = followed.more || expiring >= expiry::ROUND_MAX.unsigned_abs();
                if more { WHILE_MORE } else { EVERY }
            }
            Ok(Err(error)) => failed(&error),
            Err(_elapsed) => failed(&"no answer from PostgreSQL in time"),
        };
        tokio::select! {
            () = drain.cancelled() => {}
            () = tokio::time::sleep(wait.min(interval)) => {}
        }
    }
}

fn failed(error: &dyn std::fmt::Display) -> Duration {
    DutyFailed { duty: "schedules", error }.emit();
    EVERY
}

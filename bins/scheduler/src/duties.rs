//! What the active scheduler does, round after round. Each duty is harmless twice.

use std::sync::Arc;
use std::time::Duration;

use audit::attendance;
use chrono::{DateTime, TimeDelta, Utc};
use database::partitions::{self, DAYS_AHEAD, Remaining};
use database::{Database, ageing};
use queue_core::Clock;
use sinks::objects::{Files, sweep};
use tokio_util::sync::CancellationToken;

use crate::State;
use crate::alerts::Alerts;
use crate::events::{Aged, Attended, DutyFailed, PartitionsCounted, PartitionsMade, Swept};

/// A round that failed, or that left something over, is followed by the next one after this, or after the
/// interval where that is shorter.
const AFTER_FAILURE: Duration = Duration::from_secs(10);

/// Between two looks at the large bodies: each reads the directory's names.
const SWEEP_EVERY: TimeDelta = TimeDelta::hours(1);

/// The duties of one term.
pub(crate) struct Duties {
    database: Database,
    /// Large bodies in a directory; a bucket has a lifecycle rule for what is done here.
    files: Option<Files>,
    alerts: Alerts,
    clock: Arc<dyn Clock>,
    state: Arc<State>,
    swept_at: Option<DateTime<Utc>>,
}

impl Duties {
    pub(crate) fn new(
        database: Database,
        files: Option<Files>,
        alerts: Alerts,
        clock: Arc<dyn Clock>,
        state: Arc<State>,
    ) -> Self {
        Self { database, files, alerts, clock, state, swept_at: None }
    }

    /// Round after round, until `drain` and the end of what is at hand. Dropping it between two
    /// statements leaves nothing half done, since every statement is a transaction; but an alert that is
    /// on its way would be a doubt.
    pub(crate) async fn perform(&mut self, interval: Duration, drain: &CancellationToken) {
        while !drain.is_cancelled() {
            // Each of them, even when the one before failed.
            let (made, remaining) = self.make_partitions().await;
            let aged = self.age().await;
            let swept = self.sweep().await;
            let (attended, more) = self.attend().await;
            // Last: what they could not do is what it tells.
            let told = self.alert(remaining.as_deref(), drain).await;
            let well = made && aged && swept && attended && told;
            let wait = if well && !more { interval } else { interval.min(AFTER_FAILURE) };
            tokio::select! {
                () = drain.cancelled() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Units of runs whose message is lost are told again; whether that went well, and whether there are
    /// more than a round takes.
    async fn attend(&self) -> (bool, bool) {
        let now = self.clock.now();
        match attendance::attend(&self.database, now).await {
            Ok(attended) => {
                Attended { attended }.emit();
                self.state.change(|snapshot| snapshot.attended_at = Some(now));
                (true, attended.more)
            }
            Err(error) => {
                DutyFailed { duty: "attendance", error: &error }.emit();
                (false, false)
            }
        }
    }

    async fn alert(&self, remaining: Option<&[Remaining]>, drain: &CancellationToken) -> bool {
        let now = self.clock.now();
        let told = self.alerts.perform(remaining, now, drain).await;
        if told {
            self.state.change(|snapshot| snapshot.alerts_at = Some(now));
        }
        told
    }

    /// Answers how long the partitions last, where that could be counted.
    async fn make_partitions(&self) -> (bool, Option<Vec<Remaining>>) {
        let now = self.clock.now();
        let made = partitions::ensure_ahead(self.database.pool(), now, DAYS_AHEAD).await;
        // Counted even when making failed: that is when the count matters.
        let remaining = partitions::remaining(self.database.pool(), now).await;
        if let Ok(remaining) = &remaining {
            PartitionsCounted { remaining }.emit();
        }
        let (remaining, uncounted) = match remaining {
            Ok(remaining) => (Some(remaining), None),
            Err(error) => (None, Some(error)),
        };
        match made.and_then(|made| uncounted.map_or(Ok(made), Err)) {
            Ok(made) => {
                PartitionsMade { made: made.made }.emit();
                self.state.change(|snapshot| snapshot.partitions_at = Some(now));
                (true, remaining)
            }
            Err(error) => {
                DutyFailed { duty: "partitions", error: &error }.emit();
                (false, remaining)
            }
        }
    }

    /// Removes the bodies of messages that can never come again.
    async fn sweep(&mut self) -> bool {
        let now = self.clock.now();
        let due = self.swept_at.is_none_or(|last| now - last >= SWEEP_EVERY);
        let Some(files) = self.files.as_ref().filter(|_| due) else { return true };
        match sweep(files, now).await {
            Ok(removed) => {
                Swept { removed }.emit();
                self.swept_at = Some(now);
                self.state.change(|snapshot| snapshot.sweep_at = Some(now));
                true
            }
            Err(error) => {
                DutyFailed { duty: "sweep", error: &error }.emit();
                false
            }
        }
    }

    async fn age(&self) -> bool {
        let now = self.clock.now();
        match ageing::run(self.database.pool(), now).await {
            Ok(aged) => {
                Aged { aged }.emit();
                self.state.change(|snapshot| snapshot.ageing_at = Some(now));
                true
            }
            Err(error) => {
                DutyFailed { duty: "ageing", error: &error }.emit();
                false
            }
        }
    }
}

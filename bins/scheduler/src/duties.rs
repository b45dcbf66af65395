//! What the active scheduler does, round after round. Each duty is harmless twice.

use std::sync::Arc;
use std::time::Duration;

use database::partitions::{self, DAYS_AHEAD};
use database::{Database, ageing};
use queue_core::Clock;

use crate::State;
use crate::events::{Aged, DutyFailed, PartitionsCounted, PartitionsMade};

/// A round that failed is tried again after this, or after the interval where that is shorter.
const AFTER_FAILURE: Duration = Duration::from_secs(10);

/// The duties of one term.
pub(crate) struct Duties {
    database: Database,
    clock: Arc<dyn Clock>,
    state: Arc<State>,
}

impl Duties {
    pub(crate) fn new(database: Database, clock: Arc<dyn Clock>, state: Arc<State>) -> Self {
        Self { database, clock, state }
    }

    /// Round after round; never returns. Dropping it between two statements leaves nothing half
    /// done: every statement is a transaction.
    pub(crate) async fn perform(&mut self, interval: Duration) {
        loop {
            // Each of them, even when the one before failed.
            let made = self.make_partitions().await;
            let aged = self.age().await;
            let wait = if made && aged { interval } else { interval.min(AFTER_FAILURE) };
            tokio::time::sleep(wait).await;
        }
    }

    async fn make_partitions(&self) -> bool {
        let now = self.clock.now();
        let made = partitions::ensure_ahead(self.database.pool(), now, DAYS_AHEAD).await;
        // Counted even when making failed: that is when the count matters.
        let remaining = partitions::remaining(self.database.pool(), now).await;
        if let Ok(remaining) = &remaining {
            PartitionsCounted { remaining }.emit();
        }
        match made.and_then(|made| remaining.map(|_| made)) {
            Ok(made) => {
                PartitionsMade { made: made.made }.emit();
                self.state.change(|snapshot| snapshot.partitions_at = Some(now));
                true
            }
            Err(error) => {
                DutyFailed { duty: "partitions", error: &error }.emit();
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

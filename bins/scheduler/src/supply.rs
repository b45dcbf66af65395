//! Readiness: red while a class of `logs` is about to run out of partitions, whoever leads.

use std::sync::Arc;

use async_trait::async_trait;
use database::partitions::{self, REMAINING_ALARM, Remaining};
use database::{Database, timed};
use queue_core::{Clock, Probe};

/// Asks how long the partitions last.
pub(crate) struct PartitionSupply {
    database: Database,
    clock: Arc<dyn Clock>,
}

impl PartitionSupply {
    pub(crate) fn new(database: Database, clock: Arc<dyn Clock>) -> Self {
        Self { database, clock }
    }
}

#[async_trait]
impl Probe for PartitionSupply {
    fn name(&self) -> &'static str {
        "partitions"
    }

    async fn probe(&self) -> Result<(), String> {
        let remaining = partitions::remaining(self.database.pool(), self.clock.now());
        let remaining = timed(database::pool::PROBE_TIMEOUT, remaining)
            .await
            .map_err(|error| format!("cannot count partitions: {error}"))?;
        verdict(&remaining)
    }
}

/// Which classes run out, and when.
fn verdict(remaining: &[Remaining]) -> Result<(), String> {
    let short: Vec<String> = remaining
        .iter()
        .filter(|left| left.alarming())
        .map(|left| format!("{} has partitions until {}", left.class, left.until))
        .collect();
    if short.is_empty() {
        return Ok(());
    }
    Err(format!("fewer than {REMAINING_ALARM} days left: {}", short.join(", ")))
}

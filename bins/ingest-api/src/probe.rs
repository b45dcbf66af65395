//! Whether the queue would take messages now, for `/readyz`.

use std::sync::Arc;

use async_trait::async_trait;
use queue_core::{Driver, Probe};

/// Asks the queue for its attributes.
#[derive(Debug)]
pub struct QueueProbe {
    queue: Arc<dyn Driver>,
}

impl QueueProbe {
    /// A probe of that queue.
    pub fn new(queue: Arc<dyn Driver>) -> Self {
        Self { queue }
    }
}

#[async_trait]
impl Probe for QueueProbe {
    fn name(&self) -> &'static str {
        "sqs"
    }

    async fn probe(&self) -> Result<(), String> {
        match self.queue.attributes().await {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{}: {error}", self.queue.queue())),
        }
    }
}

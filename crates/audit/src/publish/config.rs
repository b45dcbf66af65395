//! The publisher's bounds as flags and environment variables.

use std::time::Duration;

/// How much an API process buffers and how long it tries.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Publishing")]
pub struct PublishConfig {
    /// Bytes of events that wait for the queue, over all tenants, at most
    #[arg(long, env = "PUBLISH_BYTES_MAX", default_value_t = 32 << 20,
          value_parser = clap::value_parser!(u64).range(1_048_576..=1_073_741_824))]
    pub publish_bytes_max: u64,

    /// Bytes of events that wait for the queue, per tenant, at most
    #[arg(long, env = "PUBLISH_TENANT_BYTES_MAX", default_value_t = 8 << 20,
          value_parser = clap::value_parser!(u64).range(1_048_576..=1_073_741_824))]
    pub publish_tenant_bytes_max: u64,

    /// Bytes of one message; a larger event travels alone. SQS bills per 64 KiB
    #[arg(long, env = "PUBLISH_MESSAGE_BYTES_MAX", default_value_t = 256 << 10,
          value_parser = clap::value_parser!(u64).range(4_096..=1_000_000))]
    pub publish_message_bytes_max: u64,

    /// Events in one message at most
    #[arg(long, env = "PUBLISH_MESSAGE_EVENTS_MAX", default_value_t = 1_000,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub publish_message_events_max: u32,

    /// Milliseconds that an event waits for company; 0 sends as soon as a call is free
    #[arg(long, env = "PUBLISH_LINGER_MS", default_value_t = 0,
          value_parser = clap::value_parser!(u64).range(0..=1_000))]
    pub publish_linger_ms: u64,

    /// Milliseconds from a request to its answer at most
    #[arg(long, env = "PUBLISH_DEADLINE_MS", default_value_t = 4_500,
          value_parser = clap::value_parser!(u64).range(100..=5_000))]
    pub publish_deadline_ms: u64,

    /// Calls to the queue per message at most, inside the deadline
    #[arg(long, env = "PUBLISH_ATTEMPTS", default_value_t = 3,
          value_parser = clap::value_parser!(u32).range(1..=10))]
    pub publish_attempts: u32,
}

impl Default for PublishConfig {
    /// The documented defaults.
    fn default() -> Self {
        Self {
            publish_bytes_max: 32 << 20,
            publish_tenant_bytes_max: 8 << 20,
            publish_message_bytes_max: 256 << 10,
            publish_message_events_max: 1_000,
            publish_linger_ms: 0,
            publish_deadline_ms: 4_500,
            publish_attempts: 3,
        }
    }
}

fn usize_of(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

impl PublishConfig {
    pub(super) fn bytes_max(&self) -> usize {
        usize_of(self.publish_bytes_max)
    }

    pub(super) fn tenant_bytes_max(&self) -> usize {
        usize_of(self.publish_tenant_bytes_max)
    }

    pub(super) fn message_bytes_max(&self) -> usize {
        usize_of(self.publish_message_bytes_max)
    }

    pub(super) fn linger(&self) -> Duration {
        Duration::from_millis(self.publish_linger_ms)
    }

    pub(super) fn deadline(&self) -> Duration {
        Duration::from_millis(self.publish_deadline_ms)
    }
}

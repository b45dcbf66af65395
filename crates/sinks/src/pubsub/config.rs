//! Where Redis is: flags and environment. Nothing is connected at start.

use std::time::Duration;

/// The live feed.
#[derive(Clone, clap::Args)]
pub struct FeedConfig {
    /// Redis' address, with its password if it has one; rediss:// for TLS
    ///
    /// Example: `rediss://:correct-horse@redis.internal:6379`
    #[arg(
        long,
        env = "REDIS_URL",
        default_value = "redis://127.0.0.1:6379",
        hide_env_values = true,
        value_parser = url
    )]
    pub redis_url: String,
    /// Milliseconds after which a call to Redis is given up, 50 to 30000
    #[arg(
        long,
        env = "REDIS_TIMEOUT_MS",
        default_value_t = 2_000,
        value_parser = clap::value_parser!(u64).range(50..=30_000)
    )]
    pub redis_timeout_ms: u64,
    /// Logs per tenant kept in Redis for readers that come back, 16 to 100000
    #[arg(
        long,
        env = "FEED_STREAM_MAX",
        default_value_t = 4_096,
        value_parser = clap::value_parser!(u64).range(16..=100_000)
    )]
    pub feed_stream_max: u64,
}

impl std::fmt::Debug for FeedConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The address may hold a password.
        f.debug_struct("FeedConfig")
            .field("redis_timeout_ms", &self.redis_timeout_ms)
            .field("feed_stream_max", &self.feed_stream_max)
            .finish_non_exhaustive()
    }
}

impl FeedConfig {
    /// Redis at that address, with defaults.
    pub fn new(redis_url: impl Into<String>) -> Self {
        Self { redis_url: redis_url.into(), redis_timeout_ms: 2_000, feed_stream_max: 4_096 }
    }

    /// When a call is given up.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.redis_timeout_ms)
    }
}

fn url(text: &str) -> Result<String, String> {
    redis::Client::open(text)
        .map(|_| text.to_owned())
        .map_err(|_| "expected redis://host:port or rediss://host:port".into())
}

//! The edge's limits as flags and environment variables, with the product's figures as defaults.

use std::net::SocketAddr;
use std::time::Duration;

use crate::serve::ServerLimits;

/// How much a client may ask of one API process.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "HTTP limits")]
pub struct EdgeConfig {
    /// Address that the API listens on
    #[arg(long, env = "LISTEN_ADDR", default_value = "127.0.0.1:3000")]
    pub listen_addr: SocketAddr,

    /// Bytes of a request body at most, 1 KiB to 64 MiB
    #[arg(long, env = "BODY_BYTES_MAX", default_value_t = 5 * 1024 * 1024,
          value_parser = clap::value_parser!(u64).range(1_024..=67_108_864))]
    pub body_bytes_max: u64,

    /// Bytes of request bodies in memory at the same time at most, 1 KiB to 64 GiB
    ///
    /// A request counts with its `Content-Length`, without one with the most that its route takes;
    /// what does not fit is answered 503 at once. At least `BODY_BYTES_MAX`. Example: `268435456`
    #[arg(long, env = "BODY_BYTES_IN_FLIGHT_MAX", default_value_t = 128 * 1024 * 1024,
          value_parser = clap::value_parser!(u64).range(1_024..=68_719_476_736))]
    pub body_bytes_in_flight_max: u64,

    /// Bytes of all request headers at most, 1 KiB to 64 KiB
    #[arg(long, env = "HEADER_BYTES_MAX", default_value_t = 16 * 1024,
          value_parser = clap::value_parser!(u64).range(1_024..=65_536))]
    pub header_bytes_max: u64,

    /// Milliseconds in which the headers must arrive, from their first byte, 100 to 60000
    #[arg(long, env = "HEADER_READ_TIMEOUT_MS", default_value_t = 10_000,
          value_parser = clap::value_parser!(u64).range(100..=60_000))]
    pub header_read_timeout_ms: u64,

    /// Milliseconds that an idle connection is kept, 100 to 3600000
    ///
    /// Longer than the load balancer in front keeps its own (60 s for an ALB), or it sends requests
    /// on connections that are just being closed and answers them 502. Example: `75000`
    #[arg(long, env = "KEEP_ALIVE_TIMEOUT_MS", default_value_t = 75_000,
          value_parser = clap::value_parser!(u64).range(100..=3_600_000))]
    pub keep_alive_timeout_ms: u64,

    /// Milliseconds in which the body must arrive, 100 to 600000
    #[arg(long, env = "BODY_READ_TIMEOUT_MS", default_value_t = 30_000,
          value_parser = clap::value_parser!(u64).range(100..=600_000))]
    pub body_read_timeout_ms: u64,

    /// Milliseconds that a response may stand still before its connection is cut, 100 to 600000
    #[arg(long, env = "WRITE_STALL_TIMEOUT_MS", default_value_t = 30_000,
          value_parser = clap::value_parser!(u64).range(100..=600_000))]
    pub write_stall_timeout_ms: u64,

    /// Connections at most; more wait in the listen queue
    #[arg(long, env = "CONNECTIONS_MAX", default_value_t = 4_096,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections_max: u32,

    /// Requests worked on at the same time at most; more are answered 503
    #[arg(long, env = "REQUESTS_IN_FLIGHT_MAX", default_value_t = 1_024,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub requests_in_flight_max: u32,

    /// Requests per second and API key at most, sustained
    #[arg(long, env = "RATE_PER_KEY", default_value_t = 5_000,
          value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub rate_per_key: u32,

    /// Requests that a key may send at once after a pause; by default two seconds' worth
    #[arg(long, env = "RATE_BURST_PER_KEY",
          value_parser = clap::value_parser!(u32).range(1..=20_000_000))]
    pub rate_burst_per_key: Option<u32>,

    /// Proxies in front whose `X-Forwarded-For` is believed, counted from this server
    #[arg(long, env = "TRUSTED_PROXIES", default_value_t = 0,
          value_parser = clap::value_parser!(u8).range(0..=8))]
    pub trusted_proxies: u8,
}

impl EdgeConfig {
    /// Burst of a key's bucket.
    pub fn rate_burst(&self) -> u32 {
        self.rate_burst_per_key.unwrap_or_else(|| self.rate_per_key.saturating_mul(2))
    }

    /// In which the body must arrive.
    pub fn body_read_timeout(&self) -> Duration {
        Duration::from_millis(self.body_read_timeout_ms)
    }

    /// The limits of the listener.
    pub fn server_limits(&self) -> ServerLimits {
        ServerLimits {
            connections_max: self.connections_max as usize,
            header_read_timeout: Duration::from_millis(self.header_read_timeout_ms),
            keep_alive_timeout: Duration::from_millis(self.keep_alive_timeout_ms),
            write_stall_timeout: Duration::from_millis(self.write_stall_timeout_ms),
        }
    }
}

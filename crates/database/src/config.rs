//! What a process needs to know to reach PostgreSQL, as command-line flags and variables.

use std::fmt;
use std::time::Duration;

use clap::Args;

/// Where PostgreSQL is and how much of it one process may use.
#[derive(Args, Clone)]
#[command(next_help_heading = "PostgreSQL")]
pub struct DatabaseConfig {
    /// Where PostgreSQL is, with user, password and database.
    ///
    /// Example: `postgres://flotilla:secret@db.internal:5432/flotilla?sslmode=verify-full`
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: String,

    /// Connections at most, 1 to 200; the sum over all tasks must stay below the server's `max_connections`.
    #[arg(long, env = "DATABASE_POOL_MAX", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=200), value_name = "N")]
    pub database_pool_max: u32,

    /// Seconds after which the server cancels a statement, 1 to 600.
    #[arg(long, env = "DATABASE_STATEMENT_TIMEOUT_SECS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600), value_name = "SECONDS")]
    pub database_statement_timeout_secs: u64,

    /// Milliseconds to wait for a free or a new connection, 50 to 60000.
    #[arg(long, env = "DATABASE_ACQUIRE_TIMEOUT_MS", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(50..=60_000), value_name = "MS")]
    pub database_acquire_timeout_ms: u64,
}

impl DatabaseConfig {
    /// That URL with every other setting at its default.
    pub fn for_url(url: impl Into<String>) -> Self {
        Self {
            database_url: url.into(),
            database_pool_max: 10,
            database_statement_timeout_secs: 30,
            database_acquire_timeout_ms: 2_000,
        }
    }

    pub(crate) fn acquire_timeout(&self) -> Duration {
        Duration::from_millis(self.database_acquire_timeout_ms)
    }
}

impl fmt::Debug for DatabaseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseConfig")
            .field("database_url", &"(redacted)")
            .field("database_pool_max", &self.database_pool_max)
            .field("database_statement_timeout_secs", &self.database_statement_timeout_secs)
            .field("database_acquire_timeout_ms", &self.database_acquire_timeout_ms)
            .finish()
    }
}

/// As whom a process works; every connection takes the role before it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `flotilla_api`: one tenant at a time, see [`crate::Database::tenant`].
    Api,
    /// `flotilla_worker`: all tenants, by an explicit policy; no right to make tables.
    Worker,
    /// The login's own role: migrations, keys and tenants.
    Owner,
}

impl Role {
    /// The role's name in PostgreSQL; the owner's is whoever logs in.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::Api => Some("flotilla_api"),
            Self::Worker => Some("flotilla_worker"),
            Self::Owner => None,
        }
    }
}

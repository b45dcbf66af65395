//! The parts a fleet talks to, started from what is installed on this machine: PostgreSQL, Redis,
//! OpenSearch and LocalStack, each a private child process on a free loopback port.
//!
//! A part stops when its handle is dropped and when the process that started it dies, however it
//! dies. What this never does: run a server as root, listen beyond loopback, install anything but
//! OpenSearch and LocalStack into the user's cache directory, or touch a part it did not start.

pub mod account;
pub mod answers;
pub mod error;
pub mod localstack;
pub mod opensearch;
pub mod part;
pub mod port;
pub mod postgres;
pub mod process;
pub mod programs;
pub mod redis;
pub mod shared;

mod directory;
mod fetching;

pub use error::PartError;

pub use localstack::LocalStack;
pub use opensearch::OpenSearch;
pub use postgres::Postgres;
pub use redis::Redis;

use std::path::PathBuf;

/// Whether what a part stores must survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Survives SIGKILL and power loss.
    Kept,
    /// May be lost with the process: for tests, which wait for no disk.
    Throwaway,
}

/// Where downloaded parts are kept: the user's cache, or for root a place that other accounts can
/// read, since the servers do not run as root.
pub fn parts_cache() -> PathBuf {
    if account::is_root() {
        return PathBuf::from("/var/cache/flotilla/parts");
    }
    std::env::home_dir().unwrap_or_else(std::env::temp_dir).join(".cache/flotilla/parts")
}

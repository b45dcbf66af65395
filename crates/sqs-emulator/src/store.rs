//! The state on disk: an append-only log in segments, and snapshots that replace old segments. One
//! thread writes; what arrives while it writes or syncs forms the next batch, so that one fsync serves
//! every caller who waited.
//!
//! Files in the directory: `lock`, `segment-<n>.log`, `snapshot-<n>.bin` (the state before segment n).
//! A start loads the newest snapshot and the segments from its number on. A record that was cut short
//! by a crash ends the last segment: the cut bytes are kept beside it, since they were never
//! acknowledged but may interest someone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::broker::{Broker, BrokerConfig};
use crate::effects::decoding::DecodeError;

mod compaction;
mod directory;
mod frames;
mod writer;

use directory::Directory;
use writer::Writer;

/// A segment is sealed at this size, or at twice the newest snapshot's when that is more: so the
/// bytes that compaction writes stay below those that callers do.
pub const SEGMENT_BYTES: u64 = 64 * 1_048_576;

/// What a caller waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Durability {
    /// Handed to the operating system: survives the death of this process.
    Written,
    /// On the disk: survives a power cut.
    Synced,
}

/// Why the state cannot be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory cannot be used.
    #[error("cannot {action} {path}: {reason}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the operating system said.
        reason: Arc<std::io::Error>,
    },
    /// Another process has the directory.
    #[error("{0} is in use by another process; stop it or choose another --data-dir")]
    InUse(PathBuf),
    /// A file is not what this version wrote.
    #[error("{path} is damaged at byte {at}: {reason}; move it away to start without it")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where.
        at: u64,
        /// What is wrong there.
        reason: String,
    },
    /// The disk failed; calls are refused until it can be written again.
    #[error("the data directory cannot be written ({0}); free space or repair it, then try again")]
    Failed(Arc<str>),
    /// The store is being closed.
    #[error("the server is stopping")]
    Closed,
}

impl StoreError {
    fn io(action: &'static str, path: &Path, reason: std::io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), reason: Arc::new(reason) }
    }

    fn damaged(path: &Path, at: u64, error: DecodeError) -> Self {
        Self::Damaged { path: path.to_owned(), at, reason: error.to_string() }
    }
}

/// The log of one broker. Dropping it writes what is queued.
#[derive(Debug)]
pub(crate) struct Store {
    writer: Writer,
    directory: Directory,
    config: BrokerConfig,
}

impl Store {
    /// Opens a directory, made when absent, and reads its state into a new broker.
    pub(crate) fn open(
        path: &Path,
        config: BrokerConfig,
        segment_bytes: u64,
    ) -> Result<(Self, Broker), StoreError> {
        let directory = Directory::open(path, segment_bytes)?;
        let mut broker = Broker::new(config);
        let tail = directory.load(&mut broker)?;
        let writer = Writer::start(directory.clone(), tail)?;
        Ok((Self { writer, directory, config }, broker))
    }

    /// Waits while more is queued than memory should hold.
    pub(crate) async fn admit(&self) {
        self.writer.admit().await;
    }

    /// Queues a record behind all earlier ones. The ticket hears when everything up to here is as
    /// durable as asked for; without a wish there is none.
    pub(crate) fn append(
        &self,
        record: &[u8],
        durability: Option<Durability>,
    ) -> Option<oneshot::Receiver<Result<(), StoreError>>> {
        self.writer.append(record, durability)
    }

    /// After a failure: the state on disk, once the disk can be written again. `None` when nothing
    /// failed.
    pub(crate) fn recovered(&self) -> Result<Option<Broker>, StoreError> {
        if !self.writer.begin_recovery(&self.directory)? {
            return Ok(None);
        }
        let mut broker = Broker::new(self.config);
        let tail = self.directory.load(&mut broker)?;
        self.writer.resume(tail);
        Ok(Some(broker))
    }
}

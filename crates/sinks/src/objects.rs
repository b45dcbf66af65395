//! Objects: a bucket of S3 or a directory of files behind one port. Writes are atomic: an object is
//! there as a whole or not at all. It decides nothing about names beyond what a name may be, and
//! nothing about what is kept.

mod claims;
mod config;
mod files;
mod key;
mod s3;

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use queue_core::Probe;

pub use crate::error::{SinkError, SinkErrorKind};
pub use claims::{CLAIMS_PREFIX, ClaimObjects, ORPHAN_TERM, sweep};
pub use config::{ClaimConfig, open};
pub use files::Files;
pub use key::{InvalidKey, KEY_BYTES_MAX, ObjectKey};
pub use s3::S3;

/// The sink's name in metrics and errors.
pub const NAME: &str = "objects";
/// Objects on a page of [`Objects::list`], as S3 answers.
pub const PAGE_MAX: usize = 1_000;

/// Whether a write may replace what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// The last one wins.
    Replace,
    /// The first one wins, also between processes.
    IfAbsent,
}

/// What a write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The object is what was given, durably.
    New,
    /// One of that name was there and stays ([`Write::IfAbsent`] only).
    AlreadyThere,
}

/// What is known of an object without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Its name.
    pub key: ObjectKey,
    /// Bytes.
    pub size: u64,
    /// When it was written, by the store's clock.
    pub modified: DateTime<Utc>,
}

/// Objects in the order of their names, and where to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectPage {
    /// At most as many as asked for.
    pub objects: Vec<ObjectMeta>,
    /// Goes into `after` of the next call; `None` at the end.
    pub next: Option<ObjectKey>,
}

/// A bucket, or a directory in its place.
///
/// Guarantees: a write that returned is durable and whole, and no reader ever sees a part of one;
/// names are listed in the order of their bytes; every call makes one attempt and ends within a time
/// limit of its own. What it does not promise: that a call which failed had no effect.
#[async_trait]
pub trait Objects: Probe + std::fmt::Debug {
    /// Name of the bucket, or of the directory.
    fn bucket(&self) -> &str;

    /// Writes an object.
    async fn put(&self, key: &ObjectKey, bytes: Vec<u8>, how: Write) -> Result<Written, SinkError>;

    /// An object of at most `bytes_max`; `None` when there is none. A larger one is refused before
    /// it is read.
    async fn get(&self, key: &ObjectKey, bytes_max: u64) -> Result<Option<Vec<u8>>, SinkError>;

    /// What is known of an object; `None` when there is none.
    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>, SinkError>;

    /// Removes an object; that it is gone already is no error.
    async fn delete(&self, key: &ObjectKey) -> Result<(), SinkError>;

    /// Up to `limit` objects (at most [`PAGE_MAX`]) whose names begin with `prefix` and come after
    /// `after`.
    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<ObjectPage, SinkError>;
}

/// A store that several parts share.
pub type SharedObjects = Arc<dyn Objects>;

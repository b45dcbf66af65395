//! Objects: a bucket of S3 or a directory of files behind one port. Writes are atomic: an object is
//! there as a whole or not at all. It decides nothing about names beyond what a name may be, and
//! nothing about what is kept.

mod body;
mod claims;
mod config;
mod files;
mod key;
mod options;
mod s3;
mod upload;

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use queue_core::Probe;

pub use crate::error::{ItemError, SinkError, SinkErrorKind};
pub use body::ObjectBody;
pub use claims::{CLAIMS_PREFIX, ClaimObjects, ORPHAN_TERM, sweep};
pub use config::{ArchiveConfig, ArchiveEncryption, ClaimConfig, LOCK_DAYS_MAX, open};
pub use files::Files;
pub use key::{InvalidKey, KEY_BYTES_MAX, ObjectKey};
pub use options::{
    Encryption, Held, InvalidOptions, InvalidStorageClass, Lock, LockMode, METADATA_BYTES_MAX,
    ObjectHead, ObjectOptions, StorageClass, TAGS_MAX,
};
pub use s3::{S3, Timeouts};
pub use upload::{
    Checkpoint, PART_BYTES_MAX, PART_BYTES_MIN, PARTS_MAX, Part, UPLOADS_PAGE_MAX, Unfinished,
    Upload, UploadError, UploadId, Uploads, sweep_uploads, write_whole,
};

/// The sink's name in metrics and errors.
pub const NAME: &str = "objects";
/// Objects on a page of [`Objects::list`], as S3 answers.
pub const PAGE_MAX: usize = 1_000;
/// Objects of one [`Objects::delete_batch`], as S3 takes.
pub const DELETES_MAX: usize = 1_000;
/// Bytes of one [`Objects::get_range`] at most.
pub const RANGE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Folders that one [`Objects::list_folders`] answers at most.
pub const FOLDERS_MAX: usize = 100_000;
/// Versions of one object that [`Objects::delete_all_versions`] removes at most.
pub const VERSIONS_MAX: usize = 1_000;

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

/// What a deletion came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// It was there and is not any more.
    Deleted,
    /// There was none.
    AlreadyGone,
    /// It stays: a retention or a legal hold is on it.
    Locked(Held),
}

/// What is known of an object from a listing.
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
pub trait Objects: Uploads + Probe + std::fmt::Debug {
    /// Name of the bucket, or of the directory.
    fn bucket(&self) -> &str;

    /// Writes an object as the bucket does by default.
    async fn put(&self, key: &ObjectKey, bytes: Vec<u8>, how: Write) -> Result<Written, SinkError> {
        self.put_with(key, bytes, how, &ObjectOptions::default()).await
    }

    /// Writes an object in one call: at most [`PART_BYTES_MAX`] bytes, with their SHA-256 for the store
    /// to check. A larger one goes by [`Upload`].
    async fn put_with(
        &self,
        key: &ObjectKey,
        bytes: Vec<u8>,
        how: Write,
        options: &ObjectOptions,
    ) -> Result<Written, SinkError>;

    /// An object of at most `bytes_max`; `None` when there is none. A larger one is refused before
    /// it is read.
    async fn get(&self, key: &ObjectKey, bytes_max: u64) -> Result<Option<Vec<u8>>, SinkError>;

    /// Exactly the bytes `from .. from + len` of an object, at most [`RANGE_BYTES_MAX`]; `None` when
    /// there is no object. One that is shorter is refused.
    async fn get_range(
        &self,
        key: &ObjectKey,
        from: u64,
        len: u64,
    ) -> Result<Option<Vec<u8>>, SinkError>;

    /// An object's bytes from `from` to its end as they arrive, however large it is; `None` when there
    /// is none. Where a class must be restored first, [`SinkErrorKind::NeedsRestore`].
    async fn read(&self, key: &ObjectKey, from: u64) -> Result<Option<ObjectBody>, SinkError>;

    /// What is known of an object; `None` when there is none.
    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectHead>, SinkError>;

    /// Removes an object's name. In a bucket with versions its bytes stay, under a delete marker: where
    /// a deletion must be one, [`delete_all_versions`](Self::delete_all_versions). A locked one
    /// keeps its name.
    async fn delete(&self, key: &ObjectKey) -> Result<Deletion, SinkError>;

    /// [`delete`](Self::delete) for up to [`DELETES_MAX`] objects: an outcome for each, at its place.
    async fn delete_batch(
        &self,
        keys: &[ObjectKey],
    ) -> Result<Vec<Result<Deletion, ItemError>>, SinkError>;

    /// Removes an object with every version and delete marker, at most [`VERSIONS_MAX`] of them.
    /// Where one is locked, none is removed. A failed call may have removed some; call again.
    async fn delete_all_versions(&self, key: &ObjectKey) -> Result<Deletion, SinkError>;

    /// Puts a legal hold on an object or takes it off; whether there is such an object.
    async fn set_legal_hold(&self, key: &ObjectKey, on: bool) -> Result<bool, SinkError>;

    /// Up to `limit` objects (at most [`PAGE_MAX`]) whose names begin with `prefix` and come after
    /// `after`. Names that are none of ours are passed over.
    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<ObjectPage, SinkError>;

    /// What follows `prefix` up to the next `/`, of every name that has one there, each once, in order:
    /// `year=2026` of `archive/acme/`. At most [`FOLDERS_MAX`]; more is an error.
    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, SinkError>;
}

/// A store that several parts share.
pub type SharedObjects = Arc<dyn Objects>;

fn too_many_folders(bucket: &str, prefix: &str) -> SinkError {
    let text = format!("{bucket}: more than {FOLDERS_MAX} folders under {prefix:?}");
    SinkError::new(NAME, SinkErrorKind::Full, text)
}

/// Refuses what no store would take, before anything is sent.
fn admit(bucket: &str, bytes: usize, options: &ObjectOptions) -> Result<(), SinkError> {
    let refused = |kind, text: String| SinkError::new(NAME, kind, format!("{bucket}: {text}"));
    options.check().map_err(|error| refused(SinkErrorKind::Refused, error.to_string()))?;
    if bytes > PART_BYTES_MAX {
        let text = format!("{bytes} bytes in one call, {PART_BYTES_MAX} fit; upload it in parts");
        return Err(refused(SinkErrorKind::Full, text));
    }
    Ok(())
}

/// Refuses a range that no call answers.
fn admit_range(bucket: &str, key: &ObjectKey, len: u64) -> Result<(), SinkError> {
    if (1..=RANGE_BYTES_MAX).contains(&len) {
        return Ok(());
    }
    let text = format!("{bucket}: {len} bytes of {key} in one call, 1 to {RANGE_BYTES_MAX} fit");
    Err(SinkError::new(NAME, SinkErrorKind::Full, text))
}

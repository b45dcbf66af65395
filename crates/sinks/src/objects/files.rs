//! Objects as files: written beside their place, synced, moved into it and the move synced, so that
//! a crash leaves the old object, the new one or none, never a part. For laptops and single machines.
//!
//! `~unfinished/` holds what is being written, `~about/` what objects were stored with, as JSON. A lock
//! there is kept by this program; it is no defence against who may write to the directory.

mod about;
mod delete;
mod disk;
mod list;
mod read;
mod upload;
mod write;

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use queue_core::Probe;
use uuid::Uuid;

use super::{
    DELETES_MAX, Deletion, NAME, ObjectBody, ObjectHead, ObjectKey, ObjectOptions, ObjectPage,
    Objects, PAGE_MAX, Write, Written, admit, admit_range,
};
use crate::error::{ItemError, SinkError, SinkErrorKind};

/// A call that takes longer has failed: a disk that hangs, a network file system that is away.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// In addition for each MiB that a call carries.
const MEBIBYTE_TIMEOUT: Duration = Duration::from_secs(1);
/// Where objects are written before they have their name. Not a segment of any name: it begins with
/// what the alphabet does not have.
const UNFINISHED: &str = "~unfinished";
/// Where the options of objects are.
const ABOUT: &str = "~about";

/// A directory in a bucket's place.
#[derive(Clone, Debug)]
pub struct Files {
    root: PathBuf,
    name: String,
}

impl Files {
    /// Objects under `root`, which is made when it is needed.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        let name = root.to_string_lossy().into_owned();
        Self { root, name }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, SinkError> {
        self.blocking_with(0, call).await
    }

    /// A call that carries so many bytes.
    async fn blocking_with<T: Send + 'static>(
        &self,
        bytes: u64,
        call: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, SinkError> {
        let mebibytes = u32::try_from(bytes.div_ceil(1024 * 1024)).unwrap_or(u32::MAX);
        let limit = CALL_TIMEOUT + MEBIBYTE_TIMEOUT.saturating_mul(mebibytes);
        let root = self.root.clone();
        let task = tokio::task::spawn_blocking(move || call(&root));
        match tokio::time::timeout(limit, task).await {
            Ok(Ok(answer)) => answer.map_err(|error| self.failed(&error)),
            Ok(Err(broken)) => Err(self.error(SinkErrorKind::Unavailable, &broken.to_string())),
            Err(_) => {
                let text = format!("no answer from the disk within {limit:?}");
                Err(self.error(SinkErrorKind::Timeout, &text))
            }
        }
    }

    fn failed(&self, error: &io::Error) -> SinkError {
        let kind = match error.kind() {
            ErrorKind::InvalidData => SinkErrorKind::Refused,
            _ => SinkErrorKind::Unavailable,
        };
        self.error(kind, &error.to_string())
    }

    fn error(&self, kind: SinkErrorKind, text: &str) -> SinkError {
        SinkError::new(NAME, kind, format!("{}: {text}", self.name))
    }
}

/// What a caller asked for and cannot have, as opposed to a disk in trouble.
fn refused(text: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, text)
}

#[async_trait]
impl Objects for Files {
    fn bucket(&self) -> &str {
        &self.name
    }

    async fn put_with(
        &self,
        key: &ObjectKey,
        bytes: Vec<u8>,
        how: Write,
        options: &ObjectOptions,
    ) -> Result<Written, SinkError> {
        admit(&self.name, bytes.len(), options)?;
        let (key, options, carried) = (key.clone(), options.clone(), bytes.len() as u64);
        let call = move |root: &Path| write::write(root, &key, &bytes, how, &options);
        self.blocking_with(carried, call).await
    }

    async fn get(&self, key: &ObjectKey, bytes_max: u64) -> Result<Option<Vec<u8>>, SinkError> {
        let key = key.clone();
        self.blocking_with(bytes_max, move |root| read::whole(root, &key, bytes_max)).await
    }

    async fn get_range(
        &self,
        key: &ObjectKey,
        from: u64,
        len: u64,
    ) -> Result<Option<Vec<u8>>, SinkError> {
        admit_range(&self.name, key, len)?;
        let key = key.clone();
        self.blocking_with(len, move |root| read::range(root, &key, from, len)).await
    }

    async fn read(&self, key: &ObjectKey, from: u64) -> Result<Option<ObjectBody>, SinkError> {
        let (opened, name) = (key.clone(), self.name.clone());
        let opened = self.blocking(move |root| read::at(root, &opened, from)).await?;
        Ok(opened.map(|(file, size)| read::body(name, key.clone(), file, size, from)))
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectHead>, SinkError> {
        let key = key.clone();
        self.blocking(move |root| read::head(root, &key)).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<Deletion, SinkError> {
        let key = key.clone();
        self.blocking(move |root| delete::delete(root, &key)).await
    }

    async fn delete_batch(
        &self,
        keys: &[ObjectKey],
    ) -> Result<Vec<Result<Deletion, ItemError>>, SinkError> {
        if keys.len() > DELETES_MAX {
            let text = format!("{} deletes in one call, {DELETES_MAX} fit", keys.len());
            return Err(self.error(SinkErrorKind::Full, &text));
        }
        let keys = keys.to_vec();
        self.blocking(move |root| {
            let deleted = keys.iter().map(|key| delete::delete(root, key));
            let told = |error: io::Error| ItemError::Retry(error.to_string());
            Ok(deleted.map(|deleted| deleted.map_err(told)).collect())
        })
        .await
    }

    /// A file has no versions.
    async fn delete_all_versions(&self, key: &ObjectKey) -> Result<Deletion, SinkError> {
        self.delete(key).await
    }

    async fn set_legal_hold(&self, key: &ObjectKey, on: bool) -> Result<bool, SinkError> {
        let key = key.clone();
        self.blocking(move |root| about::hold(root, &key, on)).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<ObjectPage, SinkError> {
        let (prefix, limit) = (prefix.to_owned(), limit.clamp(1, PAGE_MAX));
        let after = after.map(ToString::to_string).unwrap_or_default();
        self.blocking(move |root| list::page(root, &prefix, &after, limit)).await
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, SinkError> {
        let (asked, name) = (prefix.to_owned(), self.name.clone());
        let folders = self.blocking(move |root| list::folders(root, &asked)).await?;
        folders.ok_or_else(|| super::too_many_folders(&name, prefix))
    }
}

#[async_trait]
impl Probe for Files {
    fn name(&self) -> &'static str {
        NAME
    }

    /// Whether the directory takes a file.
    async fn probe(&self) -> Result<(), String> {
        let probed = self.blocking(|root| {
            let unfinished = root.join(UNFINISHED);
            disk::make_folders(root, &unfinished)?;
            let file = unfinished.join(format!("probe-{}", Uuid::new_v4().simple()));
            File::create_new(&file)?;
            fs::remove_file(&file)
        });
        probed.await.map_err(|error| error.to_string())
    }
}

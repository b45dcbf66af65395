//! A directory that misbehaves on command: it fails, loses answers, stores other bytes, or lets
//! something happen before an object is read.

use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use queue_core::Probe;
use sinks::SinkError;
use sinks::error::ItemError;
use sinks::objects::{
    Deletion, Files, ObjectBody, ObjectHead, ObjectKey, ObjectOptions, ObjectPage, Objects, Part,
    SinkErrorKind, Unfinished, UploadError, UploadId, Uploads, Write, Written,
};

/// What a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Put,
    Part,
    Complete,
    Read,
    Delete,
}

/// What is done to one call.
pub(crate) enum Trick {
    /// It fails and has no effect.
    Fail(SinkErrorKind),
    /// It takes effect and its answer is lost.
    Lose,
    /// The stored bytes are others.
    Flip,
    /// This happens first.
    First(BoxFuture<'static, ()>),
}

/// The store.
pub(crate) struct Double {
    files: Files,
    tricks: Mutex<Vec<(Call, Trick)>>,
}

impl std::fmt::Debug for Double {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Double").finish_non_exhaustive()
    }
}

fn error(kind: SinkErrorKind) -> SinkError {
    SinkError::new("objects", kind, "as the test wants it")
}

impl Double {
    pub(crate) fn new(files: Files) -> Self {
        Self { files, tricks: Mutex::default() }
    }

    /// The next call of that kind meets this; several wait in order.
    pub(crate) fn next(&self, call: Call, trick: Trick) {
        self.tricks.lock().unwrap().push((call, trick));
    }

    /// Whether every trick was met.
    pub(crate) fn met_all(&self) -> bool {
        self.tricks.lock().unwrap().is_empty()
    }

    fn trick(&self, call: Call) -> Option<Trick> {
        let mut tricks = self.tricks.lock().unwrap();
        let at = tricks.iter().position(|(of, _)| *of == call)?;
        Some(tricks.remove(at).1)
    }

    /// What comes before the call, and whether its answer is lost.
    async fn before(&self, call: Call) -> Result<bool, SinkError> {
        match self.trick(call) {
            Some(Trick::Fail(kind)) => Err(error(kind)),
            Some(Trick::First(first)) => {
                first.await;
                Ok(false)
            }
            Some(Trick::Lose) => Ok(true),
            Some(Trick::Flip) | None => Ok(false),
        }
    }
}

#[async_trait]
impl Probe for Double {
    fn name(&self) -> &'static str {
        "objects"
    }
    async fn probe(&self) -> Result<(), String> {
        self.files.probe().await
    }
}

#[async_trait]
impl Uploads for Double {
    async fn begin(&self, key: &ObjectKey, options: &ObjectOptions) -> Result<UploadId, SinkError> {
        self.files.begin(key, options).await
    }
    async fn put_part(
        &self,
        key: &ObjectKey,
        id: &UploadId,
        number: u16,
        bytes: Bytes,
    ) -> Result<Part, UploadError> {
        let lost = self.before(Call::Part).await?;
        let part = self.files.put_part(key, id, number, bytes).await?;
        if lost { Err(error(SinkErrorKind::Timeout).into()) } else { Ok(part) }
    }
    async fn parts(&self, key: &ObjectKey, id: &UploadId) -> Result<Vec<Part>, UploadError> {
        self.files.parts(key, id).await
    }
    async fn complete(
        &self,
        key: &ObjectKey,
        id: &UploadId,
        parts: &[Part],
    ) -> Result<Written, UploadError> {
        let lost = self.before(Call::Complete).await?;
        let written = self.files.complete(key, id, parts).await?;
        if lost { Err(error(SinkErrorKind::Timeout).into()) } else { Ok(written) }
    }
    async fn abort(&self, key: Option<&ObjectKey>, id: &UploadId) -> Result<(), SinkError> {
        self.files.abort(key, id).await
    }
    async fn list_uploads(
        &self,
        prefix: &str,
        begun_before: DateTime<Utc>,
        after: Option<&str>,
    ) -> Result<(Vec<Unfinished>, Option<String>), SinkError> {
        self.files.list_uploads(prefix, begun_before, after).await
    }
}

#[async_trait]
impl Objects for Double {
    fn bucket(&self) -> &str {
        self.files.bucket()
    }
    async fn put_with(
        &self,
        key: &ObjectKey,
        mut bytes: Vec<u8>,
        how: Write,
        options: &ObjectOptions,
    ) -> Result<Written, SinkError> {
        let lost = match self.trick(Call::Put) {
            Some(Trick::Fail(kind)) => return Err(error(kind)),
            Some(Trick::Flip) => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                false
            }
            Some(Trick::First(first)) => {
                first.await;
                false
            }
            Some(Trick::Lose) => true,
            None => false,
        };
        let written = self.files.put_with(key, bytes, how, options).await?;
        if lost { Err(error(SinkErrorKind::Timeout)) } else { Ok(written) }
    }
    async fn get(&self, key: &ObjectKey, max: u64) -> Result<Option<Vec<u8>>, SinkError> {
        self.files.get(key, max).await
    }
    async fn get_range(
        &self,
        key: &ObjectKey,
        from: u64,
        len: u64,
    ) -> Result<Option<Vec<u8>>, SinkError> {
        self.files.get_range(key, from, len).await
    }
    async fn read(&self, key: &ObjectKey, from: u64) -> Result<Option<ObjectBody>, SinkError> {
        self.before(Call::Read).await?;
        self.files.read(key, from).await
    }
    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectHead>, SinkError> {
        self.files.head(key).await
    }
    async fn delete(&self, key: &ObjectKey) -> Result<Deletion, SinkError> {
        self.files.delete(key).await
    }
    async fn delete_batch(
        &self,
        keys: &[ObjectKey],
    ) -> Result<Vec<Result<Deletion, ItemError>>, SinkError> {
        self.files.delete_batch(keys).await
    }
    async fn delete_all_versions(&self, key: &ObjectKey) -> Result<Deletion, SinkError> {
        let lost = self.before(Call::Delete).await?;
        let deletion = self.files.delete_all_versions(key).await?;
        if lost { Err(error(SinkErrorKind::Timeout)) } else { Ok(deletion) }
    }
    async fn set_legal_hold(&self, key: &ObjectKey, on: bool) -> Result<bool, SinkError> {
        self.files.set_legal_hold(key, on).await
    }
    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<ObjectPage, SinkError> {
        self.files.list(prefix, after, limit).await
    }
    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, SinkError> {
        self.files.list_folders(prefix).await
    }
}

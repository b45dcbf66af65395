//! Large objects in parts, with memory for one part at a time: begun, sent part by part, completed at
//! once or not at all. What died in between is resumed from a checkpoint, and what nobody resumes is
//! found by [`Uploads::list_uploads`], so that no crash leaves storage that bills for ever.
//!
//! A part's answer proves nothing about the object: whoever deletes by it reads the object whole first.

use std::fmt;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    NAME, ObjectKey, ObjectOptions, SharedObjects, SinkError, SinkErrorKind, Write, Written,
};

/// Bytes of a part at least, but of the last one: S3's limit.
pub const PART_BYTES_MIN: usize = 5 * 1024 * 1024;
/// Bytes of a part at most: what is held in memory.
pub const PART_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Parts of an object at most: S3's limit.
pub const PARTS_MAX: usize = 10_000;
/// Unfinished uploads on a page of [`Uploads::list_uploads`].
pub const UPLOADS_PAGE_MAX: usize = 1_000;
/// Pages that one [`sweep_uploads`] looks at; the next one goes on.
const SWEEP_PAGES_MAX: usize = 100;

/// The store's name for an upload that was begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UploadId(pub String);

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A part that the store has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// From 1.
    pub number: u16,
    /// Bytes.
    pub size: u64,
    /// The store's mark for these bytes; goes back with [`Uploads::complete`].
    pub etag: String,
    /// SHA-256 of the bytes, base64 as S3 writes it.
    pub sha256: String,
}

/// Why an upload does not go on.
#[derive(Clone, Debug, thiserror::Error)]
pub enum UploadError {
    /// The upload is gone, or can never be completed: begin again from the first byte. It was aborted
    /// (a sweep, a lifecycle rule, another run), or another writer was at the same name.
    #[error("the upload of {key} is lost: {why}; begin again")]
    Lost {
        /// Which object it was to become.
        key: ObjectKey,
        /// What the store says.
        why: String,
    },
    /// The call failed; the upload is as it was, or has the part. Try the same again.
    #[error(transparent)]
    Failed(#[from] SinkError),
}

impl UploadError {
    pub(crate) fn lost(key: &ObjectKey, why: impl Into<String>) -> Self {
        Self::Lost { key: key.clone(), why: why.into() }
    }
}

/// An upload that was begun and not completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// What it was to become; none for a file's draft, which has no name before it is whole.
    pub key: Option<ObjectKey>,
    /// Its name at the store.
    pub id: UploadId,
    /// When it was begun, by the store's clock.
    pub begun: DateTime<Utc>,
}

/// What a store does about parts. Callers use [`Upload`], which keeps the order of things.
///
/// Guarantees: nothing of an upload is an object before [`complete`](Self::complete), then all of it is;
/// a part of the same number takes the place of the earlier one; every call makes one attempt within a
/// time limit (that of a part grows with its size). A call that failed may have had its effect.
#[async_trait]
pub trait Uploads {
    /// Begins an upload.
    async fn begin(&self, key: &ObjectKey, options: &ObjectOptions) -> Result<UploadId, SinkError>;

    /// Stores a part, with its SHA-256 for the store to check.
    async fn put_part(
        &self,
        key: &ObjectKey,
        id: &UploadId,
        number: u16,
        bytes: Bytes,
    ) -> Result<Part, UploadError>;

    /// The parts that the store has, in the order of their numbers.
    async fn parts(&self, key: &ObjectKey, id: &UploadId) -> Result<Vec<Part>, UploadError>;

    /// Makes these parts the object, if there is none of that name. After [`Written::AlreadyThere`] the
    /// upload may still be there: abort it. It also answers so where an earlier call of the same upload
    /// took effect and its answer was lost: compare the object.
    async fn complete(
        &self,
        key: &ObjectKey,
        id: &UploadId,
        parts: &[Part],
    ) -> Result<Written, UploadError>;

    /// Removes an unfinished upload with its parts; that it is gone already is no error. A part that is
    /// on its way may survive: list and abort again later.
    async fn abort(&self, key: Option<&ObjectKey>, id: &UploadId) -> Result<(), SinkError>;

    /// Up to [`UPLOADS_PAGE_MAX`] uploads begun before `begun_before` whose names begin with `prefix`,
    /// and the mark of the next page.
    async fn list_uploads(
        &self,
        prefix: &str,
        begun_before: DateTime<Utc>,
        after: Option<&str>,
    ) -> Result<(Vec<Unfinished>, Option<String>), SinkError>;
}

/// What a crash does not take: enough to go on with an upload. Persist it after the parts that it
/// names, together with where the source of the bytes stood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// What it is to become.
    pub key: String,
    /// The store's name for it.
    pub upload: UploadId,
    /// The parts that are stored, from number 1 without gaps.
    pub parts: Vec<Part>,
}

/// An upload in progress. Dropping it leaves it to [`Upload::resume`] or to a sweep.
#[derive(Debug)]
pub struct Upload {
    objects: SharedObjects,
    key: ObjectKey,
    id: UploadId,
    parts: Vec<Part>,
}

impl Upload {
    /// Begins one.
    pub async fn begin(
        objects: SharedObjects,
        key: &ObjectKey,
        options: &ObjectOptions,
    ) -> Result<Self, SinkError> {
        let id = objects.begin(key, options).await?;
        Ok(Self { objects, key: key.clone(), id, parts: Vec::new() })
    }

    /// Goes on after the parts of a checkpoint. Parts that were sent after it are sent again, in place.
    /// [`UploadError::Lost`] where the store does not have these very parts any more.
    pub async fn resume(
        objects: SharedObjects,
        checkpoint: Checkpoint,
    ) -> Result<Self, UploadError> {
        let Checkpoint { key, upload: id, parts } = checkpoint;
        let refused = |why: String| SinkError::new(NAME, SinkErrorKind::Refused, why);
        let key: ObjectKey = key.parse().map_err(|error| refused(format!("{error}")))?;
        let stored = objects.parts(&key, &id).await?;
        for (at, part) in parts.iter().enumerate() {
            let same = |stored: &&Part| {
                (stored.number, stored.size, &stored.etag) == (part.number, part.size, &part.etag)
            };
            if usize::from(part.number) != at + 1 || !stored.iter().any(|it| same(&it)) {
                let why =
                    format!("part {} of the checkpoint is not what the store has", part.number);
                return Err(UploadError::lost(&key, why));
            }
        }
        Ok(Self { objects, key, id, parts })
    }

    /// Sends the next part: [`PART_BYTES_MIN`] to [`PART_BYTES_MAX`], less only for the last one. After
    /// an error the same bytes may be sent again.
    pub async fn push(&mut self, bytes: Bytes) -> Result<(), UploadError> {
        let refused = |why: String| {
            Err(SinkError::new(NAME, SinkErrorKind::Full, format!("{}: {why}", self.key)).into())
        };
        if bytes.is_empty() || bytes.len() > PART_BYTES_MAX {
            return refused(format!("a part of {} bytes, 1 to {PART_BYTES_MAX} fit", bytes.len()));
        }
        let short = |part: &Part| part.size < PART_BYTES_MIN as u64;
        if let Some(last) = self.parts.last().filter(|last| short(last)) {
            return refused(format!(
                "part {} has {} bytes, under {PART_BYTES_MIN}: only the last one may",
                last.number, last.size
            ));
        }
        let number = self.parts.len() + 1;
        if number > PARTS_MAX {
            return refused(format!("{PARTS_MAX} parts are there, more do not fit"));
        }
        let number = u16::try_from(number).unwrap_or(u16::MAX);
        let part = self.objects.put_part(&self.key, &self.id, number, bytes).await?;
        self.parts.push(part);
        Ok(())
    }

    /// Bytes that the store has.
    pub fn stored_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.size).sum()
    }

    /// What to persist, so that a crash costs no part that was sent.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint { key: self.key.to_string(), upload: self.id.clone(), parts: self.parts.clone() }
    }

    /// Makes the parts the object, if there is none of that name; its parts go where there is one. After
    /// [`UploadError::Failed`] call it again, or resume later: it may have taken effect, which the next
    /// call answers with [`Written::AlreadyThere`]. [`UploadError::Lost`] where the upload is gone
    /// and there is no object.
    pub async fn complete(&self) -> Result<Written, UploadError> {
        if self.parts.is_empty() {
            let why = format!("{}: an upload without a part; put the empty object", self.key);
            return Err(SinkError::new(NAME, SinkErrorKind::Refused, why).into());
        }
        match self.objects.complete(&self.key, &self.id, &self.parts).await {
            Ok(Written::AlreadyThere) => {
                self.objects.abort(Some(&self.key), &self.id).await?;
                Ok(Written::AlreadyThere)
            }
            Err(lost @ UploadError::Lost { .. }) => match self.objects.head(&self.key).await? {
                Some(_) => Ok(Written::AlreadyThere),
                None => Err(lost),
            },
            other => other,
        }
    }

    /// Gives it up, with its parts.
    pub async fn abort(self) -> Result<(), SinkError> {
        self.objects.abort(Some(&self.key), &self.id).await
    }
}

/// Writes an object that fits in memory, in one call where it fits a part.
pub async fn write_whole(
    objects: &SharedObjects,
    key: &ObjectKey,
    bytes: Vec<u8>,
    options: &ObjectOptions,
) -> Result<Written, UploadError> {
    if bytes.len() <= PART_BYTES_MAX {
        return Ok(objects.put_with(key, bytes, Write::IfAbsent, options).await?);
    }
    let bytes = Bytes::from(bytes);
    let mut upload = Upload::begin(SharedObjects::clone(objects), key, options).await?;
    for from in (0..bytes.len()).step_by(PART_BYTES_MAX) {
        upload.push(bytes.slice(from..bytes.len().min(from + PART_BYTES_MAX))).await?;
    }
    upload.complete().await
}

/// Aborts the uploads under `prefix` that were begun before `begun_before`; answers how many. An
/// upload that somebody resumes must be younger than that. One that cannot be aborted keeps no other:
/// all are tried, and the first error is the answer.
pub async fn sweep_uploads(
    objects: &dyn super::Objects,
    prefix: &str,
    begun_before: DateTime<Utc>,
) -> Result<u64, SinkError> {
    let (mut gone, mut after, mut failed) = (0, None, None);
    for _ in 0..SWEEP_PAGES_MAX {
        let listed = objects.list_uploads(prefix, begun_before, after.as_deref()).await;
        let (uploads, next) = match listed {
            Ok(page) => page,
            Err(error) => return Err(failed.unwrap_or(error)),
        };
        for upload in uploads {
            match objects.abort(upload.key.as_ref(), &upload.id).await {
                Ok(()) => gone += 1,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        after = next;
        if after.is_none() {
            break;
        }
    }
    failed.map_or(Ok(gone), Err)
}

/// SHA-256 as S3 writes it; on a thread of its own, since 64 MiB would hold up everybody else.
pub(crate) async fn sha256(bytes: Bytes) -> Result<String, SinkError> {
    let digest = tokio::task::spawn_blocking(move || BASE64.encode(Sha256::digest(&bytes)));
    digest.await.map_err(|error| {
        SinkError::new(NAME, SinkErrorKind::Unavailable, format!("hashing broke off: {error}"))
    })
}

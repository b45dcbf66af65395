//! An object into the store, once: small ones in one call, larger ones in parts whose upload is noted
//! before and after each part. What an earlier attempt left is gone on with where its bytes are the
//! same, and aborted where they are not. It never writes over an object.

use std::io::{Read as _, Seek as _, SeekFrom};

use bytes::Bytes;
use chrono::TimeDelta;
use evidence::Hash;
use serde::{Deserialize, Serialize};
use sinks::SinkError;
use sinks::objects::{
    Checkpoint, ObjectKey, ObjectOptions, SharedObjects, Upload, UploadError, Write, Written,
};
use tempfile::SpooledTempFile;

use super::pack::Packed;
use super::unit::{Hand, Obstacle};
use crate::crash::{CrashPoint, reach};
use crate::lifecycle::Unit;

/// Bytes of a part, and of an object that goes in one call.
pub(super) const PART_BYTES: usize = 16 * 1024 * 1024;

/// An upload as a unit notes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Noted {
    /// Of the whole object: only the same bytes go on.
    packed_sha256: Hash,
    checkpoint: Checkpoint,
}

/// Writes the object; [`Written::AlreadyThere`] where its name is taken, by whomever.
pub(super) async fn put(
    hand: &Hand<'_>,
    unit: &Unit,
    key: &ObjectKey,
    packed: &mut Packed,
    options: &ObjectOptions,
) -> Result<Written, Obstacle> {
    let noted: Option<Noted> =
        unit.upload.as_ref().and_then(|upload| serde_json::from_value(upload.clone()).ok());
    if packed.contents.packed.bytes <= PART_BYTES as u64 {
        abandon(hand, noted).await?;
        let bytes = part(packed, 0).await?;
        reach(CrashPoint::BeforeObject);
        return Ok(hand.objects.put_with(key, bytes.into(), Write::IfAbsent, options).await?);
    }
    let mut upload = begin(hand, key, packed, options, noted).await?;
    loop {
        let bytes = part(packed, upload.stored_bytes()).await?;
        if bytes.is_empty() {
            break;
        }
        upload.push(bytes).await.map_err(lost)?;
        note(hand, packed, &upload).await?;
        reach(CrashPoint::AfterPart);
        hand.beat().await?;
    }
    reach(CrashPoint::BeforeObject);
    upload.complete().await.map_err(lost)
}

/// Writes an object that nobody goes on with: an attempt that died leaves nothing, or parts that the
/// sweep of uploads aborts.
pub(super) async fn put_whole(
    objects: &SharedObjects,
    key: &ObjectKey,
    packed: &mut Packed,
    options: &ObjectOptions,
) -> Result<Written, Obstacle> {
    if packed.contents.packed.bytes <= PART_BYTES as u64 {
        let bytes = part(packed, 0).await?;
        return Ok(objects.put_with(key, bytes.into(), Write::IfAbsent, options).await?);
    }
    let mut upload = Upload::begin(SharedObjects::clone(objects), key, options).await?;
    loop {
        let bytes = part(packed, upload.stored_bytes()).await?;
        if bytes.is_empty() {
            return upload.complete().await.map_err(lost);
        }
        upload.push(bytes).await.map_err(lost)?;
    }
}

/// Goes on with the upload of an earlier attempt, or begins one and notes it.
async fn begin(
    hand: &Hand<'_>,
    key: &ObjectKey,
    packed: &Packed,
    options: &ObjectOptions,
    noted: Option<Noted>,
) -> Result<Upload, Obstacle> {
    let noted = match noted {
        Some(noted) if resumes(&noted, key, packed) => {
            let objects = SharedObjects::clone(hand.objects);
            match Upload::resume(objects, noted.checkpoint).await {
                Ok(upload) => return Ok(upload),
                Err(UploadError::Lost { .. }) => None,
                Err(UploadError::Failed(error)) => return Err(error.into()),
            }
        }
        other => other,
    };
    abandon(hand, noted).await?;
    sweep(hand, key).await?;
    let upload = Upload::begin(SharedObjects::clone(hand.objects), key, options).await?;
    reach(CrashPoint::AfterUploadBegun);
    note(hand, packed, &upload).await?;
    Ok(upload)
}

fn resumes(noted: &Noted, key: &ObjectKey, packed: &Packed) -> bool {
    noted.packed_sha256 == packed.contents.packed.sha256
        && noted.checkpoint.key == key.as_str()
        && noted.checkpoint.parts.iter().all(|part| part.size == PART_BYTES as u64)
}

async fn note(hand: &Hand<'_>, packed: &Packed, upload: &Upload) -> Result<(), Obstacle> {
    let packed_sha256 = packed.contents.packed.sha256;
    let noted = Noted { packed_sha256, checkpoint: upload.checkpoint() };
    let noted = serde_json::to_value(noted).map_err(|error| Obstacle::Poison(error.to_string()))?;
    hand.note_upload(Some(&noted)).await
}

/// Removes what an earlier attempt left behind, and forgets it.
async fn abandon(hand: &Hand<'_>, noted: Option<Noted>) -> Result<(), Obstacle> {
    let Some(Noted { checkpoint, .. }) = noted else { return Ok(()) };
    let key: Option<ObjectKey> = checkpoint.key.parse().ok();
    hand.objects.abort(key.as_ref(), &checkpoint.upload).await?;
    hand.note_upload(None).await
}

/// Removes uploads under this very name: an attempt died between beginning one and noting it. The name
/// is the unit's alone, and the unit is ours.
async fn sweep(hand: &Hand<'_>, key: &ObjectKey) -> Result<(), SinkError> {
    let until = hand.clock.now() + TimeDelta::days(1);
    let (uploads, _) = hand.objects.list_uploads(key.as_str(), until, None).await?;
    for upload in uploads.iter().filter(|upload| upload.key.as_ref() == Some(key)) {
        hand.objects.abort(Some(key), &upload.id).await?;
    }
    Ok(())
}

/// Up to [`PART_BYTES`] of the packed bytes from there on.
async fn part(packed: &mut Packed, from: u64) -> Result<Bytes, Obstacle> {
    let empty = tempfile::spooled_tempfile(0);
    let file = std::mem::replace(&mut packed.file, empty);
    let read = tokio::task::spawn_blocking(move || read(file, from)).await;
    let (file, bytes) = read
        .map_err(std::io::Error::other)
        .and_then(|read| read)
        .map_err(|error| Obstacle::Spool(error.to_string()))?;
    packed.file = file;
    Ok(bytes)
}

fn read(mut file: SpooledTempFile, from: u64) -> std::io::Result<(SpooledTempFile, Bytes)> {
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.by_ref().take(PART_BYTES as u64).read_to_end(&mut bytes)?;
    Ok((file, bytes.into()))
}

/// A lost upload is begun anew by the next attempt: nothing of the message's doing.
fn lost(error: UploadError) -> Obstacle {
    match error {
        UploadError::Failed(error) => Obstacle::Store(error),
        UploadError::Lost { .. } => Obstacle::Store(SinkError::new(
            sinks::objects::NAME,
            sinks::SinkErrorKind::Unavailable,
            error.to_string(),
        )),
    }
}

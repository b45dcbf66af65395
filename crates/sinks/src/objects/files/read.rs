//! Reading files: whole, a range, or as a stream, and what is known of one.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use tokio_util::io::ReaderStream;

use super::disk::absent;
use super::{CALL_TIMEOUT, about, refused};
use crate::error::{SinkError, SinkErrorKind};
use crate::objects::{NAME, ObjectBody, ObjectHead, ObjectKey, ObjectOptions};

/// Bytes of a chunk of a stream.
const CHUNK_BYTES: usize = 256 * 1024;

pub(super) fn open(root: &Path, key: &ObjectKey) -> io::Result<Option<File>> {
    match File::open(root.join(key.as_str())) {
        Ok(file) if file.metadata()?.is_file() => Ok(Some(file)),
        Ok(_) => Ok(None),
        Err(error) if absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn whole(root: &Path, key: &ObjectKey, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let Some(file) = open(root, key)? else { return Ok(None) };
    let size = file.metadata()?.len();
    if size > bytes_max {
        let text = format!("{key} has {size} bytes, expected are at most {bytes_max}");
        return Err(refused(text));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

pub(super) fn range(
    root: &Path,
    key: &ObjectKey,
    from: u64,
    len: u64,
) -> io::Result<Option<Vec<u8>>> {
    let Some(mut file) = open(root, key)? else { return Ok(None) };
    let size = file.metadata()?.len();
    if from.saturating_add(len) > size {
        let text = format!("{key} has {size} bytes, asked for are {len} from byte {from}");
        return Err(refused(text));
    }
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    file.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}

/// The file from a byte on, and its size.
pub(super) fn at(root: &Path, key: &ObjectKey, from: u64) -> io::Result<Option<(File, u64)>> {
    let Some(mut file) = open(root, key)? else { return Ok(None) };
    let size = file.metadata()?.len();
    if from > 0 && from >= size {
        return Err(refused(format!("{key} has {size} bytes, asked for are those from {from} on")));
    }
    file.seek(SeekFrom::Start(from))?;
    Ok(Some((file, size)))
}

pub(super) fn body(name: String, key: ObjectKey, file: File, size: u64, from: u64) -> ObjectBody {
    let chunks = ReaderStream::with_capacity(tokio::fs::File::from_std(file), CHUNK_BYTES);
    let chunks = chunks.map_err(move |error| {
        SinkError::new(NAME, SinkErrorKind::Unavailable, format!("{name}: {error}"))
    });
    ObjectBody::new(key, size, size - from, CALL_TIMEOUT, chunks)
}

pub(super) fn head(root: &Path, key: &ObjectKey) -> io::Result<Option<ObjectHead>> {
    let Some(file) = open(root, key)? else { return Ok(None) };
    let file = file.metadata()?;
    let ObjectOptions { metadata, storage_class, lock, legal_hold, .. } = about::read(root, key)?;
    let modified = DateTime::<Utc>::from(file.modified()?);
    let (key, size) = (key.clone(), file.len());
    Ok(Some(ObjectHead { key, size, modified, storage_class, lock, legal_hold, metadata }))
}

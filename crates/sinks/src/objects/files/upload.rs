//! Uploads in parts as files: `~unfinished/{id}/` holds what the upload is to become and its parts; each
//! completion puts them together in a new file of its own, which then gets its name. While that happens
//! the bytes are on the disk twice. Bytes that have a name are never written to again.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::disk::{absent, draft, draft_by, make_folders, sync_directory};
use super::{Files, UNFINISHED, refused, write};
use crate::error::SinkError;
use crate::objects::{
    ObjectKey, ObjectOptions, Part, UPLOADS_PAGE_MAX, Unfinished, UploadError, UploadId, Uploads,
    Write, Written, admit, upload,
};

/// What an upload is to become.
const BEGUN: &str = "begun.json";
/// What a part's file ends in; before it stand the number and the SHA-256.
const PART: &str = ".part";

#[derive(Serialize, Deserialize)]
struct Begun {
    key: String,
    options: ObjectOptions,
}

/// The upload is gone, with why; as opposed to a disk in trouble.
type Found<T> = Result<T, &'static str>;

const UNKNOWN: &str = "the store knows no such upload";
const OTHER_PARTS: &str = "the store has other parts than those named";

/// Where an upload lies. Ids are ours: anything else would be a path of somebody's choosing.
fn folder(root: &Path, id: &UploadId) -> io::Result<PathBuf> {
    match Uuid::try_parse(&id.0) {
        Ok(uuid) if uuid.simple().to_string() == id.0 => Ok(root.join(UNFINISHED).join(&id.0)),
        _ => Err(refused(format!("{:?} names no upload", id.0))),
    }
}

fn begun(folder: &Path) -> io::Result<Option<Begun>> {
    match fs::read(folder.join(BEGUN)) {
        Err(error) if absent(&error) => Ok(None),
        bytes => serde_json::from_slice(&bytes?).map(Some).map_err(io::Error::other),
    }
}

fn begin(root: &Path, key: &ObjectKey, options: ObjectOptions) -> io::Result<UploadId> {
    let id = UploadId(Uuid::new_v4().simple().to_string());
    let folder = folder(root, &id)?;
    make_folders(root, &folder)?;
    let begun = Begun { key: key.to_string(), options };
    let begun = draft(root, &serde_json::to_vec_pretty(&begun).map_err(io::Error::other)?)?;
    fs::rename(&begun, folder.join(BEGUN))?;
    sync_directory(&folder).map(|()| id)
}

fn part_name(number: u16, etag: &str) -> String {
    format!("{number:05}-{etag}{PART}")
}

fn put_part(
    root: &Path,
    key: &ObjectKey,
    id: &UploadId,
    bytes: &[u8],
    part: &Part,
) -> io::Result<Found<()>> {
    let folder = folder(root, id)?;
    if begun(&folder)?.is_none_or(|begun| begun.key != key.as_str()) {
        return Ok(Err(UNKNOWN));
    }
    let name = part_name(part.number, &part.etag);
    let draft = draft(root, bytes)?;
    match fs::rename(&draft, folder.join(&name)) {
        Err(error) if absent(&error) => {
            let _ = fs::remove_file(&draft);
            return Ok(Err(UNKNOWN));
        }
        moved => moved?,
    }
    sync_directory(&folder)?;
    // The earlier one goes last: a crash leaves both, and a completion names the one that it means.
    let begins = format!("{:05}-", part.number);
    for entry in fs::read_dir(&folder)? {
        let other = entry?.file_name();
        let other = other.to_string_lossy();
        if other.starts_with(&begins) && *other != name {
            fs::remove_file(folder.join(&*other))?;
        }
    }
    Ok(Ok(()))
}

fn parts(root: &Path, id: &UploadId) -> io::Result<Found<Vec<Part>>> {
    let folder = folder(root, id)?;
    if begun(&folder)?.is_none() {
        return Ok(Err(UNKNOWN));
    }
    let mut parts = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let Some((number, etag)) = name.strip_suffix(PART).and_then(|name| name.split_once('-'))
        else {
            continue;
        };
        let (Ok(number), Ok(hash)) = (number.parse(), hex::decode(etag)) else { continue };
        let (size, sha256) = (entry.metadata()?.len(), BASE64.encode(hash));
        parts.push(Part { number, size, etag: etag.to_owned(), sha256 });
    }
    parts.sort_by_key(|part| part.number);
    Ok(Ok(parts))
}

fn complete(
    root: &Path,
    key: &ObjectKey,
    id: &UploadId,
    parts: &[Part],
) -> io::Result<Found<Written>> {
    let folder = folder(root, id)?;
    let published = publish(root, &folder, key, parts)?;
    if published == Ok(Written::New) {
        remove(&folder)?;
    }
    Ok(published)
}

/// Puts the parts together and names the whole; the parts stay. An earlier call may have come as far,
/// and its file may be the object by now, so that each call has a draft of its own.
fn publish(
    root: &Path,
    folder: &Path,
    key: &ObjectKey,
    parts: &[Part],
) -> io::Result<Found<Written>> {
    let Some(begun) = begun(folder)?.filter(|begun| begun.key == key.as_str()) else {
        return Ok(Err(UNKNOWN));
    };
    let mut other_parts = false;
    let whole = draft_by(root, |whole| {
        for part in parts {
            let place = folder.join(part_name(part.number, &part.etag));
            other_parts = append(whole, &place)? != Some(part.size);
            if other_parts {
                break;
            }
        }
        Ok(())
    })?;
    let placed = if other_parts {
        Ok(Err(OTHER_PARTS))
    } else {
        write::place(root, &whole, key, Write::IfAbsent, &begun.options).map(Ok)
    };
    // The object has a name of its own by now, or none.
    let _ = fs::remove_file(&whole);
    placed
}

/// Copies a part; answers its bytes, or nothing where there is none.
fn append(whole: &mut File, part: &Path) -> io::Result<Option<u64>> {
    match File::open(part) {
        Err(error) if absent(&error) => Ok(None),
        part => io::copy(&mut part?, whole).map(Some),
    }
}

/// Removes an upload, or a draft.
fn remove(place: &Path) -> io::Result<()> {
    match fs::remove_dir_all(place) {
        Err(error) if error.kind() == ErrorKind::NotADirectory => fs::remove_file(place),
        Err(error) if absent(&error) => Ok(()),
        removed => removed,
    }
}

fn list(
    root: &Path,
    prefix: &str,
    before: DateTime<Utc>,
    after: &str,
) -> io::Result<Vec<Unfinished>> {
    let found = match fs::read_dir(root.join(UNFINISHED)) {
        Err(error) if absent(&error) => return Ok(Vec::new()),
        found => found?,
    };
    let mut names = Vec::new();
    for entry in found {
        names.extend(entry?.file_name().into_string().ok().filter(|name| name.as_str() > after));
    }
    names.sort_unstable();
    let mut uploads = Vec::new();
    for name in names {
        let id = UploadId(name);
        let Ok(place) = folder(root, &id) else { continue };
        let about = match fs::metadata(place.join(BEGUN)).or_else(|_| fs::metadata(&place)) {
            // Finished meanwhile.
            Err(error) if absent(&error) => continue,
            about => about?,
        };
        let begun_at = DateTime::<Utc>::from(about.modified()?);
        let key = begun(&place)?.and_then(|begun| begun.key.parse::<ObjectKey>().ok());
        let wanted = key.as_ref().is_none_or(|key| key.as_str().starts_with(prefix));
        if wanted && begun_at < before {
            uploads.push(Unfinished { key, id, begun: begun_at });
        }
        if uploads.len() > UPLOADS_PAGE_MAX {
            break;
        }
    }
    Ok(uploads)
}

#[async_trait]
impl Uploads for Files {
    async fn begin(&self, key: &ObjectKey, options: &ObjectOptions) -> Result<UploadId, SinkError> {
        admit(&self.name, 0, options)?;
        let (key, options) = (key.clone(), options.clone());
        self.blocking(move |root| begin(root, &key, options)).await
    }

    async fn put_part(
        &self,
        key: &ObjectKey,
        id: &UploadId,
        number: u16,
        bytes: Bytes,
    ) -> Result<Part, UploadError> {
        let (sha256, size) = (upload::sha256(bytes.clone()).await?, bytes.len() as u64);
        let etag = hex::encode(BASE64.decode(&sha256).unwrap_or_default());
        let part = Part { number, size, etag, sha256 };
        let (whose, id, stored) = (key.clone(), id.clone(), part.clone());
        let call = move |root: &Path| put_part(root, &whose, &id, &bytes, &stored);
        match self.blocking_with(size, call).await? {
            Ok(()) => Ok(part),
            Err(why) => Err(UploadError::lost(key, why)),
        }
    }

    async fn parts(&self, key: &ObjectKey, id: &UploadId) -> Result<Vec<Part>, UploadError> {
        let id = id.clone();
        let parts = self.blocking(move |root| parts(root, &id)).await?;
        parts.map_err(|why| UploadError::lost(key, why))
    }

    async fn complete(
        &self,
        key: &ObjectKey,
        id: &UploadId,
        parts: &[Part],
    ) -> Result<Written, UploadError> {
        let bytes = parts.iter().map(|part| part.size).sum();
        let (whose, id, parts) = (key.clone(), id.clone(), parts.to_vec());
        let call = move |root: &Path| complete(root, &whose, &id, &parts);
        let written = self.blocking_with(bytes, call).await?;
        written.map_err(|why| UploadError::lost(key, why))
    }

    async fn abort(&self, _key: Option<&ObjectKey>, id: &UploadId) -> Result<(), SinkError> {
        let id = id.clone();
        self.blocking(move |root| remove(&folder(root, &id)?)).await
    }

    async fn list_uploads(
        &self,
        prefix: &str,
        begun_before: DateTime<Utc>,
        after: Option<&str>,
    ) -> Result<(Vec<Unfinished>, Option<String>), SinkError> {
        let (prefix, after) = (prefix.to_owned(), after.unwrap_or_default().to_owned());
        let call = move |root: &Path| list(root, &prefix, begun_before, &after);
        let mut uploads = self.blocking(call).await?;
        let more = uploads.len() > UPLOADS_PAGE_MAX;
        uploads.truncate(UPLOADS_PAGE_MAX);
        let next = uploads.last().filter(|_| more).map(|last| last.id.0.clone());
        Ok((uploads, next))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use sha2::{Digest as _, Sha256};
    use tempfile::TempDir;

    use super::*;

    fn part(number: u16, bytes: &[u8]) -> Part {
        let sha256 = BASE64.encode(Sha256::digest(bytes));
        let etag = hex::encode(Sha256::digest(bytes));
        Part { number, size: bytes.len() as u64, etag, sha256 }
    }

    fn store(root: &Path, key: &ObjectKey, id: &UploadId, number: u16, bytes: &[u8]) -> Part {
        let part = part(number, bytes);
        assert_eq!(put_part(root, key, id, bytes, &part).unwrap(), Ok(()));
        part
    }

    fn drafts(root: &Path) -> usize {
        let names = fs::read_dir(root.join(UNFINISHED)).unwrap();
        names.filter(|name| name.as_ref().unwrap().path().is_file()).count()
    }

    #[test]
    fn a_completion_that_is_repeated_never_touches_the_object_of_the_first() {
        let root = TempDir::new().unwrap();
        let (root, key): (_, ObjectKey) = (root.path(), "sealed/a".parse().unwrap());
        let id = begin(root, &key, ObjectOptions::default()).unwrap();
        let first = [store(root, &key, &id, 1, b"first "), store(root, &key, &id, 2, b"whole")];
        let place = root.join(key.as_str());
        // It took effect, and died before the parts went: nobody heard its answer.
        let upload = folder(root, &id).unwrap();
        assert_eq!(publish(root, &upload, &key, &first).unwrap(), Ok(Written::New));
        let (before, mut reader) = (fs::metadata(&place).unwrap(), File::open(&place).unwrap());
        // Somebody asks again, even with other bytes.
        let other = [store(root, &key, &id, 1, b"another"), first[1].clone()];
        for parts in [&other[..], &other[..1]] {
            let again = complete(root, &key, &id, parts).unwrap();
            assert_eq!(again, Ok(Written::AlreadyThere));
        }
        let after = fs::metadata(&place).unwrap();
        assert_eq!((after.ino(), after.nlink()), (before.ino(), 1), "the same file, one name");
        assert_eq!(after.modified().unwrap(), before.modified().unwrap());
        assert_eq!(
            io::read_to_string(&mut reader).unwrap(),
            "first whole",
            "who reads it meanwhile"
        );
        assert_eq!(fs::read_to_string(&place).unwrap(), "first whole");
        assert_eq!(complete(root, &key, &id, &first).unwrap(), Err(OTHER_PARTS));
        assert_eq!(drafts(root), 0, "every draft went");
    }

    #[test]
    fn a_draft_that_a_crash_left_is_swept_and_the_object_stays() {
        let root = TempDir::new().unwrap();
        let (root, key): (_, ObjectKey) = (root.path(), "sealed/a".parse().unwrap());
        let id = begin(root, &key, ObjectOptions::default()).unwrap();
        let parts = [store(root, &key, &id, 1, b"whole")];
        assert_eq!(complete(root, &key, &id, &parts).unwrap(), Ok(Written::New));
        let place = root.join(key.as_str());
        // Two crashes: one while a draft was written, one between its name and its end.
        draft(root, b"who").unwrap();
        let second = root.join(UNFINISHED).join(Uuid::new_v4().simple().to_string());
        fs::hard_link(&place, second).unwrap();
        assert_eq!(drafts(root), 2);
        let stale = list(root, "", DateTime::<Utc>::MAX_UTC, "").unwrap();
        assert_eq!(stale.len(), 2, "{stale:?}");
        for draft in stale {
            assert_eq!(draft.key, None);
            remove(&folder(root, &draft.id).unwrap()).unwrap();
        }
        assert_eq!(drafts(root), 0);
        assert_eq!(fs::read_to_string(&place).unwrap(), "whole");
    }
}

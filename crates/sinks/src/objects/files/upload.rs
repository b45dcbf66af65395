//! Uploads in parts as files: `~unfinished/{id}/` holds what the upload is to become and its parts; the
//! parts are put together in a file beside them, which then gets its name. While that happens the
//! bytes are on the disk twice.

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

use super::disk::{absent, draft, make_folders, sync_directory};
use super::{Files, UNFINISHED, refused, write};
use crate::error::SinkError;
use crate::objects::{
    ObjectKey, ObjectOptions, Part, UPLOADS_PAGE_MAX, Unfinished, UploadError, UploadId, Uploads,
    Write, Written, admit, upload,
};

/// What an upload is to become.
const BEGUN: &str = "begun.json";
/// The parts put together.
const WHOLE: &str = "whole";
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
    let Some(begun) = begun(&folder)?.filter(|begun| begun.key == key.as_str()) else {
        return Ok(Err(UNKNOWN));
    };
    let place = folder.join(WHOLE);
    let mut whole = File::create(&place)?;
    for part in parts {
        let mut part_file = match File::open(folder.join(part_name(part.number, &part.etag))) {
            Err(error) if absent(&error) => return Ok(Err(OTHER_PARTS)),
            file => file?,
        };
        if io::copy(&mut part_file, &mut whole)? != part.size {
            return Ok(Err(OTHER_PARTS));
        }
    }
    whole.sync_all()?;
    let written = write::place(root, &place, key, Write::IfAbsent, &begun.options)?;
    if written == Written::New {
        remove(&folder)?;
    }
    Ok(Ok(written))
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

//! Objects as files: written beside their place, synced, moved into it and the move synced, so that
//! a crash leaves the old object, the new one or none, never a part. For laptops and single machines.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use queue_core::Probe;
use uuid::Uuid;

use super::{NAME, ObjectKey, ObjectMeta, ObjectPage, Objects, PAGE_MAX, Write, Written};
use crate::error::{SinkError, SinkErrorKind};

/// A call that takes longer has failed: a disk that hangs, a network file system that is away.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Where objects are written before they have their name. Not a segment of any name: it begins with
/// what the alphabet does not have.
const UNFINISHED: &str = "~unfinished";

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
        let root = self.root.clone();
        let task = tokio::task::spawn_blocking(move || call(&root));
        match tokio::time::timeout(CALL_TIMEOUT, task).await {
            Ok(Ok(answer)) => answer.map_err(|error| self.failed(&error)),
            Ok(Err(broken)) => Err(self.error(SinkErrorKind::Unavailable, &broken.to_string())),
            Err(_) => {
                let text = format!("no answer from the disk within {CALL_TIMEOUT:?}");
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

/// Makes a name, or its disappearance, survive a crash.
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes the folders of a path, each one's own name synced.
fn make_folders(root: &Path, path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| parent.starts_with(root)) {
        make_folders(root, parent)?;
    }
    match fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        // The root's own parents.
        Err(error) if error.kind() == ErrorKind::NotFound => fs::create_dir_all(path)?,
        made => made?,
    }
    path.parent().map_or(Ok(()), sync_directory)
}

/// Twice: a delete takes an emptied folder along, maybe just before it is used again.
fn write(root: &Path, key: &ObjectKey, bytes: &[u8], how: Write) -> io::Result<Written> {
    match write_once(root, key, bytes, how) {
        Err(error) if error.kind() == ErrorKind::NotFound => write_once(root, key, bytes, how),
        written => written,
    }
}

fn write_once(root: &Path, key: &ObjectKey, bytes: &[u8], how: Write) -> io::Result<Written> {
    let place = root.join(key.as_str());
    let folder = place.parent().unwrap_or(root);
    let unfinished = root.join(UNFINISHED);
    make_folders(root, folder)?;
    make_folders(root, &unfinished)?;
    let draft = unfinished.join(Uuid::new_v4().simple().to_string());
    let moved = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        match how {
            Write::Replace => fs::rename(&draft, &place),
            // A link fails where a name is, and a rename does not.
            Write::IfAbsent => fs::hard_link(&draft, &place),
        }
    })();
    if how == Write::IfAbsent || moved.is_err() {
        let _ = fs::remove_file(&draft);
    }
    match moved {
        Err(error) if how == Write::IfAbsent && error.kind() == ErrorKind::AlreadyExists => {
            Ok(Written::AlreadyThere)
        }
        Err(error) => Err(error),
        Ok(()) => sync_directory(folder).map(|()| Written::New),
    }
}

/// Makes a removal survive a crash, and takes the folder along when it is empty now.
fn forget(root: &Path, place: &Path) -> io::Result<()> {
    let Some(folder) = place.parent() else { return Ok(()) };
    if folder != root && fs::remove_dir(folder).is_ok() {
        return folder.parent().map_or(Ok(()), sync_directory);
    }
    match sync_directory(folder) {
        Err(error) if absent(&error) => Ok(()),
        synced => synced,
    }
}

fn read(root: &Path, key: &ObjectKey, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let Some(file) = open(root, key)? else { return Ok(None) };
    let size = file.metadata()?.len();
    if size > bytes_max {
        let text = format!("{key} has {size} bytes, expected are at most {bytes_max}");
        return Err(io::Error::new(ErrorKind::InvalidData, text));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn open(root: &Path, key: &ObjectKey) -> io::Result<Option<File>> {
    match File::open(root.join(key.as_str())) {
        Ok(file) if file.metadata()?.is_file() => Ok(Some(file)),
        Ok(_) => Ok(None),
        Err(error) if absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// No such file, or a file where the path goes through.
fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn meta(key: ObjectKey, about: &fs::Metadata) -> io::Result<ObjectMeta> {
    let modified = DateTime::<Utc>::from(about.modified()?);
    Ok(ObjectMeta { key, size: about.len(), modified })
}

/// One name of a folder, so that sorting names sorts the full names below them: a folder counts as
/// ending in the slash that follows.
struct Entry {
    sorting: String,
    path: PathBuf,
}

fn entries(folder: &Path) -> io::Result<Vec<Entry>> {
    let found = match fs::read_dir(folder) {
        Err(error) if absent(&error) => return Ok(Vec::new()),
        found => found?,
    };
    let mut entries = Vec::new();
    for entry in found {
        let entry = entry?;
        let Ok(mut sorting) = entry.file_name().into_string() else { continue };
        if entry.file_type()?.is_dir() {
            sorting.push('/');
        }
        entries.push(Entry { sorting, path: entry.path() });
    }
    entries.sort_by(|a, b| a.sorting.cmp(&b.sorting));
    Ok(entries)
}

/// Walks in the order of full names; stops when the page has one more than it may.
fn walk(
    folder: &Path,
    name: &str,
    wanted: &Wanted<'_>,
    page: &mut Vec<ObjectMeta>,
) -> io::Result<()> {
    for Entry { sorting, path } in entries(folder)? {
        if page.len() > wanted.limit {
            return Ok(());
        }
        let full = format!("{name}{sorting}");
        if sorting.ends_with('/') {
            let under_prefix = full.starts_with(wanted.prefix) || wanted.prefix.starts_with(&full);
            // All below is before `after`, unless that lies below too.
            let behind = full.as_str() < wanted.after && !wanted.after.starts_with(&full);
            if under_prefix && !behind && sorting != format!("{UNFINISHED}/") {
                walk(&path, &full, wanted, page)?;
            }
        } else if full.starts_with(wanted.prefix)
            && full.as_str() > wanted.after
            && let Ok(key) = full.parse()
        {
            match fs::metadata(&path) {
                // Removed meanwhile.
                Err(error) if absent(&error) => {}
                about => page.push(meta(key, &about?)?),
            }
        }
    }
    Ok(())
}

/// What a page is to hold.
struct Wanted<'a> {
    prefix: &'a str,
    after: &'a str,
    limit: usize,
}

#[async_trait]
impl Objects for Files {
    fn bucket(&self) -> &str {
        &self.name
    }

    async fn put(&self, key: &ObjectKey, bytes: Vec<u8>, how: Write) -> Result<Written, SinkError> {
        let key = key.clone();
        self.blocking(move |root| write(root, &key, &bytes, how)).await
    }

    async fn get(&self, key: &ObjectKey, bytes_max: u64) -> Result<Option<Vec<u8>>, SinkError> {
        let key = key.clone();
        self.blocking(move |root| read(root, &key, bytes_max)).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>, SinkError> {
        let key = key.clone();
        self.blocking(move |root| match open(root, &key)? {
            Some(file) => meta(key, &file.metadata()?).map(Some),
            None => Ok(None),
        })
        .await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), SinkError> {
        let key = key.clone();
        self.blocking(move |root| {
            let place = root.join(key.as_str());
            match fs::remove_file(&place) {
                Err(error) if absent(&error) => Ok(()),
                Err(error) => Err(error),
                Ok(()) => forget(root, &place),
            }
        })
        .await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<ObjectPage, SinkError> {
        let (prefix, limit) = (prefix.to_owned(), limit.clamp(1, PAGE_MAX));
        let after = after.map(ToString::to_string).unwrap_or_default();
        self.blocking(move |root| {
            let mut objects = Vec::new();
            let wanted = Wanted { prefix: &prefix, after: &after, limit };
            walk(root, "", &wanted, &mut objects)?;
            let more = objects.len() > limit;
            objects.truncate(limit);
            let next = objects.last().filter(|_| more).map(|last| last.key.clone());
            Ok(ObjectPage { objects, next })
        })
        .await
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
            make_folders(root, &unfinished)?;
            let file = unfinished.join(format!("probe-{}", Uuid::new_v4().simple()));
            File::create_new(&file)?;
            fs::remove_file(&file)
        });
        probed.await.map_err(|error| error.to_string())
    }
}

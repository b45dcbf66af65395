//! What makes names survive a crash, and keeps two writers of one folder apart.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::UNFINISHED;

/// Folders that went while their lock was waited for, in a row.
const LOCKS_MAX: usize = 10;

/// No such file, or a file where the path goes through.
pub(super) fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Makes a name, or its disappearance, survive a crash.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes the folders of a path, each one's own name synced.
pub(super) fn make_folders(root: &Path, path: &Path) -> io::Result<()> {
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

/// Keeps every other process out of changing names in a folder, until it is dropped. An object and
/// what is noted about it change together under it.
pub(super) fn lock(folder: &Path) -> io::Result<File> {
    for _ in 0..LOCKS_MAX {
        let held = File::open(folder)?;
        held.lock()?;
        let (ours, now) = (held.metadata()?, fs::metadata(folder)?);
        // Else it was removed, and made again, while we waited.
        if (ours.dev(), ours.ino()) == (now.dev(), now.ino()) {
            return Ok(held);
        }
    }
    Err(io::Error::new(ErrorKind::NotFound, format!("{}: comes and goes", folder.display())))
}

/// A new file among the unfinished ones, its bytes synced.
pub(super) fn draft(root: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    draft_by(root, |file| file.write_all(bytes))
}

/// The same of what `write` writes.
pub(super) fn draft_by(
    root: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<PathBuf> {
    let unfinished = root.join(UNFINISHED);
    make_folders(root, &unfinished)?;
    let draft = unfinished.join(Uuid::new_v4().simple().to_string());
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&draft)?;
        write(&mut file)?;
        file.sync_all()
    })();
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written.map(|()| draft)
}

/// Removes a file, durably; whether there was one.
pub(super) fn remove(place: &Path) -> io::Result<bool> {
    match fs::remove_file(place) {
        Err(error) if absent(&error) => Ok(false),
        Err(error) => Err(error),
        Ok(()) => forget(place).map(|()| true),
    }
}

/// Makes a removal survive a crash, and takes the folder along when it is empty now.
fn forget(place: &Path) -> io::Result<()> {
    let Some(folder) = place.parent() else { return Ok(()) };
    let keeps = folder.join(UNFINISHED).exists();
    if !keeps && fs::remove_dir(folder).is_ok() {
        return folder.parent().map_or(Ok(()), sync_directory);
    }
    match sync_directory(folder) {
        Err(error) if absent(&error) => Ok(()),
        synced => synced,
    }
}

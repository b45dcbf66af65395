//! What an object was stored with, in a file of its own that people can read:
//! `~about/{name}~.json`. It is there before the object is, so that no crash leaves an object without
//! its lock; one without an object means nothing, and the next write of that name replaces it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::disk::{absent, draft, lock, make_folders, remove, sync_directory};
use super::read::open;
use super::{ABOUT, refused};
use crate::objects::{ObjectKey, ObjectOptions};

fn place(root: &Path, key: &ObjectKey) -> PathBuf {
    root.join(ABOUT).join(format!("{key}~.json"))
}

/// The options of an object; the default where none were given. What cannot be read is an error, and
/// never an object without a lock.
pub(super) fn read(root: &Path, key: &ObjectKey) -> io::Result<ObjectOptions> {
    let place = place(root, key);
    let bytes = match fs::read(&place) {
        Err(error) if absent(&error) => return Ok(ObjectOptions::default()),
        bytes => bytes?,
    };
    serde_json::from_slice(&bytes)
        .map_err(|error| refused(format!("{}: not readable: {error}", place.display())))
}

/// Notes them, durably; the folder's lock is held.
pub(super) fn write(root: &Path, key: &ObjectKey, options: &ObjectOptions) -> io::Result<()> {
    let place = place(root, key);
    if *options == ObjectOptions::default() {
        return remove(&place).map(drop);
    }
    let bytes = serde_json::to_vec_pretty(options).map_err(io::Error::other)?;
    let folder = place.parent().unwrap_or(root);
    make_folders(root, folder)?;
    let draft = draft(root, &bytes)?;
    let moved = fs::rename(&draft, &place);
    if moved.is_err() {
        let _ = fs::remove_file(&draft);
    }
    moved.and_then(|()| sync_directory(folder))
}

/// Forgets them; the folder's lock is held.
pub(super) fn remove_for(root: &Path, key: &ObjectKey) -> io::Result<()> {
    remove(&place(root, key)).map(drop)
}

/// Puts a legal hold on, or takes it off; whether there is such an object.
pub(super) fn hold(root: &Path, key: &ObjectKey, on: bool) -> io::Result<bool> {
    let object = root.join(key.as_str());
    let _held = match lock(object.parent().unwrap_or(root)) {
        Err(error) if absent(&error) => return Ok(false),
        held => held?,
    };
    if open(root, key)?.is_none() {
        return Ok(false);
    }
    let options = ObjectOptions { legal_hold: on, ..read(root, key)? };
    write(root, key, &options).map(|()| true)
}

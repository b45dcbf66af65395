//! An object's way to its place: drafted, synced, then linked or moved under the folder's lock,
//! after what is noted about it.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use queue_core::{Clock, SystemClock};

use super::disk::{draft, lock, make_folders, sync_directory};
use super::read::head;
use super::{about, refused};
use crate::objects::{ObjectKey, ObjectOptions, Write, Written};

/// A delete takes an emptied folder along, maybe just before it is used again.
const PLACES_MAX: usize = 10;

/// Writes an object.
pub(super) fn write(
    root: &Path,
    key: &ObjectKey,
    bytes: &[u8],
    how: Write,
    options: &ObjectOptions,
) -> io::Result<Written> {
    let folder = root.join(key.as_str());
    make_folders(root, folder.parent().unwrap_or(root))?;
    let draft = draft(root, bytes)?;
    let placed = place(root, &draft, key, how, options);
    // After a rename it is gone already.
    let _ = fs::remove_file(&draft);
    placed
}

/// Gives a synced draft its name. The draft may stay, as a second name.
pub(super) fn place(
    root: &Path,
    draft: &Path,
    key: &ObjectKey,
    how: Write,
    options: &ObjectOptions,
) -> io::Result<Written> {
    for _ in 1..PLACES_MAX {
        match place_once(root, draft, key, how, options) {
            Err(error) if error.kind() == ErrorKind::NotFound && draft.exists() => {}
            placed => return placed,
        }
    }
    place_once(root, draft, key, how, options)
}

fn place_once(
    root: &Path,
    draft: &Path,
    key: &ObjectKey,
    how: Write,
    options: &ObjectOptions,
) -> io::Result<Written> {
    let place = root.join(key.as_str());
    let folder = place.parent().unwrap_or(root);
    make_folders(root, folder)?;
    let _held = lock(folder)?;
    let there = head(root, key)?;
    if let Some(there) = there {
        if how == Write::IfAbsent {
            return Ok(Written::AlreadyThere);
        }
        if let Some(held) = there.held(SystemClock.now()) {
            return Err(refused(format!("{key} is {held}, so it is not replaced")));
        }
    }
    about::write(root, key, options)?;
    let placed = match how {
        Write::Replace => fs::rename(draft, &place),
        // A link fails where a name is, and a rename does not.
        Write::IfAbsent => fs::hard_link(draft, &place),
    };
    placed.and_then(|()| sync_directory(folder)).map(|()| Written::New)
}

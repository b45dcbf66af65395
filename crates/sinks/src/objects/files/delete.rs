//! Deleting files: what is locked stays, and says until when.

use std::io;
use std::path::Path;

use queue_core::{Clock, SystemClock};

use super::about;
use super::disk::{absent, lock, remove};
use super::read::head;
use crate::objects::{Deletion, ObjectKey};

pub(super) fn delete(root: &Path, key: &ObjectKey) -> io::Result<Deletion> {
    let place = root.join(key.as_str());
    let _held = match lock(place.parent().unwrap_or(root)) {
        Err(error) if absent(&error) => return Ok(Deletion::AlreadyGone),
        held => held?,
    };
    let Some(there) = head(root, key)? else { return Ok(Deletion::AlreadyGone) };
    if let Some(held) = there.held(SystemClock.now()) {
        return Ok(Deletion::Locked(held));
    }
    let gone = remove(&place)?;
    about::remove_for(root, key)?;
    Ok(if gone { Deletion::Deleted } else { Deletion::AlreadyGone })
}

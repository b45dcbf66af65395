//! Bringing a part into the cache: made apart, renamed when whole, by one process at a time.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{PartError, io, last_lines};
use crate::programs::typed;

/// The directory `name` in the cache, made by `make` when it is not there. `make` gets a fresh
/// directory with the final name's parent; what it leaves there becomes the part.
pub(crate) fn once(
    cache: &Path,
    name: &str,
    make: impl FnOnce(&Path) -> Result<(), PartError>,
) -> Result<PathBuf, PartError> {
    let part = cache.join(name);
    if part.exists() {
        return Ok(part);
    }
    fs::create_dir_all(cache).map_err(io(format!("create {}", cache.display())))?;
    let lock = cache.join(format!("{name}.lock"));
    let lock = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&lock)
        .map_err(io(format!("open {}", lock.display())))?;
    lock.lock().map_err(io("wait for another process that fetches"))?;
    if part.exists() {
        return Ok(part);
    }
    let fresh = cache.join(format!("{name}.new"));
    if fresh.exists() {
        fs::remove_dir_all(&fresh).map_err(io(format!("remove {}", fresh.display())))?;
    }
    fs::create_dir(&fresh).map_err(io(format!("create {}", fresh.display())))?;
    make(&fresh)?;
    fs::rename(&fresh, &part).map_err(io(format!("rename {}", fresh.display())))?;
    Ok(part)
}

/// Runs a command to its end; its output is shown only when it fails.
pub(crate) fn run(command: &mut Command) -> Result<(), PartError> {
    let typed = typed(command);
    let output = command.stdin(Stdio::null()).output().map_err(io(format!("run `{typed}`")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(PartError::Command { command: typed, output: last_lines(&String::from_utf8_lossy(&said)) })
}

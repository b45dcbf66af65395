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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_made_once_and_never_half() {
        let cache = tempfile::tempdir().expect("a directory");
        let broken = once(cache.path(), "part", |fresh| {
            fs::write(fresh.join("half"), "").map_err(io("write"))?;
            run(Command::new("sh").args(["-c", "echo no route to the registry; exit 3"]))
        });
        let error = broken.expect_err("failed").to_string();
        assert!(error.contains("sh -c") && error.contains("no route to the registry"), "{error}");
        assert!(!cache.path().join("part").exists());

        let made = once(cache.path(), "part", |fresh| {
            assert!(!fresh.join("half").exists(), "begins afresh");
            fs::write(fresh.join("whole"), "").map_err(io("write"))
        });
        assert!(made.expect("is made").join("whole").exists());
        once(cache.path(), "part", |_| unreachable!("is there")).expect("is found");
    }

    #[test]
    fn a_missing_program_comes_with_the_command_that_installs_it() {
        let package = crate::programs::Package {
            apt: "redis-server",
            dnf: "redis",
            apk: "redis",
            pacman: "valkey",
            brew: "redis",
        };
        let error = PartError::Missing {
            part: "Redis",
            program: "redis-server".to_owned(),
            install: package.install_command(),
        };
        assert!(error.is_missing());
        let text = error.to_string();
        assert!(text.contains("`redis-server`") && text.contains("install"), "{text}");
    }
}

//! The state directory: where the laptop backends keep their data. One fleet at a time: a lock that
//! the kernel gives back however the process dies.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use chassis::BuildError;

/// The directory, locked for as long as this lives.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Makes the directory where there is none and takes its lock.
    pub(crate) fn open(path: &Path) -> Result<Self, BuildError> {
        let failed = |doing: &str, error: std::io::Error| {
            BuildError::failed(format!(
                "{doing} {}: {error}; choose another with --state-dir",
                path.display()
            ))
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path)
            .map_err(|error| failed("cannot make the state directory", error))?;
        let path = fs::canonicalize(path).map_err(|error| failed("cannot find", error))?;
        let mut lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path.join("lock"))
            .map_err(|error| failed("cannot write to", error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(taken(&path, &mut lock)),
            Err(TryLockError::Error(error)) => return Err(failed("cannot lock", error)),
        }
        lock.set_len(0)
            .and_then(|()| write!(lock, "{}", std::process::id()))
            .map_err(|error| failed("cannot write to", error))?;
        Ok(Self { path, _lock: lock })
    }

    /// The directory, absolute.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A place below it.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file that only its owner can read, whole or not at all.
    pub(crate) fn write_private(&self, name: &str, text: &str) -> Result<(), BuildError> {
        let (fresh, path) = (self.join(&format!("{name}.new")), self.join(name));
        let written = (|| {
            match fs::remove_file(&fresh) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut options = OpenOptions::new();
            let mut file = options.create_new(true).write(true).mode(0o600).open(&fresh)?;
            file.write_all(text.as_bytes())?;
            fs::rename(&fresh, &path)
        })();
        written.map_err(|error| {
            BuildError::failed(format!("cannot write {}: {error}", path.display()))
        })
    }
}

fn taken(path: &Path, lock: &mut File) -> BuildError {
    let mut pid = String::new();
    let known = lock.take(20).read_to_string(&mut pid).is_ok() && !pid.is_empty();
    let by = if known { format!(" (process {pid})") } else { String::new() };
    BuildError::failed(format!(
        "another fleet{by} runs on {}; stop it, or choose another directory with --state-dir",
        path.display()
    ))
}

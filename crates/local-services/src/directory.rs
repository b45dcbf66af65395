//! A part's directory: private, owned by the account its server runs as, locked while it runs.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::account::{Account, for_server, give, private_directory};
use crate::error::{PartError, io};

/// A directory that this process alone uses for a part.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    pub(crate) account: Option<Account>,
    /// Held for its lock, which ends with the process.
    _lock: File,
}

impl Directory {
    pub(crate) fn open(wanted: &Path, part: &'static str) -> Result<Self, PartError> {
        Self::open_as(wanted, for_server(part)?)
    }

    /// For a server that may run as root.
    pub(crate) fn open_as(wanted: &Path, account: Option<Account>) -> Result<Self, PartError> {
        let path = private_directory(wanted, account)?;
        let lock = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(io(format!("open {}/lock", path.display())))?;
        lock.try_lock().map_err(|_| PartError::InUse(path.clone()))?;
        Ok(Self { path, account, _lock: lock })
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file that only the account may read.
    pub(crate) fn write_private(&self, name: &str, content: &str) -> Result<PathBuf, PartError> {
        let path = self.join(name);
        let doing = format!("write {}", path.display());
        // Written apart and renamed: a reader sees the old content or the new, and the mode holds
        // from the first byte.
        let fresh = self.join(&format!("{name}.new"));
        fs::remove_file(&fresh).ok();
        let mut file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&fresh)
            .map_err(io(doing.clone()))?;
        file.write_all(content.as_bytes()).map_err(io(doing.clone()))?;
        give(&fresh, self.account, 0o600)?;
        fs::rename(&fresh, &path).map_err(io(doing))?;
        Ok(path)
    }

    /// The secret in that file, made the first time: 128 random bits in hex.
    pub(crate) fn secret(&self, name: &str) -> Result<String, PartError> {
        let mut text = String::new();
        if let Ok(mut file) = File::open(self.join(name)) {
            file.read_to_string(&mut text).map_err(io(format!("read {name}")))?;
        }
        if text.len() == 32 {
            return Ok(text);
        }
        let fresh = hex::encode(rand::random::<[u8; 16]>());
        self.write_private(name, &fresh)?;
        Ok(fresh)
    }
}

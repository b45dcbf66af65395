//! One part shared by the processes of a user, for as long as any of them uses it: started by the
//! first, found by the others, stopped by its own keeper when nobody has touched it for a while.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use crate::account;
use crate::error::{PartError, io};
use crate::process::Keep;

/// Minutes without a user after which a shared part stops.
pub const IDLE_MINUTES: u32 = 20;
/// How long another process may take to start the part.
const START_LIMIT: Duration = Duration::from_secs(180);

/// The place of one shared part.
#[derive(Clone, Debug)]
pub struct Shared {
    dir: PathBuf,
}

impl Shared {
    /// The place of that name, in a directory of this user's own below the temporary directory.
    pub fn named(name: &str) -> Result<Self, PartError> {
        let user = rustix::process::geteuid().as_raw();
        let base = std::env::temp_dir().join(format!("flotilla-shared-{user}"));
        // Servers of root run as another account, which must pass through.
        let mode = if account::is_root() { 0o711 } else { 0o700 };
        own_directory(&base, user, mode)?;
        let dir = base.join(name);
        own_directory(&dir, user, mode)?;
        Ok(Self { dir })
    }

    /// Where the part keeps its files.
    pub fn directory(&self) -> PathBuf {
        self.dir.join("part")
    }

    /// How the part is to be kept.
    pub fn keep(&self) -> Keep {
        Keep::WhileUsed { file: self.used(), minutes: IDLE_MINUTES }
    }

    /// Says that the part is in use now.
    pub fn touch(&self) {
        // A failure shows as a part that stops: the next user starts it again.
        fs::write(self.used(), "").ok();
    }

    /// The part's endpoint: the one that runs, when `alive` says so, else that of `start`. Only one
    /// process at a time looks and starts.
    pub async fn endpoint(
        &self,
        alive: impl AsyncFn(&str) -> bool,
        start: impl AsyncFnOnce(&Self) -> Result<String, PartError>,
    ) -> Result<String, PartError> {
        let _lock = self.lock("lock").await?;
        self.touch();
        let file = self.dir.join("endpoint");
        if let Ok(endpoint) = fs::read_to_string(&file)
            && alive(&endpoint).await
        {
            return Ok(endpoint);
        }
        fs::remove_file(&file).ok();
        let endpoint = start(self).await?;
        let mut options = OpenOptions::new();
        let mut opened = options
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&file)
            .map_err(io(format!("write {}", file.display())))?;
        std::io::Write::write_all(&mut opened, endpoint.as_bytes())
            .map_err(io(format!("write {}", file.display())))?;
        Ok(endpoint)
    }

    /// A lock between the processes that share the part; free when the file is dropped.
    pub async fn lock(&self, name: &str) -> Result<File, PartError> {
        let path = self.dir.join(name);
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io(format!("open {}", path.display())))?;
        let deadline = Instant::now() + START_LIMIT;
        while file.try_lock().is_err() {
            if Instant::now() >= deadline {
                return Err(PartError::InUse(path));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(file)
    }

    fn used(&self) -> PathBuf {
        self.dir.join("used")
    }
}

/// Makes the directory, or refuses one that another user has put there.
fn own_directory(path: &Path, user: u32, mode: u32) -> Result<(), PartError> {
    let doing = format!("make {} this user's own", path.display());
    match fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(io(doing)(error));
        }
        _ => {}
    }
    let meta = fs::symlink_metadata(path).map_err(io(doing.clone()))?;
    if !meta.is_dir() || meta.uid() != user {
        let stranger = std::io::Error::other("it belongs to another user, or is no directory");
        return Err(io(doing)(stranger));
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(io(doing))
}

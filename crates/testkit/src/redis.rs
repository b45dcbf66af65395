//! A Redis server of a test's own: it can be killed and started again on the same port.

use std::path::PathBuf;

use local_services::{Durability, Redis};
use tempfile::TempDir;

use crate::missing::required;

/// A private server, empty at first. Dropping it stops it.
#[derive(Debug)]
pub struct TestRedis {
    server: Option<Redis>,
    url: String,
    dir: PathBuf,
    _temporary: TempDir,
}

impl TestRedis {
    /// Starts one.
    pub async fn new() -> Self {
        let temporary = open_temporary_directory();
        let dir = temporary.path().join("redis");
        let server = required(Redis::start_with(&dir, Durability::Throwaway).await);
        Self { url: server.url(), server: Some(server), dir, _temporary: temporary }
    }

    /// `redis://…`, the same after a restart.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Kills the server; everything in it is lost.
    pub async fn kill(&mut self) {
        if let Some(server) = self.server.take() {
            required(server.kill().await);
        }
    }

    /// Starts it again, empty, on the same port.
    pub async fn start(&mut self) {
        self.kill().await;
        let server = required(Redis::start_with(&self.dir, Durability::Throwaway).await);
        assert_eq!(server.url(), self.url, "another process took the port meanwhile");
        self.server = Some(server);
    }
}

/// A temporary directory that the servers' account can enter, too, when root runs the tests.
fn open_temporary_directory() -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    let builder = tempfile::Builder::new()
        .prefix("flotilla-")
        .permissions(std::fs::Permissions::from_mode(0o711))
        .tempdir();
    builder.expect("a temporary directory")
}

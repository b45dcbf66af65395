//! What every running part is: a process with its keeper, the directory that it alone uses, and the
//! port that it answers on. How a part is started is the part's own affair.

use std::path::Path;

use crate::directory::Directory;
use crate::error::PartError;
use crate::process::Process;

/// A running part; `K` says which one and holds what only that one has. Dropping it stops the server.
#[derive(Debug)]
pub struct Part<K> {
    process: Process,
    directory: Directory,
    port: u16,
    pub(crate) kind: K,
}

impl<K> Part<K> {
    /// One that has answered.
    pub(crate) fn running(process: Process, directory: Directory, port: u16, kind: K) -> Self {
        Self { process, directory, port, kind }
    }

    /// The loopback port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it really is: root's servers cannot always use the directory asked for.
    pub fn dir(&self) -> &Path {
        &self.directory.path
    }

    /// The server's process id.
    pub fn pid(&self) -> Option<i32> {
        self.process.pid()
    }

    /// Stops it cleanly: what it acknowledged is kept, where it keeps anything.
    pub async fn stop(self) -> Result<(), PartError> {
        self.process.stop().await
    }

    /// SIGKILL, as a crash would.
    pub async fn kill(self) -> Result<(), PartError> {
        self.process.kill().await
    }
}

//! A release binary of the product as a process of its own, its memory, and its end.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::machine;
use crate::sqs::release_binary;

/// A running binary; it ends with this value.
pub struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Process {
    /// Starts it with that environment and no other, its output in `folder`.
    pub fn start(
        name: &'static str,
        folder: &Path,
        environment: &[(&str, String)],
        arguments: &[String],
    ) -> anyhow::Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = std::fs::File::create(&log)?;
        let child = Command::new(release_binary(name)?)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(environment.iter().map(|(name, value)| (*name, value)))
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        Ok(Self { name, child, log })
    }

    /// Resident memory in mebibytes: now, and at its highest.
    pub fn memory(&self) -> anyhow::Result<(f64, f64)> {
        machine::memory(self.child.id()).with_context(|| self.output())
    }

    /// What it has written so far.
    pub fn output(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        format!("{} said:\n{text}", self.name)
    }

    /// Fails when it has ended, with what it said.
    pub fn lives(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{status}: {}", self.output()),
        }
    }

    /// SIGTERM, and waits until it has drained.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status()?;
        for _ in 0..6_000 {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("{} does not end: {}", self.name, self.output())
    }
}

//! A real process of ours: its environment is only what a test gives it, its log is kept.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use testkit::{binary, eventually};
use tokio::process::{Child, Command};

use crate::scene::PATIENCE;

/// Ends with this value, by SIGKILL.
pub(crate) struct Process {
    child: Child,
    output: PathBuf,
}

impl Process {
    pub(crate) fn start(name: &str, folder: &Path, environment: &[(&str, String)]) -> Self {
        let output = folder.join(format!("{name}.log"));
        let file = std::fs::File::create(&output).unwrap();
        let child = Command::new(binary(name))
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .stderr(file.try_clone().unwrap())
            .stdout(file)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { child, output }
    }

    /// Asks it to drain and waits for its end.
    pub(crate) async fn drain(mut self) -> ExitStatus {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).unwrap();
        let id = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        let status = tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .unwrap_or_else(|_| panic!("it does not end:\n{}", self.output()))
            .unwrap();
        assert_eq!(status.code(), Some(0), "{status}\n{}", self.output());
        status
    }

    /// Waits until its log holds all of these words in one line.
    pub(crate) async fn says(&self, words: &[&str]) {
        eventually(PATIENCE, &format!("a line with {words:?}"), async || {
            let output = self.output();
            output.lines().any(|line| words.iter().all(|word| line.contains(word))).then_some(())
        })
        .await;
    }

    pub(crate) fn output(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap()
    }
}

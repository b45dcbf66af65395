//! The process under test: started, ended by a signal or by itself, and what it said.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use queue_sqs::AwsConfig;
use tokio::process::{Child, Command};

use crate::scene::PATIENCE;

/// The process under test.
pub(crate) struct Process {
    child: Child,
    output: PathBuf,
}

impl Process {
    /// Starts the worker with these variables alone; what it says goes to `output`.
    pub(crate) fn start(output: PathBuf, variables: &[(&str, String)]) -> Self {
        let file = std::fs::File::create(&output).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_retention-worker"));
        command
            .env_clear()
            .envs(variables.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .stderr(file.try_clone().unwrap())
            .stdout(file)
            .kill_on_drop(true);
        Self { child: command.spawn().unwrap(), output }
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .unwrap_or_else(|_| panic!("it does not end:\n{}", self.output()))
            .unwrap()
    }

    /// Asks it to drain.
    pub(crate) async fn drain(&mut self) -> ExitStatus {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).unwrap();
        let id = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        self.ended().await
    }

    pub(crate) fn output(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap()
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "a failed test shows what the process said")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the process said:\n{}", self.output());
        }
    }
}

/// Died by SIGKILL.
pub(crate) fn killed(status: ExitStatus) -> bool {
    status.signal() == Some(9)
}

/// How to reach the queues, for the test as for the process.
pub(crate) fn aws(endpoint: &str) -> AwsConfig {
    let arguments = [
        "--aws-region=us-east-1".to_owned(),
        format!("--aws-endpoint-url={endpoint}"),
        "--aws-access-key-id=test".to_owned(),
        "--aws-secret-access-key=test".to_owned(),
    ];
    let none = chassis::Environment::empty();
    chassis::config::parse::<AwsConfig>("test", arguments, &none).unwrap()
}

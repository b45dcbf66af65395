//! A fleet in a directory of its own, on free ports, with nothing of this shell's environment.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use testkit::free_port;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// A debug build on a busy machine; the goal for a warm release build is 3 s.
const START_LIMIT: Duration = Duration::from_secs(120);

/// The place of a fleet, which outlives its processes.
pub(crate) struct Place {
    pub(crate) directory: TempDir,
    pub(crate) api: u16,
    pub(crate) sqs: u16,
    pub(crate) admin: u16,
}

impl Place {
    pub(crate) fn new() -> Self {
        let directory = TempDir::new().unwrap();
        Self { directory, api: free_port(), sqs: free_port(), admin: free_port() }
    }

    pub(crate) fn state_dir(&self) -> std::path::PathBuf {
        self.directory.path().join("state")
    }

    /// `fleet up` on this place, not yet started.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(testkit::binary("fleet"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .current_dir(self.directory.path())
            .arg("up")
            .arg("--state-dir")
            .arg(self.state_dir())
            .args(["--listen-addr", &format!("127.0.0.1:{}", self.api)])
            .args(["--sqs-addr", &format!("127.0.0.1:{}", self.sqs)])
            .args(["--admin-addr", &format!("127.0.0.1:{}", self.admin)])
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    pub(crate) async fn start(&self) -> Fleet {
        self.start_with(&[]).await
    }

    /// Started and ready.
    pub(crate) async fn start_with(&self, more: &[&str]) -> Fleet {
        let mut command = self.command();
        command.args(more);
        self.spawn(command).ready().await
    }

    /// Started, and not waited for.
    pub(crate) fn spawn(&self, mut command: Command) -> Starting {
        let mut child = command.arg("--json").stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Starting { child, lines, api: self.api, admin: self.admin }
    }

    /// What its dependencies say on the admin port; `None` while nobody answers there.
    pub(crate) async fn checks(&self) -> Option<Vec<Value>> {
        let url = format!("http://127.0.0.1:{}/readyz", self.admin);
        let answer: Value = reqwest::get(url).await.ok()?.json().await.ok()?;
        answer["checks"].as_array().cloned()
    }

    /// Runs it to its end.
    pub(crate) async fn run(&self, more: &[&str]) -> (i32, String) {
        let mut command = self.command();
        command.args(more).stdout(Stdio::piped()).stderr(Stdio::piped());
        let ended = tokio::time::timeout(START_LIMIT, command.output()).await.unwrap();
        let Output { status, stdout, stderr } = ended.unwrap();
        let told = [stdout, stderr].concat();
        (status.code().unwrap(), String::from_utf8(told).unwrap())
    }
}

/// A fleet that has said nothing yet.
pub(crate) struct Starting {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    api: u16,
    admin: u16,
}

impl Starting {
    /// Waits until it says that it is ready.
    pub(crate) async fn ready(mut self) -> Fleet {
        let line = tokio::time::timeout(START_LIMIT, self.lines.next_line()).await.unwrap();
        let line = line.unwrap().expect("a line of JSON before the end");
        let ready = serde_json::from_str(&line).unwrap();
        Fleet { child: self.child, ready, api: self.api, admin: self.admin }
    }

    /// Whether it says for a while that it is ready.
    pub(crate) async fn speaks(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(500), self.lines.next_line()).await.is_ok()
    }
}

/// A running fleet.
pub(crate) struct Fleet {
    pub(crate) child: Child,
    /// What it printed when it was ready.
    pub(crate) ready: Value,
    api: u16,
    admin: u16,
}

impl Fleet {
    pub(crate) fn key(&self) -> String {
        self.ready["api_key"].as_str().expect("a key at the first start").to_owned()
    }

    /// Ends it by that signal; the exit code, `None` when it died by a signal.
    pub(crate) async fn end(mut self, signal: Signal) -> Option<i32> {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
        self.child.wait().await.unwrap().code()
    }

    /// Sends one event; returns its id.
    pub(crate) async fn post(&self, key: &str, action: &str) -> String {
        let event = serde_json::json!({
            "actor": { "type": "user", "id": "u-1" },
            "action": action,
            "targets": [{ "type": "app", "id": "web" }],
        });
        let url = format!("http://127.0.0.1:{}/logs", self.api);
        let sent = reqwest::Client::new().post(url).bearer_auth(key).json(&event).send().await;
        let answer = sent.unwrap();
        assert_eq!(answer.status(), 202);
        let answer: Value = answer.json().await.unwrap();
        answer["id"].as_str().unwrap().to_owned()
    }

    /// Ids of the logs found, sorted.
    pub(crate) async fn find(&self, key: &str, action: &str) -> Vec<String> {
        let url = format!("http://127.0.0.1:{}/logs?action={action}", self.api);
        let answer = reqwest::Client::new().get(url).bearer_auth(key).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let answer: Value = answer.json().await.unwrap();
        let logs = answer["logs"].as_array().unwrap();
        let mut ids: Vec<String> =
            logs.iter().map(|log| log["id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    }

    /// A document of the admin port.
    pub(crate) async fn admin(&self, path: &str) -> Value {
        let url = format!("http://127.0.0.1:{}{path}", self.admin);
        reqwest::get(url).await.unwrap().json().await.unwrap()
    }
}

/// The variables in `fleet.env`.
pub(crate) fn variables(state: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(state.join("fleet.env")).unwrap();
    let pairs = text.lines().map(|line| line.split_once('=').unwrap());
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

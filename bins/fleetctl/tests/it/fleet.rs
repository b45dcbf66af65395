//! A whole fleet in one process (`fleet up --backends aws`) on parts of the test's own, and commands
//! that run for a while beside it.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use contracts::catalogue::{AUDIT_INDEX, QUEUES};
use serde_json::{Value, json};
use testkit::{TestDatabase, TestOpenSearch, TestRedis, TestSqs, binary, eventually, free_port};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use crate::command::{Said, fleetctl};

/// For anything that comes at all: a debug build on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
pub(crate) const TENANT: &str = "acme";

/// A running fleet with one tenant and a key that may do everything.
pub(crate) struct Fleet {
    /// What `fleetctl` needs to find it.
    pub(crate) variables: Vec<(&'static str, String)>,
    /// `http://127.0.0.1:PORT` of its admin port.
    pub(crate) admin: String,
    pub(crate) sqs: TestSqs,
    pub(crate) client: reqwest::Client,
    pub(crate) folder: tempfile::TempDir,
    _process: Child,
    _redis: TestRedis,
    pub(crate) database: TestDatabase,
}

impl Fleet {
    pub(crate) async fn start() -> Self {
        Self::start_with(Vec::new()).await
    }

    /// Searching in OpenSearch, where the machine has it.
    pub(crate) async fn on(opensearch: &TestOpenSearch) -> Self {
        let prefix = opensearch.prefix().replace('-', "x");
        let url = opensearch.url().to_owned();
        Self::start_with(vec![("OPENSEARCH_URL", url), ("OPENSEARCH_INDEX_PREFIX", prefix)]).await
    }

    async fn start_with(search: Vec<(&'static str, String)>) -> Self {
        let (database, redis, sqs) =
            (TestDatabase::new().await, TestRedis::new().await, TestSqs::start().await);
        for spec in QUEUES {
            sqs.create(spec).await;
        }
        let mut variables = vec![
            ("DATABASE_URL", database.url().to_owned()),
            ("REDIS_URL", redis.url().to_owned()),
            (AUDIT_INDEX.env, sqs.url(AUDIT_INDEX.name)),
        ];
        variables.extend(sqs.environment());
        variables.extend(search);
        let words = ["keys", "create", "--tenant", TENANT, "--all-scopes", "--create-tenant"];
        let made = fleetctl(&variables, &[&words as &[&str], &["--json"]].concat()).await.ok();
        let key = made.lines()[0]["key"].as_str().unwrap().to_owned();
        let folder = tempfile::tempdir().unwrap();
        let (api, admin) = (free_port(), free_port());
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut process = Command::new(binary("fleet"))
            .args(["up", "--backends", "aws", "--json"])
            .env_clear()
            .envs(variables.iter().map(|(name, value)| (*name, value)))
            .env("LISTEN_ADDR", format!("127.0.0.1:{api}"))
            .env("ADMIN_ADDR", format!("127.0.0.1:{admin}"))
            .env("WORKER_WAIT_SECS", "1")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stderr(log)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let ready = tokio::time::timeout(PATIENCE, lines.next_line()).await;
        let said = || std::fs::read_to_string(folder.path().join("log")).unwrap();
        assert!(matches!(ready, Ok(Ok(Some(_)))), "{ready:?}\n{}", said());
        variables.push(("FLOTILLA_URL", format!("http://127.0.0.1:{api}")));
        variables.push(("FLOTILLA_API_KEY", key));
        Self {
            variables,
            admin: format!("http://127.0.0.1:{admin}"),
            sqs,
            client: reqwest::Client::new(),
            folder,
            _process: process,
            _redis: redis,
            database,
        }
    }

    pub(crate) fn variable(&self, name: &str) -> &str {
        let found = self.variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.as_str()).unwrap()
    }

    /// The variables with another value for one of them.
    pub(crate) fn with(&self, name: &'static str, value: &str) -> Vec<(&'static str, String)> {
        let others = self.variables.iter().filter(|(known, _)| *known != name).cloned();
        others.chain([(name, value.to_owned())]).collect()
    }

    pub(crate) async fn type_in(&self, words: &[&str]) -> Said {
        fleetctl(&self.variables, words).await
    }

    /// Sends an event of that action with that key; the status, and the id where it was accepted.
    pub(crate) async fn send(&self, key: &str, action: &str) -> (u16, Option<String>) {
        let event = json!({
            "actor": { "type": "user", "id": "ana" },
            "action": action,
            "targets": [{ "type": "door", "id": "d-1" }],
            "outcome": "success",
        });
        let url = format!("{}/logs", self.variable("FLOTILLA_URL"));
        let answer = self.client.post(url).bearer_auth(key).json(&event).send().await.unwrap();
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.unwrap();
        (status, (status == 202).then(|| body["id"].as_str().unwrap().to_owned()))
    }

    /// Sends an event that is accepted; its id.
    pub(crate) async fn post(&self, action: &str) -> String {
        let (status, id) = self.send(self.variable("FLOTILLA_API_KEY"), action).await;
        id.unwrap_or_else(|| panic!("{action}: {status}"))
    }

    /// Ids of that action that `fleetctl search` finds, newest first.
    pub(crate) async fn find(&self, action: &str) -> Vec<String> {
        let words = ["search", "--action", action, "--limit", "10000", "--json"];
        let rows = self.type_in(&words).await.ok().lines();
        rows.iter().map(|log| log["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until so many of that action are found; no more are.
    pub(crate) async fn found(&self, action: &str, count: usize) -> Vec<String> {
        eventually(PATIENCE, &format!("{count} of {action} are found"), async || {
            let found = self.find(action).await;
            assert!(found.len() <= count, "{found:?}");
            (found.len() == count).then_some(found)
        })
        .await
    }

    /// A file with that text; its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// An API beside the fleet, on the same backends, that can be killed and started again.
pub(crate) struct Api {
    port: u16,
    process: Option<Child>,
}

impl Api {
    pub(crate) async fn beside(fleet: &Fleet) -> Self {
        let mut api = Self { port: free_port(), process: None };
        api.start(fleet).await;
        api
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Starts it, on the same port each time, and waits until it answers.
    pub(crate) async fn start(&mut self, fleet: &Fleet) {
        let process = Command::new(binary("ingest-api"))
            .env_clear()
            .envs(fleet.variables.iter().map(|(name, value)| (*name, value)))
            .env("LISTEN_ADDR", format!("127.0.0.1:{}", self.port))
            .env("ADMIN_ADDR", "127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        self.process = Some(process.unwrap());
        let url = format!("{}/healthz", self.url());
        eventually(PATIENCE, "the API answers", async || fleet.client.get(&url).send().await.ok())
            .await;
    }

    /// SIGKILL.
    pub(crate) async fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.start_kill().unwrap();
        process.wait().await.unwrap();
    }
}

/// A command that is still running.
pub(crate) struct Typed {
    pub(crate) child: Child,
    out: Lines<BufReader<ChildStdout>>,
    err: Lines<BufReader<ChildStderr>>,
}

impl Typed {
    pub(crate) fn start(variables: &[(&str, String)], words: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_fleetctl"))
            .env_clear()
            .envs(variables.iter().map(|(name, value)| (*name, value)))
            .args(words)
            .current_dir(std::env::temp_dir())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap()).lines();
        let err = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, out, err }
    }

    /// The next line; `None` at the end.
    pub(crate) async fn line(&mut self) -> Option<String> {
        tokio::time::timeout(PATIENCE, self.out.next_line()).await.unwrap().unwrap()
    }

    /// Reads remarks until one holds that word.
    pub(crate) async fn remarks(&mut self, word: &str) -> String {
        loop {
            let remark = tokio::time::timeout(PATIENCE, self.err.next_line()).await;
            let remark = remark.unwrap_or_else(|_| panic!("no remark of {word:?}")).unwrap();
            let remark = remark.unwrap_or_else(|| panic!("ended without a remark of {word:?}"));
            if remark.contains(word) {
                return remark;
            }
        }
    }

    /// Its exit code.
    pub(crate) async fn ended(mut self) -> Option<i32> {
        tokio::time::timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap().code()
    }
}

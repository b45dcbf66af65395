//! A process of the fleet or under it that can be killed, paused, restarted on its own port and
//! directory. It says whether what it was told to do really happened; it never decides when.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use local_services::process::Keep;
use local_services::{Durability, OpenSearch, Postgres, Redis};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

/// How long one of ours may take to drain.
const DRAIN: Duration = Duration::from_secs(60);

/// How a server is started.
#[derive(Clone, Debug)]
pub(crate) enum Start {
    /// A binary of ours.
    Ours { binary: &'static str, arguments: Vec<String>, environment: Vec<(&'static str, String)> },
    /// A private PostgreSQL that waits for its disk.
    Postgres,
    /// A private Redis.
    Redis,
    /// A private OpenSearch.
    OpenSearch,
}

enum Running {
    Ours(Child),
    Postgres(Postgres),
    Redis(Redis),
    OpenSearch(OpenSearch),
}

/// One server, up or down.
pub(crate) struct Server {
    name: String,
    start: Start,
    dir: PathBuf,
    running: Option<Running>,
}

impl Server {
    pub(crate) fn new(name: impl Into<String>, start: Start, dir: PathBuf) -> Self {
        Self { name: name.into(), start, dir, running: None }
    }

    /// Starts it; returns once a part answers, and at once for one of ours.
    pub(crate) async fn start(&mut self) -> anyhow::Result<()> {
        let running = match &self.start {
            Start::Ours { binary, arguments, environment } => {
                Running::Ours(self.spawn(binary, arguments, environment)?)
            }
            Start::Postgres => Running::Postgres(
                Postgres::start_with(&self.dir, Durability::Kept, Keep::WithHandle).await?,
            ),
            Start::Redis => Running::Redis(Redis::start(&self.dir).await?),
            Start::OpenSearch => Running::OpenSearch(OpenSearch::start(&self.dir).await?),
        };
        self.running = Some(running);
        Ok(())
    }

    fn spawn(
        &self,
        binary: &str,
        arguments: &[String],
        environment: &[(&'static str, String)],
    ) -> anyhow::Result<Child> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log())?;
        Command::new(testkit::binary(binary))
            .args(arguments)
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .stderr(log.try_clone()?)
            .stdout(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", self.name))
    }

    /// Where one of ours writes its log, over all its lives.
    pub(crate) fn log(&self) -> PathBuf {
        self.dir.with_extension("log")
    }

    /// The URL of a part that is up.
    pub(crate) fn url(&self) -> Option<String> {
        match self.running.as_ref()? {
            Running::Ours(_) => None,
            Running::Postgres(part) => Some(part.url()),
            Running::Redis(part) => Some(part.url()),
            Running::OpenSearch(part) => Some(part.url()),
        }
    }

    fn pid(&self) -> Option<i32> {
        match self.running.as_ref()? {
            Running::Ours(child) => i32::try_from(child.id()?).ok(),
            Running::Postgres(part) => part.pid(),
            Running::Redis(part) => part.pid(),
            Running::OpenSearch(part) => part.pid(),
        }
    }

    /// SIGKILL. Fails when it was not running, so that no kill is counted that killed nobody.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        match self.running.take().with_context(|| format!("{} is not running", self.name))? {
            Running::Ours(mut child) => {
                ensure!(child.try_wait()?.is_none(), "{} had ended by itself", self.name);
                child.kill().await?;
            }
            Running::Postgres(part) => part.kill().await?,
            Running::Redis(part) => part.kill().await?,
            Running::OpenSearch(part) => part.kill().await?,
        }
        Ok(())
    }

    /// A clean stop: one of ours drains and must end with 0.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        match self.running.take().with_context(|| format!("{} is not running", self.name))? {
            Running::Ours(mut child) => {
                let pid = child.id().and_then(|id| i32::try_from(id).ok());
                signal(
                    pid.with_context(|| format!("{} had ended by itself", self.name))?,
                    Signal::TERM,
                )?;
                let ended = tokio::time::timeout(DRAIN, child.wait()).await;
                let status = ended.with_context(|| format!("{} does not drain", self.name))??;
                ensure!(status.success(), "{} ended with {status} after SIGTERM", self.name);
            }
            Running::Postgres(part) => part.stop().await?,
            Running::Redis(part) => part.stop().await?,
            Running::OpenSearch(part) => part.stop().await?,
        }
        Ok(())
    }

    /// SIGSTOP for it and everything under it; they are what [`Server::resume`] takes.
    pub(crate) fn pause(&self) -> anyhow::Result<Vec<i32>> {
        let pid = self.pid().with_context(|| format!("{} is not running", self.name))?;
        let mut stopped = Vec::new();
        // Those that it starts before its own stop are found by the second look.
        for _ in 0..2 {
            for pid in tree_of(pid)? {
                if !stopped.contains(&pid) && signal(pid, Signal::STOP).is_ok() {
                    stopped.push(pid);
                }
            }
        }
        if stopped.is_empty() {
            bail!("{} could not be paused", self.name);
        }
        Ok(stopped)
    }

    /// SIGCONT.
    pub(crate) fn resume(stopped: &[i32]) {
        for pid in stopped {
            signal(*pid, Signal::CONT).ok();
        }
    }

    /// Whether it ended without being told to.
    pub(crate) fn ended_by_itself(&mut self) -> bool {
        match &mut self.running {
            Some(Running::Ours(child)) => !matches!(child.try_wait(), Ok(None)),
            _ => false,
        }
    }
}

fn signal(pid: i32, signal: Signal) -> anyhow::Result<()> {
    let pid = Pid::from_raw(pid).context("a process id")?;
    Ok(kill_process(pid, signal)?)
}

/// A process and all its descendants.
fn tree_of(root: i32) -> anyhow::Result<Vec<i32>> {
    let output = std::process::Command::new("ps").args(["-axo", "pid=,ppid="]).output()?;
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let mut numbers = line.split_whitespace().map(str::parse);
        if let (Some(Ok(pid)), Some(Ok(parent))) = (numbers.next(), numbers.next()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut tree = vec![root];
    let mut at = 0;
    while let Some(pid) = tree.get(at) {
        tree.extend(children.get(pid).into_iter().flatten().copied().collect::<Vec<_>>());
        at += 1;
    }
    Ok(tree)
}

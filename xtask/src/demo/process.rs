//! A child process that does not outlive the demo unless it is let go. Its output goes to a file.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A drain has its own budget (28 s); this is above it.
const STOP_MAX: Duration = Duration::from_secs(40);

/// Waits until the next look.
pub(super) fn pause() {
    std::thread::sleep(LOOK_EVERY);
}

/// A running child; killed when dropped.
pub(super) struct Process {
    child: Option<Child>,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts it, stdout to `log`, stderr beside it (`.err`).
    pub(super) fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let make =
            |path: &Path| File::create(path).with_context(|| format!("make {}", path.display()));
        let child = command
            .stdin(Stdio::null())
            .stdout(make(log)?)
            .stderr(make(&log.with_extension("err"))?)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        Ok(Self { child: Some(child), name: name.to_owned(), log: log.into() })
    }

    /// The process id.
    pub(super) fn id(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Fails when it has ended, with the end of its log.
    pub(super) fn expect_running(&mut self) -> Result<()> {
        match self.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}):\n{}", self.name, self.last_lines()),
        }
    }

    /// Whether it has ended.
    pub(super) fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.as_mut().map(Child::try_wait).transpose()?.flatten().is_some())
    }

    /// Waits for its end, which must be a success.
    pub(super) fn expect_success(&mut self, what: &str) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let status = child.wait()?;
        ensure!(status.success(), "{what} failed ({status}):\n{}", self.last_lines());
        Ok(())
    }

    /// SIGKILL, and the proof that it died by it.
    pub(super) fn kill(mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill()?;
        let status = child.wait()?;
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        ensure!(signal == Some(9), "{} ended otherwise: {status}", self.name);
        Ok(())
    }

    /// SIGTERM, and a clean end.
    pub(super) fn stop(mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        terminate(child.id())?;
        let deadline = Instant::now() + STOP_MAX;
        loop {
            if let Some(status) = child.try_wait()? {
                ensure!(
                    status.success(),
                    "{} ended badly ({status}):\n{}",
                    self.name,
                    self.last_lines()
                );
                return Ok(());
            }
            if Instant::now() >= deadline {
                child.kill()?;
                bail!("{} did not end within {} s", self.name, STOP_MAX.as_secs());
            }
            pause();
        }
    }

    /// Lets it run on.
    pub(super) fn leave(mut self) {
        self.child = None;
    }

    /// Complete lines of its output so far.
    pub(super) fn lines(&self) -> usize {
        std::fs::read(&self.log)
            .map_or(0, |log| log.split(|b| *b == b'\n').count().saturating_sub(1))
    }

    fn last_lines(&self) -> String {
        let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        let text = read(&self.log) + &read(&self.log.with_extension("err"));
        let lines: Vec<&str> = text.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Waits until it has said `word` on stderr.
    pub(super) fn wait_for_word(&mut self, word: &str, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        let path = self.log.with_extension("err");
        while !std::fs::read_to_string(&path).unwrap_or_default().contains(word) {
            self.expect_running()?;
            ensure!(Instant::now() < deadline, "{} did not say {word:?} in time", self.name);
            pause();
        }
        Ok(())
    }

    /// Waits until `count` lines came, at most `limit`; how many there are then.
    pub(super) fn wait_for_lines(&mut self, count: usize, limit: Duration) -> Result<usize> {
        let deadline = Instant::now() + limit;
        while self.lines() < count && Instant::now() < deadline {
            self.expect_running()?;
            pause();
        }
        Ok(self.lines())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Politely first: a fleet takes its own PostgreSQL and Redis down with it.
            drop(terminate(child.id()));
            let deadline = Instant::now() + STOP_MAX;
            while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
                pause();
            }
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn terminate(id: u32) -> Result<()> {
    let status = Command::new("kill").args(["-TERM", &id.to_string()]).status()?;
    ensure!(status.success(), "kill -TERM {id} failed");
    Ok(())
}

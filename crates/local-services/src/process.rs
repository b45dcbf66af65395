//! A child process with a keeper: a small shell that stops the server when its own input ends, which
//! happens when the handle is dropped and when our process dies, even by SIGKILL.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::Instant;

use crate::account::{Account, give};
use crate::error::{PartError, io, tail};

/// How long a server may take to stop before it is killed.
pub const STOP_LIMIT: Duration = Duration::from_secs(15);
/// How often readiness is looked at.
const LOOK: Duration = Duration::from_millis(15);

/// `$1` signal that stops, `$2` pid file, then the command. The group is the keeper's own, so that
/// Ctrl-C reaches the fleet, which stops its servers last, and not the servers.
const WITH_PARENT: &str = r#"
stop=$1 pidfile=$2; shift 2
exec 3<&0 </dev/null
"$@" 3<&- & child=$!
echo "$child" >"$pidfile"
{ cat <&3 >/dev/null; kill -s "$stop" "$child"; } 2>/dev/null & watcher=$!
exec 3<&-
wait "$child"; code=$?
kill "$watcher" 2>/dev/null
rm -f "$pidfile"
exit "$code"
"#;

/// `$1` signal, `$2` pid file, `$3` file whose age counts, `$4` minutes, then the command: stops
/// the server when nobody has touched the file for so long, or when it is gone.
const WHILE_USED: &str = r#"
stop=$1 pidfile=$2 used=$3 minutes=$4; shift 4
"$@" & child=$!
echo "$child" >"$pidfile"
{ while sleep 5; do
    [ -n "$(find "$used" -mmin "-$minutes" 2>/dev/null)" ] || break
  done; kill -s "$stop" "$child"; } 2>/dev/null & watcher=$!
wait "$child"; code=$?
kill "$watcher" 2>/dev/null
rm -f "$pidfile"
exit "$code"
"#;

/// How long a server lives.
#[derive(Clone, Debug)]
pub enum Keep {
    /// As long as the handle, and no longer than our process.
    WithHandle,
    /// Until nobody has touched the file for that many minutes; the handle does not matter.
    WhileUsed {
        /// The file that users touch.
        file: PathBuf,
        /// Minutes.
        minutes: u32,
    },
}

/// What to run.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    pub(crate) part: &'static str,
    pub(crate) program: &'a Path,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(&'static str, String)>,
    pub(crate) dir: &'a Path,
    pub(crate) account: Option<Account>,
    /// Signal name without `SIG` that makes the server stop soon and cleanly.
    pub(crate) stop: &'static str,
    pub(crate) keep: Keep,
}

/// A running server.
#[derive(Debug)]
pub struct Process {
    part: &'static str,
    keeper: Child,
    input: Option<ChildStdin>,
    pid_file: PathBuf,
    log: PathBuf,
}

impl Process {
    pub(crate) fn spawn(launch: Launch<'_>) -> Result<Self, PartError> {
        let log = launch.dir.join("log");
        let pid_file = launch.dir.join("pid");
        fs::remove_file(&pid_file).ok();
        let output = open_log(&log, launch.account)?;
        let errors = output.try_clone().map_err(io("open the log twice"))?;
        let mut command = Command::new("sh");
        command.arg("-c");
        match &launch.keep {
            Keep::WithHandle => {
                command.arg(WITH_PARENT).args(["keeper", launch.stop]).arg(&pid_file);
                command.stdin(Stdio::piped());
            }
            Keep::WhileUsed { file, minutes } => {
                command.arg(WHILE_USED).args(["keeper", launch.stop]).arg(&pid_file);
                command.arg(file).arg(minutes.to_string()).stdin(Stdio::null());
            }
        }
        command
            .arg(launch.program)
            .args(&launch.args)
            .envs(launch.env)
            .current_dir(launch.dir)
            .stdout(output)
            .stderr(errors)
            .process_group(0);
        if let Some(Account { uid, gid }) = launch.account {
            command.uid(uid).gid(gid);
        }
        let mut keeper = command.spawn().map_err(io(format!("start {}", launch.part)))?;
        let input = keeper.stdin.take();
        Ok(Self { part: launch.part, keeper, input, pid_file, log })
    }

    /// The server's process id, once its keeper has written it.
    pub fn pid(&self) -> Option<i32> {
        fs::read_to_string(&self.pid_file).ok()?.trim().parse().ok()
    }

    /// Waits until `ready` says so.
    pub(crate) async fn until_ready(
        &mut self,
        limit: Duration,
        mut ready: impl AsyncFnMut() -> bool,
    ) -> Result<(), PartError> {
        let deadline = Instant::now() + limit;
        loop {
            if ready().await {
                return Ok(());
            }
            if self.ended()?.is_some() {
                let (part, log) = (self.part, self.log.clone());
                return Err(PartError::Ended { part, tail: tail(&log), log });
            }
            if Instant::now() >= deadline {
                let (part, log) = (self.part, self.log.clone());
                return Err(PartError::NotReady { part, waited: limit, tail: tail(&log), log });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, PartError> {
        self.keeper.try_wait().map_err(io(format!("look after {}", self.part)))
    }

    /// Stops it cleanly and waits; kills it when it takes longer than [`STOP_LIMIT`].
    pub async fn stop(mut self) -> Result<(), PartError> {
        self.input = None;
        if tokio::time::timeout(STOP_LIMIT, self.keeper.wait()).await.is_err() {
            self.kill().await?;
        }
        Ok(())
    }

    /// SIGKILL, as a crash would, and waits until it is gone.
    pub async fn kill(mut self) -> Result<(), PartError> {
        if let Some(pid) = self.pid() {
            send(pid, Signal::KILL);
        }
        self.keeper.wait().await.map_err(io(format!("wait for {}", self.part)))?;
        Ok(())
    }
}

fn open_log(log: &Path, account: Option<Account>) -> Result<File, PartError> {
    let doing = format!("open {}", log.display());
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(log)
        .map_err(io(doing))?;
    give(log, account, 0o600)?;
    Ok(file)
}

/// Sends a signal; a process that is gone is no error.
pub(crate) fn send(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        kill_process(pid, signal).ok();
    }
}

/// Whether a process of that id exists.
pub fn alive(pid: i32) -> bool {
    // EPERM also means that it exists.
    Pid::from_raw(pid)
        .is_some_and(|pid| !matches!(test_kill_process(pid), Err(rustix::io::Errno::SRCH)))
}

/// The command line of a process, arguments separated by spaces.
pub(crate) fn command_line(pid: i32) -> Option<String> {
    if let Ok(bytes) = fs::read(format!("/proc/{pid}/cmdline")) {
        return Some(String::from_utf8_lossy(&bytes).replace('\0', " "));
    }
    let output = std::process::Command::new("ps")
        .args(["-o", "command=", "-p", &pid.to_string()])
        .output()
        .ok()?;
    String::from_utf8(output.stdout).ok()
}

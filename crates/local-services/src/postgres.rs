//! A private PostgreSQL cluster from the installed server binaries: loopback only, with a password
//! of its own, reusable after any crash.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use crate::Durability;
use crate::account::{Account, give};
use crate::directory::Directory;
use crate::error::{PartError, io, last_lines};
use crate::part::Part;
use crate::port;
use crate::process::{Keep, Launch, Process, alive, command_line, send};
use crate::programs::{self, Package};

const PART: &str = "PostgreSQL";
/// The superuser of the cluster, and the database the fleet uses.
const NAME: &str = "flotilla";
/// Recovery after a crash is part of starting.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Another process may take the port between our look and the server's bind.
const STARTS_MAX: u32 = 3;
const PACKAGE: Package = Package {
    apt: "postgresql",
    dnf: "postgresql-server",
    apk: "postgresql",
    pacman: "postgresql",
    brew: "postgresql@17",
};

/// A running cluster.
pub type Postgres = Part<Kind>;

/// What only PostgreSQL has.
#[derive(Debug)]
pub struct Kind {
    password: String,
}

impl Postgres {
    /// Starts the cluster of that directory, making it the first time.
    pub async fn start(dir: &Path) -> Result<Self, PartError> {
        Self::start_with(dir, Durability::Kept, Keep::WithHandle).await
    }

    /// As [`Postgres::start`], with a choice of durability and lifetime.
    pub async fn start_with(
        dir: &Path,
        durability: Durability,
        keep: Keep,
    ) -> Result<Self, PartError> {
        let bin = server_binaries()?;
        let directory = Directory::open(dir, PART)?;
        let password = directory.secret("password")?;
        if !directory.join("data").join("PG_VERSION").exists() {
            init(&bin, &directory, durability)?;
        }
        clear_away(&directory.join("data")).await?;
        let mut starts = 1;
        loop {
            let port = port::kept(&directory.join("port"))?;
            match launch(&bin, &directory, port, durability, keep.clone()).await {
                Ok(process) => {
                    return Ok(Self::running(process, directory, port, Kind { password }));
                }
                Err(PartError::Ended { tail, .. })
                    if starts < STARTS_MAX && tail.contains("could not bind") =>
                {
                    starts += 1;
                    fs::remove_file(directory.join("port")).ok();
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// `postgres://…` of the database `flotilla`, as superuser, with the password.
    pub fn url(&self) -> String {
        self.url_of(NAME)
    }

    /// `postgres://…` of another database.
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://{NAME}:{}@127.0.0.1:{}/{database}", self.kind.password, self.port())
    }
}

/// The directory of `initdb` and `postgres`: the newest installed version.
pub fn server_binaries() -> Result<PathBuf, PartError> {
    let mut found: Vec<(u32, PathBuf)> =
        ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt"]
            .iter()
            .filter_map(|base| fs::read_dir(base).ok())
            .flat_map(Iterator::flatten)
            .filter_map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                let version = name.trim_start_matches("postgresql@").parse().ok()?;
                Some((version, entry.path().join("bin")))
            })
            .collect();
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    let by_config = programs::on_path("pg_config").and_then(|config| {
        let output = Command::new(config).arg("--bindir").output().ok()?;
        Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
    });
    let by_path = programs::on_path("initdb").and_then(|path| path.parent().map(Path::to_path_buf));
    found
        .into_iter()
        .map(|(_, bin)| bin)
        .chain(by_path)
        .chain(by_config)
        .find(|bin| {
            ["initdb", "postgres"].iter().all(|name| programs::is_executable(&bin.join(name)))
        })
        .ok_or_else(|| PartError::Missing {
            part: PART,
            program: "initdb".to_owned(),
            install: PACKAGE.install_command(),
        })
}

/// Makes the cluster apart and renames it, so that a crash in between leaves nothing half made.
fn init(bin: &Path, directory: &Directory, durability: Durability) -> Result<(), PartError> {
    let fresh = directory.join("data.new");
    if fresh.exists() {
        fs::remove_dir_all(&fresh).map_err(io(format!("remove {}", fresh.display())))?;
    }
    // Tests open thousands of sessions, and SCRAM is slow on purpose, most of all in debug builds.
    let method = match durability {
        Durability::Kept => "scram-sha-256",
        Durability::Throwaway => "password",
    };
    let mut initdb = Command::new(bin.join("initdb"));
    initdb
        .args(["--encoding=UTF8", "--locale=C", "--auth", method, "--username", NAME])
        .arg(format!("--pwfile={}", directory.join("password").display()))
        .arg(format!("--pgdata={}", fresh.display()));
    if durability == Durability::Throwaway {
        initdb.arg("--no-sync");
    }
    run(initdb, directory, None)?;
    let mut single = Command::new(bin.join("postgres"));
    single.args(["--single", "-D"]).arg(&fresh).arg("postgres");
    run(single, directory, Some(&format!("CREATE DATABASE {NAME}\n")))?;
    let data = directory.join("data");
    if data.exists() {
        fs::remove_dir_all(&data).map_err(io(format!("remove {}", data.display())))?;
    }
    fs::rename(&fresh, &data).map_err(io(format!("rename {}", fresh.display())))
}

/// Runs a preparing command as the cluster's account, to its end.
fn run(mut command: Command, directory: &Directory, input: Option<&str>) -> Result<(), PartError> {
    use std::io::Write as _;
    use std::os::unix::process::CommandExt as _;
    if let Some(Account { uid, gid }) = directory.account {
        command.uid(uid).gid(gid);
    }
    let typed = programs::typed(&command);
    let doing = || io(format!("run `{typed}`"));
    let mut child = command
        .current_dir(&directory.path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(doing())?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.unwrap_or_default().as_bytes()).map_err(doing())?;
    }
    let output = child.wait_with_output().map_err(doing())?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(PartError::Command { command: typed, output: last_lines(&String::from_utf8_lossy(&said)) })
}

/// After a crash of ours the old server may still be going down, and after one of its own a stale
/// `postmaster.pid` may name a process id that now belongs to somebody else.
async fn clear_away(data: &Path) -> Result<(), PartError> {
    let pid_file = data.join("postmaster.pid");
    let Some(pid) = postmaster_line(&pid_file, 0).and_then(|line| line.parse().ok()) else {
        return Ok(());
    };
    let ours = |pid| {
        let name = data.to_string_lossy();
        alive(pid) && command_line(pid).is_some_and(|line| line.contains(name.as_ref()))
    };
    // Its keeper is stopping it; an immediate shutdown loses nothing that was committed.
    if !gone_within(Duration::from_secs(5), || !ours(pid)).await {
        send(pid, Signal::QUIT);
        gone_within(Duration::from_secs(10), || !ours(pid)).await;
    }
    fs::remove_file(&pid_file).or_else(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(io(format!("remove {}", pid_file.display()))(error)),
    })
}

async fn gone_within(limit: Duration, gone: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !gone() {
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    true
}

/// One line of `postmaster.pid`; the eighth is the server's state (`pg_ctl` reads it, too).
fn postmaster_line(pid_file: &Path, line: usize) -> Option<String> {
    let text = fs::read_to_string(pid_file).ok()?;
    text.lines().nth(line).map(|line| line.trim().to_owned())
}

async fn launch(
    bin: &Path,
    directory: &Directory,
    port: u16,
    durability: Durability,
    keep: Keep,
) -> Result<Process, PartError> {
    give(&directory.join("port"), directory.account, 0o600)?;
    let data = directory.join("data");
    let mut settings = vec![
        "listen_addresses=127.0.0.1".to_owned(),
        format!("port={port}"),
        // No socket: its path would be limited to 107 bytes, and it needs another directory.
        "unix_socket_directories=".to_owned(),
        "max_connections=200".to_owned(),
        "timezone=UTC".to_owned(),
        "log_timezone=UTC".to_owned(),
        "shared_buffers=128MB".to_owned(),
    ];
    if durability == Durability::Throwaway {
        let fast = [
            "fsync=off",
            "full_page_writes=off",
            "synchronous_commit=off",
            "max_connections=500",
            "autovacuum_naptime=1h",
            "max_wal_size=4GB",
        ];
        settings.extend(fast.map(str::to_owned));
    }
    let mut args = vec!["-D".to_owned(), data.to_string_lossy().into_owned()];
    args.extend(settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]));
    let mut process = Process::spawn(Launch {
        part: PART,
        program: &bin.join("postgres"),
        args,
        env: Vec::new(),
        dir: &directory.path,
        account: directory.account,
        // Fast shutdown: sessions are ended, a checkpoint is written.
        stop: "INT",
        keep,
    })?;
    let pid_file = data.join("postmaster.pid");
    process
        .until_ready(READY_LIMIT, async || {
            postmaster_line(&pid_file, 7).as_deref() == Some("ready")
        })
        .await?;
    Ok(process)
}

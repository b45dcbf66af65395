//! A private Redis server: loopback only, with a password of its own.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Durability;
use crate::account::give;
use crate::directory::Directory;
use crate::error::PartError;
use crate::part::Part;
use crate::port;
use crate::process::{Keep, Launch, Process};
use crate::programs::{self, Package};

const PART: &str = "Redis";
/// Loading an append-only file is part of starting.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Names of the server: Valkey speaks the same protocol.
const PROGRAMS: [&str; 2] = ["redis-server", "valkey-server"];
const PACKAGE: Package =
    Package { apt: "redis-server", dnf: "redis", apk: "redis", pacman: "valkey", brew: "redis" };

/// A running server.
pub type Redis = Part<Kind>;

/// What only Redis has.
#[derive(Debug)]
pub struct Kind {
    password: String,
}

impl Redis {
    /// Starts the server of that directory. Its append-only file survives a crash but for the last
    /// second: nothing of ours is kept in Redis alone.
    pub async fn start(dir: &Path) -> Result<Self, PartError> {
        Self::start_with(dir, Durability::Kept).await
    }

    /// As [`Redis::start`], with a choice of durability. The port is the directory's own as long
    /// as it is free, so that a restart looks like one to clients.
    pub async fn start_with(dir: &Path, durability: Durability) -> Result<Self, PartError> {
        let program =
            PROGRAMS.iter().find_map(|name| programs::on_path(name)).ok_or_else(|| {
                PartError::Missing {
                    part: PART,
                    program: PROGRAMS[0].to_owned(),
                    install: PACKAGE.install_command(),
                }
            })?;
        let directory = Directory::open(dir, PART)?;
        let password = directory.secret("password")?;
        let port = port::kept(&directory.join("port"))?;
        give(&directory.join("port"), directory.account, 0o600)?;
        let kept = if durability == Durability::Kept { "yes" } else { "no" };
        // In a file and not in arguments, which every user of the machine can read.
        let config = directory.write_private(
            "redis.conf",
            &format!(
                "port {port}\nbind 127.0.0.1\nrequirepass {password}\ndir \"{}\"\nsave \"\"\n\
                 appendonly {kept}\nappendfsync everysec\ndaemonize no\n",
                directory.path.display()
            ),
        )?;
        let mut process = Process::spawn(Launch {
            part: PART,
            program: &program,
            args: vec![config.to_string_lossy().into_owned()],
            env: Vec::new(),
            dir: &directory.path,
            account: directory.account,
            stop: "TERM",
            keep: Keep::WithHandle,
        })?;
        process.until_ready(READY_LIMIT, async || pong(port, &password).await).await?;
        Ok(Self::running(process, directory, port, Kind { password }))
    }

    /// `redis://…` with the password.
    pub fn url(&self) -> String {
        format!("redis://:{}@127.0.0.1:{}/", self.kind.password, self.port())
    }
}

/// Whether it answers a PING; while it loads its file it answers with an error.
async fn pong(port: u16, password: &str) -> bool {
    let talk = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let commands = format!("AUTH {password}\r\nPING\r\n");
        stream.write_all(commands.as_bytes()).await?;
        let mut answer = Vec::new();
        let mut chunk = [0; 128];
        while !answer.ends_with(b"+PONG\r\n") && !answer.contains(&b'-') {
            let read = stream.read(&mut chunk).await?;
            if read == 0 {
                break;
            }
            answer.extend_from_slice(&chunk[..read]);
        }
        Ok::<_, std::io::Error>(answer.ends_with(b"+PONG\r\n"))
    };
    tokio::time::timeout(Duration::from_millis(500), talk)
        .await
        .is_ok_and(|said| said.unwrap_or(false))
}

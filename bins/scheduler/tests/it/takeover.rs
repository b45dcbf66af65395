//! Two processes: the active one dies by SIGKILL, the other follows within the lease's term.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use database::Role;
use database::sqlx::{self, PgPool};
use testkit::{TestDatabase, eventually};

const DEADLINE: Duration = Duration::from_secs(30);

/// A scheduler process; killed when dropped.
struct Process(Child);

impl Process {
    fn start(url: &str) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_scheduler"))
            .args(["--scheduler-lease-secs=3", "--scheduler-interval-secs=1"])
            .args(["--admin-addr=127.0.0.1:0", "--log-level=warn"])
            .env_clear()
            .env("DATABASE_URL", url)
            .stdin(Stdio::null())
            .spawn()
            .expect("starts");
        Self(child)
    }

    fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The process id of the holder and the epoch, while the lease is held.
async fn holder(pool: &PgPool) -> Option<(u32, i64)> {
    let row: Option<(String, i64)> =
        sqlx::query_as("SELECT holder, epoch FROM leases WHERE expires_at > clock_timestamp()")
            .fetch_optional(pool)
            .await
            .expect("reads");
    row.and_then(|(holder, epoch)| Some((holder.split('-').next()?.parse().ok()?, epoch)))
}

#[tokio::test]
async fn the_other_takes_over_when_the_active_one_is_killed() {
    let database = TestDatabase::new().await;
    let owner = database.connect(Role::Owner);
    let two = [Process::start(database.url()), Process::start(database.url())];
    let (active, epoch) =
        eventually(DEADLINE, "one is active", async || holder(owner.pool()).await).await;
    let (mut active, standby): (Vec<_>, Vec<_>) =
        two.into_iter().partition(|process| process.id() == active);
    let mut active = active.pop().expect("one of the two");

    active.0.kill().expect("dies");
    assert_eq!(active.0.wait().expect("ends").signal(), Some(9));
    let follower = eventually(DEADLINE, "the other is active", async || {
        holder(owner.pool()).await.filter(|(process, _)| *process == standby[0].id())
    })
    .await;
    assert_eq!(follower.1, epoch + 1);
}

#[tokio::test]
async fn sigterm_drains_and_exits_with_0() {
    let database = TestDatabase::new().await;
    let owner = database.connect(Role::Owner);
    let mut process = Process::start(database.url());
    eventually(DEADLINE, "it is active", async || holder(owner.pool()).await).await;
    let pid = i32::try_from(process.id()).ok().and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(pid.expect("a pid"), rustix::process::Signal::TERM)
        .expect("signals");
    let status = process.0.wait().expect("ends");
    assert_eq!(status.code(), Some(0), "{status}");
    assert_eq!(holder(owner.pool()).await, None, "the lease was given back");
}

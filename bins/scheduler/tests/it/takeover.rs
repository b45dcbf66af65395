//! Two processes: the active one dies by SIGKILL, the other follows within the lease's term.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use contracts::catalogue::AUDIT_INDEX;
use database::Role;
use database::sqlx::{self, PgPool};
use testkit::{TestDatabase, TestSqs, eventually};

pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// A scheduler process; killed when dropped.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(url: &str) -> Self {
        Self::start_with_admin(url, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    pub(crate) fn start_with(url: &str, options: &[String]) -> Self {
        Self::run(url, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), options, &[])
    }

    /// Dies by SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.0.kill().expect("dies");
        assert_eq!(self.0.wait().expect("ends").signal(), Some(9));
    }

    fn start_with_admin(url: &str, admin: SocketAddr) -> Self {
        Self::run(url, admin, &[], &[])
    }

    fn run(
        url: &str,
        admin: SocketAddr,
        options: &[String],
        environment: &[(&'static str, String)],
    ) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_scheduler"))
            .args(["--scheduler-lease-secs=3", "--scheduler-interval-secs=1"])
            .args([format!("--admin-addr={admin}"), "--log-level=warn".to_owned()])
            .args(options)
            .env_clear()
            .env("DATABASE_URL", url)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .spawn()
            .expect("starts");
        Self(child)
    }

    pub(crate) fn id(&self) -> u32 {
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
pub(crate) async fn holder(pool: &PgPool) -> Option<(u32, i64)> {
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

    active.kill();
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

#[tokio::test]
async fn days_left_by_class_and_who_leads_are_metrics() {
    let database = TestDatabase::new().await;
    let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, testkit::free_port()));
    let _process = Process::start_with_admin(database.url(), admin);
    let metrics = eventually(DEADLINE, "the metrics are there", async || {
        let metrics = get(admin, "/metrics").ok()?;
        metrics.contains("flotilla_partitions_remaining_days").then_some(metrics)
    })
    .await;
    for class in ["7d", "30d", "90d", "1y", "7y", "custom"] {
        let days = metrics
            .lines()
            .filter(|line| line.starts_with("flotilla_partitions_remaining_days{"))
            .find(|line| line.contains(&format!("class=\"{class}\"")))
            .and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        assert!(days.is_some_and(|days| days >= 14.0), "{class}: {days:?}");
    }
    assert!(metrics.lines().any(|line| line == "flotilla_scheduler_leading 1"), "{metrics}");
}

#[tokio::test]
async fn who_lost_the_lease_shows_no_figures_of_its_time() {
    let (database, sqs) = (TestDatabase::new().await, TestSqs::start().await);
    sqs.create(&AUDIT_INDEX).await;
    let owner = database.connect(Role::Owner);
    let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, testkit::free_port()));
    let queue = format!("--{}-queue-url={}", AUDIT_INDEX.key, sqs.url(AUDIT_INDEX.name));
    let _process = Process::run(database.url(), admin, &[queue], &sqs.environment());
    let queue = format!("queue=\"{}\"", AUDIT_INDEX.name);
    let class = "class=\"30d\"".to_owned();
    let figures = [
        ("flotilla_queue_depth{", &queue),
        ("flotilla_dlq_depth{", &queue),
        ("flotilla_partitions_remaining_days{", &class),
        ("flotilla_partitions_remaining{", &class),
    ];
    let shown = || -> Option<Vec<String>> {
        let metrics = get(admin, "/metrics").ok()?;
        let figure = |(name, label): &(&str, &String)| {
            let mut lines = metrics.lines().filter(|line| line.starts_with(name));
            let line = lines.find(|line| line.contains(label.as_str()))?;
            line.rsplit(' ').next().map(str::to_owned)
        };
        figures.iter().map(figure).collect()
    };
    let counted = eventually(DEADLINE, "it counts", async || shown()).await;
    assert!(counted.iter().all(|value| value.parse::<f64>().is_ok_and(f64::is_finite)));
    // Another has it, for longer than this test.
    let taken = "UPDATE leases SET holder = '0-another', epoch = epoch + 1,
                        expires_at = clock_timestamp() + interval '1 hour'";
    sqlx::query(taken).execute(owner.pool()).await.expect("takes");
    eventually(DEADLINE, "its figures are gone", async || {
        shown().filter(|values| values.iter().all(|value| value == "NaN"))
    })
    .await;
    let metrics = get(admin, "/metrics").expect("answers");
    assert!(metrics.lines().any(|line| line == "flotilla_scheduler_leading 0"), "{metrics}");
}

/// The body, and the head, of a page.
fn get(addr: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(addr)?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

//! The whole way from `POST` to searchable with the release binaries as processes, and what each
//! costs in memory, idle and loaded.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::api::Backends;
use crate::books::Books;
use crate::load::{self, Load};
use crate::report::{Goal, Report};
use crate::samples;
use crate::sqs::{self, SqsLocal, free_port, release_binary};

/// The seed's load.
const OFFERED: f64 = 1_000.0;

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn start(name: &str, folder: &Path, environment: &[(&str, String)]) -> anyhow::Result<Self> {
        let log = std::fs::File::create(folder.join(format!("{name}.log")))?;
        let child = Command::new(release_binary(name)?)
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Self(child))
    }

    fn megabytes(&self) -> anyhow::Result<f64> {
        megabytes(self.0.id())
    }
}

fn megabytes(pid: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("VmRSS")?;
    let kib: f64 = line.split_whitespace().nth(1).context("a number")?.parse()?;
    Ok(kib / 1024.0)
}

/// Takes the figures.
pub async fn run(report: &mut Report, seconds: u64) -> anyhow::Result<()> {
    let backends = Backends::start().await?;
    let server = SqsLocal::start().await?;
    let (url, _) = sqs::create(&server.client(), "audit-log-index-queue").await?;
    let port = free_port()?;
    let environment = [
        ("DATABASE_URL", backends.postgres.url()),
        ("REDIS_URL", backends.redis.url()),
        ("AWS_ENDPOINT_URL", server.endpoint.clone()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        ("AWS_SQS_INDEX_QUEUE_URL", url),
        ("ADMIN_ADDR", "127.0.0.1:0".to_owned()),
        ("LISTEN_ADDR", format!("127.0.0.1:{port}")),
        ("RATE_PER_KEY", "1000000".to_owned()),
        ("RATE_BURST_PER_KEY", "1000000".to_owned()),
    ];
    let folder = tempfile::tempdir()?;
    let api = Process::start("ingest-api", folder.path(), &environment)?;
    let worker = Process::start("index-worker", folder.path(), &environment)?;
    let scheduler = Process::start("scheduler", folder.path(), &environment)?;
    let addr = format!("127.0.0.1:{port}").parse()?;
    listens(addr).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let idle = [
        ("ingest-api", api.megabytes()?), ("index-worker", worker.megabytes()?),
        ("scheduler", scheduler.megabytes()?), ("sqs-local", megabytes(server.pid())?),
    ];
    for (name, value) in idle {
        let goal = if name == "sqs-local" { Goal::None } else { Goal::Below(60.0) };
        report.add(&format!("memory, {name}, idle"), value, "MB", goal, "");
    }
    searchable(report, addr, &backends.key, seconds).await?;
    bulk(report, addr, &backends.key, seconds).await?;
    for (name, value) in [("ingest-api", api.megabytes()?), ("index-worker", worker.megabytes()?)] {
        report.add(&format!("memory, {name}, after the load"), value, "MB", Goal::Below(200.0), "");
    }
    report.add("memory, sqs-local, after the load", megabytes(server.pid())?, "MB", Goal::None, "");
    Ok(())
}

async fn listens(addr: std::net::SocketAddr) -> anyhow::Result<()> {
    for _ in 0..500 {
        if tokio::net::TcpStream::connect(addr).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("ingest-api does not listen")
}

/// Time from the answer to the first search that finds it, at the seed's load.
async fn searchable(
    report: &mut Report,
    addr: std::net::SocketAddr,
    key: &str,
    seconds: u64,
) -> anyhow::Result<()> {
    let authorization = format!("Bearer {key}");
    let bearer = authorization.clone();
    let sender = tokio::spawn(load::run(Load {
        addr,
        connections: 16,
        duration: Duration::from_secs(seconds),
        rate: Some(OFFERED),
        requests: Arc::new(move |connection, n| {
            let event = samples::event(connection as u64 * 1_000_003 + n);
            load::post("/logs", Some(&bearer), event.as_bytes())
        }),
        status: 202,
    }));
    let client = reqwest::Client::new();
    let mut first_seen: HashMap<u128, chrono::DateTime<chrono::Utc>> = HashMap::new();
    let deadline = Instant::now() + Duration::from_secs(seconds + 30);
    let expected = (OFFERED * seconds as f64 * 0.98) as usize;
    while first_seen.len() < expected && Instant::now() < deadline {
        for log in newest(&client, addr, key).await? {
            first_seen.entry(log.0).or_insert_with(chrono::Utc::now);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let outcome = sender.await??;
    ensure!(outcome.other.is_empty(), "refused: {:?}", outcome.other);
    let mut delays = Vec::new();
    for body in &outcome.bodies {
        let body: Value = serde_json::from_slice(body)?;
        let id = body["id"].as_str().context("id")?.parse::<uuid::Uuid>()?.as_u128();
        let at: chrono::DateTime<chrono::Utc> = body["recorded_at"].as_str().context("time")?.parse()?;
        if let Some(seen) = first_seen.get(&id) {
            delays.push((*seen - at).as_seconds_f64());
        }
    }
    delays.sort_by(f64::total_cmp);
    ensure!(!delays.is_empty(), "nothing was found");
    let at = |share: f64| delays[((delays.len() - 1) as f64 * share) as usize];
    let note = format!(
        "{:.0} messages/s offered, {} of {} caught by a poll every 50 ms",
        OFFERED, delays.len(), outcome.ok
    );
    report.add("from POST to searchable, p50", at(0.5), "s", Goal::Below(1.0), note.clone());
    report.add("from POST to searchable, p99", at(0.99), "s", Goal::Below(2.0), note);
    Ok(())
}

async fn newest(
    client: &reqwest::Client,
    addr: std::net::SocketAddr,
    key: &str,
) -> anyhow::Result<Vec<(u128, ())>> {
    let url = format!("http://{addr}/logs?limit=200");
    let text = client.get(url).bearer_auth(key).send().await?.text().await?;
    let body: Value = serde_json::from_str(&text)?;
    body["logs"]
        .as_array()
        .with_context(|| text.clone())?
        .iter()
        .map(|log| Ok((log["id"].as_str().context("id")?.parse::<uuid::Uuid>()?.as_u128(), ())))
        .collect()
}

/// Bulk requests as fast as they go, until the last event is found: events per second, whole way.
async fn bulk(
    report: &mut Report,
    addr: std::net::SocketAddr,
    key: &str,
    seconds: u64,
) -> anyhow::Result<()> {
    let authorization = format!("Bearer {key}");
    let start = Instant::now();
    let outcome = load::run(Load {
        addr,
        connections: 4,
        duration: Duration::from_secs(seconds),
        rate: None,
        requests: Arc::new(move |connection, n| {
            let first = (connection as u64 * 1_000_003 + n) * 100;
            let events: Vec<String> = (first..first + 100).map(samples::event).collect();
            load::post("/logs/bulk", Some(&authorization), format!("[{}]", events.join(",")).as_bytes())
        }),
        status: 202,
    })
    .await?;
    let mut accepted = Vec::new();
    for body in &outcome.bodies {
        let body: Value = serde_json::from_slice(body)?;
        for result in body["results"].as_array().context("results")? {
            accepted.push(result["id"].as_str().context("id")?.parse::<uuid::Uuid>()?.as_u128());
        }
    }
    let (found, took) = found_all(addr, key, start, &accepted).await?;
    let books = Books::compare(&accepted, &found);
    let note = format!(
        "{} events in bulks of 100, refused {:?}; lost {} duplicated {}",
        accepted.len(), outcome.other, books.lost, books.duplicated
    );
    let rate = accepted.len() as f64 / took.as_secs_f64();
    report.add("from POST to searchable, bulk", rate, "events/s", Goal::AtLeast(1_000.0), note);
    Ok(())
}

/// Waits until a walk over all pages finds every accepted id; returns what the last walk found.
async fn found_all(
    addr: std::net::SocketAddr,
    key: &str,
    start: Instant,
    accepted: &[u128],
) -> anyhow::Result<(Vec<u128>, Duration)> {
    let client = reqwest::Client::new();
    let wanted: std::collections::HashSet<u128> = accepted.iter().copied().collect();
    let deadline = Instant::now() + Duration::from_secs(120);
    // The newest accepted event is usually the last to be found: a walk starts when it is there.
    loop {
        let seen = newest(&client, addr, key).await?;
        let took = start.elapsed();
        if seen.iter().all(|(id, ())| wanted.contains(id)) || Instant::now() > deadline {
            let found = walk(&client, addr, key, &wanted).await?;
            if found.len() >= accepted.len() || Instant::now() > deadline {
                return Ok((found, took));
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn walk(
    client: &reqwest::Client,
    addr: std::net::SocketAddr,
    key: &str,
    wanted: &std::collections::HashSet<u128>,
) -> anyhow::Result<Vec<u128>> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let url = format!("http://{addr}/logs?limit=500{cursor}");
        let body: Value =
            serde_json::from_str(&client.get(url).bearer_auth(key).send().await?.text().await?)?;
        let logs = body["logs"].as_array().context("logs")?;
        for log in logs {
            let id = log["id"].as_str().context("id")?.parse::<uuid::Uuid>()?.as_u128();
            if wanted.contains(&id) {
                found.push(id);
            }
        }
        match body["next_cursor"].as_str() {
            Some(next) if found.len() < wanted.len() => cursor = format!("&cursor={next}"),
            _ => return Ok(found),
        }
    }
}

//! `fleet up`: how long until it takes an event, on a state directory that is there already, and what
//! the one process with every service in it costs in memory.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::books::Books;
use crate::client::Client;
use crate::process::Process;
use crate::report::{Figure, Report};
use crate::sqs::free_port;
use crate::{bulk, machine, median, samples};

/// Without work for so long, memory is read as idle.
const IDLE: Duration = Duration::from_secs(3);
/// Starts that are timed.
const STARTS: usize = 5;
/// A start that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(60);

/// Addresses that every start takes, so that it is the same fleet.
struct Place {
    api: SocketAddr,
    arguments: Vec<String>,
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let free = || anyhow::Ok(SocketAddr::from(([127, 0, 0, 1], free_port()?)));
        let (api, sqs) = (free()?, free()?);
        let state = folder.path().join("state");
        let arguments = [
            "up".to_owned(),
            "--json".to_owned(),
            format!("--state-dir={}", state.display()),
            format!("--listen-addr={api}"),
            format!("--sqs-addr={sqs}"),
            "--admin-addr=127.0.0.1:0".to_owned(),
        ];
        Ok(Self { api, arguments: arguments.to_vec(), folder })
    }

    /// Starts it; what it printed when it was ready, and how long after the process's start.
    async fn start(&self) -> anyhow::Result<(Process, Value, Duration)> {
        let environment =
            [("RATE_PER_KEY", "1000000".to_owned()), ("RATE_BURST_PER_KEY", "1000000".to_owned())];
        let start = Instant::now();
        let folder: &Path = self.folder.path();
        let mut process = Process::start("fleet", folder, &environment, &self.arguments)?;
        while start.elapsed() < LIMIT {
            let ready = process.output().lines().find_map(|line| serde_json::from_str(line).ok());
            if let Some(ready) = ready {
                return Ok((process, ready, start.elapsed()));
            }
            process.lives()?;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        bail!("not ready within {LIMIT:?}: {}", process.output())
    }
}

/// Takes the figures.
pub async fn run(report: &mut Report, seconds: u64) -> anyhow::Result<()> {
    let place = Place::new()?;
    let (first, ready, fresh) = place.start().await?;
    let key = ready["api_key"].as_str().context("a key at the first start")?.to_owned();
    first.stop().await?;

    let since = machine::now();
    let (mut line, mut taken, mut accepted) = (Vec::new(), Vec::new(), Vec::new());
    let mut fleet = None;
    for n in 0..STARTS {
        let before = Instant::now();
        let (process, _, took) = place.start().await?;
        let client = Client::new(place.api, &key);
        accepted.push(client.post(&samples::event(n as u64)).await?);
        taken.push(before.elapsed().as_secs_f64());
        line.push(took.as_secs_f64());
        match n + 1 {
            STARTS => fleet = Some(process),
            _ => process.stop().await?,
        }
    }
    let fleet = fleet.context("a last start")?;
    let client = Client::new(place.api, &key);
    let found = found(&client, since, accepted.len()).await?;
    let books = Books::compare(&accepted, &found);
    let name = "fleet up, warm: until the first event is accepted";
    let figure = Figure::new(name, median(&taken), "s").below(3.0).books(books);
    let note = format!(
        "says ready after {:.2} s; in a new directory after {:.2} s",
        median(&line),
        fresh.as_secs_f64()
    );
    report.add(figure.beside(note));

    tokio::time::sleep(IDLE).await;
    let (idle, _) = fleet.memory()?;
    report.add(
        Figure::new("memory, fleet, idle", idle, "MB").beside("without its PostgreSQL and Redis"),
    );
    let reader = &client;
    let bulk = bulk::measure(place.api, &key, seconds, async |since| {
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(reader.walk((since, None)).await?.len() as u64)
    })
    .await?;
    let (_, highest) = fleet.memory()?;
    let figure = Figure::new("memory, fleet, loaded", highest, "MB").books(bulk.books);
    let note = format!("bulks of 100, {:.0} events/s to searchable", bulk.rate);
    report.add(figure.beside(note));
    fleet.stop().await
}

/// What a walk finds once it finds as many, or when there is no more patience.
async fn found(
    client: &Client,
    since: chrono::DateTime<chrono::Utc>,
    count: usize,
) -> anyhow::Result<Vec<u128>> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let found = client.walk((since, None)).await?;
        if found.len() >= count || Instant::now() > deadline {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

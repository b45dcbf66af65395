//! A program that drains a queue in a process of its own: the contender, or the crate `shove`. It says
//! how long it took; the ids that it wrote down are the books, and what it cost is what the kernel
//! counted for it.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::books::Books;
use crate::sqs::{Entry, SqsLocal, release_binary};
use crate::{ids, machine, ping, sqs};

/// Seconds after which one gives up.
const LIMIT: &str = "120";

/// How it went.
pub struct Run {
    /// Messages per second, as it said.
    pub rate: f64,
    /// Processor seconds of the process, from its start to its end.
    pub processor: f64,
    /// Sent against handled, and what is left in the queue as lost.
    pub books: Books,
}

/// What it is told beside the queue and the count.
pub type Variables = Vec<(&'static str, String)>;

/// Fills a queue of its own with `count` messages and lets the program drain it.
pub async fn run(
    server: &SqsLocal,
    program: &str,
    count: usize,
    variables: &Variables,
    finish: impl Fn(Entry) -> anyhow::Result<Entry> + Copy,
) -> anyhow::Result<Run> {
    let client = server.client();
    let name = format!("{program}-{}", uuid::Uuid::new_v4().simple());
    let (url, _) = sqs::create(&client, &name).await?;
    let (sent, bodies) = ping::bodies(count);
    sqs::fill_with(&client, &url, bodies, finish).await?;
    let folder = tempfile::tempdir()?;
    let ids = folder.path().join("ids");
    let mut command = Command::new(release_binary(program)?);
    command
        .env_clear()
        .envs([("QUEUE", name.as_str()), ("QUEUE_URL", &url), ("ENDPOINT", &server.endpoint)])
        .envs([("N", count.to_string().as_str()), ("LIMIT_SECONDS", LIMIT)])
        .envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")])
        .envs([("AWS_ENDPOINT_URL_SQS", server.endpoint.as_str()), ("AWS_REGION", "us-east-1")])
        .env("IDS", &ids)
        .envs(variables.iter().map(|(name, value)| (*name, value)))
        .stdin(Stdio::null());
    let (_, before) = machine::processor_seconds()?;
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let (_, after) = machine::processor_seconds()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let rate = rate(&said);
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program}: {}: {said}{complaint}", output.status);
    let rate = rate.with_context(|| format!("{program} said {said:?}"))?;
    let books = Books::compare(&sent, &noted(&ids)?);
    Ok(Run { rate, processor: after - before, books })
}

/// Of `NAME handled=N seconds=S rate=R`.
fn rate(said: &str) -> Option<f64> {
    said.split_whitespace().find_map(|word| word.strip_prefix("rate="))?.parse().ok()
}

fn noted(path: &Path) -> anyhow::Result<Vec<u128>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
    text.lines().map(ids::parse).collect()
}

//! A load generator that costs little beside what it loads: keep-alive connections, prepared request
//! bytes, answers read only as far as needed. It measures latency from the planned start of a
//! request when a rate is given, so a stalled server cannot hide its stall.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Makes the bytes of the n-th request of a connection.
pub type Requests = Arc<dyn Fn(usize, u64) -> Vec<u8> + Send + Sync>;

/// One load.
#[derive(Clone)]
pub struct Load {
    /// Where to.
    pub addr: SocketAddr,
    /// Connections, each with one request under way.
    pub connections: usize,
    /// How long.
    pub duration: Duration,
    /// Requests per second over all connections; as fast as possible without.
    pub rate: Option<f64>,
    /// What is sent.
    pub requests: Requests,
    /// The only status that counts as a success.
    pub status: u16,
}

/// What came of it.
#[derive(Default)]
pub struct Outcome {
    /// Answers with the expected status.
    pub ok: u64,
    /// Answers with another status, by status.
    pub other: std::collections::BTreeMap<u16, u64>,
    /// Latencies of the successes.
    pub latencies: Vec<Duration>,
    /// Bodies of the successes.
    pub bodies: Vec<Vec<u8>>,
    /// From first request to last answer.
    pub elapsed: Duration,
}

impl Outcome {
    /// Successes per second.
    pub fn rate(&self) -> f64 {
        self.ok as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency that a share of requests stayed below.
    pub fn percentile(&mut self, share: f64) -> Duration {
        self.latencies.sort_unstable();
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get((last as f64 * share) as usize).copied().unwrap_or_default()
    }
}

/// Runs a load to its end.
pub async fn run(load: Load) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let tasks: Vec<_> =
        (0..load.connections).map(|at| tokio::spawn(connection(load.clone(), at, start))).collect();
    let mut total = Outcome::default();
    for task in tasks {
        let one = task.await??;
        total.ok += one.ok;
        total.latencies.extend(one.latencies);
        total.bodies.extend(one.bodies);
        for (status, count) in one.other {
            *total.other.entry(status).or_default() += count;
        }
    }
    total.elapsed = start.elapsed();
    Ok(total)
}

async fn connection(load: Load, at: usize, start: Instant) -> anyhow::Result<Outcome> {
    let mut stream = TcpStream::connect(load.addr).await.context("connect")?;
    stream.set_nodelay(true)?;
    let mut outcome = Outcome::default();
    let mut buffer = Vec::with_capacity(8 * 1024);
    let interval = load.rate.map(|rate| Duration::from_secs_f64(load.connections as f64 / rate));
    for n in 0.. {
        let mut planned = Instant::now();
        if let Some(interval) = interval {
            planned = start + interval * u32::try_from(n)? + interval.mul_f64(at as f64 / load.connections as f64);
            tokio::time::sleep_until(planned.into()).await;
        }
        if start.elapsed() >= load.duration {
            break;
        }
        stream.write_all(&(load.requests)(at, n)).await?;
        let (status, body) = answer(&mut stream, &mut buffer).await?;
        if status == load.status {
            outcome.ok += 1;
            outcome.latencies.push(planned.elapsed());
            outcome.bodies.push(body);
        } else {
            *outcome.other.entry(status).or_default() += 1;
        }
    }
    Ok(outcome)
}

async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> anyhow::Result<(u16, Vec<u8>)> {
    buffer.clear();
    loop {
        if let Some(head) = find(buffer, b"\r\n\r\n") {
            let text = std::str::from_utf8(&buffer[..head])?.to_ascii_lowercase();
            let status = text.get(9..12).context("status")?.parse()?;
            let length: usize = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"))
                .map_or(Ok(0), |value| value.trim().parse())?;
            while buffer.len() < head + 4 + length {
                read(stream, buffer).await?;
            }
            return Ok((status, buffer[head + 4..head + 4 + length].to_vec()));
        }
        read(stream, buffer).await?;
    }
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> anyhow::Result<()> {
    if stream.read_buf(buffer).await? == 0 {
        bail!("the server closed the connection");
    }
    Ok(())
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// The bytes of a POST of JSON.
pub fn post(path: &str, authorization: Option<&str>, body: &[u8]) -> Vec<u8> {
    let authorization =
        authorization.map(|value| format!("authorization: {value}\r\n")).unwrap_or_default();
    let mut bytes = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{authorization}content-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

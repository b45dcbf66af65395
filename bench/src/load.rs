//! A load generator that costs little beside what it loads: keep-alive connections, prepared request
//! bytes, answers read only as far as needed. It measures latency from the planned start of a
//! request when a rate is given, so a stalled server cannot hide its stall.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedSender;

use crate::pile::Pile;

/// The bytes of the n-th request of a connection.
pub type Requests = Arc<dyn Fn(usize, u64) -> Bytes + Send + Sync>;

/// A success as soon as it is there.
pub struct Answer {
    /// When its request was to start.
    pub planned: Instant,
    /// Its body.
    pub body: Vec<u8>,
}

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
    /// Gets every success at once, where somebody follows them.
    pub answers: Option<UnboundedSender<Answer>>,
}

/// The only status that counts as a success.
const SUCCESS: u16 = 202;

/// What came of it.
#[derive(Default)]
pub struct Outcome {
    /// Answers with another status, by status.
    pub other: BTreeMap<u16, u64>,
    /// Latencies of the successes.
    pub latencies: Vec<Duration>,
    /// Bodies of the successes, by connection.
    pub bodies: Vec<Pile>,
    /// From first request to last answer.
    pub elapsed: Duration,
}

impl Outcome {
    /// Successes per second.
    pub fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// Milliseconds that a share of requests stayed below.
    pub fn percentile(&mut self, share: f64) -> f64 {
        self.latencies.sort_unstable();
        let last = self.latencies.len().saturating_sub(1);
        let at = (last as f64 * share).ceil() as usize;
        self.latencies.get(at).copied().unwrap_or_default().as_secs_f64() * 1e3
    }

    /// Fails when anything was refused: a figure over answers that differ would compare nothing.
    pub fn all_taken(self) -> anyhow::Result<Self> {
        ensure!(self.other.is_empty(), "refused, by status: {:?}", self.other);
        Ok(self)
    }
}

/// Runs a load to its end.
pub async fn run(load: Load) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let tasks: Vec<_> =
        (0..load.connections).map(|at| tokio::spawn(connection(load.clone(), at, start))).collect();
    drop(load);
    let mut total = Outcome::default();
    for task in tasks {
        let one = task.await??;
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
    let (mut buffer, mut bodies) = (Vec::with_capacity(8 * 1024), Pile::default());
    let interval = load.rate.map(|rate| Duration::from_secs_f64(load.connections as f64 / rate));
    for n in 0.. {
        let mut planned = Instant::now();
        if let Some(interval) = interval {
            let offset = interval.mul_f64(at as f64 / load.connections as f64);
            planned = start + interval * u32::try_from(n)? + offset;
        }
        if planned.duration_since(start) >= load.duration {
            break;
        }
        // The timer rounds up to milliseconds: without a rate it would be the bottleneck.
        if interval.is_some() {
            tokio::time::sleep_until(planned.into()).await;
        }
        stream.write_all(&(load.requests)(at, n)).await?;
        let (status, from) = answer(&mut stream, &mut buffer).await?;
        let body = &buffer[from..];
        if status == SUCCESS {
            outcome.latencies.push(planned.elapsed());
            if let Some(answers) = &load.answers {
                answers.send(Answer { planned, body: body.to_vec() }).ok();
            }
            bodies.push(body);
        } else {
            *outcome.other.entry(status).or_default() += 1;
        }
    }
    outcome.bodies.push(bodies);
    Ok(outcome)
}

/// The status, and where in the buffer the body begins.
async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> anyhow::Result<(u16, usize)> {
    buffer.clear();
    loop {
        if let Some(head) = find(buffer, b"\r\n\r\n") {
            let text = std::str::from_utf8(&buffer[..head])?;
            let status = text.get(9..12).context("status")?.parse()?;
            let length = text.lines().find_map(content_length).transpose()?.unwrap_or(0);
            while buffer.len() < head + 4 + length {
                read(stream, buffer).await?;
            }
            return Ok((status, head + 4));
        }
        read(stream, buffer).await?;
    }
}

fn content_length(line: &str) -> Option<Result<usize, std::num::ParseIntError>> {
    let (name, value) = line.split_once(':')?;
    name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse())
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
pub fn post(path: &str, authorization: Option<&str>, body: &[u8]) -> Bytes {
    let authorization =
        authorization.map(|value| format!("authorization: {value}\r\n")).unwrap_or_default();
    let mut bytes = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         {authorization}content-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes.into()
}

/// Requests made beforehand and sent in turn.
pub fn prepared(requests: Vec<Bytes>) -> Requests {
    Arc::new(move |connection, n| {
        let at = (connection as u64 * 7_919 + n) % requests.len() as u64;
        requests[at as usize].clone()
    })
}

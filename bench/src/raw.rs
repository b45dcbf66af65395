//! SQS over bare connections, one call at a time on each, the same for every server. No SDK, so that the
//! server is the limit and not the client beside it. Every body is a number, and the numbers are the
//! books.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::raw_http::{BATCH, Connection};

/// Connections, a thread each.
const CONNECTIONS: usize = 16;
/// A queue that is not empty after this is given up; the books say what is missing.
const LIMIT: Duration = Duration::from_secs(120);

/// A queue of a server.
#[derive(Clone)]
pub struct Queue {
    /// Where the server listens.
    pub addr: SocketAddr,
    /// What the server calls it.
    pub url: String,
}

/// How one kind of call went.
pub struct Pass {
    /// Messages per second.
    pub rate: f64,
    /// The numbers in the messages.
    pub numbers: Vec<u128>,
}

#[derive(Deserialize)]
struct Batch {
    #[serde(rename = "Successful", default)]
    successful: Vec<IgnoredAny>,
}

#[derive(Deserialize)]
struct Received<'a> {
    #[serde(borrow, rename = "Messages", default)]
    messages: Option<Vec<Message<'a>>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(rename = "Body")]
    body: &'a str,
    #[serde(rename = "ReceiptHandle")]
    receipt: &'a str,
}

/// Sends messages for that long, in calls of one or of ten, numbered from `first`.
pub fn send(
    queue: &Queue,
    per_call: usize,
    first: u128,
    duration: Duration,
) -> anyhow::Result<Pass> {
    let start = Instant::now();
    let numbers = on_each(|at| {
        // Far enough apart that no connection reaches the numbers of the next.
        send_on_one(queue, per_call, first + ((at as u128) << 32), start + duration)
    })?
    .concat();
    Ok(Pass { rate: numbers.len() as f64 / start.elapsed().as_secs_f64(), numbers })
}

/// Runs it once per connection, all at once.
fn on_each<T: Send>(work: impl Fn(usize) -> anyhow::Result<T> + Sync) -> anyhow::Result<Vec<T>> {
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS).map(|at| scope.spawn(move || work(at))).collect();
        let results = threads.into_iter().map(|thread| thread.join().expect("no thread panics"));
        results.collect()
    })
}

fn call<'a>(connection: &'a mut Connection, action: &str, body: &str) -> anyhow::Result<&'a [u8]> {
    connection.call(action, body.as_bytes());
    connection.flush()?;
    Ok(connection.reply()?)
}

fn send_on_one(
    queue: &Queue,
    per_call: usize,
    first: u128,
    until: Instant,
) -> anyhow::Result<Vec<u128>> {
    let mut connection = Connection::open(queue.addr)?;
    let (mut numbers, mut next) = (Vec::new(), first);
    let url = &queue.url;
    while Instant::now() < until {
        if per_call == 1 {
            let body = format!(r#"{{"QueueUrl":"{url}","MessageBody":"{next}"}}"#);
            call(&mut connection, "SendMessage", &body)?;
        } else {
            let entries: Vec<String> = (0..per_call as u128)
                .map(|at| format!(r#"{{"Id":"{at}","MessageBody":"{}"}}"#, next + at))
                .collect();
            let body = format!(r#"{{"QueueUrl":"{url}","Entries":[{}]}}"#, entries.join(","));
            let answer = call(&mut connection, "SendMessageBatch", &body)?;
            let sent = serde_json::from_slice::<Batch>(answer)?.successful.len();
            ensure!(sent == per_call, "SendMessageBatch: {sent} of {per_call}");
        }
        numbers.extend(next..next + per_call as u128);
        next += per_call as u128;
    }
    Ok(numbers)
}

/// Receives and deletes, ten at a time, until `count` messages are deleted.
pub fn work_off(queue: &Queue, count: usize) -> anyhow::Result<Pass> {
    let deleted = AtomicUsize::new(0);
    let start = Instant::now();
    let parts = on_each(|_| work_off_on_one(queue, &deleted, count, start + LIMIT))?;
    let last = parts.iter().map(|(_, last)| *last).max().unwrap_or(start);
    let rate = deleted.into_inner() as f64 / last.duration_since(start).as_secs_f64();
    Ok(Pass { rate, numbers: parts.into_iter().flat_map(|(numbers, _)| numbers).collect() })
}

/// What it saw, and when it last deleted something.
fn work_off_on_one(
    queue: &Queue,
    deleted: &AtomicUsize,
    count: usize,
    until: Instant,
) -> anyhow::Result<(Vec<u128>, Instant)> {
    let mut connection = Connection::open(queue.addr)?;
    let (mut numbers, mut last) = (Vec::new(), Instant::now());
    let url = &queue.url;
    let receive =
        format!(r#"{{"QueueUrl":"{url}","MaxNumberOfMessages":{BATCH},"VisibilityTimeout":600}}"#);
    while deleted.load(Ordering::Relaxed) < count && Instant::now() < until {
        let answer = call(&mut connection, "ReceiveMessage", &receive)?;
        let messages = serde_json::from_slice::<Received>(answer)?.messages.unwrap_or_default();
        if messages.is_empty() {
            continue;
        }
        let mut entries = Vec::with_capacity(BATCH);
        for (at, message) in messages.iter().enumerate() {
            numbers.push(message.body.parse()?);
            entries.push(format!(r#"{{"Id":"{at}","ReceiptHandle":"{}"}}"#, message.receipt));
        }
        let got = entries.len();
        let body = format!(r#"{{"QueueUrl":"{url}","Entries":[{}]}}"#, entries.join(","));
        let answer = call(&mut connection, "DeleteMessageBatch", &body)?;
        let gone = serde_json::from_slice::<Batch>(answer)?.successful.len();
        ensure!(gone == got, "DeleteMessageBatch: {gone} of {got}");
        deleted.fetch_add(gone, Ordering::Relaxed);
        last = Instant::now();
    }
    Ok((numbers, last))
}

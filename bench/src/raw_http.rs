//! A client that costs as little as one can: requests made once, several in flight per connection,
//! replies looked through for what is needed. So that the server is what is measured.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Messages per call.
pub const BATCH: usize = 10;

/// One keep-alive connection.
pub struct Connection {
    host: String,
    stream: BufReader<TcpStream>,
    out: Vec<u8>,
    body: Vec<u8>,
    line: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub fn open(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let stream = BufReader::with_capacity(256 * 1024, stream);
        Ok(Self {
            host: addr.to_string(),
            stream,
            out: Vec::new(),
            body: Vec::new(),
            line: Vec::new(),
        })
    }

    /// Queues a call; [`Connection::flush`] sends what is queued.
    pub fn call(&mut self, action: &str, body: &[u8]) {
        let head = format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-amz-json-1.0\r\n\
             X-Amz-Target: AmazonSQS.{action}\r\nContent-Length: {}\r\n\r\n",
            self.host,
            body.len()
        );
        self.out.extend_from_slice(head.as_bytes());
        self.out.extend_from_slice(body);
    }

    /// Sends what is queued.
    pub fn flush(&mut self) -> io::Result<()> {
        let out = std::mem::take(&mut self.out);
        self.stream.get_mut().write_all(&out)?;
        self.out = out;
        self.out.clear();
        Ok(())
    }

    /// The next reply's body; an error unless its status is 200.
    pub fn reply(&mut self) -> io::Result<&[u8]> {
        let (mut first, mut length, mut good) = (true, 0, false);
        loop {
            self.line.clear();
            if self.stream.read_until(b'\n', &mut self.line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = self.line.trim_ascii_end();
            if first {
                good = line.get(9..12) == Some(b"200");
                first = false;
            } else if line.is_empty() {
                break;
            } else if let Some((name, value)) = line.split_at_checked(15)
                && name.eq_ignore_ascii_case(b"content-length:")
            {
                let text = std::str::from_utf8(value.trim_ascii()).unwrap_or_default();
                length = text.parse().map_err(io::Error::other)?;
            }
        }
        self.body.resize(length, 0);
        self.stream.read_exact(&mut self.body)?;
        if good {
            Ok(&self.body)
        } else {
            Err(io::Error::other(String::from_utf8_lossy(&self.body).into_owned()))
        }
    }
}

/// Every text that stands between `before` and the next quote.
pub fn texts<'a>(body: &'a [u8], before: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = body;
    std::iter::from_fn(move || {
        let at = rest.windows(before.len()).position(|window| window == before)? + before.len();
        let end = at + rest.get(at..)?.iter().position(|byte| *byte == b'"')?;
        let found = rest.get(at..end);
        rest = rest.get(end..)?;
        found
    })
}

/// What a run of several connections came to.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Messages.
    pub messages: usize,
    /// From the first request to the last reply.
    pub elapsed: Duration,
}

impl Run {
    /// Messages per second.
    pub fn rate(self) -> f64 {
        self.messages as f64 / self.elapsed.as_secs_f64()
    }
}

/// How hard to push.
#[derive(Clone, Copy, Debug)]
pub struct Push {
    /// Where.
    pub addr: SocketAddr,
    /// Connections, a thread each.
    pub connections: usize,
    /// Calls in flight on each.
    pub depth: usize,
}

impl Push {
    /// Sends `count` numbered messages of about `bytes`, ten per call.
    pub fn send(self, queue: &str, count: usize, bytes: usize) -> io::Result<Run> {
        let calls = count / BATCH / self.connections;
        self.run(|connection, part| {
            let mut left = calls;
            let mut number = part * calls * BATCH;
            while left > 0 {
                let now = left.min(self.depth);
                for _ in 0..now {
                    let body = batch(queue, number, bytes);
                    number += BATCH;
                    connection.call("SendMessageBatch", body.as_bytes());
                }
                connection.flush()?;
                for _ in 0..now {
                    let reply = connection.reply()?;
                    if texts(reply, b"\"MD5OfMessageBody\":\"").count() != BATCH {
                        return Err(io::Error::other("not every message was accepted"));
                    }
                }
                left -= now;
            }
            Ok(calls * BATCH)
        })
    }

    /// Receives and deletes until nothing is left; every number has to come once.
    pub fn drain(self, queue: &str, count: usize) -> io::Result<Run> {
        let seen: Vec<AtomicBool> = (0..count).map(|_| AtomicBool::new(false)).collect();
        let receive = format!(
            "{{\"QueueUrl\":\"{queue}\",\"MaxNumberOfMessages\":10,\"VisibilityTimeout\":600}}"
        );
        let run = self.run(|connection, _| {
            let mut taken = 0;
            loop {
                for _ in 0..self.depth {
                    connection.call("ReceiveMessage", receive.as_bytes());
                }
                connection.flush()?;
                let mut deletes = Vec::new();
                for _ in 0..self.depth {
                    let reply = connection.reply()?;
                    taken += note(reply, &seen)?;
                    deletes.extend(deletion(queue, reply));
                }
                if deletes.is_empty() {
                    return Ok(taken);
                }
                for delete in &deletes {
                    connection.call("DeleteMessageBatch", delete.as_bytes());
                }
                connection.flush()?;
                for _ in &deletes {
                    connection.reply()?;
                }
            }
        })?;
        if run.messages == count {
            Ok(run)
        } else {
            Err(io::Error::other(format!("{} of {count} came", run.messages)))
        }
    }

    fn run(
        self,
        work: impl Fn(&mut Connection, usize) -> io::Result<usize> + Sync,
    ) -> io::Result<Run> {
        let mut connections = (0..self.connections)
            .map(|_| Connection::open(self.addr))
            .collect::<io::Result<Vec<_>>>()?;
        let work = &work;
        let started = Instant::now();
        let results: Vec<io::Result<usize>> = std::thread::scope(|scope| {
            let threads: Vec<_> = connections
                .iter_mut()
                .enumerate()
                .map(|(part, connection)| scope.spawn(move || work(connection, part)))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("panicked"))))
                .collect()
        });
        let elapsed = started.elapsed();
        let messages = results.into_iter().sum::<io::Result<usize>>()?;
        Ok(Run { messages, elapsed })
    }
}

/// Notes the numbers in an answer and tells how many; each has to come once.
fn note(reply: &[u8], seen: &[AtomicBool]) -> io::Result<usize> {
    let mut taken = 0;
    for number in texts(reply, b"\"Body\":\"") {
        let text = std::str::from_utf8(&number[..8]).map_err(io::Error::other)?;
        let number: usize = text.parse().map_err(io::Error::other)?;
        if seen[number].swap(true, Ordering::Relaxed) {
            return Err(io::Error::other(format!("{number} came twice")));
        }
        taken += 1;
    }
    Ok(taken)
}

/// The call that deletes what an answer brought; none for an empty one.
fn deletion(queue: &str, reply: &[u8]) -> Option<String> {
    let entries: Vec<String> = texts(reply, b"\"ReceiptHandle\":\"")
        .enumerate()
        .map(|(at, receipt)| {
            let receipt = String::from_utf8_lossy(receipt);
            format!("{{\"Id\":\"{at}\",\"ReceiptHandle\":\"{receipt}\"}}")
        })
        .collect();
    let entries = (!entries.is_empty()).then(|| entries.join(","))?;
    Some(format!("{{\"QueueUrl\":\"{queue}\",\"Entries\":[{entries}]}}"))
}

fn batch(queue: &str, first: usize, bytes: usize) -> String {
    use std::fmt::Write;
    let mut body = format!("{{\"QueueUrl\":\"{queue}\",\"Entries\":[");
    let filler = "x".repeat(bytes.saturating_sub(8));
    for at in 0..BATCH {
        let comma = if at == 0 { "" } else { "," };
        let _ = write!(
            body,
            "{comma}{{\"Id\":\"{at}\",\"MessageBody\":\"{:08}{filler}\"}}",
            first + at
        );
    }
    body.push_str("]}");
    body
}

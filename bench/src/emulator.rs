//! The emulator as a process: start, idle memory, idle polls, throughput in memory and on disk.

use std::io::BufRead;
use std::io::BufReader;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::books::Books;
use crate::raw_http::{Connection, Push, Run};
use crate::report::{Figure, Report};
use crate::{machine, median, sqs};

/// Starts of which the median counts.
const STARTS: usize = 11;
/// Polls that wait for nothing, and for how long their cost is taken.
const POLLS: usize = 1_000;
const POLLED: Duration = Duration::from_secs(10);
/// Rounds of which the median counts.
const ROUNDS: usize = 5;
/// Bytes of a body.
const BODY_BYTES: usize = 100;
/// Connections, and calls in flight on each.
const PUSH: (usize, usize) = (4, 8);

/// A server that ends with this value.
struct Emulator {
    child: Child,
    addr: SocketAddr,
    /// From the start of the process to the line that says where it listens.
    started: Duration,
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Emulator {
    fn start(data_dir: Option<&Path>) -> anyhow::Result<Self> {
        let mut command = Command::new(sqs::release_binary("sqs-local")?);
        command.args(["--port", "0"]).stdout(Stdio::piped()).stderr(Stdio::null());
        if let Some(path) = data_dir {
            command.arg("--data-dir").arg(path);
        }
        let begun = Instant::now();
        let mut child = command.spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("its output")?).read_line(&mut line)?;
        let started = begun.elapsed();
        let addr = line.trim().rsplit('/').next().unwrap_or_default().parse()?;
        Ok(Self { child, addr, started })
    }

    fn create(&self) -> anyhow::Result<String> {
        let mut connection = Connection::open(self.addr)?;
        connection.call("CreateQueue", br#"{"QueueName":"q"}"#);
        connection.flush()?;
        connection.reply()?;
        Ok(format!("http://{}/000000000000/q", self.addr))
    }
}

/// All of it; `messages` per round of throughput.
pub fn run(report: &mut Report, messages: usize) -> anyhow::Result<()> {
    start(report)?;
    idle_polls(report)?;
    let memory = throughput(None, messages)?;
    let directory = tempfile::tempdir()?;
    let disk = throughput(Some(directory.path()), messages / 4)?;
    for (where_to, rates, goal) in [("in memory", memory, true), ("with fsync", disk, false)] {
        for (what, rate) in [("batch send", rates.0), ("receive + delete", rates.1)] {
            let figure = Figure::new(format!("sqs-local, {what}, {where_to}"), rate, "messages/s");
            let (connections, depth) = PUSH;
            let figure = figure
                .books(Books { accepted: rates.2, ..Books::default() })
                .beside(format!("raw HTTP, {connections} connections of {depth} calls of ten"));
            report.add(if goal { figure.at_least(100_000.0) } else { figure });
        }
    }
    Ok(())
}

fn start(report: &mut Report) -> anyhow::Result<()> {
    let mut times = Vec::new();
    let mut idle = 0.0;
    for _ in 0..STARTS {
        let emulator = Emulator::start(None)?;
        times.push(emulator.started.as_secs_f64() * 1_000.0);
        idle = machine::memory(emulator.child.id())?.0;
    }
    report.add(Figure::new("sqs-local, start until it listens", median(&times), "ms").below(50.0));
    report.add(Figure::new("memory, sqs-local, just started", idle, "MB").below(15.0));
    Ok(())
}

fn idle_polls(report: &mut Report) -> anyhow::Result<()> {
    let emulator = Emulator::start(None)?;
    let queue = emulator.create()?;
    let poll = format!(r#"{{"QueueUrl":"{queue}","WaitTimeSeconds":20}}"#);
    let mut polls = Vec::new();
    for _ in 0..POLLS {
        let mut connection = Connection::open(emulator.addr)?;
        connection.call("ReceiveMessage", poll.as_bytes());
        connection.flush()?;
        polls.push(connection);
    }
    std::thread::sleep(Duration::from_secs(1));
    let before = processor_seconds(emulator.child.id())?;
    std::thread::sleep(POLLED);
    let used = processor_seconds(emulator.child.id())? - before;
    let share = used / POLLED.as_secs_f64() * 100.0;
    report.add(
        Figure::new(format!("sqs-local, {POLLS} idle polls"), share, "% of a core").below(1.0),
    );
    for mut connection in polls {
        ensure!(connection.reply()? == b"{}", "an idle poll got something");
    }
    Ok(())
}

/// Messages per second sent, and received and deleted; and how many there were in all. Every message
/// has to come once, else it is an error.
fn throughput(data_dir: Option<&Path>, messages: usize) -> anyhow::Result<(f64, f64, usize)> {
    let emulator = Emulator::start(data_dir)?;
    let queue = emulator.create()?;
    let (connections, depth) = PUSH;
    let push = Push { addr: emulator.addr, connections, depth };
    let (mut sends, mut drains, mut all) = (Vec::new(), Vec::new(), 0);
    for _ in 0..ROUNDS {
        let sent = push.send(&queue, messages, BODY_BYTES)?;
        sends.push(Run::rate(sent));
        drains.push(Run::rate(push.drain(&queue, sent.messages)?));
        all += sent.messages;
    }
    Ok((median(&sends), median(&drains), all))
}

/// User and system time of a process.
fn processor_seconds(pid: u32) -> anyhow::Result<f64> {
    /// Of the kernel's clock ticks, which are 100 per second on Linux.
    const TICK_SECONDS: f64 = 0.01;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Behind the name, which may hold spaces, the times are fields 12 and 13.
    let (_, fields) = stat.rsplit_once(')').context("the process's name")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? * TICK_SECONDS)
}

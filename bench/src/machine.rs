//! On what the figures were taken: they mean nothing without it.

use std::fs;

use chrono::{DateTime, Utc};
use queue_core::{Clock, SystemClock};

/// The wall clock, which on one machine is also the servers'.
pub fn now() -> DateTime<Utc> {
    SystemClock.now()
}

/// Cores, processor, memory and date, in a line.
pub fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".into());
    let kib: f64 = field("/proc/meminfo", "MemTotal")
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or_default();
    let date = now().format("%Y-%m-%d");
    format!("{cores} cores, {processor}, {:.0} GiB; {date}", kib / 1024.0 / 1024.0)
}

/// Resident memory of a process in mebibytes: now, and at its highest.
pub fn memory(pid: u32) -> anyhow::Result<(f64, f64)> {
    let path = format!("/proc/{pid}/status");
    let mebibytes = |name| {
        let text = field(&path, name)?;
        let kib: f64 = text.split_whitespace().next()?.parse().ok()?;
        Some(kib / 1024.0)
    };
    let both = mebibytes("VmRSS").zip(mebibytes("VmHWM"));
    both.ok_or_else(|| anyhow::anyhow!("{path} cannot be read"))
}

/// What `/proc` counts processor time in.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor seconds, user and system: of this process, and of its children that have been waited for.
pub fn processor_seconds() -> anyhow::Result<(f64, f64)> {
    let text = fs::read_to_string("/proc/self/stat")?;
    // The second field is a name in brackets, which may hold spaces.
    let (_, rest) = text.rsplit_once(')').unwrap_or_default();
    let fields: Vec<f64> = rest.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    // The state, which comes first, is no number; what follows is fields 4 to 52.
    let seconds = |first: usize| {
        let sum = fields.get(first)? + fields.get(first + 1)?;
        Some(sum / TICKS_PER_SECOND)
    };
    let both = seconds(14 - 4).zip(seconds(16 - 4));
    both.ok_or_else(|| anyhow::anyhow!("/proc/self/stat cannot be read: {text}"))
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

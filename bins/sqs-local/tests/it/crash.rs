//! SIGKILL at random moments of traffic, of a start, of a compaction, over one directory: what was
//! acknowledged is there, once, as it was sent; what was deleted stays deleted; what was hidden stays
//! hidden; nothing is there that nobody sent.

mod books;
mod traffic;

use std::path::Path;
use std::process::Command;
use std::thread;

use serde_json::json;

use crate::process::{BINARY, Process};
use books::Books;
use traffic::{FIFO, STANDARD, Traffic};

/// Small, so that a kill often meets a compaction.
const SEGMENT_BYTES: &str = "131072";
/// A small generator of its own: `SplitMix64`.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

fn command(directory: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command.args(["--port", "0", "--segment-bytes", SEGMENT_BYTES, "--data-dir"]).arg(directory);
    command
}

/// Each run kills at other moments; a failure names the seed of its own.
#[test]
fn what_was_acknowledged_is_there_after_sigkill() {
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    kills(seed, 8);
}

fn kills(seed: u64, rounds: u64) {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let mut chance = Chance(seed);
    let mut books = Books::default();
    let process = Process::run(command(directory));
    let mut client = process.client();
    for (name, attributes) in [(STANDARD, json!({})), (FIFO, json!({ "FifoQueue": "true" }))] {
        client.ok("CreateQueue", &json!({ "QueueName": name, "Attributes": attributes }));
    }
    assert_eq!(process.terminate(), Some(0));
    for round in 0..rounds {
        let process = Process::run(command(directory));
        books.compare(&mut process.client(), &format!("before round {round}"));
        let mut traffic = Traffic::start(&process, round, books.to_repeat(FIFO));
        traffic.run(&mut books, chance.below(4_000));
        process.kill();
        traffic.enter(&mut books);
        if round % 2 == 0 {
            interrupted_start(directory, chance.below(2_000));
        }
    }
    let process = Process::run(command(directory));
    books.compare(&mut process.client(), "at the end");
    let mut traffic = Traffic::start(&process, rounds, books.to_repeat(FIFO));
    traffic.run(&mut books, 2_000);
    assert_eq!(process.terminate(), Some(0));
    traffic.enter(&mut books);
    let process = Process::run(command(directory));
    books.compare(&mut process.client(), "after a stop in traffic");
    let snapshots = std::fs::read_dir(directory).unwrap();
    let snapshots = snapshots.filter(|entry| {
        entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with("snapshot-")
    });
    assert!(snapshots.count() > 0, "no compaction took part");
    books.took_part(STANDARD);
    books.took_part(FIFO);
}

/// Kills a process that may not even have read the log yet.
fn interrupted_start(directory: &Path, turns: u64) {
    let mut child = command(directory).stdout(std::process::Stdio::null()).spawn().unwrap();
    for _ in 0..turns {
        thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

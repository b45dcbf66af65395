//! The fuzz targets: tests of the package `fuzz`, each for a while; finding nothing is success.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};

use super::Row;
use super::binary::Binary;

/// Every target there is.
const TARGETS: [&str; 9] = [
    "emulator::json_protocol",
    "emulator::query_protocol",
    "emulator::journal",
    "messages::envelope",
    "messages::index_messages",
    "messages::lifecycle_messages",
    "messages::bare_messages",
    "messages::packed_bodies",
    "dead_letters::dead_letter",
];
/// As many inputs as the time allows.
const INPUTS_MAX: u64 = 1_000_000_000;
/// What a target may take on top of its time.
const SLACK: Duration = Duration::from_secs(120);

pub(super) fn prove(root: &Path, seconds: u64) -> Vec<Row> {
    let built = Binary::build(root, "fuzz", "fuzz", None);
    let targets = TARGETS.iter().map(|target| {
        Row::of("fuzz", format!("`{target}` for {seconds} s"), || match &built {
            Ok(binary) => feed(binary, target, seconds),
            Err(error) => bail!("{error:#}"),
        })
    });
    targets.collect()
}

fn feed(binary: &Binary, target: &str, seconds: u64) -> anyhow::Result<String> {
    let variables = [
        ("BOLERO_RANDOM_TEST_TIME_MS", (seconds * 1_000).to_string()),
        ("BOLERO_RANDOM_ITERATIONS", INPUTS_MAX.to_string()),
    ];
    let ran = binary.run(target, &variables, Duration::from_secs(seconds) + SLACK, |_| {})?;
    if !ran.succeeded {
        let seed = ran.output.lines().find(|line| line.contains("BOLERO_RANDOM_SEED"));
        bail!("{}", seed.unwrap_or(&ran.output));
    }
    let inputs = ran.output.lines().find_map(|line| line.split("rng inputs: ").nth(1));
    let inputs = inputs.context("the target does not say what it tried")?;
    let inputs = inputs.split(" | ").next().unwrap_or(inputs);
    Ok(format!("nothing found in {} random inputs", inputs.trim()))
}

//! The simulation over many seeds, on every core, with a bar where a person looks on.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use super::Row;
use super::binary::Binary;

/// The test that runs seeds.
pub(super) const TEST: &str = "simulation::whatever_happens_every_promise_holds";
/// Ten thousand take minutes.
const MOST: Duration = Duration::from_secs(3_600);

pub(super) fn prove(root: &Path, seeds: u64) -> Row {
    let what = format!("{seeds} seeds");
    Row::of("simulation", what, || {
        let binary = Binary::build(root, "queue-core", "crates/queue-core", None)?;
        every_promise_holds(&binary, seeds)
    })
}

/// Runs that many seeds; an error names the first that breaks a promise and how to repeat it.
pub(super) fn every_promise_holds(binary: &Binary, seeds: u64) -> Result<String> {
    let bar = ProgressBar::new(seeds);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {eta} left")?;
    bar.set_style(style);
    let variables = [("SIM_SEEDS", seeds.to_string()), ("SIM_PROGRESS", "1".to_owned())];
    let ran = binary.run(TEST, &variables, MOST, |said| {
        let tried = said.lines().rev().find_map(|line| line.strip_prefix("tried "));
        bar.set_position(tried.and_then(|tried| tried.parse().ok()).unwrap_or(0));
    })?;
    bar.finish_and_clear();
    if ran.succeeded {
        return Ok("every promise held".to_owned());
    }
    let broken: Vec<&str> = ran.output.lines().filter(|line| line.contains(" breaks `")).collect();
    match broken.first() {
        Some(line) => bail!("{line}; to see how: SIM_SEED={} {}", seed(line), repeat()),
        None => bail!("it failed:\n{}", ran.output),
    }
}

fn seed(line: &str) -> &str {
    line.split(' ').nth(1).unwrap_or("?")
}

fn repeat() -> String {
    format!("cargo test -p queue-core --test it {TEST} -- --nocapture")
}

//! Real worker processes told to stop at random moments under load.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};

use super::Row;
use super::binary::Binary;

const TEST: &str = "drain::a_signal_at_any_moment_leaves_nothing_behind_and_doubles_nothing";
const MOST: Duration = Duration::from_secs(3_600);

pub(super) fn prove(root: &Path, rounds: u64) -> Row {
    Row::of("drain", format!("{rounds} SIGTERMs at random moments"), || {
        let binary = Binary::build(root, "index-worker", "bins/index-worker", None)?;
        let variables = [("DRAIN_ROUNDS", rounds.to_string())];
        let ran = binary.run(TEST, &variables, MOST, |_| {})?;
        if !ran.succeeded {
            bail!("{}", ran.output);
        }
        // The test's name stands before it in the line.
        let told = ran.output.lines().find_map(|line| line.split_once("drained: "));
        told.map(|(_, told)| told.to_owned()).context("the test does not say what it did")
    })
}

//! Mutants: deliberate faults in the engine, each with the invariant that it must break. One is put
//! into a copy of the engine's crates, the simulation is built and run until that invariant breaks,
//! and then the copy without it has to pass the same seeds. A mutant that is not found means that the
//! simulation is too weak; one whose text is no longer in its file is a finding of `cargo xtask tidy`.

mod list;
mod tree;

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use super::Row;
use super::binary::Binary;
use super::simulation::{self, TEST};
use list::MUTANTS;

/// A mutant may make the engine go round in circles.
const MOST: Duration = Duration::from_secs(600);

/// One deliberate fault.
pub(crate) struct Mutant {
    /// What is wrong with the engine.
    pub(crate) name: &'static str,
    /// The invariant that it breaks, as the simulation names it.
    breaks: &'static str,
    /// The file, from the root.
    pub(crate) file: &'static str,
    /// Texts that stand there exactly once, and what stands there instead.
    edits: &'static [(&'static str, &'static str)],
}

impl Mutant {
    /// The file with the fault in it; an error says which text is not there exactly once.
    pub(crate) fn apply(&self, text: &str) -> Result<String> {
        let mut mutated = text.to_owned();
        for (find, replace) in self.edits {
            let found = mutated.matches(find).count();
            ensure!(
                found == 1,
                "mutant {}: stands {found} times in {}: {find:?}",
                self.name,
                self.file
            );
            mutated = mutated.replacen(find, replace, 1);
        }
        Ok(mutated)
    }
}

/// Each mutant that cannot be put into the tree any more, as findings.
pub(crate) fn stale(read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let stale = |mutant: &Mutant| match read(mutant.file) {
        Some(text) => mutant.apply(&text).err().map(|error| error.to_string()),
        None => Some(format!("mutant {}: no file {}", mutant.name, mutant.file)),
    };
    MUTANTS.iter().filter_map(stale).collect()
}

/// Runs every mutant and at the end the engine without any; or only the one of that name.
pub(super) fn prove(root: &Path, seeds: u64, only: Option<&str>) -> Result<Vec<Row>> {
    let mutants: Vec<&Mutant> =
        MUTANTS.iter().filter(|mutant| only.is_none_or(|only| mutant.name == only)).collect();
    if mutants.is_empty() {
        let names: Vec<&str> = MUTANTS.iter().map(|mutant| mutant.name).collect();
        bail!("no mutant of that name; there are {}", names.join(", "));
    }
    let scratch = tree::copy(root)?;
    let mut rows = Vec::new();
    for mutant in mutants {
        let what = format!("{} breaks `{}`", mutant.name, mutant.breaks);
        rows.push(Row::of("mutant", what, || trip(&scratch, mutant, seeds)));
    }
    if only.is_none() {
        rows.push(Row::of("mutants", format!("the engine as it is, {seeds} seeds"), || {
            simulation::every_promise_holds(&build(&scratch)?, seeds)
        }));
    }
    Ok(rows)
}

fn build(scratch: &Path) -> Result<Binary> {
    let target = scratch.with_file_name("build");
    Binary::build(scratch, "queue-core", "crates/queue-core", Some(&target))
}

fn trip(scratch: &Path, mutant: &Mutant, seeds: u64) -> Result<String> {
    let path = scratch.join(mutant.file);
    let healthy = crate::tree::read(&path)?;
    std::fs::write(&path, mutant.apply(&healthy)?)?;
    let ran = build(scratch).and_then(|binary| {
        let variables = [("SIM_SEEDS", seeds.to_string()), ("SIM_UNTIL", mutant.breaks.to_owned())];
        binary.run(TEST, &variables, MOST, |_| {})
    });
    std::fs::write(&path, healthy)?;
    let output = ran?.output;
    let wanted = format!(" breaks `{}`: ", mutant.breaks);
    if let Some(line) = output.lines().find(|line| line.contains(&wanted)) {
        let at = line.find("seed ").unwrap_or(0);
        return Ok(line[at..].replace(&wanted, ": "));
    }
    let other = output.lines().find(|line| line.contains(" breaks `"));
    bail!("not found in {seeds} seeds; what broke instead: {}", other.unwrap_or("nothing"))
}

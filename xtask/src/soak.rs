//! `make soak`: the long proofs. The simulation over many seeds, each mutant of the engine against the
//! invariant that it must break, drains by real signals, the fuzz targets, ten million rows through the
//! archive worker; what came of them goes into `docs/PROOF.md`. It stops at nothing: a part that fails is
//! a row, and the run fails at its end.

mod archive;
mod binary;
mod drain;
mod fuzz;
pub(crate) mod mutants;
pub(crate) mod report;
mod simulation;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Args, ValueEnum};

/// One kind of proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// The engine against the broker under virtual time.
    Simulation,
    /// Deliberate faults in the engine: each must be found.
    Mutants,
    /// Real processes told to stop at random moments.
    Drain,
    /// Arbitrary input to everything that reads.
    Fuzz,
    /// The archive worker's memory over many rows.
    Archive,
}

/// What to run and how much of it.
#[derive(Args, Clone, Debug)]
pub(crate) struct Soak {
    /// Which parts; all of them where none is named.
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Seeds of the simulation.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// Seeds in which a mutant must be found.
    #[arg(long, default_value_t = 1_000)]
    mutant_seeds: u64,
    /// Only the mutant of this name.
    #[arg(long)]
    mutant: Option<String>,
    /// Drains.
    #[arg(long, default_value_t = 200)]
    rounds: u64,
    /// Seconds for each fuzz target.
    #[arg(long, default_value_t = 60)]
    fuzz_seconds: u64,
    /// Rows through the archive worker; ten million need some 20 GB in the temporary directory.
    #[arg(long, default_value_t = 10_000_000)]
    archive_rows: u64,
    /// Leaves docs/PROOF.md as it is.
    #[arg(long)]
    no_report: bool,
}

/// One row of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    part: &'static str,
    /// What was run.
    what: String,
    /// What came of it.
    outcome: String,
    holds: bool,
    took: Duration,
}

impl Row {
    /// Runs a proof and times it; an error is its outcome.
    fn of(part: &'static str, what: String, prove: impl FnOnce() -> Result<String>) -> Self {
        let started = Instant::now();
        let (outcome, holds) = match prove() {
            Ok(outcome) => (outcome, true),
            Err(error) => (format!("{error:#}"), false),
        };
        let row = Self { part, what, outcome, holds, took: started.elapsed() };
        let mark = if holds { "ok  " } else { "FAIL" };
        println!("{mark} {}: {}: {} ({:.0?})", row.part, row.what, row.outcome, row.took);
        row
    }
}

pub(crate) fn run(root: &Path, soak: &Soak) -> Result<ExitCode> {
    let wanted = |part| soak.parts.is_empty() || soak.parts.contains(&part);
    let mut rows = Vec::new();
    if wanted(Part::Simulation) {
        rows.push(simulation::prove(root, soak.seeds));
    }
    if wanted(Part::Mutants) {
        rows.extend(mutants::prove(root, soak.mutant_seeds, soak.mutant.as_deref())?);
    }
    if wanted(Part::Drain) {
        rows.push(drain::prove(root, soak.rounds));
    }
    if wanted(Part::Fuzz) {
        rows.extend(fuzz::prove(root, soak.fuzz_seconds));
    }
    if wanted(Part::Archive) {
        rows.push(archive::prove(root, soak.archive_rows));
    }
    let whole = soak.mutant.is_none();
    if whole && !soak.no_report {
        report::write(root, &rows)?;
    }
    let failed = rows.iter().filter(|row| !row.holds).count();
    println!("soak: {} proofs, {failed} failed", rows.len());
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

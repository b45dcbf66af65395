//! The fuzz targets: a list of commands, each run for a while in the work tree; finding nothing is
//! success. The targets themselves stand beside what they feed.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::Row;

/// One target: its name, and the command without the time that it gets.
struct Target {
    name: &'static str,
    command: &'static [&'static str],
    /// How the command takes its seconds.
    seconds: fn(u64) -> Vec<(String, String)>,
}

/// Every target there is.
const TARGETS: [Target; 0] = [];

pub(super) fn prove(root: &Path, seconds: u64) -> Vec<Row> {
    let targets = TARGETS.iter();
    targets
        .map(|target| {
            let what = format!("{} for {seconds} s", target.name);
            Row::of("fuzz", what, || feed(root, target, seconds))
        })
        .collect()
}

fn feed(root: &Path, target: &Target, seconds: u64) -> Result<String> {
    let [program, arguments @ ..] = target.command else { bail!("{}: no command", target.name) };
    let output = Command::new(program)
        .args(arguments)
        .envs((target.seconds)(seconds))
        .current_dir(root)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {program}"))?;
    if output.status.success() {
        return Ok("nothing found".to_owned());
    }
    bail!("{}", String::from_utf8_lossy(&[output.stdout, output.stderr].concat()))
}

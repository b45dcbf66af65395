//! Ten million rows through the archive worker's process: its memory is that of a hundred thousand. A
//! release build, since it is the product's memory that counts; `bench` does it and judges.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::Row;

const GROUP: &str = "lifecycle-memory";
/// What the figure that counts ends in: the larger by the smaller.
const RATIO: &str = " rows / ";

pub(super) fn prove(root: &Path, rows: u64) -> Row {
    Row::of("archive", format!("memory of {rows} rows, a release build"), || {
        let target = target(root);
        build(root, &target)?;
        let figures = target.join(format!("soak-{}.jsonl", std::process::id()));
        let ran = Command::new(target.join("release/bench"))
            .arg(GROUP)
            .args(["--memory-rows", &rows.to_string(), "--out"])
            .arg(&figures)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .context("run bench")?;
        ensure!(ran.success(), "bench: {ran}");
        let text = crate::tree::read(&figures)?;
        std::fs::remove_file(&figures)?;
        judged(&text)
    })
}

/// Where cargo builds.
fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

fn build(root: &Path, target: &Path) -> Result<()> {
    let product: &[&str] = &["--package", "archive-worker", "--package", "sqs-local"];
    let bench: &[&str] = &["--manifest-path", "bench/Cargo.toml", "--package", "bench"];
    for what in [product, bench] {
        let built = Command::new("cargo")
            .args(["build", "--release"])
            .args(what)
            .arg("--target-dir")
            .arg(target)
            .current_dir(root)
            .stdin(Stdio::null())
            .status()
            .context("run cargo")?;
        ensure!(built.success(), "cargo build --release {}: {built}", what.join(" "));
    }
    Ok(())
}

/// What the JSON lines say; an error where the goal does not hold, or nobody judged.
fn judged(lines: &str) -> Result<String> {
    let figures: Vec<Value> =
        lines.lines().map(serde_json::from_str).collect::<Result<_, _>>().context("a figure")?;
    let told = |figure: &Value| {
        let part = |key: &str| figure[key].as_str().unwrap_or_default().to_owned();
        let value = figure["value"].as_f64().unwrap_or_default();
        let goal = figure["goal"].as_str().map(|goal| format!(" (goal {goal})"));
        format!("{} {value:.2} {}{}", part("name"), part("unit"), goal.unwrap_or_default())
    };
    let text = figures.iter().map(told).collect::<Vec<_>>().join("; ");
    let ratio =
        figures.iter().find(|figure| figure["name"].as_str().is_some_and(|n| n.contains(RATIO)));
    match ratio.map(|figure| &figure["holds"]) {
        Some(Value::Bool(true)) => Ok(text),
        Some(_) => bail!("{text}"),
        None => bail!("bench does not say how the two sizes compare: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(name: &str, holds: &str) -> String {
        format!(
            r#"{{"name":"memory, {name}","value":1.10,"unit":"ratio","goal":"<= 1.25","holds":{holds}}}"#
        )
    }

    #[test]
    fn only_a_goal_that_holds_is_a_proof() {
        let plain = figure("10 rows", "null");
        let good =
            judged(&[plain.clone(), figure("20 rows / 10 rows", "true")].join("\n")).unwrap();
        assert!(good.ends_with("memory, 20 rows / 10 rows 1.10 ratio (goal <= 1.25)"), "{good}");
        assert!(judged(&[plain.clone(), figure("20 rows / 10 rows", "false")].join("\n")).is_err());
        assert!(judged(&plain).is_err() && judged("").is_err() && judged("no figure").is_err());
    }
}

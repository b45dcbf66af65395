//! The report: one table with its date and machine, between the markers of `docs/PROOF.md`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};

use super::Row;
use crate::{machine, tree};

const PAGE: &str = "docs/PROOF.md";

/// Replaces the soak's table on the page.
pub(super) fn write(root: &Path, rows: &[Row]) -> Result<()> {
    replace(root, "soak", &format!("{}, a debug build.\n\n{}", taken_with(), table(rows)))
}

/// Puts the table that a file holds into a section of the page, with date and machine.
pub(crate) fn put(root: &Path, section: &str, file: &Path) -> Result<()> {
    let table = tree::read(file)?;
    replace(root, section, &format!("{}.\n\n{}\n", taken_with(), table.trim()))
}

fn replace(root: &Path, section: &str, text: &str) -> Result<()> {
    let path = root.join(PAGE);
    let page = tree::read(&path)?;
    let page = between(&page, section, text)
        .with_context(|| format!("{PAGE} lacks <!-- {section}: begin --> or its end"))?;
    fs::write(&path, page).with_context(|| format!("write {}", path.display()))
}

fn between(page: &str, section: &str, text: &str) -> Option<String> {
    let begin = format!("<!-- {section}: begin -->\n");
    let end = format!("<!-- {section}: end -->");
    let (before, rest) = page.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{text}{end}{after}"))
}

fn table(rows: &[Row]) -> String {
    let head = "| Proof | What was run | Outcome | Took |\n|---|---|---|---|\n";
    let rows = rows.iter().map(|Row { part, what, outcome, holds, took }| {
        let mark = if *holds { "" } else { "**FAILED** " };
        let outcome = outcome.lines().next().unwrap_or_default().replace('|', "\\|");
        let seconds = took.as_secs();
        format!("| {part} | {what} | {mark}{outcome} | {seconds} s |\n")
    });
    let rows: Vec<String> = rows.collect();
    format!("{head}{}", rows.concat())
}

/// Date, processor and memory: figures mean nothing without them.
fn taken_with() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".into());
    let kib = field("/proc/meminfo", "MemTotal")
        .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    let gib = kib.unwrap_or(0).div_ceil(1 << 20);
    let commit = machine::output("git", &["rev-parse", "--short", "HEAD"]).unwrap_or_default();
    let (date, commit) = (now().format("%Y-%m-%d"), commit.trim());
    format!("{date}, {cores} cores, {processor}, {gib} GiB, at {commit}")
}

#[expect(clippy::disallowed_methods, reason = "the report's date, which no test depends on")]
fn now() -> DateTime<Utc> {
    Utc::now()
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_table_stands_between_its_markers_and_nothing_else_changes() {
        let page = "before\n<!-- soak: begin -->\nold\n<!-- soak: end -->\nafter\n";
        let row = Row {
            part: "drain",
            what: "3 rounds".into(),
            outcome: "a|b\nmore".into(),
            holds: false,
            took: Duration::from_secs(2),
        };
        let page = between(page, "soak", &table(&[row])).unwrap();
        assert!(page.starts_with("before\n") && page.ends_with("-->\nafter\n"));
        assert!(page.contains("| drain | 3 rounds | **FAILED** a\\|b | 2 s |"), "{page}");
        assert!(!page.contains("old"));
        assert_eq!(between(&page, "chaos", ""), None);
    }

    #[test]
    fn the_page_has_its_markers() {
        let page = tree::read(&tree::root().join(PAGE)).unwrap();
        assert!(["soak", "chaos"].iter().all(|section| between(&page, section, "").is_some()));
    }
}

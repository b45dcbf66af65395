//! The report: one table with its date and machine, between the markers of `docs/PROOF.md`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};

use super::Row;
use crate::{machine, tree};

const PAGE: &str = "docs/PROOF.md";
const BEGIN: &str = "<!-- soak: begin -->\n";
const END: &str = "<!-- soak: end -->";

/// Replaces the table on the page.
pub(super) fn write(root: &Path, rows: &[Row]) -> Result<()> {
    let path = root.join(PAGE);
    let page = tree::read(&path)?;
    let table = table(&taken_with(), rows);
    let page = between(&page, &table).with_context(|| format!("{PAGE} lacks its markers"))?;
    fs::write(&path, page).with_context(|| format!("write {}", path.display()))
}

fn between(page: &str, table: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{table}{END}{after}"))
}

fn table(taken_with: &str, rows: &[Row]) -> String {
    let mut table = format!("{taken_with}\n\n| Proof | What was run | Outcome | Took |\n|---|---|---|---|\n");
    for Row { part, what, outcome, holds, took } in rows {
        let mark = if *holds { "" } else { "**FAILED** " };
        let outcome = outcome.lines().next().unwrap_or_default().replace('|', "\\|");
        let seconds = took.as_secs();
        table.push_str(&format!("| {part} | {what} | {mark}{outcome} | {seconds} s |\n"));
    }
    table
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
    format!("{date}, {cores} cores, {processor}, {gib} GiB, debug build of {commit}.")
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
        let page = format!("before\n{BEGIN}old\n{END}\nafter\n");
        let row = Row {
            part: "drain",
            what: "3 rounds".into(),
            outcome: "a|b\nmore".into(),
            holds: false,
            took: Duration::from_secs(2),
        };
        let page = between(&page, &table("today", &[row])).unwrap();
        assert!(page.starts_with("before\n") && page.ends_with("-->\nafter\n") && !page.contains("old"));
        assert!(page.contains("| drain | 3 rounds | **FAILED** a\\|b | 2 s |"), "{page}");
        assert_eq!(between("no markers", ""), None);
    }

    #[test]
    fn the_page_has_its_markers() {
        let page = tree::read(&tree::root().join(PAGE)).unwrap();
        assert!(between(&page, "").is_some());
    }
}

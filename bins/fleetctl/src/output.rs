//! What a command prints: tables and short lines for a person, JSON for a program. Colours only on a
//! terminal; notes and failures go to stderr, so that stdout can be piped.

use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::failure::Failure;

/// Where and how to print.
#[derive(Debug)]
pub(crate) struct Output {
    /// JSON instead of text.
    pub(crate) json: bool,
    color: bool,
}

impl Output {
    /// JSON or text, colours as the terminal allows.
    pub(crate) fn new(json: bool) -> Self {
        Self { json, color: io::stderr().is_terminal() }
    }

    /// A value as JSON, or `text` for a person.
    pub(crate) fn value<T: Serialize>(&self, value: &T, text: impl FnOnce() -> String) {
        if self.json {
            line(&serde_json::to_string(value).unwrap_or_default());
        } else {
            line(&text());
        }
    }

    /// Many values: one JSON line each, or a table.
    pub(crate) fn rows<T: Serialize>(
        &self,
        rows: &[T],
        heads: &[&str],
        cells: impl Fn(&T) -> Vec<String>,
    ) {
        if self.json {
            for row in rows {
                line(&serde_json::to_string(row).unwrap_or_default());
            }
        } else {
            let cells: Vec<Vec<String>> = rows.iter().map(cells).collect();
            line(&table(heads, &cells));
        }
    }

    /// A remark for a person; nothing under `--json`.
    pub(crate) fn note(&self, text: &str) {
        if !self.json {
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// How far a long command is, with its rate, and the time that is left where `total` steps are
    /// known; drawn on a terminal only.
    pub(crate) fn bar(&self, total: Option<u64>) -> ProgressBar {
        let target =
            if self.json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(total, target);
        let template = if total.is_some() {
            "{bar:30} {percent:>3}%  {msg}  {per_sec}  ETA {eta}"
        } else {
            "{spinner}  {msg}  {per_sec}  {elapsed}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar
    }

    /// Why the command failed and what to do.
    pub(crate) fn failure(&self, failure: &Failure) {
        let mut out = io::stderr().lock();
        if self.json {
            let value = serde_json::json!({ "error": failure.message, "hint": failure.hint });
            let _ = writeln!(out, "{value}");
            return;
        }
        let (red, plain) = if self.color { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
        let _ = writeln!(out, "{red}error:{plain} {}", failure.message);
        if let Some(hint) = &failure.hint {
            let _ = writeln!(out, "hint: {hint}");
        }
    }

    /// Whether a person watches: progress bars and questions are for them.
    pub(crate) fn is_interactive(&self) -> bool {
        !self.json && io::stderr().is_terminal() && io::stdin().is_terminal()
    }
}

/// One line on stdout. A reader that is gone (`| head`) ends the process quietly.
pub(crate) fn line(text: &str) {
    let mut out = io::stdout().lock();
    if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// Columns aligned by the longest cell.
pub(crate) fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    let width = |column: usize| {
        let cells = rows.iter().chain(std::iter::once(&heads));
        cells.filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let render = |row: &Vec<String>| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    let lines: Vec<String> = std::iter::once(&heads).chain(rows).map(render).collect();
    lines.join("\n")
}

/// Seconds as a person says them, e.g. `3 d`, `12 min`.
pub(crate) fn span(seconds: i64) -> String {
    let (count, unit) = match seconds {
        ..120 => (seconds.max(0), "s"),
        120..7_200 => (seconds / 60, "min"),
        7_200..172_800 => (seconds / 3_600, "h"),
        _ => (seconds / 86_400, "d"),
    };
    format!("{count} {unit}")
}

/// `text` cut to `max` characters, on one line.
pub(crate) fn short(text: &str, max: usize) -> String {
    let flat: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if flat.chars().count() <= max {
        return flat;
    }
    let mut cut: String = flat.chars().take(max.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::{short, span, table};

    #[test]
    fn columns_align() {
        let rows = vec![vec!["a".into(), "long cell".into()], vec!["bbb".into(), "c".into()]];
        assert_eq!(table(&["x", "y"], &rows), "x    y\na    long cell\nbbb  c");
    }

    #[test]
    fn spans_read_like_speech() {
        assert_eq!(span(-5), "0 s");
        assert_eq!(span(119), "119 s");
        assert_eq!(span(120), "2 min");
        assert_eq!(span(7_200), "2 h");
        assert_eq!(span(172_800), "2 d");
    }

    #[test]
    fn long_text_is_cut_on_a_character() {
        assert_eq!(short("a  b\nc", 10), "a b c");
        assert_eq!(short("ééééé", 3), "éé…");
    }
}

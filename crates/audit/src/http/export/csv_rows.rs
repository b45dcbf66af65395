//! Logs as CSV rows that are safe to open in a spreadsheet: a cell that a spreadsheet would take
//! for a formula gets an apostrophe before it, which spreadsheets do not show.

use bytes::Bytes;
use chrono::SecondsFormat;
use contracts::errors::INTERNAL;
use edge::Problem;
use sinks::search::SortKey;

use crate::http::cursor::{self, Fingerprint};
use crate::model::StoredLog;
use crate::record::{Record, Text};

const COLUMNS: [&str; 17] = [
    "id",
    "recorded_at",
    "class",
    "occurred_at",
    "actor_type",
    "actor_id",
    "actor_name",
    "action",
    "outcome",
    "targets",
    "ip",
    "user_agent",
    "metadata",
    "tags",
    "annotation",
    "revision",
    "cursor",
];

/// The heading row.
pub(super) fn heading() -> Result<Bytes, Problem> {
    write([COLUMNS.map(str::to_owned)])
}

/// One row per log.
pub(super) fn rows(logs: &[StoredLog], fingerprint: Fingerprint) -> Result<Bytes, Problem> {
    let rows: Result<Vec<_>, Problem> = logs.iter().map(|log| row(log, fingerprint)).collect();
    write(rows?)
}

fn row(log: &StoredLog, fingerprint: Fingerprint) -> Result<[String; 17], Problem> {
    let record = Record::parse(&log.record).map_err(broken)?;
    let event = record.event;
    let optional = |text: Option<Text<'_>>| text.map(Text::into_string).unwrap_or_default();
    let targets: Vec<String> = event
        .targets
        .iter()
        .map(|target| format!("{}:{}", target.kind.as_str(), target.id.as_str()))
        .collect();
    let key = SortKey { recorded_at: log.key.recorded_at, id: log.key.id };
    let cells = [
        log.key.id.to_string(),
        log.key.recorded_at.to_rfc3339_opts(SecondsFormat::Micros, true),
        log.key.class.to_string(),
        event.occurred_at.map(|at| at.to_rfc3339()).unwrap_or_default(),
        event.actor.kind.into_string(),
        event.actor.id.into_string(),
        optional(event.actor.name),
        event.action.into_string(),
        event.outcome.as_str().to_owned(),
        targets.join(" "),
        optional(event.context.ip),
        optional(event.context.user_agent),
        event.metadata.map(|raw| raw.get().to_owned()).unwrap_or_default(),
        log.tags.as_deref().unwrap_or_default().join(" "),
        log.annotation.clone().unwrap_or_default(),
        log.revision.to_string(),
        cursor::encode(key, fingerprint),
    ];
    Ok(cells.map(safe))
}

/// What spreadsheets read as the start of a formula (OWASP's list), also behind white space.
fn safe(cell: String) -> String {
    let formula = |c: char| matches!(c, '=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠');
    let control = cell.starts_with(['\t', '\r', '\n', '\0']);
    if control || cell.trim_start().starts_with(formula) { format!("'{cell}") } else { cell }
}

fn write(rows: impl IntoIterator<Item = [String; 17]>) -> Result<Bytes, Problem> {
    let mut writer =
        csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    for row in rows {
        writer.write_record(row).map_err(broken)?;
    }
    Ok(Bytes::from(writer.into_inner().map_err(broken)?))
}

fn broken(error: impl std::fmt::Display) -> Problem {
    tracing::error!(%error, "a log cannot be written as CSV");
    Problem::new(INTERNAL, "a stored record cannot be read")
}

#[cfg(test)]
mod tests {
    use super::safe;

    #[test]
    fn formulas_are_disarmed() {
        for cell in ["=1+1", "+1", "-1", "@x", "\t=1", " =1", "\r=1", "＝1", "=HYPERLINK(\"x\")"] {
            assert_eq!(safe(cell.into()), format!("'{cell}"));
        }
        for cell in ["", "a=b", "1-2", "{\"a\":1}", "'quoted"] {
            assert_eq!(safe(cell.into()), cell);
        }
    }
}

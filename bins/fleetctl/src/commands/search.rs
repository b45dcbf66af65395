//! `fleetctl search`: the public search, as tables or NDJSON, page after page.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::Value;

use super::rebuild::Rebuilding;
use crate::failure::Failure;
use crate::output::{Output, line, short, table};
use crate::settings::Settings;

/// Logs per request; the API gives 500 at most.
const PAGE_MAX: u32 = 500;

/// Finds logs, or builds the index anew.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  fleetctl search 'login failed' --actor ana@example.org
  fleetctl search --action git.commit --from 2026-11-01T00:00:00Z --limit 500 --json
  fleetctl search --metadata repository=flotilla '\"first real path\"' 'perf*'
  fleetctl search rebuild
Words are joined by AND; \"a phrase\" and prefix* work too. Newest first."
)]
pub(crate) struct Search {
    #[command(subcommand)]
    instead: Option<Instead>,
    #[command(flatten)]
    find: Find,
}

/// What can be done with search itself.
#[derive(Subcommand)]
enum Instead {
    /// Build a new version of the index from `PostgreSQL` while writes go on
    Rebuild(Rebuilding),
}

/// What to find.
#[derive(Args)]
struct Find {
    /// Words, "phrases", prefix*
    words: Vec<String>,
    #[command(flatten)]
    filters: Filters,
    /// Logs at most, 1 to 100000
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Go on after this cursor
    #[arg(long)]
    cursor: Option<String>,
}

/// Filters of search and live tail; all that are given must fit.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Which")]
pub(super) struct Filters {
    /// Id of who did it
    #[arg(long)]
    actor: Option<String>,
    /// What was done, e.g. git.commit
    #[arg(long)]
    action: Option<String>,
    /// Id of what it was done to
    #[arg(long)]
    target: Option<String>,
    /// success, failure, denied or unknown
    #[arg(long)]
    outcome: Option<String>,
    /// Recorded at or after, e.g. 2026-11-21T00:00:00Z
    #[arg(long)]
    from: Option<DateTime<Utc>>,
    /// Recorded before
    #[arg(long)]
    to: Option<DateTime<Utc>>,
    /// A metadata field and its value; may be given several times
    #[arg(long, value_name = "PATH=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
    /// A metadata field that must be there; may be given several times
    #[arg(long, value_name = "PATH")]
    exists: Vec<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let split = text.split_once('=').filter(|(path, _)| !path.is_empty());
    let (path, value) = split.ok_or("PATH=VALUE is expected, e.g. repository=flotilla")?;
    Ok((path.to_owned(), value.to_owned()))
}

impl Filters {
    /// As the API's query parameters.
    pub(super) fn parameters(&self) -> Vec<(String, String)> {
        let time = |at: Option<DateTime<Utc>>| at.map(|at| at.to_rfc3339());
        let named = [
            ("actor", self.actor.clone()),
            ("action", self.action.clone()),
            ("target", self.target.clone()),
            ("outcome", self.outcome.clone()),
            ("from", time(self.from)),
            ("to", time(self.to)),
        ];
        let mut parameters: Vec<_> =
            named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        let metadata = self.metadata.iter();
        parameters
            .extend(metadata.map(|(path, value)| (format!("metadata.{path}"), value.clone())));
        parameters.extend(self.exists.iter().map(|path| ("exists".to_owned(), path.clone())));
        parameters
    }
}

impl Search {
    pub(crate) async fn run(self, settings: &Settings, output: &Output) -> Result<(), Failure> {
        match self.instead {
            Some(Instead::Rebuild(command)) => command.run(settings, output).await,
            None => self.find.run(settings, output).await,
        }
    }
}

impl Find {
    async fn run(self, settings: &Settings, output: &Output) -> Result<(), Failure> {
        let api = settings.api()?;
        let mut left = self.limit;
        let mut cursor = self.cursor.clone();
        let mut shown = Vec::new();
        while left > 0 {
            let mut parameters = self.filters.parameters();
            if !self.words.is_empty() {
                parameters.push(("q".to_owned(), self.words.join(" ")));
            }
            parameters.push(("limit".to_owned(), left.min(PAGE_MAX).to_string()));
            parameters.extend(cursor.take().map(|cursor| ("cursor".to_owned(), cursor)));
            let mut page =
                api.send(|| Ok(api.request(Method::GET, "/logs")?.query(&parameters))).await?;
            let Value::Array(logs) = page["logs"].take() else { break };
            left = left.saturating_sub(u32::try_from(logs.len()).unwrap_or(u32::MAX));
            for log in logs {
                if output.json {
                    line(&log.to_string());
                } else {
                    shown.push(cells(&log));
                }
            }
            cursor = page["next_cursor"].as_str().map(str::to_owned);
            if cursor.is_none() {
                break;
            }
        }
        if !output.json && shown.is_empty() {
            output.note("nothing fits");
        } else if !output.json {
            line(&table(&HEADS, &shown));
        }
        if let Some(cursor) = cursor {
            output.note(&format!("more: --cursor {cursor}"));
        }
        Ok(())
    }
}

const HEADS: [&str; 6] = ["RECORDED", "ACTOR", "ACTION", "TARGET", "OUTCOME", "ID"];

/// One log as a table's row.
pub(super) fn cells(log: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let event = &log["event"];
    let name = if event["actor"]["name"].is_string() {
        &event["actor"]["name"]
    } else {
        &event["actor"]["id"]
    };
    vec![
        text(&log["recorded_at"]).chars().take(19).collect(),
        short(&text(name), 24),
        short(&text(&event["action"]), 28),
        short(&text(&event["targets"][0]["id"]), 40),
        text(&event["outcome"]),
        text(&log["id"]),
    ]
}

#[cfg(test)]
mod tests {
    use super::{cells, pair};
    use serde_json::json;

    #[test]
    fn metadata_filters_are_a_path_and_a_value() {
        assert_eq!(pair("a.b=c=d").unwrap(), ("a.b".into(), "c=d".into()));
        assert_eq!(pair("a=").unwrap(), ("a".into(), String::new()));
        assert!(pair("a").is_err() && pair("=c").is_err());
    }

    #[test]
    fn a_log_with_little_in_it_is_a_row_all_the_same() {
        assert_eq!(cells(&json!({ "id": "x", "event": {} })).len(), 6);
        let log = json!({ "recorded_at": "2026-11-21T12:00:00.123456Z", "id": "x",
                          "event": { "actor": { "id": "a" }, "targets": [{ "id": "t" }] } });
        assert_eq!(cells(&log)[..2], ["2026-11-21T12:00:00".to_owned(), "a".to_owned()]);
    }
}

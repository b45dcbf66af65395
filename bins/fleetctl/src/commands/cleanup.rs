//! `fleetctl cleanup`: logs are archived and then deleted because somebody asks for it, through the HTTP
//! API. A dry run unless it is told the token of one.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::policies::{get, text};
use super::which::Which;
use crate::failure::Failure;
use crate::output::Output;
use crate::settings::Settings;

/// Shown under the group's help.
pub(crate) const EXAMPLES: &str = "Examples:\n  fleetctl cleanup run --before 2026-01-01T00:00:00Z --action 'invoice.*'\n  \
     fleetctl cleanup show 0193e9a0-0000-7000-8000-000000000001";

/// What is counted, in the order in which it adds up.
const COUNTS: [&str; 7] = ["planned", "archived", "verified", "deleted", "held", "gone", "failed"];

/// What can be done with cleanups.
#[derive(Subcommand)]
pub(crate) enum Cleanup {
    /// Show what would go, or start it with the token of that dry run
    #[command(
        after_help = "Examples:\n  fleetctl cleanup run --before 2026-01-01T00:00:00Z --action 'invoice.*'\n  fleetctl cleanup run --before 2026-01-01T00:00:00Z --action 'invoice.*' --confirm TOKEN"
    )]
    Run(Run),
    /// Show how one gets on
    #[command(
        after_help = "Example:\n  fleetctl cleanup show 0193e9a0-0000-7000-8000-000000000001"
    )]
    Show {
        /// Its run
        run: Uuid,
    },
    /// Cancel one; units in hand are ended
    #[command(
        after_help = "Example:\n  fleetctl cleanup cancel 0193e9a0-0000-7000-8000-000000000001"
    )]
    Cancel {
        /// Its run
        run: Uuid,
    },
}

/// Which logs.
#[derive(Args)]
pub(crate) struct Run {
    /// Recorded before this time, RFC 3339
    #[arg(long)]
    before: String,
    /// Recorded at this time or later, RFC 3339
    #[arg(long)]
    from: Option<String>,
    #[command(flatten)]
    which: Which,
    /// The token of the dry run: do it
    #[arg(long, value_name = "TOKEN")]
    confirm: Option<String>,
}

impl Run {
    fn body(&self) -> Result<Value, Failure> {
        self.which.check(false)?;
        Ok(json!({ "filter": self.which.filter(), "all": self.which.everything,
                   "before": self.before, "from": self.from, "confirm": self.confirm }))
    }
}

impl Cleanup {
    pub(crate) async fn run(self, settings: &Settings, output: &Output) -> Result<(), Failure> {
        let api = settings.api()?;
        match self {
            Self::Run(run) => {
                let body = run.body()?;
                let request = || Ok(api.request(Method::DELETE, "/logs/cleanup")?.json(&body));
                let answer = api.send(request).await?;
                output.value(&answer, || {
                    if answer["dry_run"] == true {
                        return shown(&answer);
                    }
                    let id = text(&answer, "id");
                    format!("started run {id}\nsee how it does: fleetctl cleanup show {id}")
                });
            }
            Self::Show { run } => {
                let run = get(&api, &format!("/logs/cleanup/{run}")).await?;
                output.value(&run, || told(&run));
            }
            Self::Cancel { run } => {
                let path = format!("/logs/cleanup/{run}/cancel");
                let run = api.send(|| api.request(Method::POST, &path)).await?;
                output.value(&run, || format!("{} cancelled", text(&run, "id")));
            }
        }
        Ok(())
    }
}

/// A dry run for a person.
fn shown(answer: &Value) -> String {
    let mut lines = vec![format!("goes: {} logs, {} bytes", answer["events"], answer["bytes"])];
    if answer["oldest"].is_string() {
        lines.push(format!("from {} to {}", text(answer, "oldest"), text(answer, "newest")));
    }
    for one in answer["by_action"].as_array().into_iter().flatten() {
        lines.push(format!("{:>10}  {}", one["events"].to_string(), text(one, "action")));
    }
    lines.push(format!(
        "stays: {} held, {} below a legal minimum, {} in conflict",
        answer["held"], answer["below_legal_minimum"], answer["conflicts"]
    ));
    if answer["complete"] == false {
        let until = text(answer, "covers_until");
        lines.push(format!("there is more than one run may have: ask again with --before {until}"));
    } else if answer["confirm"].is_string() {
        let until = text(answer, "confirm_until");
        lines.push(format!(
            "nothing was done; until {until} the same command does it with --confirm {}",
            text(answer, "confirm")
        ));
    } else {
        lines.push("nothing goes".to_owned());
    }
    lines.join("\n")
}

/// A run for a person.
fn told(run: &Value) -> String {
    let (id, state) = (text(run, "id"), text(run, "state"));
    let mut lines = vec![format!("{id}: {state}, before {}", text(run, "before"))];
    if run["reason"].is_string() {
        lines.push(text(run, "reason").to_owned());
    }
    let units = &run["units"];
    lines.push(format!(
        "units: {}, {} open, {} failed",
        units["all"], units["open"], units["failed"]
    ));
    for what in COUNTS {
        lines
            .push(format!("{what:>8}: {} logs, {} bytes", run[what]["events"], run[what]["bytes"]));
    }
    if run["adds_up"] == false {
        lines.push("these do not add up: report it".to_owned());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_go_is_told_with_what_to_do_next() {
        let mut answer = json!({
            "dry_run": true, "events": 3, "bytes": 900, "oldest": "a", "newest": "b",
            "by_action": [{"action": "doc.read", "events": 3, "bytes": 900}], "held": 1,
            "below_legal_minimum": 2, "conflicts": 0, "complete": true, "confirm": "T",
            "confirm_until": "u",
        });
        let text = shown(&answer);
        assert!(text.contains("goes: 3 logs") && text.contains("--confirm T"), "{text}");
        assert!(text.contains("1 held, 2 below a legal minimum"), "{text}");
        answer["complete"] = json!(false);
        answer["covers_until"] = json!("c");
        let text = shown(&answer);
        assert!(text.contains("--before c") && !text.contains("--confirm"), "{text}");
        answer["complete"] = json!(true);
        answer["confirm"] = Value::Null;
        assert!(shown(&answer).ends_with("nothing goes"));
    }

    #[test]
    fn everything_is_asked_for_as_such() {
        let run = |which| Run { before: "b".into(), from: None, which, confirm: None };
        assert!(run(Which::default()).body().is_err());
        let all = Which { everything: true, ..Which::default() };
        assert_eq!(run(all).body().unwrap()["all"], true);
        let some = Which { action: vec!["a.*".into()], ..Which::default() };
        let body = run(some).body().unwrap();
        assert_eq!((&body["all"], &body["filter"]["actions"]), (&json!(false), &json!(["a.*"])));
    }
}

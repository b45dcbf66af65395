//! `fleetctl holds`: legal holds through the HTTP API. A hold keeps whatever it matches until it is
//! released; it never changes.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::policies::{get, text};
use super::which::Which;
use crate::author;
use crate::failure::Failure;
use crate::output::{Output, short};
use crate::settings::Settings;

/// Shown under the group's help.
pub(crate) const EXAMPLES: &str = "Examples:\n  fleetctl holds place --matter 'Acme v. Umbrella' \
     --reason 'letter of 3 March' --actor user/u-17\n  fleetctl holds list";

/// What can be done with holds.
#[derive(Subcommand)]
pub(crate) enum Holds {
    /// List the holds in force
    #[command(after_help = "Example:\n  fleetctl holds list --released")]
    List {
        /// Also those that were released
        #[arg(long)]
        released: bool,
    },
    /// Place a hold: nothing that it matches is deleted until it is released
    #[command(
        after_help = "Example:\n  fleetctl holds place --matter 'Acme v. Umbrella' --reason 'letter of 3 March' --action 'invoice.*'"
    )]
    Place(Place),
    /// Release a hold
    #[command(
        after_help = "Example:\n  fleetctl holds release 0193e9a0-0000-7000-8000-000000000001 --reason settled"
    )]
    Release {
        /// Its id
        id: Uuid,
        /// Why
        #[arg(long, value_parser = author::words)]
        reason: String,
    },
}

/// What a hold keeps.
#[derive(Args)]
pub(crate) struct Place {
    /// The case
    #[arg(long, value_parser = author::words)]
    matter: String,
    /// Why
    #[arg(long, value_parser = author::words)]
    reason: String,
    #[command(flatten)]
    which: Which,
    /// Recorded at this time or later, RFC 3339
    #[arg(long)]
    from: Option<String>,
    /// Recorded before this time, RFC 3339
    #[arg(long)]
    to: Option<String>,
}

impl Place {
    fn body(self) -> Result<Value, Failure> {
        self.which.check(self.from.is_some() || self.to.is_some())?;
        let filter = self.which.filter();
        Ok(json!({ "matter": self.matter, "reason": self.reason, "filter": filter,
                   "from": self.from, "to": self.to }))
    }
}

impl Holds {
    pub(crate) async fn run(self, settings: &Settings, output: &Output) -> Result<(), Failure> {
        let api = settings.api()?;
        match self {
            Self::List { released } => {
                let found = get(&api, &format!("/holds?released={released}")).await?;
                let holds = found["holds"].as_array().cloned().unwrap_or_default();
                if holds.is_empty() {
                    output.note("no holds");
                    return Ok(());
                }
                let heads = ["MATTER", "PLACED", "BY", "RELEASED", "FILTER", "ID"];
                output.rows(&holds, &heads, |hold| {
                    vec![
                        short(text(hold, "matter"), 32),
                        text(hold, "placed_at").chars().take(19).collect(),
                        text(&hold["placed_by"], "key_id").to_owned(),
                        text(&hold["released"], "at").chars().take(19).collect(),
                        short(&hold["filter"].to_string(), 48),
                        text(hold, "id").to_owned(),
                    ]
                });
            }
            Self::Place(place) => {
                let body = place.body()?;
                // The key makes a try whose answer was lost find what it placed.
                let key = Uuid::new_v4().to_string();
                let request = || {
                    let request = api.request(Method::POST, "/holds")?;
                    Ok(request.header("idempotency-key", &key).json(&body))
                };
                let placed = api.send(request).await?;
                output.value(&placed, || {
                    format!("placed {}: in force from now on", text(&placed, "id"))
                });
            }
            Self::Release { id, reason } => {
                let path = format!("/holds/{id}/release");
                let body = json!({ "reason": reason });
                let hold = api.send(|| Ok(api.request(Method::POST, &path)?.json(&body))).await?;
                output.value(&hold, || {
                    let released = &hold["released"];
                    let (at, by) = (text(released, "at"), text(&released["by"], "key_id"));
                    format!("released {id} at {at} by {by}: {}", text(released, "reason"))
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place {
            matter: "m".into(),
            reason: "r".into(),
            which: Which::default(),
            from: None,
            to: None,
        }
    }

    #[test]
    fn a_hold_on_everything_is_asked_for_as_such() {
        assert!(place().body().is_err());
        let everything = || Which { everything: true, ..Which::default() };
        assert!(Place { which: everything(), ..place() }.body().is_ok());
        assert!(Place { from: Some("2026-01-01T00:00:00Z".into()), ..place() }.body().is_ok());
        let both = Which { action: vec!["a".into()], ..everything() };
        assert!(Place { which: both, ..place() }.body().is_err());
        let which = Which {
            actor: vec!["user/u/1".into(), "service".into()],
            metadata: vec!["a=b=c".into(), "card".into()],
            ..Which::default()
        };
        let some = Place { which, ..place() };
        let filter = some.body().unwrap()["filter"].take();
        assert_eq!(filter["actors"], json!([{"type": "user", "id": "u/1"}, {"type": "service"}]));
        assert_eq!(filter["metadata"], json!({"a": "b=c", "card": true}));
    }
}

//! `fleetctl policies`: retention policies through the HTTP API: what there is, what a file would change,
//! what a run would do, why a log stays or goes. It changes nothing that it was not told to.

mod explain;
mod runs;

use std::path::PathBuf;

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::api::Api;
use crate::failure::Failure;
use crate::output::{Output, short, table};
use crate::settings::Settings;

/// Shown under the group's help.
pub(crate) const EXAMPLES: &str = "Examples:\n  fleetctl policies apply invoices.json\n  \
     fleetctl policies simulate invoices\n  fleetctl policies explain 0193e9a0-0000-7000-8000-000000000001";

/// A file as large as the API takes.
const FILE_BYTES_MAX: u64 = 512 * 1024;

/// What can be done with policies.
#[derive(Subcommand)]
pub(crate) enum Policies {
    /// List the tenant's policies
    #[command(after_help = "Example:\n  fleetctl policies list --json")]
    List,
    /// Show one, or all of its versions
    #[command(after_help = "Example:\n  fleetctl policies show invoices --versions")]
    Show {
        /// Its name or id
        policy: String,
        /// Every version, newest first, at most 200
        #[arg(long)]
        versions: bool,
    },
    /// Make a policy from a JSON file, or change the one of that name
    #[command(after_help = "Example:\n  fleetctl policies apply invoices.json")]
    Apply {
        /// The policy as `POST /policies` takes it
        file: PathBuf,
    },
    /// Delete a policy; its versions stay
    #[command(after_help = "Example:\n  fleetctl policies delete invoices")]
    Delete {
        /// Its name or id
        policy: String,
    },
    /// Show what a run would do now; nothing is archived or deleted
    #[command(
        after_help = "Example:\n  fleetctl policies simulate invoices --as-of 2027-01-01T00:00:00Z"
    )]
    Simulate {
        /// Its name or id
        policy: String,
        /// Judge by this time instead of now
        #[arg(long)]
        as_of: Option<String>,
    },
    /// List a policy's runs, newest first
    #[command(after_help = "Example:\n  fleetctl policies runs invoices")]
    Runs {
        /// Its name or id
        policy: String,
    },
    /// Show one run, or start one now
    #[command(
        after_help = "Examples:\n  fleetctl policies run invoices\n  fleetctl policies run invoices 0193e9a0-0000-7000-8000-000000000001"
    )]
    Run {
        /// The policy's name or id
        policy: String,
        /// The run to show; without one, a run is started
        run: Option<Uuid>,
    },
    /// Let a run pass its brake, with a key that neither wrote the policy nor started the run
    #[command(
        after_help = "Example:\n  fleetctl policies approve invoices 0193e9a0-0000-7000-8000-000000000001"
    )]
    Approve {
        /// The policy's name or id
        policy: String,
        /// The run
        run: Uuid,
    },
    /// Cancel a run; units in hand are ended
    #[command(
        after_help = "Example:\n  fleetctl policies cancel invoices 0193e9a0-0000-7000-8000-000000000001"
    )]
    Cancel {
        /// The policy's name or id
        policy: String,
        /// The run
        run: Uuid,
    },
    /// Say which policies match a log, which decides and why, when it goes
    #[command(
        after_help = "Example:\n  fleetctl policies explain 0193e9a0-0000-7000-8000-000000000001"
    )]
    Explain {
        /// The log
        log_id: Uuid,
    },
}

impl Policies {
    pub(crate) async fn run(self, settings: &Settings, output: &Output) -> Result<(), Failure> {
        let api = settings.api()?;
        match self {
            Self::List => list(&api, output).await,
            Self::Show { policy, versions } => {
                let found = find(&api, &policy).await?;
                if versions {
                    return show_versions(&api, output, id(&found)).await;
                }
                output.value(&found, || pretty(&found));
                Ok(())
            }
            Self::Apply { file } => apply(&api, output, &file).await,
            Self::Delete { policy } => delete(&api, output, &policy).await,
            Self::Simulate { policy, as_of } => simulate(&api, output, &policy, as_of).await,
            Self::Runs { policy } => runs::list(&api, output, &policy).await,
            Self::Run { policy, run: Some(run) } => runs::show(&api, output, &policy, run).await,
            Self::Run { policy, run: None } => runs::start(&api, output, &policy).await,
            Self::Approve { policy, run } => {
                runs::act(&api, output, &policy, run, runs::Act::Approve).await
            }
            Self::Cancel { policy, run } => {
                runs::act(&api, output, &policy, run, runs::Act::Cancel).await
            }
            Self::Explain { log_id } => explain::explain(&api, output, log_id).await,
        }
    }
}

/// Text of a member.
pub(super) fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

fn id(policy: &Value) -> &str {
    text(policy, "id")
}

pub(super) fn pretty(value: &Value) -> String {
    format!("{value:#}")
}

pub(super) async fn get(api: &Api, path: &str) -> Result<Value, Failure> {
    api.send(|| api.request(Method::GET, path)).await
}

fn rows(value: &Value, key: &str) -> Vec<Value> {
    value[key].as_array().cloned().unwrap_or_default()
}

/// The policy of that id, or else of that name.
async fn find(api: &Api, wanted: &str) -> Result<Value, Failure> {
    if wanted.parse::<Uuid>().is_ok() {
        return get(api, &format!("/policies/{wanted}")).await;
    }
    named(api, wanted).await?.ok_or_else(|| {
        Failure::new(format!("there is no policy {wanted:?}"))
            .hint("`fleetctl policies list` shows them")
    })
}

async fn named(api: &Api, name: &str) -> Result<Option<Value>, Failure> {
    let policies = rows(&get(api, "/policies").await?, "policies");
    Ok(policies.into_iter().find(|policy| text(policy, "name") == name))
}

async fn list(api: &Api, output: &Output) -> Result<(), Failure> {
    let policies = rows(&get(api, "/policies").await?, "policies");
    if policies.is_empty() {
        output.note("no policies: every log is kept");
        return Ok(());
    }
    let heads =
        ["NAME", "KEEP", "THEN", "PRIORITY", "MINIMUM", "STATE", "VERSION", "ACTIONS", "ID"];
    output.rows(&policies, &heads, |policy| {
        let actions: Vec<&str> = policy["filter"]["actions"]
            .as_array()
            .map(|actions| actions.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        vec![
            short(text(policy, "name"), 32),
            text(policy, "keep").to_owned(),
            text(policy, "then").to_owned(),
            policy["priority"].to_string(),
            text(policy, "legal_minimum").to_owned(),
            text(policy, "state").to_owned(),
            policy["version"].to_string(),
            if actions.is_empty() { "*".to_owned() } else { short(&actions.join(" "), 32) },
            id(policy).to_owned(),
        ]
    });
    Ok(())
}

async fn show_versions(api: &Api, output: &Output, id: &str) -> Result<(), Failure> {
    let versions = rows(&get(api, &format!("/policies/{id}/versions")).await?, "versions");
    output.rows(
        &versions,
        &["VERSION", "EFFECTIVE FROM", "KEEP", "THEN", "STATE", "BY"],
        |version| {
            vec![
                version["version"].to_string(),
                text(version, "effective_from").to_owned(),
                text(version, "keep").to_owned(),
                text(version, "then").to_owned(),
                text(version, "state").to_owned(),
                text(&version["created_by"], "key_id").to_owned(),
            ]
        },
    );
    Ok(())
}

async fn apply(api: &Api, output: &Output, file: &std::path::Path) -> Result<(), Failure> {
    let shown = file.display();
    let told = |error: std::io::Error| Failure::new(format!("{shown}: {error}"));
    if std::fs::metadata(file).map_err(told)?.len() > FILE_BYTES_MAX {
        return Err(Failure::usage(format!("{shown} is over {FILE_BYTES_MAX} bytes")));
    }
    let body = std::fs::read_to_string(file).map_err(told)?;
    let body: Value = serde_json::from_str(&body)
        .map_err(|error| Failure::usage(format!("{shown} is not JSON: {error}")))?;
    let name = body["name"].as_str().ok_or_else(|| {
        Failure::usage(format!("{shown} names no policy: `name` is expected to be a string"))
    })?;
    let known = named(api, name).await?;
    let written = match &known {
        // The key makes a try whose answer was lost find what it made.
        None => {
            let key = Uuid::new_v4().to_string();
            let request = || {
                let request = api.request(Method::POST, "/policies")?;
                Ok(request.header("idempotency-key", &key).json(&body))
            };
            api.send(request).await?
        }
        Some(known) => {
            let path = format!("/policies/{}", id(known));
            let tag = format!("\"{}\"", known["version"]);
            let request =
                || Ok(api.request(Method::PUT, &path)?.header("if-match", &tag).json(&body));
            api.send(request).await?
        }
    };
    output.value(&written, || {
        let done = if known.is_some() { "changed" } else { "made" };
        format!(
            "{done} {name}: version {}, in effect from {}, id {}\nsee what it would do: fleetctl policies simulate {}",
            written["version"],
            text(&written, "effective_from"),
            id(&written),
            id(&written),
        )
    });
    Ok(())
}

async fn delete(api: &Api, output: &Output, policy: &str) -> Result<(), Failure> {
    let found = find(api, policy).await?;
    let path = format!("/policies/{}", id(&found));
    let deleted = api.send(|| api.request(Method::DELETE, &path)).await?;
    output.value(&deleted, || {
        format!("deleted {}: it is not applied any more", text(&found, "name"))
    });
    Ok(())
}

async fn simulate(
    api: &Api,
    output: &Output,
    policy: &str,
    as_of: Option<String>,
) -> Result<(), Failure> {
    let found = find(api, policy).await?;
    let path = format!("/policies/{}/simulate", id(&found));
    let body = json!({ "as_of": as_of });
    let simulation = api.send(|| Ok(api.request(Method::POST, &path)?.json(&body))).await?;
    output.value(&simulation, || told(text(&found, "name"), &simulation));
    Ok(())
}

/// A simulation for a person.
fn told(name: &str, simulation: &Value) -> String {
    let plan = &simulation["plan"];
    let mut lines = vec![format!(
        "{name}, version {}, {} by {}",
        plan["policy_version"],
        text(plan, "then"),
        text(plan, "as_of")
    )];
    lines.push(format!(
        "goes: {} logs, {} bytes, in {} units",
        plan["events"],
        plan["bytes"],
        plan["units"].as_array().map_or(0, Vec::len)
    ));
    if plan["oldest"].is_string() {
        lines.push(format!("from {} to {}", text(plan, "oldest"), text(plan, "newest")));
    }
    let staying = &plan["staying"];
    lines.push(format!(
        "stays: {} held, {} by a legal minimum, {} by another policy, {} in conflict, {} archived already, {} in the hands of a run",
        staying["held"],
        staying["by_floor"],
        staying["by_policy"],
        staying["conflicts"],
        staying["already_archived"],
        staying["in_progress"]
    ));
    match simulation["previous"].as_object() {
        Some(previous) => lines.push(format!(
            "before: {} logs, {} bytes ({})",
            previous["events"],
            previous["bytes"],
            previous["made_at"].as_str().unwrap_or_default()
        )),
        None => lines.push("before: no plan of an earlier day".to_owned()),
    }
    if plan["complete"] == false {
        let until = text(plan, "covers_until");
        lines.push(format!("not complete: it covers the oldest logs, up to {until}"));
    }
    let mut actions: Vec<Vec<String>> = rows(plan, "by_action")
        .iter()
        .map(|row| {
            vec![
                text(row, "action").to_owned(),
                row["events"].to_string(),
                row["bytes"].to_string(),
            ]
        })
        .collect();
    let others = &plan["other_actions"];
    if others["events"].as_u64().is_some_and(|events| events > 0) {
        actions.push(vec![
            "(others)".to_owned(),
            others["events"].to_string(),
            others["bytes"].to_string(),
        ]);
    }
    if !actions.is_empty() {
        lines.push(table(&["ACTION", "LOGS", "BYTES"], &actions));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::told;
    use serde_json::json;

    #[test]
    fn a_simulation_says_what_goes_what_stays_and_what_was_before() {
        let plan = json!({
            "policy_version": 2, "then": "delete", "as_of": "2026-03-01T00:00:00Z", "events": 7,
            "bytes": 700, "units": [{}], "oldest": "2026-01-01T00:00:00Z",
            "newest": "2026-01-02T00:00:00Z", "complete": false, "covers_until": "2026-01-03T00:00:00Z",
            "staying": {"held": 1, "by_floor": 2, "by_policy": 3, "conflicts": 4, "already_archived": 5,
                        "in_progress": 6},
            "by_action": [{"action": "a.b", "events": 6, "bytes": 600}],
            "other_actions": {"events": 1, "bytes": 100},
        });
        let shown = told("p", &json!({ "plan": plan, "previous": null }));
        for part in [
            "7 logs",
            "1 units",
            "1 held, 2 by",
            "no plan of an earlier day",
            "(others)",
            "not complete",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        let previous = json!({"events": 3, "bytes": 30, "made_at": "2026-02-28T00:00:00Z"});
        assert!(
            told("p", &json!({ "plan": plan, "previous": previous })).contains("before: 3 logs")
        );
    }
}

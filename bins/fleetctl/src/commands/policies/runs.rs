//! `fleetctl policies runs|run|approve|cancel`: what a policy's runs did, and what a person may do to them,
//! through the HTTP API.

use reqwest::Method;
use serde_json::Value;
use uuid::Uuid;

use super::{find, get, id, rows, text};
use crate::api::Api;
use crate::failure::Failure;
use crate::output::{Output, short};

/// What is counted, in the order in which it adds up.
const COUNTS: [&str; 7] = ["planned", "archived", "verified", "deleted", "held", "gone", "failed"];

/// What a person does to a run.
#[derive(Clone, Copy)]
pub(super) enum Act {
    Approve,
    Cancel,
}

pub(super) async fn list(api: &Api, output: &Output, policy: &str) -> Result<(), Failure> {
    let found = find(api, policy).await?;
    let runs = rows(&get(api, &format!("/policies/{}/runs", id(&found))).await?, "runs");
    if runs.is_empty() {
        output.note("no runs yet: `fleetctl policies run` starts one");
        return Ok(());
    }
    let heads =
        ["BEGUN", "STATE", "VERSION", "PLANNED", "ARCHIVED", "DELETED", "HELD", "FAILED", "ID"];
    output.rows(&runs, &heads, |run| {
        let count = |what: &str| run[what]["events"].to_string();
        vec![
            short(text(run, "created_at"), 20),
            text(run, "state").to_owned(),
            run["policy_version"].to_string(),
            count("planned"),
            count("archived"),
            count("deleted"),
            count("held"),
            count("failed"),
            text(run, "id").to_owned(),
        ]
    });
    Ok(())
}

pub(super) async fn show(
    api: &Api,
    output: &Output,
    policy: &str,
    run: Uuid,
) -> Result<(), Failure> {
    let found = find(api, policy).await?;
    let run = get(api, &format!("/policies/{}/runs/{run}", id(&found))).await?;
    output.value(&run, || told(&run));
    Ok(())
}

pub(super) async fn start(api: &Api, output: &Output, policy: &str) -> Result<(), Failure> {
    let found = find(api, policy).await?;
    let path = format!("/policies/{}/runs", id(&found));
    // The key makes a try whose answer was lost find the run that it started.
    let key = Uuid::new_v4().to_string();
    let request = || Ok(api.request(Method::POST, &path)?.header("idempotency-key", &key));
    let run = api.send(request).await?;
    output.value(&run, || {
        let (policy, run) = (id(&found), text(&run, "id"));
        format!("started run {run}\nsee how it does: fleetctl policies run {policy} {run}")
    });
    Ok(())
}

pub(super) async fn act(
    api: &Api,
    output: &Output,
    policy: &str,
    run: Uuid,
    act: Act,
) -> Result<(), Failure> {
    let found = find(api, policy).await?;
    let (verb, done) = match act {
        Act::Approve => ("approve", "approved: it is started next"),
        Act::Cancel => ("cancel", "cancelled"),
    };
    let path = format!("/policies/{}/runs/{run}/{verb}", id(&found));
    let run = api.send(|| api.request(Method::POST, &path)).await?;
    output.value(&run, || format!("{} {done}", text(&run, "id")));
    Ok(())
}

/// A run for a person.
fn told(run: &Value) -> String {
    let mut lines = vec![format!(
        "{}, version {}, {}: {}",
        text(run, "id"),
        run["policy_version"],
        text(run, "then"),
        text(run, "state")
    )];
    if run["reason"].is_string() {
        lines.push(text(run, "reason").to_owned());
    }
    if run["waits_until"].is_string() {
        lines.push(format!("waits for its turn, looks again at {}", text(run, "waits_until")));
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
    for approval in rows(run, "approvals") {
        lines.push(format!(
            "approved by {} at {}",
            text(&approval["by"], "key_id"),
            text(&approval, "at")
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::told;
    use serde_json::json;

    #[test]
    fn a_run_says_where_it_stands_and_what_became_of_its_logs() {
        let tally = |events: u64| json!({"events": events, "bytes": events * 10});
        let run = json!({
            "id": "r", "policy_version": 2, "then": "delete", "state": "braked", "reason": "too many",
            "units": {"all": 3, "open": 1, "failed": 0}, "planned": tally(7), "archived": tally(0),
            "verified": tally(0), "deleted": tally(5), "held": tally(2), "gone": tally(0),
            "failed": tally(0), "adds_up": false,
            "approvals": [{"by": {"key_id": "k2"}, "at": "2026-03-01T00:00:00Z"}],
        });
        let shown = told(&run);
        for part in [
            "braked",
            "too many",
            "3, 1 open",
            "planned: 7 logs, 70 bytes",
            "deleted: 5",
            "k2 at",
            "do not add up",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }
}

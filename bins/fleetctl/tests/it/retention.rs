//! Policies and holds by command, on a running fleet.

use queue_core::{Clock, SystemClock};
use serde_json::json;
use testkit::eventually;

use crate::fleet::{Fleet, PATIENCE};

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_applied_simulated_explained_and_a_hold_keeps() {
    let fleet = Fleet::start().await;
    let log = fleet.post("door.opened").await;
    fleet.found("door.opened", 1).await;
    let none = fleet.type_in(&["policies", "list"]).await.ok();
    assert_eq!((none.out.as_str(), none.err.trim()), ("", "no policies: every log is kept"));

    let mut policy = json!({"name": "doors", "filter": {"actions": ["door.*"]}, "keep": "P30D",
                            "then": "archive_and_delete"});
    let file = fleet.file("doors.json", &policy.to_string());
    let made = fleet.type_in(&["policies", "apply", &file, "--json"]).await.ok().lines().remove(0);
    assert_eq!((&made["version"], &made["keep"]), (&json!(1), &json!("P30D")));
    policy["keep"] = json!("P60D");
    let file = fleet.file("doors.json", &policy.to_string());
    let changed = fleet.type_in(&["policies", "apply", &file]).await.ok();
    assert!(changed.out.contains("changed doors: version 2"), "{changed:?}");
    let list = fleet.type_in(&["policies", "list"]).await.ok();
    assert!(list.out.contains("P60D") && list.out.lines().count() == 2, "{list:?}");
    let versions = fleet.type_in(&["policies", "show", "doors", "--versions", "--json"]).await.ok();
    assert_eq!(versions.lines().len(), 2);

    let plan = fleet.type_in(&["policies", "simulate", "doors"]).await.ok();
    assert!(plan.out.contains("goes: 0 logs"), "{plan:?}");
    let why = fleet.type_in(&["policies", "explain", &log]).await.ok();
    assert!(why.out.starts_with("goes: \"doors\" alone matches."), "{why:?}");

    let place = ["holds", "place", "--matter", "case", "--reason", "letter", "--actor", "user/ana"];
    let held =
        fleet.type_in(&[&place as &[&str], &["--json"]].concat()).await.ok().lines().remove(0);
    let why = fleet.type_in(&["policies", "explain", &log]).await.ok();
    assert!(why.out.starts_with("held: Kept by the hold"), "{why:?}");
    let id = held["id"].as_str().unwrap();
    assert!(fleet.type_in(&["holds", "list"]).await.ok().out.contains(id));
    fleet.type_in(&["holds", "release", id, "--reason", "settled"]).await.ok();
    assert_eq!(fleet.type_in(&["holds", "list"]).await.ok().out, "");
    let books = fleet.type_in(&["holds", "list", "--released", "--json"]).await.ok();
    assert_eq!(books.lines()[0]["released"]["reason"], "settled");

    let deleted = fleet.type_in(&["policies", "delete", "doors"]).await.ok();
    assert!(deleted.out.contains("deleted doors"), "{deleted:?}");
    let gone = fleet.type_in(&["policies", "delete", "doors"]).await;
    assert!(gone.code == 1 && gone.err.contains("no policy \"doors\""), "{gone:?}");
    policy["keep"] = json!("forever");
    let file = fleet.file("doors.json", &policy.to_string());
    let wrong = fleet.type_in(&["policies", "apply", &file]).await;
    assert!(wrong.code == 1 && wrong.err.contains("/keep: expected an ISO 8601"), "{wrong:?}");
    // What was done to the rules is found like any log.
    fleet.found("flotilla.hold.released", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cleanup_is_shown_started_by_its_token_and_cancelled() {
    let fleet = Fleet::start().await;
    fleet.post("door.opened").await;
    fleet.post("door.closed").await;
    fleet.found("door.closed", 1).await;
    fleet.found("door.opened", 1).await;
    let now = SystemClock.now().to_rfc3339();
    let run = ["cleanup", "run", "--before", &now, "--action", "door.*"];
    let shown = eventually(PATIENCE, "older transactions end", async || {
        let said = fleet.type_in(&[&run as &[&str], &["--json"]].concat()).await.ok();
        let shown = said.lines().remove(0);
        (shown["events"] == 2).then_some(shown)
    })
    .await;
    let said = fleet.type_in(&run).await.ok();
    assert!(said.out.contains("goes: 2 logs") && said.out.contains("--confirm "), "{said:?}");
    let token = shown["confirm"].as_str().unwrap();
    let started = fleet.type_in(&[&run as &[&str], &["--confirm", token]].concat()).await.ok();
    let id = started.out.split_whitespace().nth(2).unwrap();
    let twice = fleet.type_in(&[&run as &[&str], &["--confirm", token]].concat()).await.ok();
    assert_eq!(twice.out, started.out);
    let show = fleet.type_in(&["cleanup", "show", id]).await.ok();
    assert!(show.out.contains("planning"), "no archive, so nobody works on it: {show:?}");
    fleet.type_in(&["cleanup", "cancel", id]).await.ok();
    let show = fleet.type_in(&["cleanup", "show", id, "--json"]).await.ok();
    assert_eq!(show.lines()[0]["state"], "cancelled");
    let other = ["cleanup", "run", "--before", &now, "--everything", "--confirm", token];
    let refused = fleet.type_in(&other).await;
    assert!(refused.code == 1 && refused.err.contains("dry run"), "{refused:?}");
    let vague = fleet.type_in(&["cleanup", "run", "--before", &now]).await;
    assert!(vague.code != 0 && vague.err.contains("--everything"), "{vague:?}");
}

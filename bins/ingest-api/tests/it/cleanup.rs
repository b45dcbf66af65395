//! Cleanups on request over HTTP: a dry run shows what goes and what stays, its token starts one run of
//! just that, and no other token starts any.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use database::Role;
use edge::Scope;
use queue_core::{Clock, SystemClock};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use testkit::eventually;

use crate::scene::{PATIENCE, Scene, event, key_id, make_key, problem, told};

/// The machine's clock, so many seconds ahead.
#[derive(Default)]
struct Ahead(AtomicI64);

impl Clock for Ahead {
    fn now(&self) -> DateTime<Utc> {
        SystemClock.now() + TimeDelta::seconds(self.0.load(Ordering::SeqCst))
    }
}

fn cleanup(scene: &Scene, key: &str, ask: &Value) -> RequestBuilder {
    Client::new().delete(scene.url("/logs/cleanup")).bearer_auth(key).json(ask)
}

fn ask(scene: &Scene, method: Method, path: &str, key: &str) -> RequestBuilder {
    Client::new().request(method, scene.url(path)).bearer_auth(key)
}

async fn ok(request: RequestBuilder, status: u16) -> Value {
    let (got, body) = told(request.send().await.unwrap()).await;
    assert_eq!(got, status, "{body}");
    body
}

async fn refused(request: RequestBuilder, status: u16, code: &str) -> Value {
    let told = told(request.send().await.unwrap()).await;
    problem(&told, status, code);
    told.1
}

async fn count(scene: &Scene, sql: &'static str) -> i64 {
    let owner = scene.database.connect(Role::Owner);
    sqlx::query_scalar(sql).fetch_one(owner.pool()).await.unwrap()
}

/// Stores an event of each of these actions.
async fn stored(scene: &Scene, actions: &[&str]) {
    for (n, action) in actions.iter().enumerate() {
        let mut event = event(n);
        event["action"] = json!(action);
        ok(scene.post("/logs").json(&event), 202).await;
    }
    scene.store().await;
}

fn before(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Every `doc.*` up to now.
fn docs() -> Value {
    json!({"filter": {"actions": ["doc.*"]}, "before": before(SystemClock.now())})
}

/// A dry run, once nothing that runs in the whole cluster can precede what was stored.
async fn dry_run(scene: &Scene, ask: &Value, events: u64) -> Value {
    eventually(PATIENCE, "older transactions end", async || {
        let shown = ok(cleanup(scene, &scene.key, ask), 200).await;
        (shown["events"] == events).then_some(shown)
    })
    .await
}

#[tokio::test]
async fn a_dry_run_shows_what_goes_and_what_stays() {
    let scene = Scene::new().await;
    let minimum = json!({"name": "books", "filter": {"actions": ["doc.booked"]}, "keep": "P2Y",
                         "then": "archive", "legal_minimum": "P1Y"});
    ok(scene.post("/policies").json(&minimum), 201).await;
    let hold =
        json!({"matter": "m", "reason": "r", "filter": {"actions": ["doc.held", "doc.both"]}});
    ok(scene.post("/holds").json(&hold), 201).await;
    stored(
        &scene,
        &["doc.read", "doc.read", "doc.sent", "doc.booked", "doc.held", "doc.both", "x.y"],
    )
    .await;
    let ask = docs();
    let shown = dry_run(&scene, &ask, 3).await;
    assert_eq!((&shown["dry_run"], &shown["complete"]), (&json!(true), &json!(true)));
    assert_eq!((&shown["held"], &shown["below_legal_minimum"]), (&json!(2), &json!(1)));
    let actions: Vec<(&str, u64)> = shown["by_action"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["action"].as_str().unwrap(), one["events"].as_u64().unwrap()))
        .collect();
    assert_eq!(actions, [("doc.read", 2), ("doc.sent", 1)]);
    assert!(shown["oldest"].as_str().unwrap() <= shown["newest"].as_str().unwrap());
    assert!(shown["bytes"].as_u64().unwrap() > 300 && shown["confirm"].is_string(), "{shown}");
    // The same as parameters.
    let query = [("filter", ask["filter"].to_string()), ("before", docs()["before"].to_string())];
    let query = query.map(|(name, value)| (name, value.trim_matches('"').to_owned()));
    let by_query = ask_query(&scene, &query);
    assert_eq!(ok(by_query, 200).await["events"], 3);
    assert_eq!(count(&scene, "SELECT count(*) FROM retention_runs").await, 0, "nothing is started");
    let previewed = "SELECT count(*) FROM logs
                      WHERE action = 'flotilla.cleanup.previewed' AND tenant = 'acme'";
    assert!(count(&scene, previewed).await >= 2, "each is audited");
    scene.end().await;
}

fn ask_query(scene: &Scene, query: &[(&str, String)]) -> RequestBuilder {
    ask(scene, Method::DELETE, "/logs/cleanup", &scene.key).query(query)
}

#[tokio::test]
async fn what_nothing_matches_has_no_token_and_everything_is_asked_for_as_such() {
    let scene = Scene::new().await;
    stored(&scene, &["doc.read"]).await;
    // Before the first dry run, whose audit entry is a log, too.
    let now = before(SystemClock.now());
    let mut none = docs();
    none["filter"]["actions"] = json!(["no.such"]);
    let shown = ok(cleanup(&scene, &scene.key, &none), 200).await;
    assert_eq!((&shown["events"], &shown["confirm"]), (&json!(0), &Value::Null), "{shown}");
    let later = before(SystemClock.now() + TimeDelta::hours(1));
    for ask in [
        json!({"before": now}),
        json!({"before": now, "filter": {}}),
        json!({"before": later, "all": true}),
        json!({"all": true}),
        json!({"before": now, "all": true, "user": "u"}),
    ] {
        refused(cleanup(&scene, &scene.key, &ask), 422, "invalid-field").await;
    }
    let twice = [("all", "true".to_owned()), ("all", "true".to_owned())];
    refused(ask_query(&scene, &twice), 400, "invalid-query").await;
    let both = cleanup(&scene, &scene.key, &none).query(&[("all", "true")]);
    refused(both, 400, "invalid-query").await;
    let all = json!({"before": now, "all": true});
    dry_run(&scene, &all, 1).await;
    scene.end().await;
}

#[tokio::test]
async fn a_token_starts_one_run_of_what_was_shown() {
    let scene = Scene::new().await;
    stored(&scene, &["doc.read", "doc.read"]).await;
    let mut ask_for = docs();
    let shown = dry_run(&scene, &ask_for, 2).await;
    ask_for["confirm"] = shown["confirm"].clone();
    let answer = cleanup(&scene, &scene.key, &ask_for).send().await.unwrap();
    let at = answer.headers()["location"].to_str().unwrap().to_owned();
    let (status, run) = told(answer).await;
    assert_eq!((status, &run["state"]), (202, &json!("planning")), "{run}");
    assert_eq!(at, format!("/logs/cleanup/{}", run["id"].as_str().unwrap()));
    assert_eq!(run["as_of"], shown["as_of"]);
    let again = ok(cleanup(&scene, &scene.key, &ask_for), 202).await;
    assert_eq!(again, run, "the answer was lost");
    let put = "SELECT count(*) FROM outbox WHERE queue = 'audit-archive' AND tenant = 'acme'";
    assert_eq!(count(&scene, put).await, 1);
    let kept = "SELECT count(*) FROM retention_runs
                 WHERE tenant = 'acme' AND policy_id IS NULL AND then_do = 'archive_and_delete'
                   AND rules IS NOT NULL AND (request ->> 'snapshot_xmin')::bigint > 0";
    assert_eq!(count(&scene, kept).await, 1);
    let audited = "SELECT count(*) FROM logs
                    WHERE action = 'flotilla.cleanup.requested' AND tenant IN ('acme', 'system')";
    assert_eq!(count(&scene, audited).await, 2);
    assert_eq!(ok(scene.get(&at), 200).await, run);

    let cancel = format!("{at}/cancel");
    for (method, path) in [(Method::GET, &at), (Method::POST, &cancel)] {
        refused(ask(&scene, method, path, &scene.foreign_key), 404, "not-found").await;
    }
    for _ in 0..2 {
        assert_eq!(ok(scene.post(&cancel), 200).await["state"], "cancelled");
    }
    let again = ok(cleanup(&scene, &scene.key, &ask_for), 202).await;
    assert_eq!((&again["id"], &again["state"]), (&run["id"], &json!("cancelled")), "it is spent");
    scene.end().await;
}

#[tokio::test]
async fn no_other_token_starts_anything() {
    let clock = Arc::new(Ahead::default());
    let scene = Scene::by(clock.clone()).await;
    stored(&scene, &["doc.read"]).await;
    let mut ask = docs();
    let token = dry_run(&scene, &ask, 1).await["confirm"].as_str().unwrap().to_owned();
    let owner = scene.database.connect(Role::Owner);
    let sibling = make_key(&owner, "acme", &[Scope::LogsCleanup]).await;
    let confirm = |ask: &Value, token: &str, key: &str| {
        let mut ask = ask.clone();
        ask["confirm"] = json!(token);
        cleanup(&scene, key, &ask)
    };
    for key in [&sibling, &scene.foreign_key] {
        refused(confirm(&ask, &token, key), 403, "confirm-foreign").await;
    }
    let altered = if token.ends_with("AAAA") { "BBBB" } else { "AAAA" };
    let altered = format!("{}{altered}", &token[..token.len() - 4]);
    for damaged in [altered.as_str(), "AAAA", "no token"] {
        refused(confirm(&ask, damaged, &scene.key), 400, "confirm-invalid").await;
    }
    let mut other = ask.clone();
    other["filter"]["actions"] = json!(["*"]);
    refused(confirm(&other, &token, &scene.key), 400, "confirm-invalid").await;

    let hold = json!({"matter": "m", "reason": "r", "filter": {"actions": ["other"]}});
    let hold = ok(scene.post("/holds").json(&hold), 201).await;
    refused(confirm(&ask, &token, &scene.key), 409, "confirm-stale").await;
    let release = format!("/holds/{}/release", hold["id"].as_str().unwrap());
    ok(scene.post(&release).json(&json!({"reason": "r"})), 200).await;
    clock.0.store(15 * 60 + 30, Ordering::SeqCst);
    let late = refused(confirm(&ask, &token, &scene.key), 409, "confirm-expired").await;
    assert!(late["detail"].as_str().unwrap().contains("dry run"), "{late}");
    assert_eq!(count(&scene, "SELECT count(*) FROM retention_runs").await, 0);

    clock.0.store(0, Ordering::SeqCst);
    ask["confirm"] = json!(token);
    let run = ok(cleanup(&scene, &scene.key, &ask), 202).await;
    clock.0.store(60 * 60, Ordering::SeqCst);
    assert_eq!(ok(cleanup(&scene, &scene.key, &ask), 202).await["id"], run["id"], "however late");
    assert_eq!(run["requester"]["key_id"], key_id(&scene.key));
    scene.end().await;
}

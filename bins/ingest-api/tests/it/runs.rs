//! Runs over HTTP: started once, shown with counts, approved by another key alone, cancelled; each deed
//! audited, and none seen or done by another tenant.

use std::time::Duration;

use database::Role;
use edge::Scope;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use testkit::eventually;

use crate::scene::{Scene, make_key, problem, told};

async fn ok(request: RequestBuilder, status: u16) -> Value {
    let (got, body) = told(request.send().await.unwrap()).await;
    assert_eq!(got, status, "{body}");
    body
}

async fn refused(request: RequestBuilder, status: u16, code: &str) {
    problem(&told(request.send().await.unwrap()).await, status, code);
}

struct Keys {
    writer: String,
    approver: String,
    stranger: String,
}

impl Keys {
    async fn make(scene: &Scene) -> Self {
        let owner = scene.database.connect(Role::Owner);
        let all = [Scope::PoliciesRead, Scope::PoliciesWrite, Scope::PoliciesApprove];
        Self {
            writer: make_key(&owner, "acme", &all).await,
            approver: make_key(&owner, "acme", &[Scope::PoliciesRead, Scope::PoliciesApprove])
                .await,
            stranger: make_key(&owner, "globex", &all).await,
        }
    }
}

fn ask(scene: &Scene, key: &str, method: Method, path: &str) -> RequestBuilder {
    reqwest::Client::new().request(method, scene.url(path)).bearer_auth(key)
}

async fn policy(scene: &Scene, keys: &Keys) -> String {
    let body = json!({"name": "old ones", "keep": "P30D", "then": "delete"});
    let made = ok(ask(scene, &keys.writer, Method::POST, "/policies").json(&body), 201).await;
    made["id"].as_str().unwrap().to_owned()
}

/// Brakes a run, as the worker does.
async fn brake(scene: &Scene, run: &str) {
    let owner = scene.database.connect(Role::Owner);
    sqlx::query(
        "UPDATE retention_runs SET state = 'braked', failure = 'too many' WHERE id = $1::uuid",
    )
    .bind(run)
    .execute(owner.pool())
    .await
    .unwrap();
}

async fn evaluations(scene: &Scene) -> i64 {
    let owner = scene.database.connect(Role::Owner);
    let count = "SELECT count(*) FROM outbox WHERE queue = 'audit-retention' AND tenant = 'acme'";
    sqlx::query_scalar(count).fetch_one(owner.pool()).await.unwrap()
}

async fn audited(scene: &Scene, action: &str) -> i64 {
    let owner = scene.database.connect(Role::Owner);
    sqlx::query_scalar(
        "SELECT count(*) FROM logs WHERE action = $1 AND tenant IN ('acme', 'system')",
    )
    .bind(action)
    .fetch_one(owner.pool())
    .await
    .unwrap()
}

#[tokio::test]
async fn a_run_is_started_once_and_shown() {
    let scene = Scene::new().await;
    let keys = Keys::make(&scene).await;
    let id = policy(&scene, &keys).await;
    let runs = format!("/policies/{id}/runs");
    let start = || ask(&scene, &keys.writer, Method::POST, &runs).header("idempotency-key", "one");
    let run = ok(start(), 202).await;
    assert_eq!(ok(start(), 202).await["id"], run["id"], "the answer was lost");
    assert_eq!(
        (&run["state"], &run["policy_version"], &run["then"]),
        (&json!("planning"), &json!(1), &json!("delete"))
    );
    assert_eq!(evaluations(&scene).await, 1);
    eventually(Duration::from_secs(60), "both entries are there", async || {
        (audited(&scene, "flotilla.run.started").await == 2).then_some(())
    })
    .await;
    let listed = ok(ask(&scene, &keys.writer, Method::GET, &runs), 200).await;
    assert_eq!(listed["runs"].as_array().unwrap().len(), 1);
    let before = format!("{runs}?before=2020-01-01T00:00:00Z");
    assert_eq!(ok(ask(&scene, &keys.writer, Method::GET, &before), 200).await["runs"], json!([]));
    let one = format!("{runs}/{}", run["id"].as_str().unwrap());
    // One shows its plan, a list shows none.
    let owner = scene.database.connect(Role::Owner);
    let plan = r#"UPDATE retention_runs SET plan = '{"events": 7}', rules = '{}',
                         again_at = '2027-01-01T00:01:00Z'"#;
    sqlx::query(plan).execute(owner.pool()).await.unwrap();
    let listed = ok(ask(&scene, &keys.writer, Method::GET, &runs), 200).await;
    assert_eq!(listed["runs"][0].get("plan"), None);
    assert_eq!(listed["runs"][0]["waits_until"], "2027-01-01T00:01:00Z");
    let shown = ok(ask(&scene, &keys.writer, Method::GET, &one), 200).await;
    assert_eq!(shown["plan"], json!({"events": 7}));
    assert_eq!(shown["planned"], json!({"events": 0, "bytes": 0}));
    // Another tenant, another policy, none of the id.
    for path in [&runs, &one, &format!("{runs}/{id}")] {
        let key = if *path == format!("{runs}/{id}") { &keys.writer } else { &keys.stranger };
        refused(ask(&scene, key, Method::GET, path), 404, "not-found").await;
    }
    for act in ["approve", "cancel"] {
        let path = format!("{one}/{act}");
        refused(ask(&scene, &keys.stranger, Method::POST, &path), 404, "not-found").await;
    }
    refused(ask(&scene, &keys.stranger, Method::POST, &runs), 404, "not-found").await;
    refused(ask(&scene, &keys.approver, Method::POST, &runs), 403, "forbidden").await;
    scene.end().await;
}

#[tokio::test]
async fn a_brake_is_passed_with_another_key_than_the_policys_own() {
    let scene = Scene::new().await;
    let keys = Keys::make(&scene).await;
    let id = policy(&scene, &keys).await;
    let run =
        ok(ask(&scene, &keys.writer, Method::POST, &format!("/policies/{id}/runs")), 202).await;
    let run = run["id"].as_str().unwrap();
    let approve = format!("/policies/{id}/runs/{run}/approve");
    refused(ask(&scene, &keys.approver, Method::POST, &approve), 409, "run-state-conflict").await;
    brake(&scene, run).await;
    refused(ask(&scene, &keys.writer, Method::POST, &approve), 403, "self-approval").await;
    let approved = ok(ask(&scene, &keys.approver, Method::POST, &approve), 202).await;
    assert_eq!((&approved["state"], &approved["reason"]), (&json!("braked"), &json!("too many")));
    assert_eq!(approved["approvals"].as_array().unwrap().len(), 1);
    assert_eq!(evaluations(&scene).await, 2, "it is evaluated again");
    let again = ok(ask(&scene, &keys.approver, Method::POST, &approve), 202).await;
    assert_eq!((again["approvals"].as_array().unwrap().len(), evaluations(&scene).await), (1, 2));
    assert_eq!(audited(&scene, "flotilla.run.approved").await, 2);
    scene.end().await;
}

/// Two people look at what a run deletes; each part in it is one of them.
#[tokio::test]
async fn who_had_a_part_in_a_run_does_not_approve_it() {
    let scene = Scene::new().await;
    let owner = scene.database.connect(Role::Owner);
    let all = [Scope::PoliciesRead, Scope::PoliciesWrite, Scope::PoliciesApprove];
    let mut keys = Vec::new();
    for _ in 0..4 {
        keys.push(make_key(&owner, "acme", &all).await);
    }
    let [first, second, starter, later] = &keys[..] else { unreachable!() };
    let body = |version: u64| json!({"name": "old ones", "keep": "P30D", "then": "delete", "version": version});
    let made = ok(ask(&scene, first, Method::POST, "/policies").json(&body(1)), 201).await;
    let path = format!("/policies/{}", made["id"].as_str().unwrap());
    ok(ask(&scene, second, Method::PUT, &path).json(&body(1)), 200).await;
    let run = ok(ask(&scene, starter, Method::POST, &format!("{path}/runs")), 202).await;
    assert_eq!(run["policy_version"], 2);
    ok(ask(&scene, later, Method::PUT, &path).json(&body(2)), 200).await;
    let run = run["id"].as_str().unwrap();
    brake(&scene, run).await;
    let approve = format!("{path}/runs/{run}/approve");
    // The version that it goes by, one that this was made from, and the start.
    for key in [second, first, starter] {
        refused(ask(&scene, key, Method::POST, &approve), 403, "self-approval").await;
    }
    // What was written later is none of it.
    let approved = ok(ask(&scene, later, Method::POST, &approve), 202).await;
    assert_eq!(approved["approvals"].as_array().unwrap().len(), 1);
    scene.end().await;
}

#[tokio::test]
async fn a_run_is_cancelled_once_and_stays_so() {
    let scene = Scene::new().await;
    let keys = Keys::make(&scene).await;
    let id = policy(&scene, &keys).await;
    let run =
        ok(ask(&scene, &keys.writer, Method::POST, &format!("/policies/{id}/runs")), 202).await;
    let run = run["id"].as_str().unwrap().to_owned();
    // A unit that nobody has begun.
    let owner = scene.database.connect(Role::Owner);
    let unit = "INSERT INTO archive_units (tenant, id, run_id, number, work, retention_class, hour, first_at,
                       first_id, last_at, last_id, planned_events, planned_bytes)
                VALUES ('acme', gen_random_uuid(), $1::uuid, 1, 'delete', '90d', now(), now(),
                        gen_random_uuid(), now(), gen_random_uuid(), 1, 1)";
    sqlx::query(unit).bind(&run).execute(owner.pool()).await.unwrap();
    let count = "UPDATE retention_runs SET units = 1, units_open = 1 WHERE id = $1::uuid";
    sqlx::query(count).bind(&run).execute(owner.pool()).await.unwrap();
    let cancel = format!("/policies/{id}/runs/{run}/cancel");
    for _ in 0..2 {
        let cancelled = ok(ask(&scene, &keys.writer, Method::POST, &cancel), 200).await;
        assert_eq!(
            (&cancelled["state"], &cancelled["units"]["open"]),
            (&json!("cancelled"), &json!(0))
        );
    }
    assert_eq!(audited(&scene, "flotilla.run.cancelled").await, 2);
    let disabled = json!({"name": "old ones", "keep": "P30D", "then": "delete", "state": "disabled", "version": 1});
    let path = format!("/policies/{id}");
    ok(ask(&scene, &keys.writer, Method::PUT, &path).json(&disabled), 200).await;
    let start = ask(&scene, &keys.writer, Method::POST, &format!("/policies/{id}/runs"));
    refused(start, 409, "run-state-conflict").await;
    scene.end().await;
}

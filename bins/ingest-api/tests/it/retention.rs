//! Policies and holds over HTTP: versions, repeats, refusals, isolation, what is audited, what a
//! simulation and an explanation say.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::queue::Published;
use crate::scene::{PATIENCE, Scene, event, key_id, make_key, problem, told};
use database::Role;
use edge::Scope;
use testkit::eventually;

fn policy(name: &str) -> Value {
    json!({"name": name, "filter": {"actions": ["doc.*"]}, "keep": "P30D", "then": "archive_and_delete"})
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

/// The fleet's own entries of that tenant, as `(action, target, key id, metadata)`.
async fn audited(scene: &Scene, tenant: &str) -> Vec<(String, String, String, Value)> {
    let database = scene.database.connect(Role::Worker);
    let rows: Vec<(String, String, String, Vec<u8>)> = sqlx::query_as(
        "SELECT action, target_ids[1], actor_id, record FROM logs
          WHERE tenant = $1 AND action LIKE 'flotilla.%' ORDER BY recorded_at, id",
    )
    .bind(tenant)
    .fetch_all(database.pool())
    .await
    .unwrap();
    let metadata = |record: &[u8]| {
        serde_json::from_slice::<Value>(record).unwrap()["event"]["metadata"].take()
    };
    rows.into_iter().map(|(a, t, k, record)| (a, t, k, metadata(&record))).collect()
}

#[tokio::test]
async fn a_policy_is_made_changed_and_deleted_and_every_step_is_audited() {
    let scene = Scene::new().await;
    let answer = scene.post("/policies").json(&policy("docs")).send().await.unwrap();
    assert_eq!(answer.headers()["etag"], "\"1\"");
    let (status, made) = told(answer).await;
    assert_eq!(status, 201, "{made}");
    let path = format!("/policies/{}", made["id"].as_str().unwrap());
    assert_eq!(ok(scene.get(&path), 200).await, made);
    let put = |body: &Value| scene.client.put(scene.url(&path)).bearer_auth(&scene.key).json(body);

    let mut change = policy("docs");
    change["keep"] = json!("P60D");
    refused(put(&change), 422, "invalid-field").await;
    refused(put(&change).header("if-match", "1"), 400, "invalid-query").await;
    let changed = ok(put(&change).header("if-match", "\"1\""), 200).await;
    assert_eq!((&changed["version"], &changed["keep"]), (&json!(2), &json!("P60D")));
    assert_eq!(ok(put(&change).header("if-match", "\"1\""), 200).await, changed, "a lost answer");
    change["keep"] = json!("P61D");
    change["version"] = json!(1);
    let late = refused(put(&change), 409, "version-conflict").await;
    assert!(late["detail"].as_str().unwrap().contains("version 2"), "{late}");

    let listed = ok(scene.get("/policies"), 200).await;
    assert_eq!(listed["policies"], json!([changed]));
    let delete = || scene.client.delete(scene.url(&path)).bearer_auth(&scene.key);
    refused(delete().header("if-match", "\"1\""), 409, "version-conflict").await;
    let deleted = ok(delete(), 200).await;
    assert_eq!((&deleted["version"], &deleted["state"]), (&json!(3), &json!("deleted")));
    assert_eq!(ok(delete(), 200).await, deleted, "again is the same");
    assert_eq!(ok(scene.get("/policies"), 200).await["policies"], json!([]));
    change["version"] = json!(3);
    refused(put(&change), 404, "not-found").await;
    let versions = ok(scene.get(&format!("{path}/versions")), 200).await;
    assert_eq!(versions["versions"].as_array().unwrap().len(), 3);
    assert_eq!(versions["versions"][2], made);

    let steps = ["flotilla.policy.created", "flotilla.policy.changed", "flotilla.policy.deleted"];
    for tenant in ["acme", "system"] {
        let entries = audited(&scene, tenant).await;
        assert_eq!(entries.iter().map(|entry| entry.0.as_str()).collect::<Vec<_>>(), steps);
        for (at, (_, target, key, metadata)) in entries.iter().enumerate() {
            assert_eq!(
                (target.as_str(), key.as_str()),
                (made["id"].as_str().unwrap(), key_id(&scene.key))
            );
            assert_eq!(
                (&metadata["version"], &metadata["tenant"]),
                (&json!(at + 1), &json!("acme"))
            );
        }
        // The version is there to be read; its entry says which text it was.
        let mut spec = changed.clone();
        for member in ["id", "version", "effective_from", "created_by", "created_at"] {
            assert!(spec.as_object_mut().unwrap().remove(member).is_some(), "{member}");
        }
        assert_eq!(entries[1].3["spec_sha256"], sha256(&spec));
        assert_eq!(entries[1].3["name"], "docs");
    }
    // The same entries go through the queue, so that search and the live tail have them.
    let sent: Vec<String> =
        scene.queue.items().into_iter().map(|(_, item)| item.record.get().to_owned()).collect();
    assert_eq!(sent.iter().filter(|record| record.contains("flotilla.policy.")).count(), 6);
    let stored = scene.store().await;
    stored.store(&scene.queue).await;
    assert_eq!(audited(&scene, "acme").await.len(), 3, "stored once all the same");
}

/// Of canonical JSON (RFC 8785). Numbers are none of it that a policy would write in two ways.
fn sha256(value: &Value) -> String {
    hex::encode(Sha256::digest(serde_json_canonicalizer::to_vec(value).unwrap()))
}

/// Every list full, every text as long as it may be.
fn largest(version: u64) -> Value {
    let many = |chars: usize| (10..42).map(move |n| format!("{n}{}", "\u{fc}".repeat(chars - 2)));
    let actors: Vec<Value> =
        many(64).zip(many(256)).map(|(kind, id)| json!({"type": kind, "id": id})).collect();
    let metadata: serde_json::Map<String, Value> = (10..42)
        .map(|n| (format!("{n}{}", "p".repeat(510)), json!("v".repeat(8 * 1024))))
        .collect();
    json!({
        "name": "\u{fc}".repeat(100), "keep": "P30D", "then": "archive_and_delete", "version": version,
        "filter": {
            "actions": many(128).collect::<Vec<_>>(), "actors": actors,
            "target_types": many(64).collect::<Vec<_>>(), "metadata": metadata,
        },
    })
}

#[tokio::test]
async fn the_largest_policy_and_hold_are_taken_and_audited() {
    let scene = Scene::new().await;
    let made = ok(scene.post("/policies").json(&largest(1)), 201).await;
    let put = scene.client.put(scene.url(&format!("/policies/{}", made["id"].as_str().unwrap())));
    let changed = ok(put.bearer_auth(&scene.key).json(&largest(1)), 200).await;
    assert_eq!(changed["version"], 2);
    let hold = json!({"matter": "\u{fc}".repeat(200), "reason": "\u{fc}".repeat(1_000),
                      "filter": largest(1)["filter"]});
    let placed = ok(scene.post("/holds").json(&hold), 201).await;
    let release = format!("/holds/{}/release", placed["id"].as_str().unwrap());
    ok(scene.post(&release).json(&json!({"reason": "\u{fc}".repeat(1_000)})), 200).await;
    let entries = audited(&scene, "acme").await;
    let actions: Vec<&str> = entries.iter().map(|entry| entry.0.as_str()).collect();
    let (policy, hold) = ("flotilla.policy.", "flotilla.hold.");
    let expected = [(policy, "created"), (policy, "changed"), (hold, "placed"), (hold, "released")];
    assert_eq!(actions, expected.map(|(of, what)| format!("{of}{what}")));
    assert_eq!(entries[0].3["spec_sha256"], entries[1].3["spec_sha256"]);
}

#[tokio::test]
async fn repeats_with_a_key_make_one_and_names_are_unique() {
    let scene = Scene::new().await;
    let post = |body: &Value| scene.post("/policies").header("idempotency-key", "k-1").json(body);
    let first = ok(post(&policy("docs")), 201).await;
    assert_eq!(ok(post(&policy("docs")), 200).await, first);
    refused(post(&policy("other")), 422, "idempotency-mismatch").await;
    let taken = refused(scene.post("/policies").json(&policy("docs")), 409, "name-taken").await;
    assert!(taken["detail"].as_str().unwrap().contains(first["id"].as_str().unwrap()));
    let hold = json!({"matter": "m", "reason": "r", "filter": {}});
    let place = |body: &Value| scene.post("/holds").header("idempotency-key", "k-1").json(body);
    let placed = ok(place(&hold), 201).await;
    assert_eq!(ok(place(&hold), 200).await, placed);
    let other = json!({"matter": "other", "reason": "r", "filter": {}});
    refused(place(&other), 422, "idempotency-mismatch").await;
    assert_eq!(audited(&scene, "acme").await.len(), 2, "one of each");
}

#[tokio::test]
async fn what_cannot_be_taken_is_told_where() {
    let scene = Scene::new().await;
    let mut zero = policy("docs");
    zero["keep"] = json!("PT0S");
    zero["priority"] = json!("high");
    let told = refused(scene.post("/policies").json(&zero), 422, "invalid-field").await;
    let pointers: Vec<&str> =
        told["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
    assert_eq!(pointers, ["/priority", "/keep"]);
    let json = |path: &str, text: &'static str| {
        scene.post(path).header("content-type", "application/json").body(text)
    };
    for path in ["/policies", "/holds"] {
        refused(json(path, "{\"name\":"), 400, "invalid-json").await;
        refused(json(path, "[]"), 422, "invalid-field").await;
        refused(scene.post(path).body("x"), 415, "unsupported-media-type").await;
        let big = format!("\"{}\"", "x".repeat(512 * 1024));
        let request = scene.post(path).header("content-type", "application/json").body(big);
        refused(request, 413, "body-too-large").await;
    }
    refused(scene.get("/holds?all=1"), 400, "invalid-query").await;
    let nobody = "/policies/0193e9a0-0000-7000-8000-000000000001";
    for path in [nobody, &format!("{nobody}/versions"), "/policies/none"] {
        refused(scene.get(path), 404, "not-found").await;
    }
    refused(scene.post(&format!("{nobody}/simulate")), 404, "not-found").await;
    let release = scene.post("/holds/0193e9a0-0000-7000-8000-000000000001/release");
    refused(release.json(&json!({"reason": "r"})), 404, "not-found").await;
    let tax = json!({"name": "tax", "keep": "P1Y", "then": "archive", "legal_minimum": "P7Y"});
    ok(scene.post("/policies").json(&tax), 201).await;
    let privacy =
        json!({"name": "privacy", "keep": "P1Y", "then": "delete", "legal_maximum": "P2Y"});
    let told = refused(scene.post("/policies").json(&privacy), 409, "policy-conflict").await;
    assert!(told["detail"].as_str().unwrap().contains("\"tax\""), "{told}");
}

#[tokio::test]
async fn a_tenants_rules_are_its_own() {
    let scene = Scene::new().await;
    let made = ok(scene.post("/policies").json(&policy("docs")), 201).await;
    let hold = json!({"matter": "m", "reason": "r", "filter": {}});
    let hold = ok(scene.post("/holds").json(&hold), 201).await;
    let foreign = |method: Method, path: &str| {
        scene.client.request(method, scene.url(path)).bearer_auth(&scene.foreign_key)
    };
    let path = format!("/policies/{}", made["id"].as_str().unwrap());
    refused(foreign(Method::GET, &path), 404, "not-found").await;
    refused(foreign(Method::GET, &format!("{path}/versions")), 404, "not-found").await;
    refused(foreign(Method::DELETE, &path), 404, "not-found").await;
    refused(foreign(Method::POST, &format!("{path}/simulate")), 404, "not-found").await;
    let put = foreign(Method::PUT, &path).header("if-match", "\"1\"").json(&policy("mine"));
    refused(put, 404, "not-found").await;
    let release = format!("/holds/{}/release", hold["id"].as_str().unwrap());
    refused(foreign(Method::POST, &release).json(&json!({"reason": "r"})), 404, "not-found").await;
    assert_eq!(ok(foreign(Method::GET, "/policies"), 200).await["policies"], json!([]));
    assert_eq!(ok(foreign(Method::GET, "/holds?released=true"), 200).await["holds"], json!([]));
    assert_eq!(ok(scene.get(&path), 200).await["version"], 1);
    assert_eq!(ok(scene.get("/holds"), 200).await["holds"], json!([hold]));
    assert_eq!(audited(&scene, "umbrella").await, []);
}

/// Releases the hold; the log that it kept goes again.
async fn release_is_once(scene: &Scene, hold: &Value, explain: &str) {
    let path = format!("/holds/{}/release", hold["id"].as_str().unwrap());
    let released = ok(scene.post(&path).json(&json!({"reason": "settled"})), 200).await;
    assert_eq!(released["released"]["reason"], "settled");
    assert_eq!(ok(scene.post(&path).json(&json!({"reason": "again"})), 200).await, released);
    for bad in [json!({}), json!({"reason": " "}), json!({"reason": "r", "who": "x"})] {
        refused(scene.post(&path).json(&bad), 422, "invalid-field").await;
    }
    assert_eq!(ok(scene.get(explain), 200).await["fate"], "goes");
    refused(scene.get("/logs/0193e9a0-0000-7000-8000-000000000001/retention"), 404, "not-found")
        .await;
    let actions: Vec<String> =
        audited(scene, "acme").await.into_iter().map(|entry| entry.0).collect();
    assert_eq!(
        actions,
        ["flotilla.policy.created", "flotilla.hold.placed", "flotilla.hold.released"]
    );
}

#[tokio::test]
async fn a_simulation_counts_what_would_go_and_an_explanation_says_why() {
    let scene = Scene::new().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(ok(scene.post("/logs").json(&event(n)), 202).await["id"].clone());
    }
    let stored = scene.store().await;
    let made = ok(scene.post("/policies").json(&policy("docs")), 201).await;
    let id = made["id"].as_str().unwrap();
    let simulate = format!("/policies/{id}/simulate");
    let today = ok(scene.post(&simulate), 200).await;
    let plan = &today["plan"];
    assert_eq!(
        (&plan["events"], &plan["looked_at"], &plan["complete"]),
        (&json!(0), &json!(0), &json!(true))
    );
    assert_eq!(today["previous"], Value::Null);

    let hold = json!({"matter": "secret matter", "reason": "r",
                      "filter": {"actors": [{"type": "user", "id": "u3"}]}});
    let hold = ok(scene.post("/holds").json(&hold), 201).await;
    let in_days = |days: i64| {
        let at = queue_core::Clock::now(&queue_core::SystemClock) + chrono::TimeDelta::days(days);
        json!({"as_of": at.to_rfc3339()})
    };
    // Other tests' transactions hold the snapshot back for a while: transaction ids are the cluster's.
    let later = eventually(PATIENCE, "the logs are in the snapshot", async || {
        let (_, later) = told(scene.post(&simulate).json(&in_days(31)).send().await.unwrap()).await;
        (later["plan"]["events"] == 4).then_some(later)
    })
    .await;
    let plan = &later["plan"];
    assert_eq!((&plan["events"], &plan["staying"]["held"]), (&json!(4), &json!(1)), "{later}");
    // Besides those, the audit entries of the policy and the hold are looked at.
    assert!(plan["looked_at"].as_u64() >= Some(5), "{later}");
    assert_eq!(plan["by_action"][0]["action"], "doc.read");
    assert_eq!((&plan["policy_version"], &plan["tenant"]), (&json!(1), &json!("acme")));
    let past = scene.post(&simulate).json(&json!({"as_of": "2020-01-01T00:00:00Z"}));
    refused(past, 422, "invalid-field").await;

    // Yesterday's figures, where there are any.
    let yesterday = "UPDATE plan_figures SET day = day - 1, events = 8 WHERE policy_id = $1::uuid";
    let owner = scene.database.connect(Role::Owner);
    assert_eq!(
        sqlx::query(yesterday).bind(id).execute(owner.pool()).await.unwrap().rows_affected(),
        1
    );
    let compared = ok(scene.post(&simulate).json(&in_days(31)), 200).await;
    assert_eq!((&compared["previous"]["events"], &compared["growth"]), (&json!(8), &json!(0.5)));

    let explain = |n: usize| format!("/logs/{}/retention", ids[n].as_str().unwrap());
    let free = ok(scene.get(&explain(0)), 200).await;
    assert_eq!((&free["fate"], &free["winner"]), (&json!("goes"), &json!(id)), "{free}");
    assert_eq!(free["matched"][0]["name"], "docs");
    assert!(free["why"].as_str().unwrap().contains("\"docs\" alone matches"), "{free}");
    assert_eq!(free["rules_fingerprint"], plan["rules_fingerprint"]);
    let kept = ok(scene.get(&explain(3)), 200).await;
    assert_eq!((&kept["fate"], &kept["held_by"][0]["hold_id"]), (&json!("held"), &hold["id"]));
    assert!(kept["why"].as_str().unwrap().contains("secret matter"), "{kept}");
    let reader = make_key(&owner, "acme", &[Scope::PoliciesRead]).await;
    let without = scene.client.get(scene.url(&explain(3))).bearer_auth(reader);
    let without = ok(without, 200).await;
    assert_eq!(without["held_by"], json!([{"hold_id": hold["id"]}]));
    assert!(!without.to_string().contains("secret matter"));

    // What a hold keeps is not erased.
    let erase = |n: usize| {
        let path = format!("/logs/{}?reason=asked", ids[n].as_str().unwrap());
        scene.client.delete(scene.url(&path)).bearer_auth(&scene.key)
    };
    refused(erase(3), 409, "log-held").await;
    ok(erase(0), 202).await;

    release_is_once(&scene, &hold, &explain(3)).await;
    ok(erase(3), 202).await;
    drop(stored);
}

#[tokio::test]
async fn the_api_may_write_no_log_but_its_own_entries() {
    let scene = Scene::new().await;
    let api = scene.database.connect(Role::Api);
    let tenant = "acme".parse().unwrap();
    for (of, action, allowed) in [
        ("acme", "flotilla.test", true),
        ("system", "flotilla.test", true),
        ("umbrella", "flotilla.test", false),
        ("acme", "doc.read", false),
    ] {
        let mut transaction = api.tenant(&tenant).await.unwrap();
        let write =
            "SELECT flotilla_self_audit($1, gen_random_uuid(), '7y', now(), '', sha256(''), '',
                                                'api_key', 'k', $2, '{}', '{}')";
        let written = sqlx::query(write).bind(of).bind(action).execute(&mut *transaction).await;
        assert_eq!(written.is_ok(), allowed, "{of} {action} {written:?}");
    }
    let mut transaction = api.tenant(&tenant).await.unwrap();
    let insert = "INSERT INTO logs SELECT * FROM logs";
    assert!(sqlx::query(insert).execute(&mut *transaction).await.is_err());
}

#[tokio::test]
async fn a_change_without_its_audit_entry_does_not_happen() {
    let scene = Scene::new().await;
    let owner = scene.database.connect(Role::Owner);
    let drop_function = "DROP FUNCTION flotilla_self_audit";
    sqlx::query(drop_function).execute(owner.pool()).await.unwrap();
    let hold = json!({"matter": "m", "reason": "r", "filter": {}});
    // To the API this is a schema that is not there.
    refused(scene.post("/holds").json(&hold), 503, "database-unavailable").await;
    refused(scene.post("/policies").json(&policy("docs")), 503, "database-unavailable").await;
    assert_eq!(ok(scene.get("/holds"), 200).await["holds"], json!([]));
    assert_eq!(ok(scene.get("/policies"), 200).await["policies"], json!([]));
}

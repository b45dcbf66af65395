//! Keys and scopes over HTTP: what each route asks for, and how fast a revocation is seen.

use std::time::Duration;

use database::{Role, api_keys};
use edge::Scope;
use queue_core::{Clock, SystemClock};
use serde_json::json;
use sinks::pubsub::{Feed, FeedConfig};
use testkit::eventually;

use crate::scene::{Scene, event, key_id, make_key, problem, told};

const ID: &str = "0193e9a0-0000-7000-8000-000000000001";

#[tokio::test]
async fn every_route_asks_for_its_scope() {
    let scene = Scene::new().await;
    let owner = scene.database.connect(Role::Owner);
    let (id, explain) = (format!("/logs/{ID}"), format!("/logs/{ID}/retention"));
    let (policy, release) = (format!("/policies/{ID}"), format!("/holds/{ID}/release"));
    let (versions, simulate) = (format!("{policy}/versions"), format!("{policy}/simulate"));
    let (cleanup, cancel) = (format!("/logs/cleanup/{ID}"), format!("/logs/cleanup/{ID}/cancel"));
    let routes = [
        ("POST", "/logs", Scope::LogsWrite),
        ("POST", "/logs/bulk", Scope::LogsWrite),
        ("GET", "/logs", Scope::LogsRead),
        ("GET", &id, Scope::LogsRead),
        ("PATCH", &id, Scope::LogsAnnotate),
        ("DELETE", &id, Scope::LogsErase),
        ("GET", "/logs/export", Scope::LogsExport),
        ("POST", "/logs/live/ticket", Scope::LogsTail),
        ("DELETE", "/logs/cleanup", Scope::LogsCleanup),
        ("GET", &cleanup, Scope::LogsCleanup),
        ("POST", &cancel, Scope::LogsCleanup),
        ("GET", &explain, Scope::PoliciesRead),
        ("GET", "/policies", Scope::PoliciesRead),
        ("POST", "/policies", Scope::PoliciesWrite),
        ("GET", &policy, Scope::PoliciesRead),
        ("PUT", &policy, Scope::PoliciesWrite),
        ("DELETE", &policy, Scope::PoliciesWrite),
        ("GET", &versions, Scope::PoliciesRead),
        ("POST", &simulate, Scope::PoliciesRead),
        ("GET", "/holds", Scope::HoldsRead),
        ("POST", "/holds", Scope::HoldsWrite),
        ("POST", &release, Scope::HoldsWrite),
    ];
    for (method, path, scope) in routes {
        let request = |key: Option<&str>| {
            let method = method.parse().unwrap();
            let mut request = scene.client.request(method, scene.url(path)).json(&json!({}));
            if let Some(key) = key {
                request = request.bearer_auth(key);
            }
            request.send()
        };
        problem(&told(request(None).await.unwrap()).await, 401, "unauthenticated");
        let others: Vec<Scope> = Scope::ALL.iter().copied().filter(|s| *s != scope).collect();
        let without = make_key(&owner, "acme", &others).await;
        let refused = told(request(Some(&without)).await.unwrap()).await;
        problem(&refused, 403, "forbidden");
        assert!(refused.1["detail"].as_str().unwrap().contains(scope.as_str()));
        let with = make_key(&owner, "acme", &[scope]).await;
        let status = request(Some(&with)).await.unwrap().status().as_u16();
        assert!(![401, 403].contains(&status), "{method} {path}: {status}");
    }
}

#[tokio::test]
async fn old_events_need_the_import_scope() {
    let scene = Scene::new().await;
    let mut old = event(1);
    old["occurred_at"] = json!("2001-01-01T00:00:00Z");
    let send = async |key: &str| {
        let request = scene.client.post(scene.url("/logs")).bearer_auth(key).json(&old);
        told(request.send().await.unwrap()).await
    };
    let refused = send(&scene.key).await;
    problem(&refused, 422, "invalid-field");
    assert_eq!(refused.1["errors"][0]["pointer"], "/occurred_at");
    assert!(refused.1["errors"][0]["detail"].as_str().unwrap().contains("logs:import"));
    assert_eq!(send(&scene.foreign_key).await.0, 202, "a key with the scope");
}

#[tokio::test]
async fn expired_keys_are_told_when_and_malformed_ones_what_is_expected() {
    let scene = Scene::new().await;
    let owner = scene.database.connect(Role::Owner);
    let send = async |authorization: &[u8]| {
        let value = reqwest::header::HeaderValue::from_bytes(authorization).unwrap();
        let request = scene.client.post(scene.url("/logs")).header("authorization", value);
        let response = request.json(&event(1)).send().await.unwrap();
        let challenge = response.headers().get("www-authenticate").cloned();
        assert!(challenge.is_some_and(|value| value.to_str().unwrap().starts_with("Bearer")));
        let told = told(response).await;
        problem(&told, 401, "unauthenticated");
        told.1["detail"].as_str().unwrap().to_owned()
    };
    for (expires, valid) in [("now() + interval '1 hour'", true), ("now()", false)] {
        let key = make_key(&owner, "acme", &[Scope::LogsWrite]).await;
        let set = format!("UPDATE api_keys SET expires_at = {expires} WHERE key_id = $1");
        let set = sqlx::query(sqlx::AssertSqlSafe(set)).bind(key_id(&key));
        set.execute(owner.pool()).await.unwrap();
        if valid {
            let request = scene.client.post(scene.url("/logs")).bearer_auth(&key).json(&event(1));
            assert_eq!(request.send().await.unwrap().status(), 202);
        } else {
            let detail = send(format!("Bearer {key}").as_bytes()).await;
            assert!(detail.contains("expired at 20"), "{detail}");
        }
    }
    let (key, id) = (&scene.key, key_id(&scene.key));
    let secret = key.splitn(4, '_').last().unwrap();
    for malformed in [
        String::new(),
        "Bearer".into(),
        key.clone(),
        format!("Basic {key}"),
        format!("Bearer {key} {key}"),
        format!("Bearer flt_test_{id}"),
        format!("Bearer flt__{id}_{secret}"),
        format!("Bearer {}", key.replace("flt_", "xyz_")),
        format!("Bearer {}", "f".repeat(4_000)),
    ] {
        let detail = send(malformed.as_bytes()).await;
        assert!(detail.contains("flt_{env}_{key id}_{secret}"), "{malformed:?}: {detail}");
        assert!(!detail.contains(secret), "{malformed:?}: {detail}");
    }
    // Well formed, and another secret: no more is said than of an unknown key.
    for wrong in [&key[..key.len() - 1], &format!("{key}x"), &key.replace("_test_", "_live_")] {
        assert_eq!(send(format!("Bearer {wrong}").as_bytes()).await, "the API key is not known");
    }
    send(b"Bearer flt_\xff\xfe").await;
    assert_eq!(scene.queue.sent().len(), 1, "the valid key's event alone");
    owner.close().await;
}

#[tokio::test]
async fn a_revocation_is_seen_within_five_seconds() {
    let scene = Scene::new().await;
    let send = || scene.post("/logs").json(&event(1)).send();
    assert_eq!(send().await.unwrap().status(), 202);
    let owner = scene.database.connect(Role::Owner);
    let id = key_id(&scene.key);
    api_keys::revoke(owner.pool(), id, SystemClock.now()).await.unwrap().unwrap();
    let feed = Feed::open(&FeedConfig::new(scene.redis.url())).unwrap();
    feed.announce_revocation(id).await.unwrap();
    eventually(Duration::from_secs(5), "the key is refused", async || {
        let (status, _) = told(send().await.unwrap()).await;
        (status == 401).then_some(())
    })
    .await;
    feed.close().await;
}

#[tokio::test]
async fn a_revocation_missed_while_redis_was_away_is_seen_when_it_is_back() {
    let mut scene = Scene::new().await;
    assert_eq!(scene.post("/logs").json(&event(1)).send().await.unwrap().status(), 202);
    scene.redis.kill().await;
    let owner = scene.database.connect(Role::Owner);
    api_keys::revoke(owner.pool(), key_id(&scene.key), SystemClock.now()).await.unwrap().unwrap();
    scene.redis.start().await;
    eventually(Duration::from_secs(20), "the key is refused", async || {
        let (status, _) = told(scene.post("/logs").json(&event(1)).send().await.unwrap()).await;
        (status == 401).then_some(())
    })
    .await;
}

#[tokio::test]
async fn public_routes_need_no_key() {
    let scene = Scene::new().await;
    for (path, word) in [("/healthz", "ok"), ("/openapi.json", "\"openapi\""), ("/docs", "<h1>")] {
        let response = scene.client.get(scene.url(path)).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        assert!(response.text().await.unwrap().contains(word), "{path}");
    }
    let missing = scene.client.get(scene.url("/nothing")).send().await.unwrap();
    problem(&told(missing).await, 404, "not-found");
    let method = scene.client.delete(scene.url("/healthz")).send().await.unwrap();
    assert_eq!(method.headers()["allow"], "GET,HEAD");
    problem(&told(method).await, 405, "method-not-allowed");
}

//! Every search and export is an audit entry: who, what query, how many. Stored before the answer, counted
//! where it is repeated, and never an entry about an entry.

use database::{Database, Role};
use serde_json::{Value, json};

use crate::queue::Published;
use crate::scene::{Scene, event, key_id, make_key, problem, told};
use edge::Scope;

/// What the entries of that action tell, those of a tenant, oldest first: key id and metadata.
async fn entries(database: &Database, tenant: &str, action: &str) -> Vec<(String, Value)> {
    let rows: Vec<(String, Vec<u8>)> = sqlx::query_as(
        "SELECT actor_id, record FROM logs WHERE tenant = $1 AND action = $2
          ORDER BY recorded_at, id",
    )
    .bind(tenant)
    .bind(action)
    .fetch_all(database.pool())
    .await
    .unwrap();
    let metadata = |record: &[u8]| {
        serde_json::from_slice::<Value>(record).unwrap()["event"]["metadata"].take()
    };
    rows.into_iter().map(|(key, record)| (key, metadata(&record))).collect()
}

async fn get(scene: &Scene, path: &str) -> Value {
    let (status, body) = told(scene.get(path).send().await.unwrap()).await;
    assert_eq!(status, 200, "{body}");
    body
}

/// With that many events of `doc.read`, stored and found by search.
async fn with_events(scene: &Scene, count: usize) {
    for n in 0..count {
        let sent = scene.post("/logs").json(&event(n)).send().await.unwrap();
        assert_eq!(sent.status(), 202);
    }
    scene.store().await;
}

#[tokio::test]
async fn a_search_is_an_entry_and_its_repeats_are_one_more() {
    const SEARCHED: &str = "flotilla.logs.searched";
    let scene = Scene::new().await;
    with_events(&scene, 3).await;
    let database = scene.database.connect(Role::Worker);
    get(&scene, "/logs?action=doc.read&limit=2").await;
    for tenant in ["acme", "system"] {
        let (key, told) = entries(&database, tenant, SEARCHED).await.remove(0);
        assert_eq!(key, key_id(&scene.key), "who, before the answer");
        assert_eq!((&told["searches"], &told["results"]), (&json!(1), &json!(2)));
        let asked = json!({"action": "doc.read", "limit": "2"});
        assert_eq!((&told["query"]["parameters"], &told["tenant"]), (&asked, &json!("acme")));
    }
    // The next pages, another query, another key; and what reads the entries themselves.
    for _ in 0..3 {
        get(&scene, "/logs?limit=1&action=doc.read").await;
    }
    get(&scene, "/logs?actor=u1").await;
    let owner = scene.database.connect(Role::Owner);
    let other = make_key(&owner, "acme", &[Scope::LogsRead]).await;
    let by_other = scene.client.get(scene.url("/logs?action=doc.read")).bearer_auth(&other);
    assert_eq!(by_other.send().await.unwrap().status(), 200);
    for _ in 0..5 {
        get(&scene, "/logs?action=flotilla.logs.searched").await;
    }
    assert_eq!(entries(&database, "acme", SEARCHED).await.len(), 4, "the first of each");
    let (_, _kept) = scene.leave().await;
    let told = entries(&database, "acme", SEARCHED).await;
    let mut repeats: Vec<(u64, u64)> = told[4..]
        .iter()
        .map(|(_, told)| (told["searches"].as_u64().unwrap(), told["results"].as_u64().unwrap()))
        .collect();
    repeats.sort_unstable();
    assert_eq!(repeats, [(3, 3), (4, 0)], "counted, and told at the end: {told:?}");
    assert_eq!(entries(&database, "system", SEARCHED).await.len(), 6);
}

#[tokio::test]
async fn entries_go_to_search_and_the_live_tail_like_any_log() {
    let scene = Scene::new().await;
    let queue = scene.queue.clone();
    get(&scene, "/logs?actor=nobody").await;
    scene.end().await;
    let mut tenants: Vec<String> = queue
        .items()
        .into_iter()
        .filter(|(_, item)| item.record.get().contains("flotilla.logs.searched"))
        .map(|(header, _)| header.tenant.to_string())
        .collect();
    tenants.sort();
    assert_eq!(tenants, ["acme", "system"]);
}

#[tokio::test]
async fn an_export_is_told_before_its_first_byte_and_before_its_last() {
    let scene = Scene::new().await;
    with_events(&scene, 3).await;
    let database = scene.database.connect(Role::Worker);
    for (format, rest) in [("ndjson", 0), ("csv", 1)] {
        let path = format!("/logs/export?action=doc.read&format={format}");
        let answer = scene.get(&path).send().await.unwrap();
        let started = entries(&database, "acme", "flotilla.logs.export_started").await;
        assert_eq!(started.len(), rest + 1);
        let body = answer.bytes().await.unwrap();
        for tenant in ["acme", "system"] {
            let (key, told) =
                entries(&database, tenant, "flotilla.logs.exported").await.remove(rest);
            assert_eq!(key, key_id(&scene.key));
            assert_eq!((&told["results"], &told["complete"]), (&json!(3), &json!(true)));
            assert_eq!(told["bytes"].as_u64(), u64::try_from(body.len()).ok(), "{told}");
            let asked = json!({"action": "doc.read", "format": format});
            assert_eq!(told["query"]["parameters"], asked);
        }
    }
    scene.end().await;
}

#[tokio::test]
async fn without_its_entry_nothing_is_exported_and_a_search_is_told_later() {
    let scene = Scene::new().await;
    with_events(&scene, 1).await;
    let owner = scene.database.connect(Role::Owner);
    let rights = async |word: &'static str, to: &'static str| {
        let sql = format!("{word} EXECUTE ON FUNCTION flotilla_self_audit {to} flotilla_api");
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(owner.pool()).await.unwrap();
    };
    rights("REVOKE", "FROM").await;
    let refused = told(scene.get("/logs/export").send().await.unwrap()).await;
    problem(&refused, 503, "database-unavailable");
    assert_eq!(get(&scene, "/logs?actor=u0").await["logs"].as_array().unwrap().len(), 1);
    let database = scene.database.connect(Role::Worker);
    assert_eq!(entries(&database, "acme", "flotilla.logs.searched").await.len(), 0);
    rights("GRANT", "TO").await;
    let (_, _kept) = scene.leave().await;
    assert_eq!(entries(&database, "acme", "flotilla.logs.searched").await.len(), 1, "told later");
    assert_eq!(entries(&database, "acme", "flotilla.logs.exported").await.len(), 0);
}

#[tokio::test]
async fn a_search_of_the_archive_is_an_entry() {
    let root = tempfile::tempdir().unwrap();
    let scene = Scene::with(&[&format!("--archive-dir={}", root.path().display())]).await;
    let day = "from=2026-01-31T00:00:00Z&to=2026-02-01T00:00:00Z&actor=u1";
    get(&scene, &format!("/archives/search?{day}")).await;
    let database = scene.database.connect(Role::Worker);
    for tenant in ["acme", "system"] {
        let (_, told) = entries(&database, tenant, "flotilla.archives.searched").await.remove(0);
        assert_eq!(
            (&told["results"], &told["query"]["parameters"]["actor"]),
            (&json!(0), &json!("u1"))
        );
    }
    scene.end().await;
}

//! Searching the archive over HTTP: by time, in pages, for the key's tenant alone.

use contracts::Tenant;
use database::{Role, sqlx};
use evidence::Codec;
use evidence::object::ObjectWriter;
use serde_json::Value;
use uuid::Uuid;

use crate::scene::{Scene, problem, told};

const OBJECT: &str = "archive/acme/year=2026/month=01/day=31/hour=23/part-00001.ndjson.gz";

/// An object with so many events of the tenant, and its place in the index.
async fn archived(scene: &Scene, root: &std::path::Path, events: u8) {
    let tenant: Tenant = "acme".parse().unwrap();
    let mut writer = ObjectWriter::new(Vec::new(), Codec::Gzip, &tenant);
    for n in 0..events {
        let id = Uuid::from_u128(0x019c_0000_0000_7000_8000_0000_0000_0000 + u128::from(n));
        let line = format!(
            r#"{{"id":"{id}","tenant":"acme","recorded_at":"2026-01-31T23:00:0{n}.000000Z","class":"90d","source":{{"key_id":"k1"}},"event":{{"actor":{{"type":"user","id":"u{n}"}},"action":"doc.read"}}}}"#
        );
        writer.push(&[7; 16], line.as_bytes()).unwrap();
    }
    let (bytes, contents) = writer.finish().unwrap();
    let path = root.join(OBJECT);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
    let range = contents.range.unwrap();
    let owner = scene.database.connect(Role::Owner);
    sqlx::query(
        "INSERT INTO archive_objects
                (tenant, object, unit_id, manifest_sequence, manifest_sha256, retention_class, hour,
                 first_id, last_id, first_at, last_at, events, packed_bytes, contents, archived_at)
         VALUES ('acme', $1, $2, 2, sha256('x'), '90d', '2026-01-31T23:00:00Z', $3, $4, $5, $6, $7,
                 $8, $9, now())",
    )
    .bind(OBJECT)
    .bind(Uuid::nil())
    .bind(range.first_id)
    .bind(range.last_id)
    .bind(range.from)
    .bind(range.to)
    .bind(i64::from(events))
    .bind(contents.packed.bytes.cast_signed())
    .bind(serde_json::to_value(&contents).unwrap())
    .execute(owner.pool())
    .await
    .unwrap();
}

async fn get(scene: &Scene, key: &str, path: &str) -> (u16, Value) {
    told(scene.client.get(scene.url(path)).bearer_auth(key).send().await.unwrap()).await
}

#[tokio::test]
async fn the_archive_is_searched_by_time_in_pages_and_for_the_own_tenant() {
    let root = tempfile::tempdir().unwrap();
    let scene = Scene::with(&[&format!("--archive-dir={}", root.path().display())]).await;
    archived(&scene, root.path(), 5).await;
    let day = "/archives/search?from=2026-01-31T00:00:00Z&to=2026-02-01T00:00:00Z";
    let (status, first) = get(&scene, &scene.key, &format!("{day}&limit=2")).await;
    assert_eq!(status, 200, "{first}");
    let mut seen: Vec<Value> = first["events"].as_array().unwrap().clone();
    assert_eq!((seen.len(), &seen[0]["object"]), (2, &OBJECT.into()));
    let mut next = first["next_cursor"].as_str().map(str::to_owned);
    while let Some(cursor) = next {
        let (_, page) = get(&scene, &scene.key, &format!("{day}&limit=2&cursor={cursor}")).await;
        seen.extend(page["events"].as_array().unwrap().clone());
        next = page["next_cursor"].as_str().map(str::to_owned);
    }
    let actors: Vec<&str> = seen
        .iter()
        .map(|found| found["record"]["event"]["actor"]["id"].as_str().unwrap())
        .collect();
    assert_eq!(actors, ["u0", "u1", "u2", "u3", "u4"]);
    let (_, one) = get(&scene, &scene.key, &format!("{day}&actor=u3&action=doc.*")).await;
    assert_eq!(one["events"].as_array().unwrap().len(), 1, "{one}");
    let (_, foreign) = get(&scene, &scene.foreign_key, day).await;
    assert_eq!(foreign["events"], serde_json::json!([]), "{foreign}");

    let cursor = first["next_cursor"].as_str().unwrap();
    let other = get(&scene, &scene.key, &format!("{day}&actor=u1&cursor={cursor}")).await;
    problem(&other, 400, "cursor-invalid");
    problem(
        &get(&scene, &scene.key, "/archives/search?from=2026-01-31T00:00:00Z").await,
        400,
        "invalid-query",
    );
    problem(
        &get(&scene, &scene.key, &format!("{day}&outcome=success")).await,
        400,
        "invalid-query",
    );
    problem(&get(&scene, &scene.key, &format!("{day}&limit=1001")).await, 400, "invalid-query");
}

#[tokio::test]
async fn without_an_archive_it_says_so() {
    let scene = Scene::new().await;
    let path = "/archives/search?from=2026-01-31T00:00:00Z&to=2026-02-01T00:00:00Z";
    problem(&get(&scene, &scene.key, path).await, 503, "archive-unavailable");
}

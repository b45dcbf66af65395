//! What the archive holds, by command: objects of a time, one event by range, events of a time.

use chrono::{DateTime, Utc};
use contracts::Tenant;
use database::{Role, sqlx};
use evidence::Codec;
use evidence::object::ObjectWriter;
use testkit::TestDatabase;
use uuid::Uuid;

use crate::command::fleetctl;

const HOUR: &str = "2026-01-31T23:00:00Z";
const OBJECT: &str = "archive/acme/year=2026/month=01/day=31/hour=23/part-00001.ndjson.gz";

pub(crate) fn id(n: u128) -> Uuid {
    Uuid::from_u128(0x019c_0000_0000_7000_8000_0000_0000_0000 + n)
}

/// An object with three events, and its place in the index.
pub(crate) async fn archived(database: &TestDatabase, root: &std::path::Path) {
    let tenant: Tenant = "acme".parse().unwrap();
    let mut writer = ObjectWriter::new(Vec::new(), Codec::Gzip, &tenant);
    for n in 0..3 {
        let line = format!(
            r#"{{"id":"{}","tenant":"acme","recorded_at":"2026-01-31T23:00:0{n}.000000Z","class":"90d","source":{{"key_id":"k1"}},"event":{{"actor":{{"type":"user","id":"u{n}"}},"action":"doc.read"}}}}"#,
            id(n)
        );
        writer.push(&[7; 16], line.as_bytes()).unwrap();
    }
    let (bytes, contents) = writer.finish().unwrap();
    let path = root.join(OBJECT);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
    let range = contents.range.unwrap();
    let hour: DateTime<Utc> = HOUR.parse().unwrap();
    let owner = database.connect(Role::Owner);
    sqlx::query(
        "INSERT INTO archive_objects
                (tenant, object, unit_id, manifest_sequence, manifest_sha256, retention_class, hour,
                 first_id, last_id, first_at, last_at, events, packed_bytes, contents, archived_at)
         VALUES ('acme', $1, $2, 2, sha256('x'), '90d', $3, $4, $5, $6, $7, 3, $8, $9, $3)",
    )
    .bind(OBJECT)
    .bind(Uuid::nil())
    .bind(hour)
    .bind(range.first_id)
    .bind(range.last_id)
    .bind(range.from)
    .bind(range.to)
    .bind(contents.packed.bytes.cast_signed())
    .bind(serde_json::to_value(&contents).unwrap())
    .execute(owner.pool())
    .await
    .unwrap();
}

#[tokio::test]
async fn objects_are_listed_and_events_come_out_by_range() {
    let (database, root) = (TestDatabase::new().await, tempfile::tempdir().unwrap());
    archived(&database, root.path()).await;
    let variables = [
        ("DATABASE_URL", database.url().to_owned()),
        ("ARCHIVE_DIR", root.path().to_string_lossy().into_owned()),
    ];
    let list = ["archive", "list", "--tenant", "acme", "--json"];
    let listed = fleetctl(&variables, &list).await.ok().lines();
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0]["object"], &listed[0]["events"]), (&OBJECT.into(), &3.into()));
    let other = ["archive", "list", "--tenant", "globex", "--json"];
    assert_eq!(fleetctl(&variables, &other).await.ok().out, "");

    let one = id(1).to_string();
    let got = fleetctl(&variables, &["archive", "get", &one, "--tenant", "acme"]).await.ok();
    assert_eq!(got.lines()[0]["event"]["actor"]["id"], "u1");
    assert!(got.err.contains(OBJECT), "{got:?}");
    let foreign = fleetctl(&variables, &["archive", "get", &one, "--tenant", "globex"]).await;
    assert!(foreign.code == 1 && foreign.err.contains("no object"), "{foreign:?}");

    let from = "2026-01-31T23:00:01Z";
    let search = ["archive", "search", "--tenant", "acme", "--from", from, "--action", "doc.*"];
    let found = fleetctl(&variables, &search).await.ok();
    assert_eq!(found.lines().len(), 2);
    assert!(found.err.contains("2 lines; 1 blocks"), "{found:?}");

    let nowhere = fleetctl(&variables[..1], &["archive", "get", &one, "--tenant", "acme"]).await;
    assert!(nowhere.code == 1 && nowhere.err.contains("ARCHIVE_BUCKET"), "{nowhere:?}");
    std::fs::write(root.path().join(OBJECT), "x".repeat(1_000)).unwrap();
    let damaged = fleetctl(&variables, &["archive", "get", &one, "--tenant", "acme"]).await;
    assert!(damaged.code == 1 && damaged.err.contains("fleetctl verify"), "{damaged:?}");
}

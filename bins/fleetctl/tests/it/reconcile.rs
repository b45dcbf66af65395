//! `fleetctl audit reconcile`: PostgreSQL that was restored to an earlier point beside a published chain.

use std::path::Path;
use std::sync::Arc;

use audit::archive::{Keys, Sealer, SealerConfig, append};
use contracts::Tenant;
use database::{Database, Role, sqlx};
use evidence::document::{Basis, Body, Manifest, object_name};
use evidence::object::ObjectWriter;
use evidence::{Codec, MemorySigner, Signer};
use queue_core::{Clock as _, SystemClock};
use sinks::objects::{Files, Objects as _, Write};
use testkit::TestDatabase;
use uuid::Uuid;

use crate::command::fleetctl;

const TABLES: [&str; 3] = ["chain_heads", "chain_documents", "chain_checkpoints"];

fn acme() -> Tenant {
    "acme".parse().unwrap()
}

fn signer() -> Arc<dyn Signer> {
    Arc::new(MemorySigner::from_seed("audit.example.com", &[1; 32]).unwrap())
}

/// Archives three events as a part of an hour long ago, without sealing.
async fn archive(database: &Database, store: &Files, part: u32) {
    let hour = "2026-01-31T23:00:00Z".parse().unwrap();
    let mut writer = ObjectWriter::new(Vec::new(), Codec::Gzip, &acme());
    for n in 0..3 {
        let id =
            Uuid::from_u128(0x019c_0000_0000_7000_8000_0000_0000_0000 + u128::from(part * 10 + n));
        let line = format!(
            r#"{{"id":"{id}","tenant":"acme","recorded_at":"2026-01-31T23:00:0{n}.000000Z","class":"90d","source":{{"key_id":"k1"}},"event":{{"actor":{{"type":"user","id":"u"}},"action":"doc.read"}}}}"#
        );
        writer.push(&[7; 16], line.as_bytes()).unwrap();
    }
    let (bytes, contents) = writer.finish().unwrap();
    let object = object_name(&acme(), hour, part, Codec::Gzip);
    store.put(&object.parse().unwrap(), bytes, Write::IfAbsent).await.unwrap();
    let manifest = Manifest {
        object,
        unit: Uuid::new_v4().to_string().try_into().unwrap(),
        basis: Basis::Policy { id: Uuid::new_v4().to_string(), version: 1 },
        contents,
        locked_until: None,
        supersedes: None,
    };
    let mut transaction = database.pool().begin().await.unwrap();
    let body = Body::Manifest(Box::new(manifest));
    append(&mut transaction, &acme(), body, SystemClock.now()).await.unwrap();
    transaction.commit().await.unwrap();
}

/// Seals what there is, with a head over it.
async fn seal(database: &Database, root: &Path) {
    let keys: Keys = [signer()].into_iter().collect();
    let (store, clock) = (Arc::new(Files::new(root)), Arc::new(SystemClock));
    let sealer = Sealer::new(database, keys, store, clock, SealerConfig::default());
    while sealer.pass().await.unwrap().unstored > 0 {}
    sealer.head_now(&acme()).await.unwrap();
}

async fn each_table(owner: &Database, sql: impl Fn(&str) -> String) {
    for table in TABLES {
        sqlx::query(sqlx::AssertSqlSafe(sql(table))).execute(owner.pool()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_is_found_mended_and_a_second_chain_refused() {
    let (database, root) = (TestDatabase::new().await, tempfile::tempdir().unwrap());
    let (owner, worker) = (database.connect(Role::Owner), database.connect(Role::Worker));
    let key = signer().key().clone();
    sqlx::query(
        "INSERT INTO signing_keys (key_id, public_key, reason, created_by)
         VALUES ($1, $2, 'first', 'test')",
    )
    .bind(key.id())
    .bind(key.to_string())
    .execute(owner.pool())
    .await
    .unwrap();
    let store = Files::new(root.path());
    archive(&worker, &store, 1).await;
    seal(&worker, root.path()).await;
    each_table(&owner, |table| format!("CREATE TABLE earlier_{table} AS TABLE {table}")).await;
    archive(&worker, &store, 2).await;
    archive(&worker, &store, 3).await;
    seal(&worker, root.path()).await;
    let restore = async || {
        each_table(&owner, |table| format!("DELETE FROM {table}")).await;
        each_table(&owner, |table| format!("INSERT INTO {table} SELECT * FROM earlier_{table}"))
            .await;
    };
    restore().await;

    let variables = [
        ("DATABASE_URL", database.url().to_owned()),
        ("ARCHIVE_DIR", root.path().to_string_lossy().into_owned()),
    ];
    let look = ["audit", "reconcile", "--tenant", "acme"];
    let found = fleetctl(&variables, &look).await;
    assert_eq!(found.code, 1, "{found:?}");
    assert!(found.out.contains("ROLLED BACK, 4 to 2"), "{found:?}");
    assert!(found.out.contains("chain rolled back from 4 to 2"), "{found:?}");
    assert!(found.err.contains("--repair"), "{found:?}");
    let blind = fleetctl(&variables[..1], &[&look[..], &["--repair"]].concat()).await;
    assert!(blind.code == 78 && blind.err.contains("ARCHIVE_BUCKET"), "{blind:?}");
    let unasked = [&look[..], &["--repair", "--apply-receipts", "--reason", "drill"]].concat();
    let unasked = fleetctl(&variables, &unasked).await;
    assert!(unasked.code == 64 && unasked.err.contains("--yes"), "{unasked:?}");
    let why = [&look[..], &["--repair", "--apply-receipts"]].concat();
    assert_eq!(fleetctl(&variables, &why).await.code, 64, "a deletion has a reason");

    let json = [&look[..], &["--repair", "--by", "ann", "--json"]].concat();
    let mended = fleetctl(&variables, &json).await.ok().lines().remove(0);
    assert_eq!((&mended["mended"]["from"], &mended["mended"]["to"]), (&2.into(), &4.into()));
    assert_eq!(mended["mended"]["indexed"], 2);
    assert_eq!(mended["findings"]["counts"]["chain-rolled-back"]["repaired"], 1, "{mended}");
    let whole = fleetctl(&variables, &look).await.ok();
    assert!(whole.out.contains("whole, 4"), "{whole:?}");
    let by: String = sqlx::query_scalar(
        "SELECT actor_id FROM logs WHERE tenant = 'acme' AND action = 'flotilla.chain.mended'",
    )
    .fetch_one(owner.pool())
    .await
    .unwrap();
    assert_eq!(by, "ann");

    restore().await;
    archive(&worker, &store, 4).await;
    for words in [&look[..], &[&look[..], &["--repair"]].concat()] {
        let broken = fleetctl(&variables, words).await;
        assert_eq!(broken.code, 4, "{broken:?}");
        assert!(broken.out.contains("BROKEN") && broken.err.contains("chain-broken"), "{broken:?}");
    }
}

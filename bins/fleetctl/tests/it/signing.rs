//! The archive's signing key by command: made, set up once, shown, rotated, each change in the audit
//! trail; and a head that is signed at once.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use audit::archive::{Keys, Sealer, SealerConfig, chain};
use contracts::Tenant;
use database::{Database, Role, sqlx};
use evidence::document::{Basis, Body, Manifest, object_name};
use evidence::object::ObjectWriter;
use evidence::{Codec, MemorySigner, Signer};
use queue_core::{Clock, SystemClock};
use sinks::objects::{Files, Objects, Write};
use testkit::TestDatabase;

use crate::command::fleetctl;
use crate::verify::LINE;

/// Made by `openssl genpkey -algorithm ed25519`, for tests alone.
pub(crate) const FIRST: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
/// RFC 8410, section 10.3.
pub(crate) const SECOND: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";

#[tokio::test]
async fn a_key_is_set_up_once_shown_and_rotated_and_each_change_is_an_event() {
    let database = TestDatabase::new().await;
    let variables = |pem: &str| {
        [
            ("DATABASE_URL", database.url().to_owned()),
            ("ARCHIVE_SIGNING_KEY", pem.to_owned()),
            ("ARCHIVE_SIGNING_KEY_NAME", "audit.example.com".to_owned()),
        ]
    };
    let nothing = fleetctl(&variables(FIRST)[..1], &["signing", "init"]).await;
    assert!(nothing.code == 1 && nothing.err.contains("signing new"), "{nothing:?}");
    let rotate = ["signing", "rotate", "--reason", "yearly", "--by", "ann", "--json"];
    let early = fleetctl(&variables(FIRST), &rotate).await;
    assert!(early.code == 1 && early.err.contains("signing init"), "{early:?}");

    let init = ["signing", "init", "--by", "ann", "--json"];
    let first = fleetctl(&variables(FIRST), &init).await.ok().lines().remove(0);
    let key = first["key"].as_str().unwrap();
    assert!(key.starts_with("audit.example.com+"), "{key}");
    assert!(key.parse::<evidence::VerifyKey>().is_ok(), "{key}");
    let again = fleetctl(&variables(SECOND), &init).await;
    assert!(again.code == 1 && again.err.contains("signing rotate"), "{again:?}");

    let second = fleetctl(&variables(SECOND), &rotate).await.ok().lines().remove(0);
    assert_ne!(second["key"], first["key"]);
    // Once more is harmless; back to the old one is refused.
    fleetctl(&variables(SECOND), &rotate).await.ok();
    let back = fleetctl(&variables(FIRST), &rotate).await;
    assert!(back.code == 1 && back.err.contains("needs a new one"), "{back:?}");

    let shown = fleetctl(&variables(FIRST)[..1], &["signing", "show", "--json"]).await.ok();
    let keys: Vec<_> = shown.lines().iter().map(|line| line["public_key"].clone()).collect();
    assert_eq!(keys, [second["key"].clone(), first["key"].clone()]);
    let private = FIRST.lines().nth(1).unwrap();
    assert!(!format!("{shown:?}").contains(private));

    let owner = database.connect(Role::Owner);
    let events: Vec<(String, String, Vec<String>)> = sqlx::query_as(
        "SELECT action, actor_id, target_ids FROM logs WHERE tenant = 'system' ORDER BY id",
    )
    .fetch_all(owner.pool())
    .await
    .unwrap();
    let ids = [&first["key_id"], &second["key_id"]].map(|id| vec![id.as_str().unwrap().to_owned()]);
    let event = |ids: &Vec<String>| ("flotilla.signing-key.set".into(), "ann".into(), ids.clone());
    assert_eq!(events, ids.iter().map(event).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_new_private_key_is_for_its_owner_alone_and_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.pem");
    let words = ["signing", "new", file.to_str().unwrap()];
    let said = fleetctl(&[], &words).await.ok();
    let pem = std::fs::read_to_string(&file).unwrap();
    assert!(MemorySigner::from_pem("a", &pem).is_ok());
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let private = pem.lines().nth(1).unwrap();
    assert!(!format!("{said:?}").contains(private), "it is never shown");
    let again = fleetctl(&[], &words).await;
    assert!(again.code == 1 && again.err.contains("does not exist yet"), "{again:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), pem);
    let other = folder.path().join("other.pem");
    fleetctl(&[], &["signing", "new", other.to_str().unwrap()]).await.ok();
    assert_ne!(std::fs::read_to_string(&other).unwrap(), pem);
}

#[tokio::test]
async fn a_head_signed_by_command_proves_the_end_of_what_is_in_the_archive() {
    let (database, folder) = (TestDatabase::new().await, tempfile::tempdir().unwrap());
    let archive = folder.path().join("archive");
    let variables = [
        ("DATABASE_URL", database.url().to_owned()),
        ("ARCHIVE_DIR", archive.to_string_lossy().into_owned()),
        ("ARCHIVE_SIGNING_KEY", FIRST.to_owned()),
    ];
    let init = fleetctl(&variables, &["signing", "init"]).await.ok();
    let verify = ["verify", archive.to_str().unwrap(), "--key", init.out.trim()];
    let head = ["signing", "head", "--tenant", "acme", "--json"];
    let early = fleetctl(&variables, &head).await;
    assert!(early.code == 1 && early.err.contains("no document of tenant acme"), "{early:?}");

    sealed(&database.connect(Role::Worker), &archive).await;
    assert_eq!(fleetctl(&[], &verify).await.code, 3, "without a head the tail is unproven");
    let keyless = fleetctl(&variables[..2], &head).await;
    assert!(keyless.code == 1 && keyless.err.contains("signing new"), "{keyless:?}");
    let signed = fleetctl(&variables, &head).await.ok().lines().remove(0);
    assert_eq!((&signed["tenant"], &signed["documents"]), (&"acme".into(), &2.into()));
    let verified = fleetctl(&[], &verify).await.ok();
    assert!(verified.out.contains("complete to document 2"), "{verified:?}");
    // Once more is one more head, over the same.
    fleetctl(&variables, &head).await.ok();
    fleetctl(&[], &verify).await.ok();
}

/// An object of tenant `acme` in the store, and its chain, signed and in the store, too.
pub(crate) async fn sealed(worker: &Database, archive: &Path) {
    let (tenant, now): (Tenant, _) = ("acme".parse().unwrap(), SystemClock.now());
    let mut writer = ObjectWriter::new(Vec::new(), Codec::Zstd, &tenant);
    writer.push(&[7; 16], LINE.as_bytes()).unwrap();
    let (bytes, contents) = writer.finish().unwrap();
    let hour = contents.range.unwrap().from;
    let store = Arc::new(Files::new(archive));
    let object = object_name(&tenant, hour, 1, Codec::Zstd);
    store.put(&object.parse().unwrap(), bytes, Write::IfAbsent).await.unwrap();
    let manifest = Body::Manifest(Box::new(Manifest {
        object,
        unit: "unit-1".to_owned().try_into().unwrap(),
        basis: Basis::Request { id: "r-1".into() },
        contents,
        locked_until: None,
        supersedes: None,
    }));
    let mut transaction = worker.pool().begin().await.unwrap();
    chain::append(&mut transaction, &tenant, manifest, now).await.unwrap();
    transaction.commit().await.unwrap();
    let signer: Arc<dyn Signer> = Arc::new(MemorySigner::from_pem("flotilla", FIRST).unwrap());
    let (keys, clock) = (Keys::from_iter([signer]), Arc::new(SystemClock));
    let sealer = Sealer::new(worker, keys, store, clock, SealerConfig::default());
    assert_eq!(sealer.pass().await.unwrap().stored, 2);
}

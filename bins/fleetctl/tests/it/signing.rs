//! The archive's signing key by command: set up once, shown, rotated, each change in the audit trail.

use database::{Role, sqlx};
use testkit::TestDatabase;

use crate::command::fleetctl;

/// Made by `openssl genpkey -algorithm ed25519`, for tests alone.
const FIRST: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
/// RFC 8410, section 10.3.
const SECOND: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";

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
    assert!(nothing.code == 1 && nothing.err.contains("openssl genpkey"), "{nothing:?}");
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

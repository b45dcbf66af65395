//! Tenants and keys on a real database.

use testkit::TestDatabase;

use crate::command::fleetctl;

#[tokio::test]
async fn a_key_is_made_listed_and_revoked_and_its_secret_is_nowhere() {
    let database = TestDatabase::new().await;
    let variables = [
        ("DATABASE_URL", database.url().to_owned()),
        ("REDIS_URL", "redis://127.0.0.1:1".to_owned()),
    ];
    let create = ["keys", "create", "--tenant", "acme", "--scope", "logs:write", "--json"];
    let said = fleetctl(&variables, &create).await;
    assert_eq!(said.code, 1, "there is no such tenant yet: {said:?}");
    assert!(said.err.contains("tenants create acme"), "{said:?}");
    fleetctl(&variables, &["tenants", "create", "acme", "--class", "1y"]).await.ok();
    assert_eq!(fleetctl(&variables, &["tenants", "create", "acme"]).await.code, 1);

    let made = fleetctl(&variables, &create).await.ok().lines().remove(0);
    let key = made["key"].as_str().unwrap();
    assert!(edge::PresentedKey::parse(key).is_some(), "{key}");
    let id = made["key_id"].as_str().unwrap();
    let listed = fleetctl(&variables, &["keys", "list", "--json"]).await.ok();
    // A secret may hold the character that separates the parts.
    let secret = key.splitn(4, '_').last().unwrap();
    assert!(!listed.out.contains(secret), "the secret is stored");
    assert_eq!(listed.lines()[0]["key_id"], id);
    assert_eq!(listed.lines()[0]["revoked_at"], serde_json::Value::Null);

    let revoked = fleetctl(&variables, &["keys", "revoke", id]).await.ok();
    assert!(revoked.err.contains("Redis was not told"), "{revoked:?}");
    let listed = fleetctl(&variables, &["keys", "list", "--tenant", "acme", "--json"]).await.ok();
    assert!(listed.lines()[0]["revoked_at"].is_string());
    assert_eq!(fleetctl(&variables, &["keys", "revoke", "nobody00"]).await.code, 1);
}

#[tokio::test]
async fn migrate_may_run_twice() {
    let database = TestDatabase::unmigrated().await;
    let variables = [("DATABASE_URL", database.url().to_owned())];
    let said = fleetctl(&variables, &["tenants", "list"]).await;
    assert!(said.code == 1 && said.err.contains("fleetctl migrate"), "{said:?}");
    let first = fleetctl(&variables, &["migrate", "--json"]).await.ok().lines().remove(0);
    assert!(!first["applied"].as_array().unwrap().is_empty());
    let second = fleetctl(&variables, &["migrate", "--json"]).await.ok().lines().remove(0);
    assert!(second["applied"].as_array().unwrap().is_empty());
    assert_eq!(first["schema"], second["schema"]);
}

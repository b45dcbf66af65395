//! Tenants and API keys, as the owner makes them and as the API finds them.

use chrono::Duration;
use contracts::RetentionClass;
use database::api_keys::{self, NewKey};
use database::sqlx::error::DatabaseError;
use database::tenants::{self, TenantState};
use database::{DbErrorClass, Role, classify};
use testkit::TestDatabase;

use crate::{now, tenant};

#[tokio::test]
async fn a_tenant_is_made_once() {
    let database = TestDatabase::new().await;
    let owner = database.connect(Role::Owner);
    let acme = tenant("acme");
    let made = tenants::create(owner.pool(), &acme, RetentionClass::Year1, true).await;
    let made = made.expect("stores").expect("is new");
    assert_eq!((made.default_class, made.sandbox), (RetentionClass::Year1, true));
    let again = tenants::create(owner.pool(), &acme, RetentionClass::Days7, false).await;
    assert_eq!(again.expect("asks"), None);
    assert_eq!(tenants::get(owner.pool(), &acme).await.expect("reads"), Some(made));
    let all = tenants::list(owner.pool()).await.expect("lists");
    let names: Vec<&str> = all.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(names, ["acme", "system"]);
}

#[tokio::test]
async fn the_api_finds_a_key_by_its_id_and_nothing_else() {
    let database = TestDatabase::new().await;
    let (owner, api) = (database.connect(Role::Owner), database.connect(Role::Api));
    let acme = tenant("acme");
    tenants::create(owner.pool(), &acme, RetentionClass::Days30, false).await.expect("stores");
    let scopes = ["logs:write".to_owned()];
    let key = NewKey {
        key_id: "abcDEF12",
        tenant: &acme,
        env: "test",
        secret_sha256: [7; 32],
        scopes: &scopes,
        name: "a test's",
        expires_at: Some(now() + Duration::hours(1)),
    };
    let stored = api_keys::create(owner.pool(), key.clone()).await.expect("stores");

    let found = api_keys::find(api.pool(), "abcDEF12").await.expect("asks").expect("is there");
    assert_eq!(found.key, stored);
    assert_eq!(found.default_class, RetentionClass::Days30);
    assert_eq!(found.tenant_state, TenantState::Active);
    assert_eq!(api_keys::find(api.pool(), "abcDEF1%").await.expect("asks"), None);
    // The table itself is closed to the API.
    assert!(api_keys::list(api.pool(), None).await.is_err());

    let used = now();
    api_keys::touch(api.pool(), &["abcDEF12".to_owned()], used).await.expect("notes");
    api_keys::touch(api.pool(), &["abcDEF12".to_owned()], used - Duration::hours(1))
        .await
        .expect("notes");
    let listed = api_keys::list(owner.pool(), Some(&acme)).await.expect("lists");
    assert_eq!(
        listed[0].last_used_at.map(|at| at.timestamp_micros()),
        Some(used.timestamp_micros())
    );

    let first =
        api_keys::revoke(owner.pool(), "abcDEF12", used).await.expect("asks").expect("is there");
    let later = api_keys::revoke(owner.pool(), "abcDEF12", used + Duration::hours(1)).await;
    assert_eq!(later.expect("asks").expect("is there").revoked_at, first.revoked_at);
    assert_eq!(api_keys::revoke(owner.pool(), "unknown1", used).await.expect("asks"), None);

    // A taken id and an unknown tenant are told from a failure.
    let taken = api_keys::create(owner.pool(), key.clone()).await.expect_err("is taken");
    assert_eq!(taken.as_database_error().and_then(DatabaseError::code).as_deref(), Some("23505"));
    let nobody = tenant("nobody");
    let orphan = NewKey { key_id: "other123", tenant: &nobody, ..key };
    let orphan = api_keys::create(owner.pool(), orphan).await.expect_err("has no tenant");
    assert_eq!(classify(&orphan), DbErrorClass::Data);
}

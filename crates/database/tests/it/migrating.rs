//! Migrations: twice, at once, and what the API's role finds afterwards.

use contracts::RetentionClass;
use database::sqlx::AssertSqlSafe;
use database::{Database, DatabaseConfig, Role};
use queue_core::Probe;
use testkit::TestDatabase;

#[tokio::test]
async fn applies_once_when_two_run_at_once() {
    let database = TestDatabase::unmigrated().await;
    let (one, two) = (database.connect(Role::Owner), database.connect(Role::Owner));
    let (one, two) = tokio::join!(one.migrate(), two.migrate());
    let (one, two) = (one.expect("migrates"), two.expect("migrates"));
    let all = one.applied.len() + two.applied.len();
    assert_eq!(i64::try_from(all), Ok(sqlx_count(&database).await));
    assert_eq!(one.version, two.version);
    let again = database.connect(Role::Owner).migrate().await.expect("migrates");
    assert_eq!((again.applied, again.partitions_made), (vec![], 0));
}

/// As on a managed service: whoever migrates may make roles and databases, and is no superuser.
#[tokio::test]
async fn an_owner_that_is_no_superuser_is_enough() {
    let database = TestDatabase::unmigrated().await;
    let superuser = database.connect(Role::Owner);
    let name = database.url().rsplit('/').next().expect("a name");
    let owner = format!("owner_of_{name}");
    for statement in [
        format!("CREATE ROLE {owner} LOGIN CREATEROLE NOSUPERUSER PASSWORD '{name}'"),
        format!("ALTER DATABASE {name} OWNER TO {owner}"),
        format!("ALTER SCHEMA public OWNER TO {owner}"),
    ] {
        database::sqlx::query(AssertSqlSafe(statement))
            .execute(superuser.pool())
            .await
            .expect("prepares");
    }
    let (_, host) = database.url().split_once('@').expect("a user");
    let config = DatabaseConfig::for_url(format!("postgres://{owner}:{name}@{host}"));
    let connect = |role| Database::connect(&config, role).expect("our own URL");
    let migrated = connect(Role::Owner).migrate().await.expect("migrates");
    assert!(!migrated.applied.is_empty() && migrated.partitions_made > 0);
    let tenant = "acme".parse().expect("a tenant");
    let as_owner = connect(Role::Owner);
    let made =
        database::tenants::create(as_owner.pool(), &tenant, RetentionClass::Days7, false).await;
    assert!(made.expect("the owner's own policy lets it").is_some());
    let found = database::api_keys::find(connect(Role::Api).pool(), "nobody").await;
    assert!(found.expect("the API may ask").is_none());
    for role in [Role::Api, Role::Worker] {
        connect(role).schema_version().await.expect("may look at the schema");
    }
}

/// A build of another branch was there first: a later migration is applied, an earlier one is not.
#[tokio::test]
async fn what_came_out_of_order_is_named_and_applied() {
    let database = TestDatabase::unmigrated().await;
    let owner = database.connect(Role::Owner);
    let all = owner.migrate().await.expect("migrates").applied;
    assert!(owner.probe().await.is_ok());
    // As if 6 had not been there yet when 7 was applied.
    let undo = "DROP TABLE parked_messages; DROP TABLE parked_groups;
                DELETE FROM _sqlx_migrations WHERE version = 6";
    database::sqlx::raw_sql(undo).execute(owner.pool()).await.expect("undoes");
    for role in [Role::Owner, Role::Worker, Role::Api] {
        let reason = database.connect(role).probe().await.expect_err("not ready");
        assert!(reason.contains("lacks [6]") && reason.contains("fleetctl migrate"), "{reason}");
    }
    let report = owner.migrate().await.expect("migrates");
    assert_eq!((report.applied, Some(report.version)), (vec![6], all.last().copied()));
    assert_eq!(owner.probe().await, Ok(()));
    let parked = "SELECT count(*) FROM parked_groups";
    database::sqlx::query(parked).execute(owner.pool()).await.expect("is there");
    // One that was never migrated so far is told the plain way.
    let behind = "DELETE FROM _sqlx_migrations WHERE version >= 6";
    database::sqlx::raw_sql(behind).execute(owner.pool()).await.expect("undoes");
    let reason = owner.probe().await.expect_err("not ready");
    assert!(reason.starts_with("schema is at version 5, this binary needs"), "{reason}");
}

async fn sqlx_count(database: &TestDatabase) -> i64 {
    let owner = database.connect(Role::Owner);
    database::sqlx::query_scalar("SELECT count(*) FROM _sqlx_migrations")
        .fetch_one(owner.pool())
        .await
        .expect("counts")
}

//! Migrations: twice, at once, and what the API's role finds afterwards.

use database::Role;
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

async fn sqlx_count(database: &TestDatabase) -> i64 {
    let owner = database.connect(Role::Owner);
    database::sqlx::query_scalar("SELECT count(*) FROM _sqlx_migrations")
        .fetch_one(owner.pool())
        .await
        .expect("counts")
}

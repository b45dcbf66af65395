//! What only PostgreSQL search has to prove: its walls, its plans, its rows that are refused.

use contracts::Tenant;
use database::Role;
use sinks::search::{
    Document, Indexed, ItemError, PostgresSearch, Query, Search as _, SearchConfig,
};
use testkit::TestDatabase;

use crate::engines::{document, raw, tenant};

fn on(database: &TestDatabase, role: Role) -> PostgresSearch {
    PostgresSearch::new(&SearchConfig::postgres(), database.connect(role))
}

#[tokio::test]
async fn the_api_sees_one_tenant_and_only_through_the_functions() {
    let database = TestDatabase::new().await;
    let mut foreign = document(2);
    foreign.tenant = "other".parse().unwrap();
    on(&database, Role::Worker).index(&[document(1), foreign]).await.unwrap();
    let api = database.connect(Role::Api);
    let count = "SELECT flotilla_search_count(NULL, NULL, NULL, NULL, NULL, NULL)";

    let table = sqlx::query("SELECT * FROM search_documents").fetch_all(api.pool()).await;
    assert!(table.unwrap_err().to_string().contains("permission denied"));
    let unbound = sqlx::query(count).fetch_all(api.pool()).await;
    assert!(unbound.unwrap_err().to_string().contains("flotilla.tenant is not set"));
    for (name, expected) in [("acme", 1), ("other", 1), ("nobody", 0)] {
        let bound: Tenant = name.parse().unwrap();
        let mut transaction = api.tenant(&bound).await.unwrap();
        let found: i64 = sqlx::query_scalar(count).fetch_one(&mut *transaction).await.unwrap();
        assert_eq!(found, expected, "{name}");
    }
    // The functions cannot be turned by a search path that shadows what they call.
    let mut transaction = api.tenant(&tenant()).await.unwrap();
    for shadow in [
        "SET LOCAL search_path = pg_temp, public",
        "CREATE TEMP TABLE search_documents AS SELECT 'acme'::text AS tenant, false AS erased,
           gen_random_uuid() AS id, '30d'::text AS class, now() AS recorded_at",
    ] {
        sqlx::query(shadow).execute(&mut *transaction).await.unwrap();
    }
    let rows =
        "SELECT id FROM public.flotilla_search(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 9)";
    let found: Vec<uuid::Uuid> =
        sqlx::query_scalar(rows).fetch_all(&mut *transaction).await.unwrap();
    assert_eq!(found, [document(1).id.0]);
}

#[tokio::test]
async fn the_api_cannot_write() {
    let database = TestDatabase::new().await;
    let api = on(&database, Role::Api);
    assert!(api.index(&[document(1)]).await.is_err());
    assert!(api.erase(&[document(1).reference()]).await.is_err());
}

/// A refused row is found among the others and refused alone.
#[tokio::test]
async fn a_poisoned_row_is_alone_in_its_refusal() {
    let database = TestDatabase::new().await;
    let owner = database.connect(Role::Owner);
    sqlx::query(
        "ALTER TABLE search_documents ADD CONSTRAINT refuses CHECK (NOT terms @> '{\"tags\":[\"bad\"]}')",
    )
    .execute(owner.pool())
    .await
    .unwrap();
    let mut documents: Vec<Document> = (0..700).map(document).collect();
    for at in [3, 499, 500] {
        documents[at].tags = vec!["bad".into()];
    }
    let worker = on(&database, Role::Worker);
    let outcomes = worker.index(&documents).await.unwrap();
    for (at, outcome) in outcomes.iter().enumerate() {
        match outcome {
            Err(ItemError::Reject(why)) => {
                assert!([3, 499, 500].contains(&at) && why.contains("refuses"), "{at}: {why}");
            }
            outcome => assert_eq!(*outcome, Ok(Indexed::Written), "{at}"),
        }
    }
    assert_eq!(worker.count(&tenant(), &Query::default()).await.unwrap(), 697);
}

/// Rare words and filters go through the GIN indexes, as the role that the API has.
#[tokio::test]
async fn rare_words_and_filters_use_the_indexes() {
    let database = TestDatabase::new().await;
    let mut documents: Vec<Document> = (0..3_000).map(document).collect();
    for document in &mut documents {
        document.metadata = Some(raw(&format!(r#"{{"n":{}}}"#, document.id.0.as_u128() % 3_000)));
    }
    documents[7].annotation = Some("needle".into());
    on(&database, Role::Worker).index(&documents).await.unwrap();
    let owner = database.connect(Role::Owner);
    sqlx::query("VACUUM ANALYZE search_documents").execute(owner.pool()).await.unwrap();
    let api = database.connect(Role::Api);
    for (condition, index) in [
        ("'''needle'''::tsquery, NULL", "search_documents_words"),
        ("NULL, '{\"metadata\":{\"n\":[\"7\"]}}'", "search_documents_terms"),
        ("NULL, NULL", "search_documents_newest"),
    ] {
        let before = scans(&owner, index).await;
        let mut transaction = api.tenant(&tenant()).await.unwrap();
        let search = format!(
            "SELECT id FROM flotilla_search({condition}, NULL, NULL, NULL, NULL, NULL, NULL, 10)"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(search)).execute(&mut *transaction).await.unwrap();
        transaction.commit().await.unwrap();
        // A backend reports its counts when it goes idle; closing it makes that now.
        testkit::eventually(std::time::Duration::from_secs(90), index, async || {
            (scans(&owner, index).await > before).then_some(())
        })
        .await;
    }
}

async fn scans(owner: &database::Database, index: &str) -> i64 {
    sqlx::query_scalar("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = $1")
        .bind(index)
        .fetch_one(owner.pool())
        .await
        .unwrap()
}

/// Two processes that write and erase the same logs neither deadlock nor bring one back.
#[tokio::test]
async fn writes_and_erasures_at_once_end_erased() {
    let database = TestDatabase::new().await;
    let worker = std::sync::Arc::new(on(&database, Role::Worker));
    let documents: Vec<Document> = (0..200).map(document).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for turn in 0..8 {
        let (worker, mut documents) = (worker.clone(), documents.clone());
        tasks.spawn(async move {
            if turn % 2 == 0 {
                documents.reverse();
                worker.index(&documents).await.unwrap();
            } else {
                let logs: Vec<_> = documents.iter().map(Document::reference).collect();
                worker.erase(&logs).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(worker.count(&tenant(), &Query::default()).await.unwrap(), 0);
}

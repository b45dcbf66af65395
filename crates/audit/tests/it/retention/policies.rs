//! Policies: what is stored, what is in effect when, who wins when two write.

use audit::retention::{POLICIES_MAX, PolicyState};
use audit::store::policies::{self, Written};
use chrono::TimeDelta;
use contracts::Tenant;
use database::{Database, Role};
use serde_json::json;
use testkit::TestDatabase;
use uuid::Uuid;

use super::{new, now};
use crate::scene::tenant;

async fn create(database: &Database, tenant: &Tenant, version: policies::NewVersion) -> Written {
    let mut transaction = database.tenant(tenant).await.unwrap();
    let written = policies::create(&mut transaction, tenant, version).await.unwrap();
    transaction.commit().await.unwrap();
    written
}

async fn change(
    database: &Database,
    tenant: &Tenant,
    version: policies::NewVersion,
    from: u64,
) -> Written {
    let mut transaction = database.tenant(tenant).await.unwrap();
    let written = policies::change(&mut transaction, tenant, version, from).await.unwrap();
    transaction.commit().await.unwrap();
    written
}

#[tokio::test]
async fn what_is_in_effect_is_the_newest_version_whose_time_has_come() {
    let cluster = TestDatabase::new().await;
    let (api, worker) = (cluster.connect(Role::Api), cluster.connect(Role::Worker));
    let acme = tenant("acme");
    assert!(matches!(create(&api, &acme, new(1, "a", &json!({}))).await, Written::Done(_)));
    let later = json!({"keep": "P60D", "effective_at": "2026-04-01T00:00:00Z"});
    assert!(matches!(change(&api, &acme, new(1, "a", &later), 1).await, Written::Done(_)));
    let mut connection = worker.pool().acquire().await.unwrap();
    let keeps = async |connection: &mut sqlx::PgConnection, days: i64| {
        let at = now() + TimeDelta::days(days);
        let rules = policies::rules(connection, &acme, at).await.unwrap();
        rules.policies().iter().map(|p| (p.version, p.keep.to_string())).collect::<Vec<_>>()
    };
    assert_eq!(keeps(&mut connection, -1).await, []);
    assert_eq!(keeps(&mut connection, 0).await, [(1, "P30D".into())]);
    assert_eq!(keeps(&mut connection, 31).await, [(2, "P60D".into())]);
    // What is written later takes the place of what was still to come.
    let third = new(1, "b", &json!({"keep": "P10D"}));
    assert!(matches!(change(&api, &acme, third, 2).await, Written::Done(_)));
    assert_eq!(keeps(&mut connection, 31).await, [(3, "P10D".into())]);

    let mut gone = new(1, "b", &json!({}));
    gone.spec.state = PolicyState::Deleted;
    gone.effective_from = now() + TimeDelta::days(1);
    assert!(matches!(change(&api, &acme, gone.clone(), 3).await, Written::Done(_)));
    assert_eq!(keeps(&mut connection, 2).await, []);
    assert_eq!(change(&api, &acme, gone, 4).await, Written::Missing, "it is deleted");
    let id = Uuid::from_u128(1);
    for (before, expected) in [(None, vec![4, 3, 2, 1]), (Some(3), vec![2, 1]), (Some(1), vec![])] {
        let versions = policies::versions(&mut connection, &acme, id, before).await.unwrap();
        assert_eq!(versions.iter().map(|p| p.version).collect::<Vec<_>>(), expected);
    }
    assert_eq!(policies::list(&mut connection, &acme).await.unwrap(), []);
    // Its name is free again, its id is not.
    assert!(matches!(create(&api, &acme, new(2, "b", &json!({}))).await, Written::Done(_)));
    assert!(matches!(create(&api, &acme, new(1, "c", &json!({}))).await, Written::Exists(_)));
}

#[tokio::test]
async fn of_two_writers_one_wins_and_the_other_is_told() {
    let cluster = TestDatabase::new().await;
    let api = cluster.connect(Role::Api);
    let acme = tenant("acme");
    create(&api, &acme, new(1, "a", &json!({}))).await;
    let race = (0..4).map(|n| {
        let version = new(1, "a", &json!({"priority": n}));
        let (api, acme) = (api.clone(), acme.clone());
        async move { change(&api, &acme, version, 1).await }
    });
    let ends = futures_util::future::join_all(race).await;
    assert_eq!(ends.iter().filter(|end| matches!(end, Written::Done(_))).count(), 1, "{ends:?}");
    let told = |end: &&Written| matches!(end, Written::Outdated(newest) if newest.version == 2);
    assert_eq!(ends.iter().filter(told).count(), 3, "{ends:?}");

    let race = (10..14).map(|id| create(&api, &acme, new(id, "same", &json!({}))));
    let ends = futures_util::future::join_all(race).await;
    assert_eq!(ends.iter().filter(|end| matches!(end, Written::Done(_))).count(), 1, "{ends:?}");
    let taken = |end: &&Written| matches!(end, Written::NameTaken(_));
    assert_eq!(ends.iter().filter(taken).count(), 3, "{ends:?}");
}

#[tokio::test]
async fn a_maximum_before_anothers_minimum_is_refused_where_filters_tell() {
    let cluster = TestDatabase::new().await;
    let api = cluster.connect(Role::Api);
    let acme = tenant("acme");
    let tax = json!({"filter": {"actions": ["invoice.*"]}, "legal_minimum": "P7Y"});
    create(&api, &acme, new(1, "tax", &tax)).await;
    let privacy = json!({"filter": {"actions": ["invoice.viewed"]}, "legal_maximum": "P1Y"});
    let refused = create(&api, &acme, new(2, "privacy", &privacy)).await;
    assert!(matches!(&refused, Written::Contradicts(p) if p[0].spec.name == "tax"), "{refused:?}");
    let disabled = json!({"filter": {"actions": ["invoice.viewed"]}, "legal_maximum": "P1Y",
                          "state": "disabled"});
    assert!(matches!(create(&api, &acme, new(2, "privacy", &disabled)).await, Written::Done(_)));
    let refused = change(&api, &acme, new(2, "privacy", &privacy), 1).await;
    assert!(matches!(refused, Written::Contradicts(_)), "{refused:?}");
    let elsewhere = json!({"filter": {"actions": ["user.*"]}, "legal_maximum": "P1Y"});
    assert!(matches!(
        change(&api, &acme, new(2, "privacy", &elsewhere), 1).await,
        Written::Done(_)
    ));
    // The other way round.
    let wider = json!({"legal_minimum": "P7Y"});
    let refused = change(&api, &acme, new(1, "tax", &wider), 1).await;
    assert!(
        matches!(&refused, Written::Contradicts(p) if p[0].spec.name == "privacy"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn tenants_do_not_see_or_change_each_others_policies() {
    let cluster = TestDatabase::new().await;
    let api = cluster.connect(Role::Api);
    let (acme, umbrella) = (tenant("acme"), tenant("umbrella"));
    create(&api, &acme, new(1, "a", &json!({}))).await;
    // The same id and name: another tenant's are others.
    assert!(matches!(create(&api, &umbrella, new(1, "a", &json!({}))).await, Written::Done(_)));
    create(&api, &umbrella, new(2, "b", &json!({}))).await;
    assert_eq!(change(&api, &acme, new(2, "b", &json!({})), 1).await, Written::Missing);
    // Also where a query forgets the tenant, or names the wrong one.
    let mut transaction = api.tenant(&acme).await.unwrap();
    for table in ["policies", "policy_versions"] {
        let count = format!("SELECT count(*) FROM {table}");
        let seen: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(count))
            .fetch_one(&mut *transaction)
            .await
            .unwrap();
        assert_eq!(seen, 1, "{table}");
    }
    assert_eq!(policies::list(&mut transaction, &umbrella).await.unwrap(), []);
    assert!(policies::create(&mut transaction, &umbrella, new(3, "c", &json!({}))).await.is_err());
}

#[tokio::test]
async fn a_tenant_has_a_thousand_policies_at_most() {
    let cluster = TestDatabase::new().await;
    let (api, owner) = (cluster.connect(Role::Api), cluster.connect(Role::Owner));
    let acme = tenant("acme");
    let many = "INSERT INTO policies (tenant, id, name, version, state)
                SELECT 'acme', gen_random_uuid(), 'p' || n, 1, 'active' FROM generate_series(2, $1) n";
    let many = sqlx::query(many).bind(i32::try_from(POLICIES_MAX).unwrap());
    many.execute(owner.pool()).await.unwrap();
    assert!(matches!(create(&api, &acme, new(1, "last", &json!({}))).await, Written::Done(_)));
    let more = create(&api, &acme, new(2, "more", &json!({}))).await;
    assert_eq!(more, Written::TooMany("policies"));
    let mut gone = new(1, "last", &json!({}));
    gone.spec.state = PolicyState::Deleted;
    change(&api, &acme, gone, 1).await;
    assert!(matches!(create(&api, &acme, new(2, "more", &json!({}))).await, Written::Done(_)));
}

#[tokio::test]
async fn history_cannot_be_rewritten_by_the_services() {
    let cluster = TestDatabase::new().await;
    let acme = tenant("acme");
    for (role, database) in
        [("api", cluster.connect(Role::Api)), ("worker", cluster.connect(Role::Worker))]
    {
        for statement in [
            "DELETE FROM policies",
            "DELETE FROM policy_versions",
            "DELETE FROM holds",
            "UPDATE policy_versions SET spec = '{}'",
            "UPDATE holds SET spec = '{}'",
            "UPDATE holds SET placed_at = now()",
        ] {
            let mut transaction = database.tenant(&acme).await.unwrap();
            let error = sqlx::query(statement).execute(&mut *transaction).await.unwrap_err();
            let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
            assert_eq!(code.as_deref(), Some("42501"), "{role} {statement}: {error}");
        }
    }
}

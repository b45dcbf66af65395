//! Holds: in force at once and for every deletion that commits later, released once, never removed.

use audit::retention::{HOLDS_MAX, Release};
use audit::store::holds::{self, Placed};
use database::Role;
use serde_json::json;
use testkit::TestDatabase;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{hold, now};
use crate::scene::tenant;

#[tokio::test]
async fn placing_waits_for_a_deletion_and_a_later_deletion_sees_the_hold() {
    let cluster = TestDatabase::new().await;
    let (api, worker) = (cluster.connect(Role::Api), cluster.connect(Role::Worker));
    let acme = tenant("acme");
    let mut deletion = worker.pool().begin().await.unwrap();
    holds::lock_shared(&mut deletion, &acme).await.unwrap();
    assert_eq!(holds::in_force(&mut deletion, &acme).await.unwrap(), []);

    let (begun, placing) = oneshot::channel();
    let (desk, of) = (api.clone(), acme.clone());
    let placed = tokio::spawn(async move {
        let mut transaction = desk.tenant(&of).await.unwrap();
        let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
            .fetch_one(&mut *transaction)
            .await
            .unwrap();
        begun.send(pid).unwrap();
        let placed = holds::place(&mut transaction, &of, hold(1, &json!({}))).await.unwrap();
        transaction.commit().await.unwrap();
        placed
    });
    let pid = placing.await.unwrap();
    let owner = cluster.connect(Role::Owner);
    testkit::eventually(std::time::Duration::from_secs(60), "the placing waits", async || {
        let waits: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = $1 AND locktype = 'advisory' AND NOT granted)",
        )
        .bind(pid)
        .fetch_one(owner.pool())
        .await
        .unwrap();
        waits.then_some(())
    })
    .await;
    // Another tenant's holds and other deletions of this one go on meanwhile.
    let other = tenant("umbrella");
    let mut transaction = api.tenant(&other).await.unwrap();
    let elsewhere = holds::place(&mut transaction, &other, hold(1, &json!({}))).await.unwrap();
    assert!(matches!(elsewhere, Placed::Done(_)));
    transaction.commit().await.unwrap();

    deletion.commit().await.unwrap();
    assert!(matches!(placed.await.unwrap(), Placed::Done(_)));
    let mut deletion = worker.pool().begin().await.unwrap();
    holds::lock_shared(&mut deletion, &acme).await.unwrap();
    let seen = holds::in_force(&mut deletion, &acme).await.unwrap();
    assert_eq!(seen.iter().map(|hold| hold.id).collect::<Vec<_>>(), [Uuid::from_u128(1)]);
}

#[tokio::test]
async fn a_hold_is_released_once_and_stays_in_the_books() {
    let cluster = TestDatabase::new().await;
    let api = cluster.connect(Role::Api);
    let (acme, id) = (tenant("acme"), Uuid::from_u128(1));
    let mut transaction = api.tenant(&acme).await.unwrap();
    holds::place(&mut transaction, &acme, hold(1, &json!({"actions": ["a.*"]}))).await.unwrap();
    let again = holds::place(&mut transaction, &acme, hold(1, &json!({}))).await.unwrap();
    assert!(matches!(again, Placed::Exists(first) if first.draft.filter.actions == ["a.*"]));
    let by = |who: &str| Release { by: json!({"key_id": who}), at: now(), reason: who.into() };
    let first = holds::release(&mut transaction, &acme, id, &by("ana")).await.unwrap().unwrap();
    let second = holds::release(&mut transaction, &acme, id, &by("bob")).await.unwrap().unwrap();
    assert_eq!((first.1, second.1), (true, false));
    assert_eq!(second.0.released, Some(by("ana")), "the first release stands");
    assert_eq!(holds::in_force(&mut transaction, &acme).await.unwrap(), []);
    assert_eq!(holds::list(&mut transaction, &acme, false, None).await.unwrap(), []);
    assert_eq!(holds::list(&mut transaction, &acme, true, None).await.unwrap(), [first.0]);
    assert_eq!(holds::list(&mut transaction, &acme, true, Some(now())).await.unwrap(), []);
    let unknown = holds::release(&mut transaction, &acme, Uuid::from_u128(9), &by("ana")).await;
    assert_eq!(unknown.unwrap(), None);
    transaction.commit().await.unwrap();
    // Another tenant neither sees nor releases it.
    let umbrella = tenant("umbrella");
    let mut transaction = api.tenant(&umbrella).await.unwrap();
    assert_eq!(holds::get(&mut transaction, &acme, id).await.unwrap(), None);
    assert_eq!(holds::release(&mut transaction, &umbrella, id, &by("eve")).await.unwrap(), None);
    assert_eq!(holds::list(&mut transaction, &acme, true, None).await.unwrap(), []);
}

#[tokio::test]
async fn a_tenant_has_a_thousand_holds_in_force_at_most() {
    let cluster = TestDatabase::new().await;
    let (api, owner) = (cluster.connect(Role::Api), cluster.connect(Role::Owner));
    let acme = tenant("acme");
    let spec = json!(hold(1, &json!({})).draft);
    let many = "INSERT INTO holds (tenant, id, spec, placed_by, placed_at)
                SELECT 'acme', gen_random_uuid(), $2, '{}', now() FROM generate_series(2, $1)";
    let many = sqlx::query(many).bind(i32::try_from(HOLDS_MAX).unwrap()).bind(spec);
    many.execute(owner.pool()).await.unwrap();
    let mut transaction = api.tenant(&acme).await.unwrap();
    let last = holds::place(&mut transaction, &acme, hold(1, &json!({}))).await.unwrap();
    assert!(matches!(last, Placed::Done(_)));
    let more = holds::place(&mut transaction, &acme, hold(2, &json!({}))).await.unwrap();
    assert_eq!(more, Placed::TooMany);
    let release = Release { by: json!({}), at: now(), reason: "r".into() };
    holds::release(&mut transaction, &acme, Uuid::from_u128(1), &release).await.unwrap();
    let more = holds::place(&mut transaction, &acme, hold(2, &json!({}))).await.unwrap();
    assert!(matches!(more, Placed::Done(_)), "the released one makes room");
}

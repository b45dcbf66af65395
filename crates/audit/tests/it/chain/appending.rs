//! Appending: numbers without gaps under any concurrency, nothing without its commit, and what is
//! refused takes no number.

use audit::archive::AppendError;
use audit::archive::chain::{self, append};
use chrono::TimeDelta;
use database::Role;
use evidence::document::{Basis, HoldsChecked, Scope, Survivor};
use evidence::document::{Body, KeyRecord, Receipt};
use queue_core::{Clock, ErrorClass, Failure};

use super::scene::{Scene, signer, tenant};

#[tokio::test(flavor = "multi_thread")]
async fn appends_at_once_are_numbered_without_a_gap_each_after_the_one_before() {
    let scene = std::sync::Arc::new(Scene::new().await);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..24 {
        let scene = scene.clone();
        tasks.spawn(async move {
            let of = if n % 3 == 0 { "globex" } else { "acme" };
            scene.archive(of).await.unwrap();
        });
    }
    tasks.join_all().await;
    let sealer = scene.sealer(&[1]);
    // The key's record is the first document of each chain.
    for (of, documents) in [("acme", 17), ("globex", 9)] {
        while sealer.pass().await.unwrap().unstored > 0 {}
        sealer.head_now(&tenant(of)).await.unwrap();
        let report = scene.verify(1);
        let found = report.tenants.iter().find(|one| one.tenant == tenant(of)).unwrap();
        assert_eq!((found.complete_to, found.findings.len()), (documents, 0), "{found:?}");
    }
}

#[tokio::test]
async fn what_rolls_back_takes_no_number() {
    let scene = Scene::new().await;
    let body = scene.manifest("acme").await;
    let mut transaction = scene.worker.pool().begin().await.unwrap();
    let now = scene.clock.now();
    let undone = append(&mut transaction, &tenant("acme"), body.clone(), now).await.unwrap();
    transaction.rollback().await.unwrap();
    let mut transaction = scene.worker.pool().begin().await.unwrap();
    let done = append(&mut transaction, &tenant("acme"), body, now).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!((undone.sequence, done.sequence), (2, 2));
    assert_eq!(undone.hash, done.hash);
}

#[tokio::test]
async fn a_clock_that_is_behind_issues_nothing_and_is_waited_for() {
    let scene = Scene::new().await;
    scene.archive("acme").await.unwrap();
    scene.clock.turn(TimeDelta::seconds(-50));
    let near = scene.archive("acme").await.unwrap();
    assert_eq!(near.sequence, 3);
    scene.clock.turn(TimeDelta::seconds(-20));
    let error = scene.archive("acme").await.unwrap_err();
    assert!(matches!(error, AppendError::ClockBehind(_)), "{error}");
    assert_eq!(error.code().code, "clock-behind");
    let Failure::Retry(retry) = error.failure() else { panic!("{:?}", error.failure()) };
    assert_eq!(retry.class, ErrorClass::Infrastructure);
    scene.clock.turn(TimeDelta::seconds(70));
    assert_eq!(scene.archive("acme").await.unwrap().sequence, 4);
}

#[tokio::test]
async fn what_would_not_fit_and_what_nobody_may_append_is_refused_before_it_has_a_number() {
    let scene = Scene::without_key().await;
    let error = scene.archive("acme").await.unwrap_err();
    assert!(matches!(error, AppendError::NoKey), "{error}");
    scene.key(1, "first").await;
    let receipt = |words: usize| {
        let now = scene.clock.now();
        Body::Receipt(Box::new(Receipt {
            scope: Scope::Rows,
            unit: "unit-1".to_owned().try_into().unwrap(),
            basis: Basis::Request { id: "r-1".into() },
            requester: "k-1".into(),
            manifest: None,
            deleted: 0,
            already_gone: 0,
            held: 0,
            ids: None,
            holds: HoldsChecked { at: now, in_force: 0 },
            deleted_at: now,
            search_empty_at: Some(now),
            survives: vec![Survivor { place: "x".repeat(words), until: None }],
        }))
    };
    let public_key = signer(2).key().to_string();
    let key = Body::Key(KeyRecord { public_key, replaces: None, reason: "mine".into() });
    let mut transaction = scene.worker.pool().begin().await.unwrap();
    let (acme, now) = (tenant("acme"), scene.clock.now());
    let large = append(&mut transaction, &acme, receipt(2 << 20), now).await.unwrap_err();
    assert!(matches!(large, AppendError::TooLarge(_)), "{large}");
    assert!(matches!(large.failure(), Failure::Reject(_)));
    let own = append(&mut transaction, &acme, key, now).await.unwrap_err();
    assert!(matches!(own, AppendError::KeyRecord), "{own}");
    // The transaction goes on, and the chain begins where it would have.
    let end = append(&mut transaction, &acme, receipt(2_000_000), now).await.unwrap();
    assert_eq!(end.sequence, 2);
}

#[tokio::test]
async fn a_rotation_is_recorded_once_whoever_comes_first() {
    let scene = Scene::new().await;
    scene.archive("acme").await.unwrap();
    scene.key(2, "rotation").await;
    let mut transaction = scene.worker.pool().begin().await.unwrap();
    let (acme, now) = (tenant("acme"), scene.clock.now());
    assert!(chain::rotate(&mut transaction, &acme, now).await.unwrap());
    assert!(!chain::rotate(&mut transaction, &acme, now).await.unwrap());
    // A tenant without documents begins with the new key.
    assert!(!chain::rotate(&mut transaction, &tenant("globex"), now).await.unwrap());
    transaction.commit().await.unwrap();
    assert_eq!(scene.archive("acme").await.unwrap().sequence, 4);
    assert_eq!(scene.archive("globex").await.unwrap().sequence, 2);
    // The API's role has no part in any of it.
    let api = scene.database.connect(Role::Api);
    let mut transaction = api.tenant(&acme).await.unwrap();
    let body = scene.manifest("acme").await;
    let refused = append(&mut transaction, &acme, body, now).await.unwrap_err();
    assert!(matches!(refused, AppendError::Database(_)), "{refused}");
}

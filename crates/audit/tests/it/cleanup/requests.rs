//! What somebody asks to be deleted: never what a hold or a legal minimum keeps, nothing that came after it
//! was shown, and what the archive holds already by the object that holds it.

use audit::lifecycle::request::Request;
use audit::lifecycle::{Basis, NewRun, RunState, Work};
use audit::retention::{Filter, RuleHold, RulePolicy, RuleSet};
use audit::store;
use chrono::TimeDelta;
use contracts::LogId;
use contracts::audit::Requester;
use contracts::audit::lifecycle::{ArchiveByDate, ArchiveMessage, BulkArchive, RunId, Then};
use evidence::Codec;
use queue_core::{Clock, SystemClock};
use serde_json::json;
use uuid::Uuid;

use super::scene::{Scene, ids};
use crate::archive::scene::{acme, v7};

fn on(action: &str) -> Filter {
    Filter { actions: vec![action.to_owned()], ..Filter::default() }
}

/// A policy that keeps the action's logs for so long at least.
fn minimum(n: u128, action: &str, term: &str) -> RulePolicy {
    RulePolicy {
        id: Uuid::from_u128(n),
        version: 1,
        name: term.to_owned(),
        filter: on(action),
        keep: "P10Y".parse().unwrap(),
        then: Then::Archive,
        priority: 1_000,
        legal_minimum: Some(term.parse().unwrap()),
        legal_maximum: None,
    }
}

fn hold(action: &str) -> RuleHold {
    RuleHold {
        id: Uuid::from_u128(7),
        matter: "m".to_owned(),
        filter: on(action),
        from: None,
        to: None,
    }
}

fn hour_of(scene: &Scene) -> Request {
    let (from, to) = (scene.archive.hour, scene.archive.hour + TimeDelta::hours(1));
    Request::Time { from, to, filter: on("a.*"), snapshot_xmin: None }
}

/// Begins its run by these rules, plans and archives it, and seals what was archived.
async fn asked(scene: &Scene, request: &Request, rules: &RuleSet) -> RunId {
    let then = Then::ArchiveAndDelete;
    let new = NewRun {
        id: Uuid::new_v4(),
        tenant: acme(),
        basis: Basis::Request(json!(request)),
        requester: json!({"key_id": "k1"}),
        then,
        archive: None,
        rules: Some(json!(rules)),
        as_of: SystemClock.now(),
        notify: 0,
        correlation_id: "c-3".into(),
    };
    let mut connection = scene.archive.database.pool().acquire().await.unwrap();
    store::begin_run(&mut connection, &new).await.unwrap();
    let (run_id, requester) = (new.id, Requester { key_id: "k1".into(), ip: None });
    let message = match request {
        Request::Time { from, to, .. } => {
            ArchiveMessage::ByDate(ArchiveByDate { run_id, from: *from, to: *to, then, requester })
        }
        Request::Logs { ids } => {
            ArchiveMessage::Bulk(BulkArchive { run_id, log_ids: ids.clone(), then, requester })
        }
    };
    // Twice, as a queue may.
    scene.archive.handle(message.clone()).await.unwrap();
    scene.archive.handle(message).await.unwrap();
    scene.archive.verify().await;
    run_id
}

/// Handles the cleanups of the run, and says how many logs it deleted.
async fn deleted(scene: &Scene, run: RunId) -> u64 {
    let run = scene.archive.state(run).await;
    scene.clean(&run).await.unwrap();
    scene.ended(&run, RunState::Done).await.counters.deleted.events
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_or_below_a_legal_minimum_stays_whichever_way_it_is_asked_for() {
    for single in [true, false] {
        let scene = Scene::new().await;
        let gone = scene.logs([1, 2]).await;
        let (hour, archive) = (scene.archive.hour, &scene.archive);
        let log = |at: i64, action: &str| archive.log(at, LogId(v7(hour, at)), action, 20);
        let over = scene.store(vec![log(3, "a.over")]).await;
        let kept = vec![log(4, "a.kept"), log(5, "a.held")];
        let kept = scene.store(kept).await;
        // 40 days old: one minimum is over since 10 days, though not at the end of that hour.
        let policies = vec![minimum(1, "a.over", "P30D"), minimum(2, "a.kept", "P50D")];
        let rules = RuleSet::new(policies, vec![hold("a.held")]);
        let all = gone.iter().chain(&over).chain(&kept).map(|log| log.key.id).collect();
        let request = if single { Request::Logs { ids: all } } else { hour_of(&scene) };
        let run = asked(&scene, &request, &rules).await;
        assert_eq!(scene.archive.state(run).await.counters.planned.events, 3, "as it is planned");
        assert_eq!(deleted(&scene, run).await, 3);
        assert_eq!(scene.stored().await, ids(&kept), "single logs: {single}");
        scene.audited().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_that_came_after_it_was_shown() {
    let scene = Scene::new().await;
    let shown = scene.logs([1, 2]).await;
    let snapshot = {
        let mut connection = scene.archive.database.pool().acquire().await.unwrap();
        store::snapshot_xmin(&mut connection).await.unwrap()
    };
    let late = scene.logs([3]).await;
    let Request::Time { from, to, filter, .. } = hour_of(&scene) else { unreachable!() };
    let request = Request::Time { from, to, filter, snapshot_xmin: Some(snapshot) };
    let run = asked(&scene, &request, &RuleSet::default()).await;
    assert_eq!(deleted(&scene, run).await, u64::try_from(shown.len()).unwrap());
    assert_eq!(scene.stored().await, ids(&late));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_archive_holds_goes_by_its_object() {
    let scene = Scene::new().await;
    scene.logs([1, 2]).await;
    let (first, _) = scene.archive.run(Then::Archive, Codec::Zstd).await;
    scene.archive.archive(&first).await.unwrap();
    scene.archive.verify().await;
    scene.logs([3]).await;
    let objects = scene.archive.objects().await.len();
    let run = asked(&scene, &hour_of(&scene), &RuleSet::default()).await;
    let works: Vec<Work> = scene.archive.units(run).await.iter().map(|unit| unit.work).collect();
    assert_eq!(works, [Work::Archive, Work::Again]);
    assert_eq!(scene.archive.objects().await.len(), objects + 1, "what it has is not copied again");
    assert_eq!(scene.archive.outbox("audit-cleanup").await.len(), 2, "each unit is told once");
    assert_eq!(deleted(&scene, run).await, 3);
    assert_eq!(scene.stored().await.len(), 0);
    scene.audited().await;
}

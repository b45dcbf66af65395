//! What somebody asks for: the logs of a time that a filter matches, and single logs.

use audit::lifecycle::RunState;
use audit::lifecycle::request::Request;
use audit::retention::Filter;
use chrono::TimeDelta;
use contracts::LogId;
use contracts::audit::lifecycle::Then;
use queue_core::Failure;
use uuid::Uuid;

use super::scene::{Scene, v7};

fn time(scene: &Scene, actions: &[&str]) -> Request {
    let actions = actions.iter().map(|action| (*action).to_owned()).collect();
    let filter = Filter { actions, ..Filter::default() };
    let (from, to) = (scene.hour, scene.hour + TimeDelta::milliseconds(1_000));
    Request::Time { from, to, filter, snapshot_xmin: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_is_planned_once_and_archived_by_its_filter() {
    let scene = Scene::new().await;
    let mut ids = scene.logs(&[0, 1, 998]).await;
    let other = scene.log(3, LogId(v7(scene.hour, 3)), "b.c", 10);
    // The first moment that is not asked for.
    let late = scene.log(1_000, LogId(v7(scene.hour, 1_000)), "a.b", 10);
    scene.insert(vec![other, late]).await;
    let run = scene.request(Then::ArchiveAndDelete, &time(&scene, &["a.*"])).await;
    let twice = futures_util::future::join(
        scene.by_date(run, Then::ArchiveAndDelete),
        scene.by_date(run, Then::ArchiveAndDelete),
    );
    let twice = twice.await;
    assert!(twice.0.is_ok() || twice.1.is_ok(), "{twice:?}");
    scene.by_date(run, Then::ArchiveAndDelete).await.unwrap();
    let state = scene.state(run).await;
    assert_eq!((state.units.all, state.counters.verified.events), (1, 3));
    assert_eq!(scene.outbox("audit-cleanup").await.len(), 1);
    ids.sort();
    scene.holds(&ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn single_logs_are_archived_and_stay() {
    let scene = Scene::new().await;
    let mut ids = scene.logs(&[0, 7, 100]).await;
    let legacy = LogId(Uuid::new_v5(&Uuid::nil(), b"legacy"));
    ids.extend(scene.insert(vec![scene.log(50, legacy, "a.b", 10)]).await);
    let asked = vec![ids[0], ids[2], legacy, LogId(v7(scene.hour, 4))];
    let run = scene.request(Then::Archive, &Request::Logs { ids: asked.clone() }).await;
    scene.bulk(run, asked).await.unwrap();
    let state = scene.state(run).await;
    assert_eq!((state.state, state.counters.archived.events), (RunState::Done, 3));
    scene.holds(&[ids[0], ids[2], legacy]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_matches_nothing_is_done_at_once() {
    let scene = Scene::new().await;
    scene.logs(&[0]).await;
    let run = scene.request(Then::Archive, &time(&scene, &["nothing"])).await;
    scene.by_date(run, Then::Archive).await.unwrap();
    assert_eq!(scene.state(run).await.state, RunState::Done);
    assert_eq!(scene.objects().await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_run_or_would_delete_without_an_archive_is_rejected() {
    let scene = Scene::new().await;
    let unknown = scene.by_date(Uuid::new_v4(), Then::Archive).await.unwrap_err();
    assert!(
        matches!(&unknown, Failure::Reject(why) if why.code.code == "run-unknown"),
        "{unknown:?}"
    );
    let run = scene.request(Then::Delete, &time(&scene, &[])).await;
    let refused = scene.by_date(run, Then::Delete).await.unwrap_err();
    assert!(matches!(&refused, Failure::Reject(_)), "{refused:?}");
    assert_eq!(scene.state(run).await.state, RunState::Planning);
}

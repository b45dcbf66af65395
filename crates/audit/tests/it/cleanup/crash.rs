//! SIGKILL at every step of a cleanup: the next worker goes on, each log is in exactly the stores that it
//! should be in, and there is a receipt if and only if there is a deletion. The process that dies is
//! this test binary, run again for the one test.
#![expect(clippy::disallowed_methods, reason = "the test's own child is told by variables")]

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use audit::cleanup::Survivors;
use audit::crash::{CrashPoint, arm};
use audit::lifecycle::{Run, RunState};
use audit::store::holds;
use audit::workers::cleanup::{CleanupWorker, Parts};
use contracts::LogId;
use contracts::audit::lifecycle::CleanupMessage;
use database::{Database, DatabaseConfig, Role};
use futures_util::future::join_all;
use queue_core::{Clock, Delivery, SystemClock, Worker};
use serde_json::json;
use sinks::objects::Files;
use sinks::search::SearchConfig;
use tokio::process::Command;

use super::scene::{Scene, archived_message, expired_message, ids};
use crate::archive::scene::{acme, v7};
use crate::retention::hold;
use crate::scene::{first_attempt, header};

const CHILD: &str = "cleanup::crash::the_worker_that_dies";

/// Not a test by itself: what the other ones run, told by variables.
#[tokio::test(flavor = "multi_thread")]
async fn the_worker_that_dies() {
    let Ok(point) = std::env::var("CLEANUP_CRASH_POINT") else { return };
    let given = |name: &str| std::env::var(name).expect("set by the other test");
    arm(point.parse().unwrap());
    let config = DatabaseConfig::for_url(given("CLEANUP_DATABASE"));
    let database = Database::connect(&config, Role::Worker).unwrap();
    let search = sinks::search::open(&SearchConfig::postgres(), &database).await.unwrap();
    let worker = CleanupWorker::new(Parts {
        database,
        objects: Arc::new(Files::new(PathBuf::from(given("CLEANUP_DIR")))),
        search,
        clock: Arc::new(SystemClock),
        survivors: Survivors::default(),
    });
    let text = given("CLEANUP_MESSAGE");
    let message = match given("CLEANUP_KIND").as_str() {
        "archived" => CleanupMessage::Archived(serde_json::from_str(&text).unwrap()),
        _ => CleanupMessage::Expired(serde_json::from_str(&text).unwrap()),
    };
    let now = SystemClock.now();
    let delivery = Delivery::detached(header(&acme(), now), message, first_attempt(now));
    worker.handle(delivery).await.unwrap();
}

/// A worker that dies at that point of handling that message.
async fn killed(scene: &Scene, point: CrashPoint, kind: &str, message: String) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", CHILD, "--nocapture"])
        .env("CLEANUP_CRASH_POINT", point.as_str())
        .env("CLEANUP_DATABASE", scene.archive.url())
        .env("CLEANUP_DIR", scene.archive.dir.path())
        .env("CLEANUP_KIND", kind)
        .env("CLEANUP_MESSAGE", message)
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.signal(), Some(9), "{point:?}: {}\n{text}", output.status);
}

/// What has to be true at any time, whoever died where.
async fn no_receipt_without_deletion(scene: &Scene, point: CrashPoint) {
    let stored = scene.stored().await.len();
    for receipt in scene.receipts().await {
        assert_eq!((receipt.deleted, stored), (3, 1), "{point:?}");
    }
    if stored < 4 {
        let known = "SELECT count(*) FROM cleanups WHERE deleted_events = 3 AND scope = 'rows'";
        assert_eq!(scene.count(known).await, 1, "{point:?}: a deletion that nobody knows of");
        assert_eq!(scene.count("SELECT count(*) FROM tombstones").await, 3, "{point:?}");
    }
}

async fn survives(point: CrashPoint) {
    let scene = Scene::new().await;
    let mut logs = scene.logs([1, 2, 3]).await;
    let kept = scene.archive.log(4, LogId(v7(scene.archive.hour, 4)), "a.held", 20);
    logs.extend(scene.store(vec![kept]).await);
    scene.archive.revise(logs[0].key.id, "looked at").await;
    let run: Run = scene.sealed().await;
    let owner = scene.archive.owner();
    let mut connection = owner.pool().acquire().await.unwrap();
    let keeps = hold(1, &json!({"actions": ["a.held"]}));
    holds::place(&mut connection, &acme(), keeps).await.unwrap();
    let unit = scene.archive.units(run.new.id).await.remove(0);
    let message = serde_json::to_string(&archived_message(&unit)).unwrap();
    killed(&scene, point, "archived", message).await;
    no_receipt_without_deletion(&scene, point).await;

    scene.clean(&run).await.unwrap();
    assert_eq!(scene.stored().await, ids(&logs[3..]), "{point:?}");
    assert_eq!(scene.found(&logs).await, 1, "{point:?}");
    assert_eq!(scene.found(&logs[3..]).await, 1, "{point:?}");
    assert_eq!(scene.archive.held().len(), 4, "{point:?}");
    assert_eq!(scene.count("SELECT count(*) FROM log_revisions").await, 0, "{point:?}");
    assert_eq!(scene.count("SELECT count(*) FROM archived_logs").await, 1, "{point:?}");
    let receipts = scene.receipts().await;
    assert_eq!(receipts.len(), 1, "{point:?}");
    assert_eq!((receipts[0].deleted, receipts[0].held), (3, 1), "{point:?}");
    let ended = scene.ended(&run, RunState::Done).await;
    assert_eq!((ended.counters.deleted.events, ended.counters.held.events), (3, 1), "{point:?}");
    assert_eq!(scene.archive.outbox("audit-retention").await.len(), 2, "{point:?}: told once");
    scene.audited().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_at_any_step_deletes_once_with_one_receipt() {
    let rows = &CrashPoint::CLEANUP[..9];
    let points = rows.iter().copied().chain([CrashPoint::BeforeSettle]);
    join_all(points.map(survives)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_while_it_removes_an_object_leaves_one_receipt() {
    let receipt = [CrashPoint::BeforeReceiptCommit, CrashPoint::AfterReceiptCommit];
    for point in CrashPoint::CLEANUP[9..].iter().copied().chain(receipt) {
        let scene = Scene::new().await;
        scene.logs([1, 2]).await;
        let run = scene.archive_only().await;
        scene.expire().await;
        let unit = scene.archive.units(run.new.id).await.remove(0);
        let message = expired_message(&unit, scene.archive.policy);
        killed(&scene, point, "expired", serde_json::to_string(&message).unwrap()).await;
        scene.remove(&run).await.unwrap();
        assert_eq!(scene.archive.objects().await.len(), 0, "{point:?}");
        assert_eq!(scene.receipts().await.len(), 1, "{point:?}");
        scene.audited().await;
    }
}

//! A hold that was answered as placed is heeded by every deletion that commits later.

use std::time::Duration;

use audit::lifecycle::RunState;
use audit::store::holds;
use contracts::LogId;
use serde_json::json;
use testkit::eventually;

use super::scene::{Scene, ids};
use crate::archive::scene::{acme, v7};
use crate::retention::hold;

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_placed_a_moment_before_wins() {
    let scene = Scene::new().await;
    let mut logs = scene.logs([1, 2]).await;
    let (hour, archive) = (scene.archive.hour, &scene.archive);
    let other = archive.log(3, LogId(v7(hour, 3)), "a.held", 20);
    logs.extend(scene.store(vec![other]).await);
    let run = scene.sealed().await;

    // The hold is written and not yet committed when the cleanup begins.
    let owner = archive.owner();
    let mut transaction = owner.pool().begin().await.unwrap();
    let placed = hold(1, &json!({"actions": ["a.held"]}));
    holds::place(&mut transaction, &acme(), placed).await.unwrap();
    let work = scene.clean(&run);
    let placing = async {
        eventually(Duration::from_secs(60), "the cleanup waits for it", async || {
            let waits = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                          WHERE d.datname = current_database() AND locktype = 'advisory'
                            AND mode = 'ShareLock' AND NOT granted";
            (scene.count(waits).await > 0).then_some(())
        })
        .await;
        assert_eq!(scene.stored().await, ids(&logs), "nothing is deleted meanwhile");
        transaction.commit().await.unwrap();
    };
    let (cleaned, ()) = tokio::join!(work, placing);
    cleaned.unwrap();

    assert_eq!(scene.stored().await, ids(&logs[2..]));
    assert_eq!((scene.found(&logs).await, scene.found(&logs[2..]).await), (1, 1));
    assert_eq!(scene.count("SELECT count(*) FROM archived_logs").await, 1, "the archive has it");
    let receipt = scene.receipts().await.remove(0);
    assert_eq!((receipt.deleted, receipt.held, receipt.holds.in_force), (2, 1, 1));
    let ended = scene.ended(&run, RunState::Done).await;
    assert_eq!(ended.counters.held.events, 1);
    scene.audited().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_is_held_whole_has_no_receipt() {
    let scene = Scene::new().await;
    let logs = scene.logs([1, 2]).await;
    let run = scene.sealed().await;
    let owner = scene.archive.owner();
    let mut connection = owner.pool().acquire().await.unwrap();
    holds::place(&mut connection, &acme(), hold(1, &json!({}))).await.unwrap();
    scene.clean(&run).await.unwrap();
    assert_eq!((scene.stored().await, scene.found(&logs).await), (ids(&logs), 2));
    assert_eq!(scene.receipts().await.len(), 0);
    let ended = scene.ended(&run, RunState::Done).await;
    assert_eq!(ended.counters.held.events, 2);
    scene.audited().await;
}

//! A run that failed opens an alert, once however many fail; one that ends well, or a policy that is not
//! applied any more, is its end.

use audit::lifecycle::RunState;
use audit::scheduling;
use audit::store;
use chrono::TimeDelta;
use contracts::audit::lifecycle::RunId;
use queue_core::Failure;
use serde_json::json;

use super::scene::{Scene, acme, policy, slot};
use crate::retention::now;

fn free() -> serde_json::Value {
    json!({"keep": "P1D", "brake": {"share_max": 1, "growth_max": 1_000}})
}

impl Scene {
    /// Alerts: name, whether somebody waits for their end, times found, text.
    async fn alerts(&self) -> Vec<(String, bool, i64, String)> {
        let all = "SELECT name, quiet_since IS NULL AND closed_at IS NULL, raised, text FROM alerts
                    WHERE tenant = 'acme' ORDER BY name";
        sqlx::query_as(all).fetch_all(self.owner.pool()).await.unwrap()
    }

    async fn notices(&self) -> i64 {
        let count = "SELECT count(*) FROM alert_notices WHERE tenant = 'acme'";
        sqlx::query_scalar(count).fetch_one(self.owner.pool()).await.unwrap()
    }

    /// A run of the day's slot, planned and started.
    async fn started(&self, day: i64) -> RunId {
        let id = self.schedule(slot() + TimeDelta::days(day)).await.unwrap();
        self.evaluate(id).await.unwrap();
        assert_eq!(self.run(id).await.unwrap().state, RunState::Running);
        id
    }

    /// One of its units fails, the others are kept: the run ends.
    async fn fail(&self, run: RunId) {
        let units = self.units(run).await;
        let mut transaction = self.database.pool().begin().await.unwrap();
        for unit in &units[1..] {
            store::keep_unit(&mut transaction, &acme(), unit.id).await.unwrap();
        }
        store::fail_unit(&mut transaction, &acme(), units[0].id, "no record").await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(self.run(run).await.unwrap().state, RunState::Failed);
    }
}

#[tokio::test]
async fn runs_that_fail_open_one_alert_and_one_that_ends_well_ends_it() {
    let scene = Scene::new(100).await;
    scene.write(&acme(), &free(), 0).await;
    let first = scene.started(0).await;
    assert_eq!(scene.alerts().await, []);
    scene.fail(first).await;
    let name = format!("run-failed/{}", policy());
    let opened = scene.alerts().await;
    assert_eq!((&opened[0].0, opened[0].1, opened[0].2), (&name, true, 1));
    for part in [first.to_string(), "1 of its".to_owned(), "no record".to_owned()] {
        assert!(opened[0].3.contains(&part), "{part}: {opened:?}");
    }
    let second = scene.started(1).await;
    scene.fail(second).await;
    let found = scene.alerts().await;
    assert_eq!((found.len(), found[0].1, found[0].2), (1, true, 2));
    assert!(found[0].3.contains(&second.to_string()), "it speaks of the last one");
    assert_eq!(scene.notices().await, 1, "told once");
    // Nothing is left to do: that run is done.
    scene.sql("DELETE FROM logs").await;
    let third = scene.schedule(slot() + TimeDelta::days(2)).await.unwrap();
    scene.evaluate(third).await.unwrap();
    assert_eq!(scene.run(third).await.unwrap().state, RunState::Done);
    assert!(!scene.alerts().await[0].1, "it is over");
}

#[tokio::test]
async fn a_run_that_cannot_be_planned_rings_until_its_policy_is_not_applied() {
    let scene = Scene::new(10).await;
    scene.write(&acme(), &free(), 0).await;
    let id = scene.schedule(slot()).await.unwrap();
    scene.sql("DELETE FROM policy_versions").await;
    let Err(Failure::Reject(_)) = scene.evaluate(id).await else { panic!("it has no version") };
    let alerts = scene.alerts().await;
    assert!(alerts[0].1 && alerts[0].3.contains("no version 1"), "{alerts:?}");
    scheduling::follow(&scene.database, now()).await.unwrap();
    assert!(scene.alerts().await[0].1, "it is applied");
    scene.sql("UPDATE policies SET state = 'disabled'").await;
    scheduling::follow(&scene.database, now()).await.unwrap();
    assert!(!scene.alerts().await[0].1);
}

#[tokio::test]
async fn a_run_that_somebody_cancelled_rings_nobody() {
    let scene = Scene::new(100).await;
    scene.write(&acme(), &free(), 0).await;
    let id = scene.started(0).await;
    let mut transaction = scene.api.tenant(&acme()).await.unwrap();
    let to = RunState::Cancelled;
    store::stop_run(&mut transaction, &acme(), id, to, "by k1").await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(scene.run(id).await.unwrap().state, RunState::Cancelled);
    assert_eq!(scene.alerts().await, []);
}

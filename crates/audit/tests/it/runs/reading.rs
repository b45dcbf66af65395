//! Runs are read with no more than is asked for: rules and plans are megabytes each.

use audit::store::{self, Large};
use serde_json::json;

use super::scene::{Scene, acme, slot};

#[tokio::test]
async fn a_list_of_runs_has_no_rules_and_no_plans() {
    let scene = Scene::new(10).await;
    let free = json!({"keep": "P1D", "brake": {"share_max": 1, "growth_max": 1_000}});
    scene.write(&acme(), &free, 0).await;
    let id = scene.schedule(slot()).await.unwrap();
    scene.evaluate(id).await.unwrap();
    let whole = scene.run(id).await.unwrap();
    assert!(whole.plan.is_some() && whole.new.rules.is_some());
    let listed = scene.runs().await;
    assert_eq!((&listed[0].plan, &listed[0].new.rules), (&None, &None));
    assert_eq!(listed[0].counters, whole.counters);
    let mut connection = scene.database.pool().acquire().await.unwrap();
    for (large, rules, plan) in
        [(Large::Rules, true, false), (Large::Plan, false, true), (Large::Neither, false, false)]
    {
        let part = store::run_with(&mut connection, &acme(), id, large).await.unwrap().unwrap();
        assert_eq!((part.new.rules.is_some(), part.plan.is_some()), (rules, plan), "{large:?}");
        assert_eq!((part.state, part.fingerprint), (whole.state, whole.fingerprint));
    }
}

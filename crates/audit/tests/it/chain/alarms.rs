//! A chain that is not what was written rings once, keeps no other tenant from being sealed, and is over when
//! it goes on.

use sinks::objects::{Deletion, Objects, Write};

use super::scene::Scene;

/// Alerts: tenant and name, whether somebody waits for their end, text.
async fn alerts(scene: &Scene) -> Vec<(String, bool, String)> {
    let all =
        "SELECT tenant || ' ' || name, quiet_since IS NULL AND closed_at IS NULL, text FROM alerts";
    database::sqlx::query_as(all).fetch_all(scene.worker.pool()).await.unwrap()
}

#[tokio::test]
async fn a_fork_rings_once_and_is_over_when_the_chain_goes_on() {
    let scene = Scene::new().await;
    let name = "proof/acme/chain/000000000002-manifest.note";
    let key = name.parse().unwrap();
    scene.store.put(&key, b"forged".to_vec(), Write::IfAbsent).await.unwrap();
    scene.archive("acme").await.unwrap();
    scene.archive("globex").await.unwrap();
    let sealer = scene.sealer(&[1]);
    for _ in 0..2 {
        sealer.pass().await.unwrap();
        let open = alerts(&scene).await;
        assert_eq!(
            (open.len(), open[0].0.as_str(), open[0].1),
            (1, "acme chain-broken/archive", true)
        );
        assert!(open[0].2.contains(name), "{open:?}");
    }
    let told = "SELECT count(*) FROM alert_notices";
    let told: i64 =
        database::sqlx::query_scalar(told).fetch_one(scene.worker.pool()).await.unwrap();
    assert_eq!(told, 1);
    assert_eq!(scene.store.delete_all_versions(&key).await.unwrap(), Deletion::Deleted);
    assert_eq!(sealer.pass().await.unwrap().stalled, 0);
    assert!(!alerts(&scene).await[0].1);
}

#[tokio::test]
async fn a_changed_row_rings_and_a_store_that_is_away_does_not() {
    let scene = Scene::new().await;
    scene.archive("acme").await.unwrap();
    let sealer = scene.sealer(&[1]);
    sealer.pass().await.unwrap();
    scene.archive("acme").await.unwrap();
    scene.away(true);
    assert_eq!(sealer.pass().await.unwrap().stalled, 1);
    assert_eq!(alerts(&scene).await, []);
    scene.away(false);
    let owner = scene.database.connect(database::Role::Owner);
    let change = "UPDATE chain_documents SET document = document || ' ' WHERE sequence = 3";
    database::sqlx::query(change).execute(owner.pool()).await.unwrap();
    assert_eq!(sealer.pass().await.unwrap().stalled, 1);
    let open = alerts(&scene).await;
    assert!(open[0].1 && open[0].2.contains("document 3"), "{open:?}");
}

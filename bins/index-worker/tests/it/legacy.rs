//! The legacy queue is served by the same process where its variable is set: bare messages of
//! listed tenants are stored, others are dead letters with a reason.

use std::collections::BTreeSet;

use contracts::{Tenant, catalogue};
use queue_core::DeadLetter;
use testkit::{TestRedis, eventually};

use crate::scene::{PATIENCE, Scene, send};

fn bare(tenant: &str) -> String {
    format!(
        r#"{{"type":"INDEX","tenant_id":"{tenant}","data":{{"actor":{{"type":"user","id":"u"}},"action":"order.paid"}}}}"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn bare_messages_are_served_beside_the_index_queue() {
    let redis = TestRedis::new().await;
    let mut scene = Scene::new("current", &redis).await;
    let (queue, dlq_url) = scene.also(&catalogue::AUDIT_LEGACY).await;
    scene.environment.push(("LEGACY_TENANTS", "shop,other-shop".to_owned()));
    scene.accept().await;
    send(&queue, bare("shop")).await;
    send(&queue, bare("stranger")).await;

    let mut worker = scene.start(None);
    let shop: Tenant = "shop".parse().unwrap();
    eventually(PATIENCE, "the bare message is stored", async || {
        scene.stored(&shop).await.is_ok_and(|logs| logs.len() == 1).then_some(())
    })
    .await;
    let letters = eventually(PATIENCE, "the other is a dead letter", async || {
        let letters = scene.admin.peek(&dlq_url, 10).await.unwrap();
        (!letters.is_empty()).then_some(letters)
    })
    .await;
    let letter = DeadLetter::from_json(&letters[0].body).unwrap();
    assert_eq!(letter.code, "forbidden");
    assert!(letter.message.contains("LEGACY_TENANTS"), "{}", letter.message);
    scene.converged().await;
    let status = worker.drain().await;
    assert_eq!(status.code(), Some(0), "{status}\n{}", worker.output());
    assert_eq!(scene.stored(&"stranger".parse().unwrap()).await, Ok(BTreeSet::new()));
    scene.end().await;
}

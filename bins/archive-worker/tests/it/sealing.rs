//! A worker that has the signing key seals what it archives, beside its work.

use std::time::Duration;

use testkit::eventually;

use crate::scene::Scene;

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_the_key_seals_what_it_archives() {
    let mut scene = Scene::new(false).await;
    scene.store.push(("ARCHIVE_SIGNING_KEY", Scene::private_key()));
    scene.store.push(("ARCHIVE_SIGNING_KEY_NAME", "audit.example.com".into()));
    let mut worker = scene.start(None);
    scene.accept().await;
    scene.converged().await;
    // The key's record, and a manifest per object.
    let expected = 1 + scene.objects().await.len();
    let chain = scene.archive().join("proof/acme/chain");
    eventually(Duration::from_secs(120), "every document is stored", async || {
        let stored = std::fs::read_dir(&chain).map_or(0, Iterator::count);
        (stored == expected).then_some(())
    })
    .await;
    assert_eq!(worker.drain().await.code(), Some(0), "{}", worker.output());
    scene.audited().await;
    scene.end().await;
}

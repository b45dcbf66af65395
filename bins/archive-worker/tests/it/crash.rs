//! The crash matrix: the real process dies by SIGKILL at each step of the path, another takes over, and
//! then every event is in exactly the objects it should be in, once, and the counters add up.

use audit::crash::CrashPoint;
use futures_util::future::join_all;

use crate::process::killed;
use crate::scene::Scene;

async fn survives(point: CrashPoint, scene: Scene) {
    let mut doomed = scene.start(Some(point.as_str()));
    scene.accept().await;
    let status = doomed.ended().await;
    let output = doomed.output();
    assert!(killed(status), "{point:?}: {status}\n{output}");
    assert!(output.contains("crash point reached"), "{point:?} was not reached:\n{output}");

    let mut healthy = scene.start(None);
    scene.converged().await;
    let status = healthy.drain().await;
    assert_eq!(status.code(), Some(0), "{point:?}: {status}\n{}", healthy.output());
    assert_eq!(scene.differs().await, Ok(()), "{point:?}");
    scene.audited().await;
    scene.end().await;
}

/// All at once: each waits for the dead worker's lease and claim to end, a minute each.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_at_any_step_archives_each_event_once() {
    let mut runs = Vec::new();
    for point in CrashPoint::ARCHIVE.into_iter().chain([CrashPoint::BeforeSettle]) {
        // Only a large object goes in parts.
        let large = matches!(point, CrashPoint::AfterUploadBegun | CrashPoint::AfterPart);
        runs.push(survives(point, Scene::new(large).await));
    }
    join_all(runs).await;
}

//! SIGKILL at every step of the worker: whatever was accepted ends in exactly one place, nothing
//! takes effect twice, an erased log stays erased.

use audit::crash::CrashPoint;
use futures_util::future::join_all;
use testkit::TestRedis;

use crate::scene::{Scene, killed};

/// Dies at `point`, then a healthy worker takes over.
async fn survives(point: CrashPoint, redis: &TestRedis) {
    let scene = Scene::new(&format!("crash-{}", point.as_str()), redis).await;
    scene.accept().await;

    let mut dying = scene.start(Some(point.as_str()));
    let status = dying.ended().await;
    let output = dying.output();
    assert!(killed(status), "{point:?}: {status}\n{output}");
    assert!(output.contains("crash point reached"), "{point:?} was not reached:\n{output}");
    assert!(output.contains(point.as_str()), "{point:?} was not reached:\n{output}");

    let mut healthy = scene.start(None);
    scene.converged().await;
    let status = healthy.drain().await;
    assert_eq!(status.code(), Some(0), "{point:?}: {status}\n{}", healthy.output());
    assert_eq!(scene.differs().await, Ok(()), "{point:?}");
    scene.end().await;
}

/// All at once: each waits for the dead worker's leases to end, half a minute on the index queue.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_at_any_step_loses_and_doubles_nothing() {
    let redis = TestRedis::new().await;
    join_all(CrashPoint::WORKER.into_iter().map(|point| survives(point, &redis))).await;
}

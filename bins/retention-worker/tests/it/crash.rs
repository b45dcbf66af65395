//! The crash matrix: the real process dies by SIGKILL at each step of a run's planning, another takes over,
//! and then each slot is one run with one plan, each unit is there and told once, and people heard of it.

use audit::crash::CrashPoint;
use futures_util::future::join_all;

use crate::process::killed;
use crate::scene::Scene;

async fn dies(scene: &Scene, point: CrashPoint) {
    let mut doomed = scene.start(Some(point.as_str()));
    let status = doomed.ended().await;
    let output = doomed.output();
    assert!(killed(status), "{point:?}: {status}\n{output}");
    assert!(output.contains("crash point reached"), "{point:?} was not reached:\n{output}");
    scene.let_the_dead_one_go().await;
}

async fn lives(scene: &Scene, point: CrashPoint) {
    let mut healthy = scene.start(None);
    scene.converged().await;
    let status = healthy.drain().await;
    assert_eq!(status.code(), Some(0), "{point:?}: {status}\n{}", healthy.output());
    assert_eq!(scene.differs().await, Ok(()), "{point:?}");
}

async fn survives(point: CrashPoint) {
    let scene = Scene::new().await;
    scene.slots().await;
    dies(&scene, point).await;
    lives(&scene, point).await;
    scene.end().await;
}

/// Its own steps, those of a plan, and the last one of a message.
fn points() -> impl Iterator<Item = CrashPoint> {
    let shared = [CrashPoint::AfterPlan, CrashPoint::AfterUnits, CrashPoint::BeforeSettle];
    CrashPoint::RETENTION.into_iter().chain(shared)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_at_any_step_plans_each_slot_once() {
    join_all(points().map(survives)).await;
}

/// Every message comes twice, the second time to a worker that dies before it settles it.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_that_dies_changes_nothing() {
    let scene = Scene::new().await;
    scene.slots().await;
    lives(&scene, CrashPoint::BeforeSettle).await;
    scene.slots().await;
    scene.again().await;
    dies(&scene, CrashPoint::BeforeSettle).await;
    lives(&scene, CrashPoint::BeforeSettle).await;
    scene.end().await;
}

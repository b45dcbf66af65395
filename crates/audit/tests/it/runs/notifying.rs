//! Notifications of runs: told once, and what cannot be told is its target's trouble alone.

use audit::lifecycle::RunState;
use audit::workers::retention::Targets;
use queue_core::{ErrorClass, Failure};
use serde_json::json;
use testkit::{Answer, HttpDouble};

use super::scene::{Scene, acme, slot};

async fn braked(double: &HttpDouble, notify: serde_json::Value) -> (Scene, uuid::Uuid) {
    let json = json!({
        "ops": {"slack": format!("{}/ops", double.url())},
        "hook": {"webhook": format!("{}/hook", double.url()), "tenants": ["acme"],
                 "secret": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"},
        "theirs": {"slack": format!("{}/theirs", double.url()), "tenants": ["globex"]},
    });
    let targets: Targets = json.to_string().parse().unwrap();
    let scene = Scene::with_targets(100, targets).await;
    let spec =
        json!({"keep": "P1D", "brake": {"share_max": 0.1, "growth_max": 9}, "notify": notify});
    scene.write(&acme(), &spec, 0).await;
    let id = scene.schedule(slot()).await.unwrap();
    scene.evaluate(id).await.unwrap();
    assert_eq!(scene.run(id).await.unwrap().state, RunState::Braked);
    (scene, id)
}

#[tokio::test]
async fn each_target_is_told_once_however_often_its_message_comes() {
    let double = HttpDouble::start().await;
    double.programme(|seen| Answer::status(200).body(if seen.path == "/ops" { "ok" } else { "" }));
    let notify = json!([{"type": "slack", "name": "ops"}, {"type": "webhook", "name": "hook"}]);
    let (scene, id) = braked(&double, notify).await;
    for _ in 0..2 {
        scene.notify(id, 0).await.unwrap();
        scene.notify(id, 1).await.unwrap();
    }
    let seen = double.seen();
    let paths: Vec<_> = seen.iter().map(|seen| seen.path.as_str()).collect();
    assert_eq!(paths, ["/ops", "/hook"]);
    let slack = seen[0].text();
    assert!(
        slack.contains("waits for an approval") && slack.contains("100 of the tenant"),
        "{slack}"
    );
    assert_eq!(seen[1].json()["type"], "retention.run.braked");
}

#[tokio::test]
async fn a_dead_target_is_its_own_messages_trouble_and_no_runs() {
    let double = HttpDouble::start().await;
    double.always(Answer::status(503));
    let notify = json!([{"type": "webhook", "name": "hook"}, {"type": "slack", "name": "theirs"},
                        {"type": "email", "to": "ops@example.com"}]);
    let (scene, id) = braked(&double, notify).await;
    // It counts against the message and is no sign that a sink of ours is down.
    let Err(Failure::Retry(error) | Failure::RetryAfter(error, _)) = scene.notify(id, 0).await
    else {
        panic!("a 503 is tried again")
    };
    assert_eq!(error.class, ErrorClass::Handling);
    assert!(!error.class.feeds_breaker());
    for (target, part) in [(1, "no \"theirs\" for this tenant"), (3, "no target 3")] {
        let Err(Failure::Reject(reason)) = scene.notify(id, target).await else {
            panic!("there is no such target")
        };
        assert!(reason.message.contains(part), "{}", reason.message);
    }
    // No mail server is set up.
    let mail = scene.notify(id, 2).await.unwrap_err();
    assert!(
        !matches!(&mail, Failure::Retry(e) | Failure::RetryAfter(e, _) if e.class.feeds_breaker())
    );
    assert_eq!(scene.run(id).await.unwrap().state, RunState::Braked);
    // Back again, it is told.
    double.always(Answer::status(204));
    scene.notify(id, 0).await.unwrap();
    assert_eq!(scene.run(id).await.unwrap().state, RunState::Braked);
}

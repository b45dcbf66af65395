//! What a fleet does for the person who starts it.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use rustix::process::Signal;
use testkit::eventually;
use tokio::process::Command;

use crate::process::{Place, variables};

const LIMIT: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_survives_sigkill_and_is_found_once() {
    let place = Place::new();
    let first = place.start().await;
    let key = first.key();
    let mut sent = Vec::new();
    for _ in 0..20 {
        sent.push(first.post(&key, "crash.before").await);
    }
    assert_eq!(first.end(Signal::KILL).await, None, "died by the signal");

    let second = place.start().await;
    assert!(second.ready["api_key"].is_null(), "a key is shown once");
    sent.sort();
    let found = eventually(LIMIT, "every accepted log", async || {
        let found = second.find(&key, "crash.before").await;
        (found.len() >= sent.len()).then_some(found)
    });
    assert_eq!(found.await, sent);

    sent.push(second.post(&key, "crash.before").await);
    sent.sort();
    assert_eq!(second.end(Signal::TERM).await, Some(0), "drained");

    let third = place.start().await;
    let found = eventually(LIMIT, "the last log, too", async || {
        let found = third.find(&key, "crash.before").await;
        (found.len() >= sent.len()).then_some(found)
    });
    assert_eq!(found.await, sent);
    assert_eq!(third.end(Signal::INT).await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_admin_port_shows_every_service() {
    let place = Place::new();
    let fleet = place.start().await;
    let ready = eventually(LIMIT, "readiness", async || {
        let ready = fleet.admin("/readyz").await;
        (ready["ready"] == true).then_some(ready)
    });
    let ready = ready.await;
    let checks = ready["checks"].as_array().unwrap();
    for name in ["postgres", "redis", "audit-index", "audit-archive", "audit-cleanup", "objects"] {
        assert!(checks.iter().any(|check| check["name"] == name), "{name}: {ready}");
    }
    let status = fleet.admin("/status").await;
    for section in ["api", "audit-index", "audit-archive", "audit-cleanup", "scheduler"] {
        assert!(status["sections"][section].is_object(), "{section}: {status}");
    }
    let mode = std::fs::metadata(place.state_dir().join("fleet.env")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it holds a password");
    assert_eq!(fleet.end(Signal::TERM).await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_left_out_can_run_beside() {
    let place = Place::new();
    let fleet = place.start_with(&["--except", "index-worker"]).await;
    assert_eq!(
        fleet.ready["services"],
        serde_json::json!([
            "ingest-api",
            "archive-worker",
            "cleanup-worker",
            "retention-worker",
            "scheduler"
        ])
    );
    let key = fleet.key();
    let sent = fleet.post(&key, "beside").await;
    assert!(fleet.find(&key, "beside").await.is_empty(), "nobody indexes yet");

    let mut worker = Command::new(testkit::binary("index-worker"));
    worker.env_clear().envs(variables(&place.state_dir()));
    worker.env("ADMIN_ADDR", "127.0.0.1:0").kill_on_drop(true);
    let mut worker = worker.spawn().unwrap();
    let found = eventually(LIMIT, "the log", async || {
        let found = fleet.find(&key, "beside").await;
        (!found.is_empty()).then_some(found)
    });
    assert_eq!(found.await, [sent]);
    worker.start_kill().unwrap();
    assert_eq!(fleet.end(Signal::TERM).await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_gets_addresses_and_a_line_to_paste() {
    use tokio::io::{AsyncBufReadExt, BufReader};
    let place = Place::new();
    let mut command = place.command();
    command.args(["--except", "index-worker"]).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut told = String::new();
    let until_stop = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            told.push_str(&line);
            told.push('\n');
            if line.starts_with("Stop:") {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(120), until_stop).await.unwrap();
    for expected in [
        &format!("http://127.0.0.1:{}", place.api) as &str,
        "flt_test_",
        "  curl -s http://127.0.0.1:",
        "keys create --tenant demo",
        "index-worker is left out",
        "  export AWS_SQS_INDEX_QUEUE_URL='http://127.0.0.1:",
        "  ADMIN_ADDR=127.0.0.1:9091 index-worker",
    ] {
        assert!(told.contains(expected), "{expected:?} is missing:\n{told}");
    }
    let wide: Vec<&str> = told.lines().filter(|line| line.len() > 180).collect();
    assert!(wide.is_empty(), "{wide:?}");
    child.start_kill().unwrap();
    child.wait().await.unwrap();
}

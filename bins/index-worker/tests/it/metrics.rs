//! What `/metrics` of a running worker says of its sinks.

use testkit::TestRedis;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::scene::{Process, Scene};

/// `/metrics` of a worker, whose log names the port.
async fn rendered(worker: &Process) -> String {
    worker.says(&["\"admin\""]).await;
    let output = worker.output();
    let (_, rest) = output.split_once("\"admin\":\"").unwrap();
    let (address, _) = rest.split_once('"').unwrap();
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    connection.read_to_string(&mut text).await.unwrap();
    text
}

/// The sample whose line begins with `name` and holds all of `labels`.
fn sample(text: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let fits = |line: &&str| line.starts_with(name) && labels.iter().all(|l| line.contains(l));
    text.lines().find(fits)?.rsplit_once(' ')?.1.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sinks_calls_are_counted_and_timed() {
    let redis = TestRedis::new().await;
    let scene = Scene::new("metrics", &redis).await;
    scene.accept().await;
    let mut worker = scene.start(None);
    scene.converged().await;
    let text = rendered(&worker).await;
    for (sink, call) in [
        ("postgres", "insert"),
        ("postgres-search", "index"),
        ("redis", "publish"),
        ("redis", "forget"),
    ] {
        let (sink, call) = (format!("sink=\"{sink}\""), format!("call=\"{call}\""));
        let ok = [sink.as_str(), &call, "outcome=\"ok\""];
        let calls = sample(&text, "flotilla_sink_calls_total{", &ok);
        assert!(calls.is_some_and(|calls| calls >= 1.0), "{ok:?} {calls:?} in\n{text}");
        let timed = sample(&text, "flotilla_sink_call_seconds_count{", &[&sink, &call]);
        assert!(timed >= calls, "{ok:?} {timed:?} of {calls:?}");
        let buckets = [sink.as_str(), &call, "le=\"+Inf\""];
        assert_eq!(sample(&text, "flotilla_sink_call_seconds_bucket{", &buckets), timed);
    }
    assert!(!text.contains("tenant="), "there are too many of them for a label");
    assert_eq!(worker.drain().await.code(), Some(0));
    scene.end().await;
}

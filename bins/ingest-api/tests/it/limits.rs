//! Every limit with the input just below and just above, and bodies that are hostile.

use std::time::Duration;

use database::Role;
use serde_json::json;
use testkit::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::scene::{PATIENCE, Scene, event, problem, told};
use testkit::QueueMood;

/// What the server answers to these bytes, until it closes.
async fn raw(scene: &Scene, request: &[u8]) -> String {
    let mut stream = connect(scene).await;
    stream.write_all(request).await.unwrap();
    rest(&mut stream).await
}

async fn connect(scene: &Scene) -> TcpStream {
    TcpStream::connect(scene.base.trim_start_matches("http://")).await.unwrap()
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A server that refuses early may reset what it did not read.
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    let _reset = read.expect("the connection ends");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn bodies_stop_at_the_limit() {
    let scene = Scene::with(&["--body-bytes-max=2048"]).await;
    let text = event(1).to_string();
    let of = |size: usize| {
        let body = format!("{text}{}", " ".repeat(size - text.len()));
        scene.post("/logs").header("content-type", "application/json").body(body).send()
    };
    assert_eq!(of(2_048).await.unwrap().status(), 202);
    let refused = told(of(2_049).await.unwrap()).await;
    problem(&refused, 413, "body-too-large");
    assert!(refused.1["detail"].as_str().unwrap().contains("2048"));
}

#[tokio::test]
async fn a_bulk_stops_at_a_thousand_events_and_at_five_mebibytes() {
    let scene = Scene::new().await;
    let of = |count: usize| {
        let events: Vec<_> = (0..count).map(event).collect();
        scene.post("/logs/bulk").json(&events).send()
    };
    let (status, body) = told(of(1_000).await.unwrap()).await;
    assert_eq!((status, &body["accepted"]), (202, &json!(1_000)));
    problem(&told(of(1_001).await.unwrap()).await, 413, "body-too-large");
    problem(&told(of(0).await.unwrap()).await, 422, "invalid-field");

    let exactly = 5 * 1024 * 1024;
    let sized = |size: usize| {
        let body = format!("[{}]", event(1));
        let body = format!("{body}{}", " ".repeat(size - body.len()));
        scene.post("/logs/bulk").header("content-type", "application/json").body(body).send()
    };
    assert_eq!(sized(exactly).await.unwrap().status(), 202);
    problem(&told(sized(exactly + 1).await.unwrap()).await, 413, "body-too-large");
}

#[tokio::test]
async fn a_bulk_that_swells_beyond_the_buffer_is_still_taken() {
    let scene = Scene::new().await;
    // Two bytes as sent, six as stored: 4 MiB become 12, more than a tenant's 8 MiB.
    let mut swelling = event(1);
    swelling["metadata"]["text"] = json!("é".repeat(40_000));
    let events = vec![swelling; 50];
    let (status, body) = told(scene.post("/logs/bulk").json(&events).send().await.unwrap()).await;
    assert_eq!((status, &body["accepted"]), (202, &json!(50)));
}

#[tokio::test]
async fn one_event_stops_at_256_kib() {
    let scene = Scene::new().await;
    let mut event = event(1);
    event["metadata"] = json!({"filler": ""});
    let base = event.to_string().len();
    let mut of = |size: usize| {
        event["metadata"]["filler"] = json!("x".repeat(size - base));
        scene.post("/logs").json(&event).send()
    };
    assert_eq!(of(256 * 1024).await.unwrap().status(), 202);
    problem(&told(of(256 * 1024 + 1).await.unwrap()).await, 413, "body-too-large");
}

#[tokio::test]
async fn malformed_binary_and_mistyped_bodies_are_named() {
    let scene = Scene::new().await;
    let send = async |media: &str, body: Vec<u8>| {
        let request = scene.post("/logs").header("content-type", media).body(body);
        told(request.send().await.unwrap()).await
    };
    let json = "application/json";
    problem(&send(json, b"{\"actor\":".to_vec()).await, 400, "invalid-json");
    problem(&send(json, vec![0xff, 0xfe, 0x00]).await, 400, "invalid-json");
    problem(&send(json, Vec::new()).await, 400, "invalid-json");
    problem(&send("text/plain", event(1).to_string().into()).await, 415, "unsupported-media-type");
    let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    problem(&send(json, deep.into_bytes()).await, 422, "invalid-field");
    let wrong = send(json, br#"{"actor":{"type":"u","id":1},"action":"a"}"#.to_vec()).await;
    problem(&wrong, 422, "invalid-field");
    assert_eq!(wrong.1["errors"][0]["pointer"], "/actor/id");
    assert!(wrong.1["errors"][0]["detail"].as_str().unwrap().contains("got a number"));
    assert!(scene.queue.sent().is_empty());
}

#[tokio::test]
async fn headers_stop_at_the_limit() {
    let scene = Scene::with(&["--header-bytes-max=4096"]).await;
    let send = async |filler: usize| {
        let request =
            scene.client.get(scene.url("/healthz")).header("x-filler", "x".repeat(filler));
        request.send().await.unwrap()
    };
    // The client sends about a hundred bytes of its own.
    assert_eq!(send(3_800).await.status(), 200);
    problem(&told(send(4_096).await).await, 431, "headers-too-large");
}

#[tokio::test]
async fn slow_clients_are_let_go() {
    let flags = ["--header-read-timeout-ms=2000", "--body-read-timeout-ms=2000"];
    let scene = Scene::with(&flags).await;
    // Headers that never end.
    let mut slow = connect(&scene).await;
    slow.write_all(b"POST /logs HTTP/1.1\r\nhost: x\r\nx-a: ").await.unwrap();
    rest(&mut slow).await;
    // A body that never ends.
    let head = format!(
        "POST /logs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: 100\r\n\r\n{{",
        scene.key
    );
    let answer = raw(&scene, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("slow-client"), "{answer}");
    assert_eq!(scene.post("/logs").json(&event(1)).send().await.unwrap().status(), 202);
}

#[tokio::test]
async fn an_idle_connection_outlives_the_time_for_headers_and_ends_at_its_own() {
    let flags = ["--header-read-timeout-ms=2000", "--keep-alive-timeout-ms=8000"];
    let scene = Scene::with(&flags).await;
    let mut stream = connect(&scene).await;
    for round in 0..2 {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut status = [0; 12];
        let answered = tokio::time::timeout(PATIENCE, stream.read_exact(&mut status)).await;
        answered.unwrap().unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!(&status, b"HTTP/1.1 200");
        // The rest of the answer; then silence, longer than headers may take.
        let mut rest = [0; 4096];
        let silence = Duration::from_millis(3_500);
        while let Ok(read) = tokio::time::timeout(silence, stream.read(&mut rest)).await {
            assert_ne!(read.unwrap(), 0, "round {round}: closed while idle");
        }
    }
    let started = tokio::time::Instant::now();
    assert_eq!(rest(&mut stream).await, "", "a clean end");
    assert!(started.elapsed() < PATIENCE);
}

#[tokio::test]
async fn exports_at_once_stop_at_the_limit_and_a_client_that_goes_gives_its_place_back() {
    let flags = ["--exports-max=2", "--write-stall-timeout-ms=600000"];
    let scene = Scene::with(&flags).await;
    // More than the sockets' buffers hold.
    let mut large = event(1);
    large["metadata"]["filler"] = json!("x".repeat(240 * 1024));
    for _ in 0..8 {
        let request = scene.post("/logs/bulk").json(&vec![large.clone(); 12]).send();
        assert_eq!(request.await.unwrap().status(), 202);
    }
    scene.store().await;
    let export = async || {
        let mut stream = connect(&scene).await;
        let head = format!(
            "GET /logs/export HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n",
            scene.key
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        tokio::time::timeout(PATIENCE, stream.read_exact(&mut status)).await.unwrap().unwrap();
        (stream, String::from_utf8(status.to_vec()).unwrap())
    };
    let (first, status) = export().await;
    assert_eq!(status, "HTTP/1.1 200");
    let (second, status) = export().await;
    assert_eq!(status, "HTTP/1.1 200", "two are allowed");
    let refused = scene.get("/logs/export").send().await.unwrap();
    assert_eq!(refused.headers()["retry-after"], "10");
    problem(&told(refused).await, 503, "overloaded");
    drop(first);
    let whole = eventually(PATIENCE, "its place is free", async || {
        let response = scene.get("/logs/export").send().await.unwrap();
        (response.status() == 200).then_some(response)
    })
    .await;
    let lines = whole.text().await.unwrap();
    assert!(lines.ends_with("{\"_end\":{\"count\":96}}\n"));
    // One that was read to its end gives its place back, too.
    eventually(PATIENCE, "its place is free", async || {
        (export().await.1 == "HTTP/1.1 200").then_some(())
    })
    .await;
    drop(second);
    // What broke off is audited as such, with what was made ready until then.
    let (_, database) = scene.leave().await;
    let database = database.connect(Role::Worker);
    let told: Vec<(bool, i64)> = sqlx::query_as(
        "SELECT (m ->> 'complete')::bool, (m ->> 'results')::bigint
           FROM (SELECT convert_from(record, 'UTF8')::jsonb -> 'event' -> 'metadata' AS m
                   FROM logs WHERE tenant = 'acme' AND action = 'flotilla.logs.exported') told",
    )
    .fetch_all(database.pool())
    .await
    .unwrap();
    assert_eq!(told.iter().filter(|(complete, _)| *complete).collect::<Vec<_>>(), [&(true, 96)]);
    assert!(told.iter().filter(|(complete, results)| !complete && *results < 96).count() >= 3);
}

#[tokio::test]
async fn connections_stop_at_the_limit_and_the_next_waits() {
    let scene = Scene::with(&["--connections-max=2"]).await;
    let request = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut held = Vec::new();
    let mut status = [0; 12];
    for _ in 0..2 {
        let mut stream = connect(&scene).await;
        stream.write_all(request).await.unwrap();
        tokio::time::timeout(PATIENCE, stream.read_exact(&mut status)).await.unwrap().unwrap();
        held.push(stream);
    }
    let mut third = connect(&scene).await;
    third.write_all(request).await.unwrap();
    let early = Duration::from_millis(300);
    let early = tokio::time::timeout(early, third.read_exact(&mut status)).await;
    assert!(early.is_err(), "a third is served beside two");
    held.pop();
    tokio::time::timeout(PATIENCE, third.read_exact(&mut status)).await.unwrap().unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
}

#[tokio::test]
async fn requests_at_once_stop_at_the_limit() {
    let scene = Scene::with(&["--requests-in-flight-max=2"]).await;
    scene.queue.mood(QueueMood::Hangs);
    let waiting: Vec<_> =
        (0..2).map(|n| tokio::spawn(scene.post("/logs").json(&event(n)).send())).collect();
    let refused = eventually(PATIENCE, "a third request is refused", async || {
        let told = told(scene.client.get(scene.url("/healthz")).send().await.unwrap()).await;
        (told.0 != 200).then_some(told)
    })
    .await;
    problem(&refused, 503, "overloaded");
    scene.queue.mood(QueueMood::Takes);
    for one in waiting {
        assert_eq!(one.await.unwrap().unwrap().status(), 202);
    }
    assert_eq!(scene.client.get(scene.url("/healthz")).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn bytes_of_bodies_at_once_stop_at_the_limit() {
    let flags = ["--body-bytes-max=2048", "--body-bytes-in-flight-max=4096"];
    let scene = Scene::with(&flags).await;
    scene.queue.mood(QueueMood::Hangs);
    let text = event(1).to_string();
    let of = |size: usize| {
        let body = format!("{text}{}", " ".repeat(size - text.len()));
        scene.post("/logs").header("content-type", "application/json").body(body).send()
    };
    // 3,000 bytes are held while the queue hangs.
    let (mut held, mut before) = (Vec::new(), 0);
    for size in [2_000, 1_000] {
        held.push(tokio::spawn(of(size)));
        before = eventually(PATIENCE, "it is in the publisher", async || {
            let status = scene.context.status().document();
            let pending = status["sections"]["api"]["pending_bytes"].as_u64().unwrap();
            (pending > before).then_some(pending)
        })
        .await;
    }
    let response = of(1_097).await.unwrap();
    assert_eq!(response.headers()["retry-after"], "1");
    problem(&told(response).await, 503, "overloaded");
    // Without a length the route's limit counts.
    let endless = futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>();
    let request = scene.post("/logs").header("content-type", "application/json");
    let response = request.body(reqwest::Body::wrap_stream(endless)).send().await.unwrap();
    problem(&told(response).await, 503, "overloaded");
    let fits = of(1_096);
    let release = async {
        tokio::task::yield_now().await;
        scene.queue.mood(QueueMood::Takes);
    };
    let (fits, ()) = tokio::join!(fits, release);
    assert_eq!(fits.unwrap().status(), 202);
    for one in held {
        assert_eq!(one.await.unwrap().unwrap().status(), 202);
    }
    let all = futures_util::future::join_all([of(2_048), of(2_048)]).await;
    assert!(all.into_iter().all(|one| one.unwrap().status() == 202), "all of it came back");
}

#[tokio::test]
async fn a_key_has_a_rate() {
    let scene = Scene::with(&["--rate-per-key=1", "--rate-burst-per-key=3"]).await;
    let send = || scene.post("/logs").json(&event(1)).send();
    let first = send().await.unwrap();
    let headers = first.headers();
    assert_eq!(headers["ratelimit-policy"], "\"key\";q=3;w=3");
    assert!(headers["ratelimit"].to_str().unwrap().starts_with("\"key\";r=2;"), "{headers:?}");
    assert_eq!(first.status(), 202);
    // How many more fit is up to the machine: each second that it stalls earns a token.
    let mut taken = 1;
    let response = eventually(PATIENCE, "the burst is over", async || {
        let response = send().await.unwrap();
        taken += u32::from(response.status() == 202);
        (response.status() != 202).then_some(response)
    })
    .await;
    assert!(taken >= 3, "{taken}");
    assert_eq!(response.headers()["retry-after"], "1");
    assert!(response.headers().contains_key("ratelimit"));
    problem(&told(response).await, 429, "rate-limited");
    let other = scene.client.post(scene.url("/logs")).bearer_auth(&scene.foreign_key);
    assert_eq!(other.json(&event(1)).send().await.unwrap().status(), 202, "keys share nothing");
    eventually(PATIENCE, "a token comes back", async || {
        let response = scene.post("/logs").json(&event(1)).send().await.unwrap();
        (response.status() == 202).then_some(())
    })
    .await;
}

//! The live tail: nothing missing across reconnects, a lost Redis, a drain and a slow client.

use std::collections::BTreeSet;
use std::time::Duration;

use chassis::Ended;
use edge::Scope;
use futures_util::{SinkExt, StreamExt};
use http::header::AUTHORIZATION;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::scene::{PATIENCE, Scene, event, make_key, problem, told};

struct Tail {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    cursor: String,
    ids: Vec<String>,
}

/// Connects with the key, or without one when `path` carries a ticket.
async fn connect(scene: &Scene, path: &str) -> Result<Tail, u16> {
    let url = scene.url(path).replace("http://", "ws://");
    let mut request = url.into_client_request().unwrap();
    if !path.contains("ticket=") {
        let value = format!("Bearer {}", scene.key).parse().unwrap();
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    match tokio_tungstenite::connect_async(request).await {
        Ok((socket, _)) => {
            let mut tail = Tail { socket, cursor: String::new(), ids: Vec::new() };
            assert_eq!(tail.frame().await.unwrap()["type"], "heartbeat", "the first frame");
            Ok(tail)
        }
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

impl Tail {
    /// The next frame; the close frame when it is one.
    async fn frame(&mut self) -> Result<Value, Option<CloseFrame>> {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.socket.next()).await.unwrap();
            match message.unwrap().unwrap() {
                Message::Text(text) => {
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    frame["cursor"].as_str().unwrap().clone_into(&mut self.cursor);
                    if frame["type"] == "log" {
                        self.ids.push(frame["log"]["id"].as_str().unwrap().to_owned());
                    }
                    return Ok(frame);
                }
                Message::Close(close) => return Err(close),
                _ => {}
            }
        }
    }

    /// Reads until so many logs have come.
    async fn logs(&mut self, count: usize) {
        while self.ids.len() < count {
            self.frame().await.unwrap();
        }
    }

    fn set(&self) -> BTreeSet<String> {
        let set: BTreeSet<String> = self.ids.iter().cloned().collect();
        assert_eq!(set.len(), self.ids.len(), "a repeat within a connection");
        set
    }
}

async fn accept(scene: &Scene, range: std::ops::Range<usize>) -> BTreeSet<String> {
    let events: Vec<Value> = range.map(event).collect();
    let (status, body) = told(scene.post("/logs/bulk").json(&events).send().await.unwrap()).await;
    assert_eq!(status, 202, "{body}");
    let results = body["results"].as_array().unwrap();
    results.iter().map(|result| result["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_is_stored_is_seen_and_a_cursor_goes_on_without_a_gap() {
    let scene = Scene::new().await;
    let stored = scene.store().await;
    let mut tail = connect(&scene, "/logs/live").await.unwrap();
    let first = accept(&scene, 0..3).await;
    stored.store(&scene.queue).await;
    tail.logs(3).await;
    assert_eq!(tail.set(), first);
    let cursor = tail.cursor.clone();
    drop(tail);
    let second = accept(&scene, 3..150).await;
    stored.store(&scene.queue).await;
    let mut tail = connect(&scene, &format!("/logs/live?after={cursor}")).await.unwrap();
    // The cursor may lie before what was seen last: repeats, but no gap.
    while !tail.ids.iter().cloned().collect::<BTreeSet<_>>().is_superset(&second) {
        tail.frame().await.unwrap();
    }
    assert!(tail.set().is_subset(&first.union(&second).cloned().collect()));
}

#[tokio::test]
async fn a_lost_redis_leaves_no_gap() {
    let mut scene = Scene::new().await;
    let stored = scene.store().await;
    let mut tail = connect(&scene, "/logs/live").await.unwrap();
    let mut all = accept(&scene, 0..2).await;
    stored.store(&scene.queue).await;
    tail.logs(2).await;
    scene.redis.kill().await;
    all.extend(accept(&scene, 2..4).await);
    stored.store(&scene.queue).await;
    tail.logs(4).await;
    scene.redis.start().await;
    all.extend(accept(&scene, 4..6).await);
    stored.store(&scene.queue).await;
    tail.logs(6).await;
    assert_eq!(tail.set(), all);
}

#[tokio::test]
async fn filters_choose_and_search_words_are_refused() {
    let scene = Scene::new().await;
    let stored = scene.store().await;
    let mut tail = connect(&scene, "/logs/live?actor=u3&metadata.n=3").await.unwrap();
    accept(&scene, 0..5).await;
    stored.store(&scene.queue).await;
    let frame = loop {
        let frame = tail.frame().await.unwrap();
        if frame["type"] == "log" {
            break frame;
        }
    };
    assert_eq!(frame["log"]["event"], event(3));
    for (path, status) in [("?q=x", 400), ("?colour=red", 400), ("?after=zzz", 400)] {
        assert_eq!(connect(&scene, &format!("/logs/live{path}")).await.err(), Some(status));
    }
    let plain = scene.get("/logs/live").send().await.unwrap();
    problem(&told(plain).await, 400, "invalid-query");
}

#[tokio::test]
async fn a_ticket_opens_one_connection() {
    let scene = Scene::new().await;
    let (status, ticket) = told(scene.post("/logs/live/ticket").send().await.unwrap()).await;
    assert_eq!(status, 201, "{ticket}");
    let path = format!("/logs/live?ticket={}", ticket["ticket"].as_str().unwrap());
    assert!(connect(&scene, &path).await.is_ok());
    assert_eq!(connect(&scene, &path).await.err(), Some(401), "used twice");
    for bad in ["x", "acme_x", "nobody_x", "ACME_x", "_"] {
        assert_eq!(connect(&scene, &format!("/logs/live?ticket={bad}")).await.err(), Some(401));
    }
}

#[tokio::test]
async fn tickets_that_wait_stop_at_the_limit_of_a_tenant() {
    let scene = Scene::new().await;
    let owner = scene.database.connect(database::Role::Owner);
    let limit = i32::try_from(audit::store::TICKETS_MAX).unwrap();
    let waiting = "INSERT INTO live_tickets (tenant, ticket_sha256, key_id, expires_at)
        SELECT 'acme', sha256(n::text::bytea), 'k', now() + interval '1 minute'
          FROM generate_series(1, $1) AS n";
    sqlx::query(waiting).bind(limit - 1).execute(owner.pool()).await.unwrap();
    let ask = async || told(scene.post("/logs/live/ticket").send().await.unwrap()).await;
    assert_eq!(ask().await.0, 201, "the last that fits");
    problem(&ask().await, 503, "overloaded");
    let other = scene.client.post(scene.url("/logs/live/ticket")).bearer_auth(&scene.foreign_key);
    assert_eq!(other.send().await.unwrap().status(), 201, "tenants share nothing");
    // One that has expired makes room.
    let expire = "UPDATE live_tickets SET expires_at = now() - interval '1 second'
        WHERE tenant = 'acme' AND ticket_sha256 = sha256('1'::bytea)";
    assert_eq!(sqlx::query(expire).execute(owner.pool()).await.unwrap().rows_affected(), 1);
    assert_eq!(ask().await.0, 201);
    problem(&ask().await, 503, "overloaded");
    owner.close().await;
}

#[tokio::test]
async fn a_connection_asks_for_its_scope() {
    let mut scene = Scene::new().await;
    let owner = scene.database.connect(database::Role::Owner);
    let others: Vec<Scope> =
        Scope::ALL.iter().copied().filter(|scope| *scope != Scope::LogsTail).collect();
    for (scopes, refused) in [(&others[..], Some(403)), (&[Scope::LogsTail], None)] {
        scene.key = make_key(&owner, "acme", scopes).await;
        assert_eq!(connect(&scene, "/logs/live").await.err(), refused);
    }
    scene.key = "flt_test_x_y".to_owned();
    assert_eq!(connect(&scene, "/logs/live").await.err(), Some(401));
    owner.close().await;
}

#[tokio::test]
async fn a_ticket_that_has_expired_opens_nothing() {
    let scene = Scene::new().await;
    let (_, ticket) = told(scene.post("/logs/live/ticket").send().await.unwrap()).await;
    let owner = scene.database.connect(database::Role::Owner);
    let expire = "UPDATE live_tickets SET expires_at = now()";
    sqlx::query(expire).execute(owner.pool()).await.unwrap();
    owner.close().await;
    let path = format!("/logs/live?ticket={}", ticket["ticket"].as_str().unwrap());
    assert_eq!(connect(&scene, &path).await.err(), Some(401));
}

#[tokio::test]
async fn a_drain_tells_every_client_where_to_resume() {
    let scene = Scene::new().await;
    let mut tail = connect(&scene, "/logs/live").await.unwrap();
    let ended = async move {
        let resume = tail.frame().await.unwrap();
        assert_eq!((&resume["type"], &resume["reason"]), (&json!("resume"), &json!("restart")));
        let close = tail.frame().await.unwrap_err().unwrap();
        assert_eq!(u16::from(close.code), 1012);
        assert!(close.reason.ends_with(resume["cursor"].as_str().unwrap()), "{}", close.reason);
        tail.socket.close(None).await.ok();
    };
    let (how, ()) = tokio::join!(scene.end(), ended);
    assert_eq!(how, Ended::Drained);
}

#[tokio::test]
async fn a_revoked_key_loses_its_connections() {
    let scene = Scene::new().await;
    let mut tail = connect(&scene, "/logs/live").await.unwrap();
    let stored = scene.store().await;
    stored.feed.announce_revocation(crate::scene::key_id(&scene.key)).await.unwrap();
    let resume = tail.frame().await.unwrap();
    assert_eq!((&resume["type"], &resume["reason"]), (&json!("resume"), &json!("key-refused")));
    assert_eq!(u16::from(tail.frame().await.unwrap_err().unwrap().code), 4401);
}

#[tokio::test]
async fn a_slow_client_is_closed_with_where_to_resume_and_misses_nothing() {
    let scene = Scene::with(&["--live-slow-after-ms=200"]).await;
    let stored = scene.store().await;
    let mut tail = connect(&scene, "/logs/live").await.unwrap();
    // More than the sockets' buffers hold, while the client reads nothing.
    let mut all = BTreeSet::new();
    for _ in 0..20 {
        let mut large = event(1);
        large["metadata"]["filler"] = json!("x".repeat(200_000));
        let events = vec![large; 5];
        let answer = scene.post("/logs/bulk").json(&events).send().await.unwrap();
        let (_, body) = told(answer).await;
        let results = body["results"].as_array().unwrap();
        all.extend(results.iter().map(|result| result["id"].as_str().unwrap().to_owned()));
    }
    let given_up = async {
        let stuck = Duration::from_secs(120);
        testkit::eventually(stuck, "the server gives up on it", async || {
            let status = scene.context.status().document();
            let left = status["sections"]["api"]["live_slow"].as_u64().unwrap();
            (left > 0).then_some(())
        })
        .await;
        loop {
            match tail.frame().await {
                Ok(_) => {}
                Err(close) => break close.unwrap(),
            }
        }
    };
    let (close, ()) = tokio::join!(given_up, stored.store(&scene.queue));
    assert_eq!(u16::from(close.code), 4008, "{}", close.reason);
    assert!(close.reason.contains(&tail.cursor));
    let mut seen: BTreeSet<String> = tail.set();
    assert!(seen.len() < all.len(), "the client was not slow");
    let mut again = connect(&scene, &format!("/logs/live?after={}", tail.cursor)).await.unwrap();
    while !seen.is_superset(&all) {
        again.frame().await.unwrap();
        seen.extend(again.ids.drain(..));
    }
    again.socket.send(Message::Close(None)).await.ok();
}

#[tokio::test]
async fn connections_stop_at_the_limit() {
    let scene = Scene::with(&["--live-connections-max=1"]).await;
    let first = connect(&scene, "/logs/live").await.unwrap();
    assert_eq!(connect(&scene, "/logs/live").await.err(), Some(503));
    drop(first);
    testkit::eventually(PATIENCE, "its place is free", async || {
        connect(&scene, "/logs/live").await.ok()
    })
    .await;
}

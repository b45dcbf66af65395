//! Connections over a pipe, in virtual time: which silence ends them, and when.

use axum::routing::{get, post};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::Instant;

use super::*;

const HEAD: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(75);
const MOMENT: Duration = Duration::from_millis(1);
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

struct Client {
    stream: DuplexStream,
    drain: CancellationToken,
    ended: tokio::task::JoinHandle<Instant>,
}

fn client() -> Client {
    let slow = || async {
        tokio::time::sleep(2 * IDLE).await;
        "slow"
    };
    // Takes the connection over and says a word after a long silence.
    let upgrade = async |mut request: axum::extract::Request| {
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgraded.await.expect("upgraded"));
            tokio::time::sleep(2 * IDLE).await;
            stream.write_all(b"still here").await.expect("written");
            stream.flush().await.expect("flushed");
        });
        let head = [("connection", "upgrade"), ("upgrade", "words")];
        (http::StatusCode::SWITCHING_PROTOCOLS, head)
    };
    let router = Router::new()
        .route("/", get(async || "here"))
        .route("/upgrade", get(upgrade))
        .route("/slow", get(slow))
        .route("/echo", post(async |body: String| body));
    let limits = ServerLimits {
        connections_max: 1,
        header_read_timeout: HEAD,
        keep_alive_timeout: IDLE,
        write_stall_timeout: HEAD,
    };
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (peer, drain) = (([127, 0, 0, 1], 1).into(), CancellationToken::new());
    let serving = connection(far, peer, router, limits, drain.clone());
    let ended = tokio::spawn(async {
        serving.await;
        Instant::now()
    });
    Client { stream: near, drain, ended }
}

impl Client {
    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Reads one answer, which ends with `word`.
    async fn answer(&mut self, word: &str) {
        let mut answer = String::new();
        while !answer.ends_with(word) {
            let byte = self.stream.read_u8().await.expect("an answer before the end");
            answer.push(byte.into());
        }
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// How long after `from` the connection ends.
    async fn ends_after(self, from: Instant) -> Duration {
        self.ended.await.unwrap() - from
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_has_ten_seconds_on_a_new_connection() {
    for sent in [&b""[..], b"GET / HT"] {
        let mut client = client();
        client.send(sent).await;
        assert_eq!(client.ends_after(Instant::now()).await, HEAD, "{sent:?}");
    }
    let mut client = client();
    client.send(&GET[..10]).await;
    tokio::time::sleep(HEAD.saturating_sub(MOMENT)).await;
    client.send(&GET[10..]).await;
    client.answer("here").await;
}

#[tokio::test(start_paused = true)]
async fn bytes_that_trickle_do_not_prolong_a_head() {
    let mut client = client();
    client.send(GET).await;
    client.answer("here").await;
    tokio::time::sleep(IDLE.saturating_sub(MOMENT)).await;
    let started = Instant::now();
    let trickle = async {
        for byte in &GET[..9] {
            client.stream.write_u8(*byte).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        client.ends_after(started).await
    };
    assert_eq!(trickle.await, HEAD);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_outlives_the_heads_limit_and_ends_at_its_own() {
    let mut client = client();
    for _ in 0..3 {
        client.send(GET).await;
        client.answer("here").await;
        tokio::time::sleep(IDLE.saturating_sub(MOMENT)).await;
    }
    client.send(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n").await;
    tokio::time::sleep(2 * IDLE).await;
    client.send(b"body").await;
    client.answer("body").await;
    let idle = Instant::now();
    assert_eq!(client.stream.read(&mut [0]).await.unwrap(), 0, "a clean end");
    assert_eq!(client.ends_after(idle).await, IDLE);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_takes_long_is_neither_slow_nor_idle() {
    let mut client = client();
    client.send(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
    client.answer("slow").await;
    let idle = Instant::now();
    assert_eq!(client.ends_after(idle).await, IDLE);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_taken_over_has_no_limit_of_ours() {
    let mut client = client();
    client
        .send(b"GET /upgrade HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: words\r\n\r\n")
        .await;
    let mut told = String::new();
    client.stream.read_to_string(&mut told).await.unwrap();
    assert!(told.starts_with("HTTP/1.1 101") && told.ends_with("still here"), "{told}");
}

#[tokio::test]
async fn connections_above_the_limit_wait_for_a_place() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let limits = ServerLimits {
        connections_max: 2,
        header_read_timeout: HEAD,
        keep_alive_timeout: IDLE,
        write_stall_timeout: HEAD,
    };
    let (drain, router) =
        (CancellationToken::new(), Router::new().route("/", get(async || "here")));
    let serving = tokio::spawn(serve(listener, router, limits, drain.clone()));
    let connect = async || {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(GET).await.unwrap();
        stream
    };
    let answered = async |stream: &mut TcpStream| {
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
    };
    let (mut first, mut second) = (connect().await, connect().await);
    answered(&mut first).await;
    answered(&mut second).await;
    let mut third = connect().await;
    let early = tokio::time::timeout(Duration::from_millis(200), answered(&mut third)).await;
    assert!(early.is_err(), "a third is served beside two");
    drop(first);
    tokio::time::timeout(6 * HEAD, answered(&mut third)).await.expect("the place is free");
    drop((second, third));
    drain.cancel();
    assert_eq!(serving.await.unwrap().connections, 3);
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_idle_connections_at_once_and_slow_heads_at_their_limit() {
    let mut idle = client();
    idle.send(GET).await;
    idle.answer("here").await;
    idle.drain.cancel();
    assert_eq!(idle.ends_after(Instant::now()).await, Duration::ZERO);
    let mut slow = client();
    slow.send(&GET[..10]).await;
    tokio::time::sleep(MOMENT).await;
    let started = Instant::now();
    slow.drain.cancel();
    assert!(slow.ends_after(started).await <= HEAD);
}

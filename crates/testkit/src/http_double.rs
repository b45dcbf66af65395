//! A third party by programme: an HTTP server that answers what a test has scripted, late, wrong,
//! in part or not at all, and remembers what it was asked.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// Requests remembered; more is a runaway test.
const SEEN_MAX: usize = 100_000;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `POST`.
    pub method: String,
    /// Path with query.
    pub path: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// When its last byte had arrived.
    pub at: tokio::time::Instant,
}

impl Seen {
    /// The body as text, damaged bytes replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    /// A header as text, empty when absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Holds answers back until it is opened; cloning shares it.
#[derive(Clone, Debug)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(watch::channel(false).0))
    }
}

impl Gate {
    /// A closed one.
    pub fn closed() -> Self {
        Self::default()
    }

    /// Lets every answer behind it go, now and later.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    async fn passed(&self) {
        let mut opened = self.0.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        opened.wait_for(|open| *open).await.ok();
    }
}

/// What to do after the head and the body of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// A whole answer.
    Whole,
    /// A whole answer in chunks: the head does not say how long it is.
    Chunked,
    /// The connection ends before any of the answer, the request having been read whole: it may
    /// have taken effect.
    Dropped,
    /// The head promises the whole body; the connection ends after that many bytes of it.
    Truncated(usize),
    /// The head promises the whole body; after that many bytes of it nothing comes, and the connection
    /// stays.
    Stalled(usize),
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Answer {
    status: StatusCode,
    headers: Vec<(String, String)>,
    body: Bytes,
    gate: Option<Gate>,
    delay: Duration,
    ending: Ending,
}

impl Answer {
    /// That status and an empty body.
    pub fn status(status: u16) -> Self {
        Self {
            status: StatusCode::from_u16(status).expect("an HTTP status"),
            headers: Vec::new(),
            body: Bytes::new(),
            gate: None,
            delay: Duration::ZERO,
            ending: Ending::Whole,
        }
    }

    /// 200 with JSON.
    #[expect(clippy::needless_pass_by_value, reason = "written with json!(…) in place")]
    pub fn json(body: serde_json::Value) -> Self {
        Self::status(200).header("content-type", "application/json").body(body.to_string())
    }

    /// 429 with `Retry-After` in seconds.
    pub fn too_many(retry_after: u64) -> Self {
        Self::status(429).header("retry-after", &retry_after.to_string())
    }

    /// Reads the request, then ends the connection: it may have taken effect, nobody knows.
    pub fn dropped() -> Self {
        Self { ending: Ending::Dropped, ..Self::status(200) }
    }

    /// With another status.
    #[must_use]
    pub fn with_status(self, status: u16) -> Self {
        Self { status: StatusCode::from_u16(status).expect("an HTTP status"), ..self }
    }

    /// With a body.
    #[must_use]
    pub fn body(self, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Only after the gate is opened.
    #[must_use]
    pub fn behind(self, gate: &Gate) -> Self {
        Self { gate: Some(gate.clone()), ..self }
    }

    /// Only after that long, by tokio's clock.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// In chunks: nobody knows how long it is before its end.
    #[must_use]
    pub fn chunked(self) -> Self {
        Self { ending: Ending::Chunked, ..self }
    }

    /// Cut off after that many bytes of the body, the head having promised all of it.
    #[must_use]
    pub fn truncated_at(self, bytes: usize) -> Self {
        Self { ending: Ending::Truncated(bytes), ..self }
    }

    /// Silent after that many bytes of the body, the head having promised all of it.
    #[must_use]
    pub fn stalled_at(self, bytes: usize) -> Self {
        Self { ending: Ending::Stalled(bytes), ..self }
    }
}

type Programme = Box<dyn FnMut(&Seen) -> Answer + Send>;

struct Inner {
    script: VecDeque<Answer>,
    programme: Programme,
    seen: Vec<Seen>,
}

/// The server. Dropping it ends its connections.
pub struct HttpDouble {
    addr: SocketAddr,
    inner: Arc<Mutex<Inner>>,
    count: watch::Receiver<usize>,
    _accepting: AbortOnDropHandle<()>,
}

impl std::fmt::Debug for HttpDouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpDouble").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl HttpDouble {
    /// One that answers 404 until told otherwise.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let addr = listener.local_addr().expect("its address");
        let programme: Programme = Box::new(|_| Answer::status(404));
        let inner = Inner { script: VecDeque::new(), programme, seen: Vec::new() };
        let inner = Arc::new(Mutex::new(inner));
        let (counting, count) = watch::channel(0);
        let accepting = accept(listener, inner.clone(), Arc::new(counting));
        let accepting = AbortOnDropHandle::new(tokio::spawn(accepting));
        Self { addr, inner, count, _accepting: accepting }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The next answers, one per request in the order of their arrival; then the programme again.
    pub fn next(&self, answers: impl IntoIterator<Item = Answer>) {
        locked(&self.inner).script.extend(answers);
    }

    /// The same answer to every request that the script does not cover.
    pub fn always(&self, answer: Answer) {
        self.programme(move |_| answer.clone());
    }

    /// Decides each answer by the request, where the script does not.
    pub fn programme(&self, programme: impl FnMut(&Seen) -> Answer + Send + 'static) {
        locked(&self.inner).programme = Box::new(programme);
    }

    /// What it was asked so far, in the order of arrival.
    pub fn seen(&self) -> Vec<Seen> {
        locked(&self.inner).seen.clone()
    }

    /// Waits until it was asked `count` times; panics after 10 seconds.
    pub async fn asked(&self, count: usize) -> Vec<Seen> {
        let mut arrivals = self.count.clone();
        let wait = arrivals.wait_for(|arrived| *arrived >= count);
        let arrived = tokio::time::timeout(Duration::from_secs(10), wait).await.is_ok();
        assert!(arrived, "asked {} times, waited for {count}", self.seen().len());
        self.seen()
    }
}

fn locked(inner: &Mutex<Inner>) -> std::sync::MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, inner: Arc<Mutex<Inner>>, count: Arc<watch::Sender<usize>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(serve(stream, inner.clone(), count.clone()));
    }
}

async fn serve(stream: TcpStream, inner: Arc<Mutex<Inner>>, count: Arc<watch::Sender<usize>>) {
    stream.set_nodelay(true).ok();
    let service = service_fn(|request| answer(request, &inner, &count));
    let connection = hyper::server::conn::http1::Builder::new();
    // Ends in an error when an answer drops the connection: that is what it is for.
    connection.serve_connection(TokioIo::new(stream), service).await.ok();
}

type AnswerBody = BoxBody<Bytes, std::io::Error>;

async fn answer(
    request: Request<Incoming>,
    inner: &Mutex<Inner>,
    count: &watch::Sender<usize>,
) -> Result<Response<AnswerBody>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let seen = Seen {
        method: head.method.to_string(),
        path: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers: head.headers,
        body,
        at: tokio::time::Instant::now(),
    };
    let answer = {
        let mut inner = locked(inner);
        assert!(inner.seen.len() < SEEN_MAX, "more than {SEEN_MAX} requests");
        let scripted = inner.script.pop_front();
        let answer = scripted.unwrap_or_else(|| (inner.programme)(&seen));
        inner.seen.push(seen);
        answer
    };
    count.send_modify(|arrived| *arrived += 1);
    if let Some(gate) = &answer.gate {
        gate.passed().await;
    }
    tokio::time::sleep(answer.delay).await;
    response(answer)
}

fn response(answer: Answer) -> Result<Response<AnswerBody>, std::io::Error> {
    let mut response = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(name, value);
    }
    let whole = answer.body.len();
    let body = match answer.ending {
        Ending::Dropped => return Err(std::io::Error::other("dropped on purpose")),
        Ending::Whole => whole_body(answer.body),
        Ending::Chunked => {
            let frames = stream::iter([Ok(Frame::data(answer.body))]);
            BodyExt::boxed(StreamBody::new(frames))
        }
        Ending::Truncated(at) => {
            response = response.header("content-length", whole);
            truncated_body(answer.body.slice(..at.min(whole)))
        }
        Ending::Stalled(at) => {
            response = response.header("content-length", whole);
            let kept = Frame::data(answer.body.slice(..at.min(whole)));
            let frames = stream::iter([Ok(kept)]).chain(stream::pending());
            BodyExt::boxed(StreamBody::new(frames))
        }
    };
    response.body(body).map_err(std::io::Error::other)
}

fn whole_body(body: Bytes) -> AnswerBody {
    http_body_util::Full::new(body).map_err(|never: Infallible| match never {}).boxed()
}

fn truncated_body(kept: Bytes) -> AnswerBody {
    let end = async {
        // Pending once: what came before is flushed, else the head would be lost with the body.
        tokio::task::yield_now().await;
        Err(std::io::Error::other("truncated on purpose"))
    };
    let frames = stream::iter([Ok(Frame::data(kept))]).chain(stream::once(end));
    BodyExt::boxed(StreamBody::new(frames))
}

//! The layers before every route: ids, header size, concurrency, panics, problem documents, access
//! log and metrics outside; API key and rate inside. In this order, so that what is cheap to refuse
//! is refused before anything is spent on it.

use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use contracts::errors::{HEADERS_TOO_LARGE, INTERNAL, OVERLOADED, RATE_LIMITED};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use queue_core::trace::{self, Remote};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::{Instrument, Span, field};

use crate::auth::Authenticator;
use crate::config::EdgeConfig;
use crate::problem::Problem;
use crate::rate::{Quota, RateLimiter};
use crate::request::{ReadBody, RequestInfo, read_body};

/// Header that carries the request's id in every answer.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The front's shared state.
#[derive(Debug)]
pub struct Gate {
    authenticator: Arc<Authenticator>,
    rate: RateLimiter,
    in_flight: Semaphore,
    body_bytes: Semaphore,
    body_read_timeout: Duration,
    header_bytes_max: usize,
    trusted_proxies: u8,
}

impl Gate {
    /// A gate with the configured limits.
    pub fn new(authenticator: Arc<Authenticator>, config: &EdgeConfig) -> Self {
        Self {
            authenticator,
            rate: RateLimiter::new(config.rate_per_key, config.rate_burst()),
            in_flight: Semaphore::new(config.requests_in_flight_max as usize),
            body_bytes: Semaphore::new(
                usize::try_from(config.body_bytes_in_flight_max)
                    .map_or(Semaphore::MAX_PERMITS, |bytes| bytes.min(Semaphore::MAX_PERMITS)),
            ),
            body_read_timeout: config.body_read_timeout(),
            header_bytes_max: usize::try_from(config.header_bytes_max).unwrap_or(usize::MAX),
            trusted_proxies: config.trusted_proxies,
        }
    }

    /// The authenticator behind it.
    pub fn authenticator(&self) -> &Arc<Authenticator> {
        &self.authenticator
    }

    /// Reads a body of at most `limit` bytes that arrives in time. Its bytes count against those of
    /// all bodies until the [`ReadBody`] is dropped: keep it until the response is made. A body for
    /// which there is no room is refused before any of it is read.
    pub async fn read_body(&self, body: Body, limit: usize) -> Result<ReadBody<'_>, Problem> {
        // A `Content-Length` is the upper bound; one above the limit fails when the limit is met.
        let announced = body.size_hint().upper().and_then(|bytes| usize::try_from(bytes).ok());
        let bytes = announced.map_or(limit, |bytes| bytes.min(limit));
        let permit =
            u32::try_from(bytes).ok().and_then(|n| self.body_bytes.try_acquire_many(n).ok());
        let Some(permit) = permit else {
            return Err(Problem::new(OVERLOADED, "too many bytes of requests are being worked on")
                .retry_after(1));
        };
        let started = Instant::now();
        let bytes = read_body(body, limit, self.body_read_timeout).await?;
        Ok(ReadBody { bytes, waited: started.elapsed(), _permit: permit })
    }

    /// Checks key and rate. For routes that decide themselves what a missing key means; others
    /// stand behind [`authenticated`].
    pub async fn admit(&self, headers: &HeaderMap) -> Result<(crate::Principal, Quota), Problem> {
        let principal = self.authenticator.authenticate(headers.get(header::AUTHORIZATION)).await?;
        let quota = self.rate.take(&principal.key_id, Instant::now());
        let Some(seconds) = quota.wait_secs else { return Ok((principal, quota)) };
        let mut limits = HeaderMap::new();
        self.rate.write_headers(quota, &mut limits);
        let problem = Problem::new(RATE_LIMITED, "the key has used up its requests for now")
            .retry_after(seconds);
        Err(limits.iter().fold(problem, |problem, (name, value)| {
            problem.with_header(name.clone(), value.clone())
        }))
    }
}

/// Puts the API key and rate layer before the routes of `router`.
pub fn authenticated<S: Clone + Send + Sync + 'static>(
    router: Router<S>,
    gate: &Arc<Gate>,
) -> Router<S> {
    router.route_layer(from_fn_with_state(Arc::clone(gate), identify))
}

async fn identify(State(gate): State<Arc<Gate>>, mut request: Request, next: Next) -> Response {
    match gate.admit(request.headers()).await {
        Ok((principal, quota)) => {
            request.extensions_mut().insert(principal);
            let mut response = next.run(request).await;
            gate.rate.write_headers(quota, response.headers_mut());
            response
        }
        Err(problem) => problem.into_response(),
    }
}

/// Puts the outer layers before the whole API.
pub fn front(router: Router, gate: &Arc<Gate>) -> Router {
    router.layer(from_fn_with_state(Arc::clone(gate), outermost))
}

async fn bounded(gate: &Gate, request: Request, next: Next) -> Response {
    let size = header_bytes(&request);
    if size > gate.header_bytes_max {
        let detail = format!("{size} bytes of headers, the limit is {}", gate.header_bytes_max);
        return Problem::new(HEADERS_TOO_LARGE, detail)
            .with_header(header::CONNECTION, HeaderValue::from_static("close"))
            .into_response();
    }
    // The permit ends with the handler, not with a streamed body: streams have bounds of their own.
    let Ok(_permit) = gate.in_flight.try_acquire() else {
        return Problem::new(OVERLOADED, "too many requests are being worked on")
            .retry_after(1)
            .into_response();
    };
    next.run(request).await
}

fn header_bytes(request: &Request) -> usize {
    let line = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    // Each header line is written as `name: value\r\n`.
    let lines = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    line + lines.sum::<usize>()
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Response {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no text");
    tracing::error!(panic = text, "a request handler panicked");
    Problem::new(INTERNAL, "the request hit a fault of ours").into_response()
}

async fn outermost(State(gate): State<Arc<Gate>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let peer: Option<IpAddr> =
        request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let info = RequestInfo::read(request.headers(), peer, gate.trusted_proxies);
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let request_id = info.request_id.clone();
    let correlation_id = info.correlation_id.clone();
    let span = span(&method, &info);
    request.extensions_mut().insert(info);
    let answer = AssertUnwindSafe(bounded(&gate, request, next)).catch_unwind();
    let answer = answer.instrument(span.clone()).await;
    let mut response = answer.unwrap_or_else(|panic| panicked(&*panic));
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let headers = std::mem::take(response.headers_mut());
        response = problem.respond(Some(&request_id));
        for (name, value) in &headers {
            // A HEAD request's or an empty body's length does not hold for the new one.
            if name != header::CONTENT_LENGTH {
                response.headers_mut().insert(name.clone(), value.clone());
            }
        }
        if response.status() == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(%request_id, detail = %problem.detail, "request failed");
        }
    }
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let route = response.extensions_mut().remove::<MatchedRoute>().map(|route| route.0);
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    answered(&span, &method, route, response.status());
    Access {
        method: method.as_str(),
        route,
        path: &path,
        status: response.status().as_u16(),
        seconds: started.elapsed().as_secs_f64(),
        request_id: &request_id,
        correlation_id: &correlation_id,
    }
    .emit();
    response
}

/// The request's span, in traces only; it continues the client's trace.
fn span(method: &Method, info: &RequestInfo) -> Span {
    let span = tracing::debug_span!(
        target: trace::TARGET,
        parent: None,
        "request",
        otel.kind = "server",
        http.request.method = method.as_str(),
        http.route = field::Empty,
        http.response.status_code = field::Empty,
        request_id = info.request_id,
        correlation_id = info.correlation_id,
    );
    if let Some(remote) = Remote::of(info.traceparent.as_deref()) {
        remote.continue_in(&span);
    }
    span
}

/// What is known of a request's span only at its end.
fn answered(span: &Span, method: &Method, route: &str, status: StatusCode) {
    if span.is_disabled() {
        return;
    }
    trace::rename(span, || format!("{method} {route}"));
    span.record("http.route", route);
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        trace::failed(span, status);
    }
}

/// The template of the route that answered, left by [`note_route`] for metrics: a path would make a
/// label per id.
#[derive(Clone)]
struct MatchedRoute(MatchedPath);

/// Layer for routes: tells the outer layers which route answered.
pub async fn note_route(path: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if let Some(path) = path {
        response.extensions_mut().insert(MatchedRoute(path));
    }
    response
}

/// One answered request: log line and metric together.
struct Access<'a> {
    method: &'a str,
    route: &'a str,
    path: &'a str,
    status: u16,
    seconds: f64,
    request_id: &'a str,
    correlation_id: &'a str,
}

impl Access<'_> {
    fn emit(&self) {
        let labels = [
            ("method", self.method.to_owned()),
            ("route", self.route.to_owned()),
            ("status", self.status.to_string()),
        ];
        metrics::counter!("flotilla_http_requests_total", &labels).increment(1);
        metrics::histogram!("flotilla_http_request_seconds", &labels[..2]).record(self.seconds);
        tracing::debug!(
            method = self.method,
            path = self.path,
            status = self.status,
            duration_ms = self.seconds * 1_000.0,
            request_id = self.request_id,
            correlation_id = self.correlation_id,
            "request answered"
        );
    }
}

#[cfg(test)]
mod tests;

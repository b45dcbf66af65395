//! One request: which protocol it speaks, who calls, what it asks, and the reply's headers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use bytes::Bytes;

use super::{App, faulty, origin};
use crate::codec::{Protocol, Reply, credentials, json, query, urls};
use crate::errors::{ErrorKind, SqsError};
use crate::limits::REQUEST_BYTES_MAX;
use crate::model::Caller;

/// For a request's body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// What a traced caller's HTTP client adds.
const TRACE: &str = "x-amzn-trace-id";

pub(super) async fn answer(State(app): State<Arc<App>>, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let id = request_id(app.requests.fetch_add(1, Ordering::Relaxed));
    let host = text(&parts, "host").map_or_else(|| app.addr.to_string(), str::to_owned);
    let target = text(&parts, "x-amz-target");
    let mut hang_up = false;
    let reply = match Protocol::of(target, text(&parts, "content-type")) {
        Protocol::Json => answer_json(&app, &parts, body, &host, &mut hang_up).await,
        Protocol::Query => answer_query(&app, &parts, body, &host, &id, &mut hang_up).await,
    };
    let mut response = respond(reply, &id);
    if hang_up {
        response.extensions_mut().insert(faulty::HangUp);
    }
    response
}

async fn answer_json(
    app: &App,
    parts: &Parts,
    body: Body,
    host: &str,
    hang_up: &mut bool,
) -> Reply {
    let answer = async {
        origin::own(&parts.headers)?;
        let caller = caller(parts, host, None)?;
        let body = read(body).await?;
        let mut request = json::decode(text(parts, "x-amz-target"), &body, &caller)?;
        drop(body);
        request.trace(text(parts, TRACE));
        let response = faulty::call(app, parts, &caller, request, hang_up).await?;
        Ok(json::encode(&response, host))
    };
    answer.await.unwrap_or_else(|error| json::encode_error(&error))
}

async fn answer_query(
    app: &App,
    parts: &Parts,
    body: Body,
    host: &str,
    id: &str,
    hang_up: &mut bool,
) -> Reply {
    let query = parts.uri.query();
    let format = query::Format::of(text(parts, "accept"));
    let answer = async {
        origin::own(&parts.headers)?;
        let caller = caller(parts, host, query::credential(query).as_deref())?;
        let body = read(body).await?;
        // The host may name the region of a queue's URL, so that the whole of it is read.
        let url = format!("http://{host}{}", parts.uri.path());
        let Some(mut asked) = query::decode(&url, query, &body, &caller)? else {
            return Ok(query::no_action());
        };
        drop(body);
        asked.request.trace(text(parts, TRACE));
        let response = faulty::call(app, parts, &caller, asked.request, hang_up).await?;
        Ok(query::encode(format, asked.action, &response, host, id))
    };
    answer.await.unwrap_or_else(|error| query::encode_error(format, &error, id))
}

/// Who calls: by the header, else by the signed URL, else whoever calls that region's host.
fn caller(parts: &Parts, host: &str, signed_url: Option<&str>) -> Result<Caller, SqsError> {
    let header = text(parts, "authorization").map(credentials::scope).transpose()?.flatten();
    Ok(credentials::caller(header.or(signed_url), urls::region_of_host(host)))
}

pub(super) fn text<'a>(parts: &'a Parts, name: &str) -> Option<&'a str> {
    parts.headers.get(name).and_then(|value| value.to_str().ok())
}

async fn read(body: Body) -> Result<Bytes, SqsError> {
    let read = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, REQUEST_BYTES_MAX)).await;
    let failed = |message: String| SqsError::new(ErrorKind::Serialization, message);
    match read {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) => Err(failed(format!(
            "The request's body could not be read ({error}); at most {REQUEST_BYTES_MAX} bytes are."
        ))),
        Err(_) => Err(failed("The request's body did not arrive in time.".to_owned())),
    }
}

fn respond(reply: Reply, id: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::OK);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    if let Ok(id) = HeaderValue::try_from(id) {
        headers.insert("x-amzn-requestid", id);
    }
    let query_error = reply.query_error.and_then(|code| HeaderValue::try_from(code).ok());
    if let Some(code) = query_error {
        headers.insert("x-amzn-query-error", code);
    }
    response
}

/// In a UUID's form; only has to differ from request to request.
fn request_id(number: u64) -> String {
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    uuid::Uuid::from_u64_pair(mixed ^ number.rotate_left(32), mixed.rotate_left(17)).to_string()
}

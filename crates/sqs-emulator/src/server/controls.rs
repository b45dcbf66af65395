//! What a test may turn: the clock and the fault rules. Reading is always allowed, turning only with
//! test controls on, and only as `application/json`: no foreign page in a browser can send that
//! without asking first.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::get;
use serde::Deserialize;
use serde_json::json;

use super::{App, origin};

/// How far the clock is to be moved.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    #[serde(default)]
    advance_ms: u64,
    #[serde(default)]
    advance_seconds: u64,
}

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/_sqs/clock", get(clock).post(advance))
        .route("/_sqs/faults", get(faults).put(replace).delete(clear))
}

async fn clock(State(app): State<Arc<App>>) -> Response<Body> {
    show_clock(&app)
}

async fn advance(State(app): State<Arc<App>>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    if let Err((status, problem)) = allow(&app, &headers) {
        return refuse(status, problem);
    }
    let advance: Advance = match serde_json::from_slice(&body) {
        Ok(advance) => advance,
        Err(error) => {
            let problem = format!("{error}; say {{\"advance_seconds\": 60}} or advance_ms");
            return refuse(StatusCode::BAD_REQUEST, &problem);
        }
    };
    let ms = advance.advance_seconds.saturating_mul(1_000).saturating_add(advance.advance_ms);
    if !app.hub.advance_clock(ms) {
        let problem = "the clock can be moved ten years ahead in all, and never back";
        return refuse(StatusCode::BAD_REQUEST, problem);
    }
    show_clock(&app)
}

async fn faults(State(app): State<Arc<App>>) -> Response<Body> {
    axum::Json(app.faults.view()).into_response()
}

async fn replace(State(app): State<Arc<App>>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    if let Err((status, problem)) = allow(&app, &headers) {
        return refuse(status, problem);
    }
    match app.faults.replace(&body) {
        Ok(view) => axum::Json(view).into_response(),
        Err(error) => refuse(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

async fn clear(State(app): State<Arc<App>>, mut headers: HeaderMap) -> Response<Body> {
    // A method that browsers ask about first: it needs no content type.
    headers.insert(header::CONTENT_TYPE, JSON);
    replace(State(app), headers, Bytes::new()).await
}

const JSON: axum::http::HeaderValue = axum::http::HeaderValue::from_static("application/json");

/// Whether that request may turn something.
fn allow(app: &App, headers: &HeaderMap) -> Result<(), (StatusCode, &'static str)> {
    if origin::own(headers).is_err() {
        let problem = "a page of another origin in a browser sent this";
        return Err((StatusCode::FORBIDDEN, problem));
    }
    if !app.test_controls {
        let problem = "test controls are off: start sqs-local with --test-controls";
        return Err((StatusCode::FORBIDDEN, problem));
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.and_then(|value| value.split(';').next()).map(str::trim);
    if kind != Some("application/json") {
        let problem = "the body is JSON: send Content-Type: application/json";
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, problem));
    }
    Ok(())
}

fn show_clock(app: &App) -> Response<Body> {
    axum::Json(json!({ "now_ms": app.hub.now_ms(), "ahead_ms": app.hub.ahead_ms() }))
        .into_response()
}

/// An error of these pages; SQS's own errors have another form.
pub(super) fn refuse(status: StatusCode, problem: &str) -> Response<Body> {
    (status, axum::Json(json!({ "error": problem }))).into_response()
}

//! Routes that need no key: health, the API's description, the page that renders it; and what is
//! said where no route is.

use axum::Json;
use axum::response::{Html, IntoResponse, Response};
use contracts::errors::{METHOD_NOT_ALLOWED, NOT_FOUND};
use edge::Problem;
use http::{HeaderValue, Method, Uri, header};
use serde::Serialize;

use super::openapi;

/// The server is alive.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Health {
    /// Always `ok`; whether dependencies answer is told by `/readyz` on the admin port.
    status: &'static str,
}

/// Says that the server is alive.
#[utoipa::path(get, path = "/healthz", tag = "meta", security(()),
    responses((status = 200, description = "Alive", body = Health)))]
pub(super) async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// This description.
#[utoipa::path(get, path = "/openapi.json", tag = "meta", security(()),
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json")))]
pub(super) async fn openapi() -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300")),
    ];
    (headers, openapi::json()).into_response()
}

/// This description as a page.
#[utoipa::path(get, path = "/docs", tag = "meta", security(()),
    responses((status = 200, description = "A page without scripts", content_type = "text/html")))]
pub(super) async fn docs() -> Response {
    // No script and nothing from elsewhere: the page works offline and has nothing to inject into.
    let policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; \
                  form-action 'none'; frame-ancestors 'none'";
    let headers = [
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300")),
    ];
    (headers, Html(openapi::page())).into_response()
}

/// No route has this path.
pub(super) async fn not_found(uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    Problem::new(NOT_FOUND, format!("there is no {path}; /docs lists what there is"))
}

/// A route has this path, but not this method.
pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    Problem::new(METHOD_NOT_ALLOWED, format!("{method} is not a method of {path}"))
}

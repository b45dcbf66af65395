//! `GET /logs`: search by words and filters, newest first.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use edge::{Principal, Problem, RequestInfo, Scope};
use http::Uri;
use serde::Serialize;
use serde_json::value::RawValue;

use super::filters::Filters;
use super::{Api, cursor, page, problems};

/// Logs per page unless asked otherwise.
pub const PAGE_DEFAULT: usize = 50;
/// Logs per page at most.
pub const PAGE_MAX: usize = 500;

/// A page of logs.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Page {
    /// Newest first.
    #[schema(value_type = Vec<super::openapi::Log>)]
    logs: Vec<Box<RawValue>>,
    /// Pass as `cursor` for the next page; absent on the last one.
    next_cursor: Option<String>,
}

/// Searches the tenant's logs, newest first.
#[utoipa::path(get, path = "/logs", tag = "logs", security(("key" = ["logs:read"])),
    params(super::openapi::FilterParams, super::openapi::PageParams),
    responses(
        (status = 200, description = "A page; it can hold fewer logs than asked for and still have a next one", body = Page),
        (status = "default", description = "A problem", body = super::openapi::ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    principal: Principal,
    info: RequestInfo,
    uri: Uri,
) -> Result<Json<Page>, Problem> {
    principal.require(Scope::LogsRead)?;
    let filters = Filters::read(&uri, &["limit", "cursor"])?;
    let limit = filters.number("limit", (1, PAGE_MAX), PAGE_DEFAULT)?;
    let fingerprint = cursor::fingerprint(principal.tenant.as_str(), &filters.canonical);
    let after =
        filters.extra("cursor").map(|text| cursor::decode(text, fingerprint)).transpose()?;
    let found = api
        .search
        .search(&principal.tenant, &filters.query, limit, after)
        .await
        .map_err(problems::sink)?;
    let (logs, next) = page::hydrate(&api, &principal.tenant, &found).await?;
    api.access.searched(&principal, &info, &filters, logs.len()).await;
    let logs = logs.iter().map(|log| page::shown(log, "")).collect::<Result<_, _>>()?;
    let next_cursor = next.map(|key| cursor::encode(key, fingerprint));
    Ok(Json(Page { logs, next_cursor }))
}

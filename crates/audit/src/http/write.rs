//! `POST /logs` and `POST /logs/bulk`.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, SecondsFormat, Utc};
use contracts::LogId;
use edge::{FieldProblem, Principal, Problem, ReadBody, RequestInfo, Scope};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;

use super::parse::{self, Media};
use super::{Api, problems};
use crate::event::Origin;
use crate::ingest::{IdempotencyKey, Piece, Sender, Taken};
use crate::publish::Trace;

/// Events in one bulk request at most.
pub const BULK_EVENTS_MAX: usize = 1_000;

/// An accepted event.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Accepted {
    /// The log's id.
    #[schema(value_type = uuid::Uuid)]
    id: LogId,
    /// When the server took it.
    #[schema(value_type = String, format = DateTime)]
    recorded_at: String,
}

/// What became of each event of a bulk request.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct BulkAnswer {
    /// Events that the queue has.
    accepted: usize,
    /// Events that were not taken.
    rejected: usize,
    /// One per event, in the order of the request.
    results: Vec<BulkResult>,
}

/// What became of one event: `id` and `recorded_at`, or `error`.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct BulkResult {
    /// Position in the request, from 0; in NDJSON blank lines do not count.
    index: usize,
    /// The log's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<uuid::Uuid>)]
    id: Option<LogId>,
    /// When the server took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded_at: Option<String>,
    /// Why it was not taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ItemError>,
}

/// Why one event was not taken; the words of a problem document.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct ItemError {
    /// Stable name of the kind of problem.
    #[schema(example = "invalid-field")]
    code: &'static str,
    /// This occurrence.
    detail: String,
    /// Whether the same event may be taken later, unchanged.
    retryable: bool,
    /// The fields that are wrong; pointers are into the event.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldProblem>,
}

/// Sends one event.
#[utoipa::path(post, path = "/logs", tag = "logs", security(("key" = ["logs:write"])),
    params(("Idempotency-Key" = Option<String>, Header, description = "Same key, same body: same id, one event, for 24 hours")),
    request_body(content = super::openapi::Event, content_type = "application/json"),
    responses(
        (status = 202, description = "The queue has it", body = Accepted),
        (status = "default", description = "A problem", body = super::openapi::ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn one(
    State(api): State<Arc<Api>>,
    principal: Principal,
    info: RequestInfo,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    principal.require(Scope::LogsWrite)?;
    parse::media(&headers, &[Media::Json])?;
    let key = parse::idempotency_key(&headers)?;
    let bytes = read(&api, body).await?;
    let key = key.map(|key| IdempotencyKey::new(key, "POST /logs", &bytes));
    let raw = parse::json(parse::text(&bytes)?)?;
    let (sender, until) = (sender(&principal, &info), api.until(&info, &bytes));
    let taken =
        api.ingest.accept(&sender, key, &[Ok(raw)], until).await.map_err(problems::refused)?;
    match taken.into_iter().next() {
        Some(Taken::Accepted { id, recorded_at }) => {
            let answer = Accepted { id, recorded_at: written(recorded_at) };
            let mut response = (StatusCode::ACCEPTED, Json(answer)).into_response();
            if let Ok(location) = HeaderValue::from_str(&format!("/logs/{id}")) {
                response.headers_mut().insert(header::LOCATION, location);
            }
            Ok(response)
        }
        Some(Taken::Invalid(invalid)) => {
            let (code, detail, errors) = problems::invalid(invalid);
            Err(Problem::new(code, detail).with_errors(errors))
        }
        Some(Taken::NotPublished(error)) => Err(problems::publish(error)),
        None => Err(Problem::new(contracts::errors::INTERNAL, "the event got no answer")),
    }
}

/// Sends up to 1,000 events; one bad event does not sink the others.
#[utoipa::path(post, path = "/logs/bulk", tag = "logs", security(("key" = ["logs:write"])),
    params(("Idempotency-Key" = Option<String>, Header, description = "One key for the whole request: same key, same body: same ids, for 24 hours")),
    request_body(content(
        (Vec<super::openapi::Event> = "application/json"),
        (String = "application/x-ndjson"))),
    responses(
        (status = 202, description = "The queue has every event", body = BulkAnswer),
        (status = 207, description = "The queue has some events; see each result", body = BulkAnswer),
        (status = 422, description = "No event can be taken as it is; see each result", body = BulkAnswer),
        (status = "default", description = "A problem", body = super::openapi::ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn bulk(
    State(api): State<Arc<Api>>,
    principal: Principal,
    info: RequestInfo,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    principal.require(Scope::LogsWrite)?;
    let media = parse::media(&headers, &[Media::Json, Media::Lines])?;
    let key = parse::idempotency_key(&headers)?;
    let bytes = read(&api, body).await?;
    let key = key.map(|key| IdempotencyKey::new(key, "POST /logs/bulk", &bytes));
    let text = parse::text(&bytes)?;
    let pieces: Vec<Piece<'_>> = match media {
        Media::Json => parse::array(text, BULK_EVENTS_MAX)?,
        Media::Lines => parse::lines(text, BULK_EVENTS_MAX)?,
    };
    let (sender, until) = (sender(&principal, &info), api.until(&info, &bytes));
    let taken = api.ingest.accept(&sender, key, &pieces, until).await.map_err(problems::refused)?;
    answer(taken)
}

async fn read(api: &Api, body: Body) -> Result<ReadBody<'_>, Problem> {
    let limit = usize::try_from(api.edge.body_bytes_max).unwrap_or(usize::MAX);
    api.gate.read_body(body, limit).await
}

fn sender(principal: &Principal, info: &RequestInfo) -> Sender {
    Sender {
        tenant: principal.tenant.clone(),
        class: principal.class,
        import: principal.may(Scope::LogsImport),
        origin: Origin {
            key_id: principal.key_id.to_string(),
            ip: info.ip.map(|ip| ip.to_string()),
            user_agent: info.user_agent.clone(),
        },
        trace: Trace::from(info),
    }
}

fn written(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn answer(taken: Vec<Taken>) -> Result<Response, Problem> {
    let count = |kind: fn(&Taken) -> bool| taken.iter().filter(|one| kind(one)).count();
    let accepted = count(|one| matches!(one, Taken::Accepted { .. }));
    let invalid = count(|one| matches!(one, Taken::Invalid(_)));
    let rejected = taken.len() - accepted;
    let status = match (accepted, rejected) {
        (_, 0) => StatusCode::ACCEPTED,
        (0, all) if invalid == all => StatusCode::UNPROCESSABLE_ENTITY,
        (0, _) => {
            // Nothing was taken, and not for the events' own fault: the whole may be sent again.
            let error = taken.into_iter().find_map(|one| match one {
                Taken::NotPublished(error) => Some(error),
                Taken::Accepted { .. } | Taken::Invalid(_) => None,
            });
            return Err(error.map_or_else(
                || Problem::new(contracts::errors::INTERNAL, "the events got no answer"),
                problems::publish,
            ));
        }
        _ => StatusCode::MULTI_STATUS,
    };
    let results = taken.into_iter().enumerate().map(|(index, one)| result(index, one)).collect();
    Ok((status, Json(BulkAnswer { accepted, rejected, results })).into_response())
}

fn result(index: usize, taken: Taken) -> BulkResult {
    let (code, detail, errors) = match taken {
        Taken::Accepted { id, recorded_at } => {
            let recorded_at = Some(written(recorded_at));
            return BulkResult { index, id: Some(id), recorded_at, error: None };
        }
        Taken::Invalid(invalid) => problems::invalid(invalid),
        Taken::NotPublished(error) => (error.code(), error.to_string(), Vec::new()),
    };
    let error = ItemError { code: code.code, detail, retryable: code.retryable, errors };
    BulkResult { index, id: None, recorded_at: None, error: Some(error) }
}

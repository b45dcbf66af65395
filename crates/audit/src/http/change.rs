//! `PATCH /logs/{id}` and `DELETE /logs/{id}`: accepted here, done by the index worker. A log is never
//! edited: a change is appended, an erasure leaves a tombstone.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use contracts::audit::{Delete, IndexMessage, Update};
use contracts::errors::LOG_HELD;
use contracts::{EnvelopeId, LogId};
use edge::{Principal, Problem, RequestInfo, Scope};
use http::{HeaderMap, StatusCode, Uri, header};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::parse::{self, Media};
use super::read::log_id;
use super::rule_change::requester;
use super::{Api, problems};
use crate::crash::{self, CrashPoint};
use crate::ingest::query_time;
use crate::model::StoredLog;
use crate::publish::{PublishError, Trace};
use crate::retention::{Hold, RuleHold, RuleSet};
use crate::store;

/// Tags of a log at most.
pub(super) const TAGS_MAX: usize = 32;
/// Characters of a tag at most.
pub(super) const TAG_CHARS_MAX: usize = 64;
/// Characters of an annotation at most.
pub(super) const ANNOTATION_CHARS_MAX: usize = 4_096;
/// Characters of an erasure's reason at most.
pub(super) const REASON_CHARS_MAX: usize = 1_000;
/// Bytes of a change's body at most.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Tags and annotation from now on; what is absent stays as it is.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Annotation {
    /// At most 32 of 1 to 64 characters; an empty list removes all.
    #[serde(default)]
    tags: Option<Vec<String>>,
    /// At most 4,096 characters; an empty text removes it.
    #[serde(default)]
    annotation: Option<String>,
}

/// Why a log is erased.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Erasure {
    /// 1 to 1,000 characters; kept in the tombstone and in the audit trail.
    reason: String,
}

/// A change that the queue has.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Operation {
    /// Names the change in revisions, tombstones and dead letters.
    #[schema(value_type = uuid::Uuid)]
    operation_id: EnvelopeId,
    /// The log.
    #[schema(value_type = uuid::Uuid)]
    id: LogId,
}

/// Appends a revision with tags and annotation.
#[utoipa::path(patch, path = "/logs/{id}", tag = "logs", security(("key" = ["logs:annotate"])),
    params(("id" = uuid::Uuid, Path, description = "The log's id")),
    request_body = Annotation,
    responses(
        (status = 202, description = "The queue has it", body = Operation),
        (status = "default", description = "A problem", body = super::openapi::ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn annotate(
    State(api): State<Arc<Api>>,
    principal: Principal,
    info: RequestInfo,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    principal.require(Scope::LogsAnnotate)?;
    let id = log_id(&id)?;
    parse::media(&headers, &[Media::Json])?;
    let bytes = api.gate.read_body(body, BODY_BYTES_MAX).await?;
    let annotation: Annotation = body_of(&bytes)?;
    check(&annotation)?;
    let message = IndexMessage::Update(Update {
        log_id: id,
        tags: annotation.tags,
        annotation: annotation.annotation,
        requester: requester(&principal, &info),
        recorded_at: api.clock.now(),
    });
    change(&api, &principal, &info, &message, id, api.until(&info, &bytes)).await
}

/// Erases a log from PostgreSQL, search and the live feed; a tombstone and an audit entry stay. A log
/// that a legal hold keeps is not erased: 409, or a dead letter where the hold came in between. What
/// survives for a while: copies of its message in dead-letter queues, up to 14 days, and backups, by
/// their own term.
#[utoipa::path(delete, path = "/logs/{id}", tag = "logs", security(("key" = ["logs:erase"])),
    params(
        ("id" = uuid::Uuid, Path, description = "The log's id"),
        ("reason" = Option<String>, Query, description = "Why, when it is not in the body: many clients send no body with DELETE")),
    request_body(content = Erasure, description = "Why"),
    responses(
        (status = 202, description = "The queue has it", body = Operation),
        (status = "default", description = "A problem", body = super::openapi::ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn erase(
    State(api): State<Arc<Api>>,
    principal: Principal,
    info: RequestInfo,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    principal.require(Scope::LogsErase)?;
    let id = log_id(&id)?;
    let bytes = api.gate.read_body(body, BODY_BYTES_MAX).await?;
    let reason = reason(&uri, &headers, &bytes)?;
    let message = IndexMessage::Delete(Delete {
        log_id: id,
        reason,
        requester: requester(&principal, &info),
        recorded_at: api.clock.now(),
    });
    change(&api, &principal, &info, &message, id, api.until(&info, &bytes)).await
}

async fn change(
    api: &Api,
    principal: &Principal,
    info: &RequestInfo,
    message: &IndexMessage,
    id: LogId,
    until: Instant,
) -> Result<Response, Problem> {
    let finding = async {
        let mut transaction = api.database.tenant(&principal.tenant).await?;
        let log = store::find(&mut transaction, &principal.tenant, id).await?;
        let holds = store::holds::in_force(&mut transaction, &principal.tenant).await?;
        transaction.rollback().await?;
        Ok((log, holds))
    };
    let (log, holds) =
        database::timed(query_time(until), finding).await.map_err(problems::database)?;
    let log = log.ok_or_else(problems::no_such_log)?;
    if matches!(message, IndexMessage::Delete(_)) {
        refuse_what_is_held(&log, &holds)?;
    }
    let trace = Trace::from(info);
    let sending = api.publisher.change(&principal.tenant, message, &trace);
    let sent = tokio::time::timeout_at(until, sending)
        .await
        .unwrap_or_else(|_| Err(PublishError::Unavailable("no answer in time".into())));
    let operation_id = sent.map_err(problems::publish)?;
    crash::reach(CrashPoint::AfterChangePublish);
    Ok((StatusCode::ACCEPTED, Json(Operation { operation_id, id })).into_response())
}

/// Told at once what the worker would find: it looks again, in the transaction that erases.
fn refuse_what_is_held(log: &StoredLog, holds: &[Hold]) -> Result<(), Problem> {
    if holds.is_empty() {
        return Ok(());
    }
    let rules = RuleSet::new(Vec::new(), holds.iter().map(RuleHold::from).collect());
    match super::retention::decided(log, &rules)?.held_by.len() {
        0 => Ok(()),
        kept => {
            let text = format!("log {} is kept by {kept} legal holds", log.key.id);
            Err(Problem::new(LOG_HELD, text))
        }
    }
}

/// Reads a small body: syntax errors are 400, a wrong shape 422.
fn body_of<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let text = parse::text(bytes)?;
    let raw = parse::json(text)?;
    serde_json::from_str(raw.get()).map_err(|error| problems::one_field("", error.to_string()))
}

fn check(annotation: &Annotation) -> Result<(), Problem> {
    let Annotation { tags, annotation } = annotation;
    if tags.is_none() && annotation.is_none() {
        return Err(problems::one_field("", "expected tags, annotation or both"));
    }
    let tags = tags.as_deref().unwrap_or_default();
    if tags.len() > TAGS_MAX {
        let detail = format!("expected at most {TAGS_MAX} tags, got {}", tags.len());
        return Err(problems::one_field("/tags", detail));
    }
    for (at, tag) in tags.iter().enumerate() {
        let length = tag.chars().count();
        if !(1..=TAG_CHARS_MAX).contains(&length) || tag.contains('\0') {
            let detail = format!("expected 1 to {TAG_CHARS_MAX} characters, none of them NUL");
            return Err(problems::one_field(&format!("/tags/{at}"), detail));
        }
        if tags[..at].contains(tag) {
            return Err(problems::one_field(&format!("/tags/{at}"), "expected each tag once"));
        }
    }
    let annotation = annotation.as_deref().unwrap_or_default();
    if annotation.chars().count() > ANNOTATION_CHARS_MAX || annotation.contains('\0') {
        let detail =
            format!("expected at most {ANNOTATION_CHARS_MAX} characters, none of them NUL");
        return Err(problems::one_field("/annotation", detail));
    }
    Ok(())
}

fn reason(uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Result<String, Problem> {
    let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|error| super::filters::wrong(error.to_string()))?;
    let asked = pairs.0.into_iter().find(|(name, _)| name == "reason").map(|(_, reason)| reason);
    let reason = match asked {
        Some(reason) => reason,
        None if body.is_empty() => {
            return Err(problems::one_field("/reason", "expected why the log is erased"));
        }
        None => {
            if headers.contains_key(header::CONTENT_TYPE) {
                parse::media(headers, &[Media::Json])?;
            }
            body_of::<Erasure>(body)?.reason
        }
    };
    let length = reason.trim().chars().count();
    if !(1..=REASON_CHARS_MAX).contains(&length) || reason.contains('\0') {
        let detail = format!("expected 1 to {REASON_CHARS_MAX} characters, none of them NUL");
        return Err(problems::one_field("/reason", detail));
    }
    Ok(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(tags: Option<Vec<String>>, annotation: Option<String>) -> Result<(), String> {
        let problem = check(&Annotation { tags, annotation });
        problem.map_err(|problem| problem.errors[0].pointer.clone())
    }

    #[test]
    fn annotations_have_bounds() {
        let tags = |count: usize| Some((0..count).map(|n| n.to_string()).collect());
        assert_eq!(checked(None, None), Err(String::new()));
        assert_eq!(checked(Some(Vec::new()), None), Ok(()));
        assert_eq!(checked(tags(TAGS_MAX), None), Ok(()));
        assert_eq!(checked(tags(TAGS_MAX + 1), None), Err("/tags".into()));
        let one = |tag: String| Some(vec!["a".into(), tag]);
        assert_eq!(checked(one("é".repeat(TAG_CHARS_MAX)), None), Ok(()));
        assert_eq!(checked(one("é".repeat(TAG_CHARS_MAX + 1)), None), Err("/tags/1".into()));
        for bad in ["", "a", "\0"] {
            assert_eq!(checked(one(bad.into()), None), Err("/tags/1".into()));
        }
        assert_eq!(checked(None, Some("x".repeat(ANNOTATION_CHARS_MAX))), Ok(()));
        let long = checked(None, Some("x".repeat(ANNOTATION_CHARS_MAX + 1)));
        assert_eq!(long, Err("/annotation".into()));
        assert_eq!(checked(None, Some("\0".into())), Err("/annotation".into()));
    }

    #[test]
    fn an_erasure_needs_a_reason() {
        let of = |query: &str, body: &str| {
            let uri = format!("/logs/1{query}").parse().unwrap();
            reason(&uri, &HeaderMap::new(), body.as_bytes()).map_err(|problem| problem.code.status)
        };
        assert_eq!(of("?reason=GDPR+17", ""), Ok("GDPR 17".into()));
        assert_eq!(of("", r#"{"reason":"mistake"}"#), Ok("mistake".into()));
        assert_eq!(of("", ""), Err(422));
        assert_eq!(of("?reason=%20", ""), Err(422));
        assert_eq!(of("", "{}"), Err(422));
        assert_eq!(of("", "nope"), Err(400));
        assert!(of("", &format!(r#"{{"reason":"{}"}}"#, "x".repeat(REASON_CHARS_MAX))).is_ok());
        let long = format!(r#"{{"reason":"{}"}}"#, "x".repeat(REASON_CHARS_MAX + 1));
        assert_eq!(of("", &long), Err(422));
    }
}

//! `GET /logs/{id}`: one log with its revisions.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use chrono::{DateTime, SecondsFormat, Utc};
use contracts::{EnvelopeId, LogId};
use edge::{Principal, Problem, Scope};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Api, page, problems};
use crate::store::{self, StoredRevision};

/// One change to a log's tags or annotation.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Revision {
    /// From 1.
    #[serde(rename = "revision")]
    number: i64,
    /// The operation id that `PATCH` answered with.
    #[schema(value_type = uuid::Uuid)]
    operation_id: EnvelopeId,
    /// The tags it set; absent: it kept them.
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<Vec<String>>,
    /// The annotation it set; absent: it kept it.
    #[serde(skip_serializing_if = "Option::is_none")]
    annotation: Option<String>,
    /// Who asked: key id and address.
    #[schema(value_type = Object)]
    actor: serde_json::Value,
    /// When the server took it.
    recorded_at: String,
}

impl From<StoredRevision> for Revision {
    fn from(stored: StoredRevision) -> Self {
        Self {
            number: stored.revision,
            operation_id: stored.operation_id,
            tags: stored.tags,
            annotation: stored.annotation,
            actor: stored.actor,
            recorded_at: micros(stored.recorded_at),
        }
    }
}

fn micros(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// The id in a path. What is no id is no log either.
pub(super) fn log_id(text: &str) -> Result<LogId, Problem> {
    text.parse().map_err(|_| problems::no_such_log())
}

/// Reads one log with its tags, annotation and newest 200 revisions.
#[utoipa::path(get, path = "/logs/{id}", tag = "logs", security(("key" = ["logs:read"])),
    params(("id" = uuid::Uuid, Path, description = "The log's id")),
    responses(
        (status = 200, description = "The log", body = super::openapi::LogWithRevisions),
        (status = "default", description = "A problem", body = super::openapi::ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn one(
    State(api): State<Arc<Api>>,
    principal: Principal,
    Path(id): Path<String>,
) -> Result<Json<Box<RawValue>>, Problem> {
    principal.require(Scope::LogsRead)?;
    let id = log_id(&id)?;
    let mut transaction =
        api.database.tenant(&principal.tenant).await.map_err(problems::database)?;
    let log = store::find(&mut transaction, &principal.tenant, id)
        .await
        .map_err(problems::database)?
        .ok_or_else(problems::no_such_log)?;
    let revisions: Vec<Revision> = if log.revision > 0 {
        let stored = store::revisions(&mut transaction, &principal.tenant, id).await;
        stored.map_err(problems::database)?.into_iter().map(Revision::from).collect()
    } else {
        Vec::new()
    };
    transaction.rollback().await.map_err(problems::database)?;
    let revisions = contracts::json::to_ascii(&revisions).map_err(|error| {
        Problem::new(contracts::errors::INTERNAL, format!("revisions cannot be written: {error}"))
    })?;
    Ok(Json(page::shown(&log, &format!(",\"revisions\":{revisions}"))?))
}

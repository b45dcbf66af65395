//! `DELETE /logs/cleanup`: logs up to a time are archived and then deleted because somebody asks for it. A
//! dry run by default; what it shows is started with the token that it answers, and nothing more goes than
//! was shown: later logs are left out, and so is everything once policies or holds have changed. What a
//! hold or a legal minimum keeps stays, whoever asks.

mod confirm;
mod preview;
mod shown;
mod token;

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query as Pairs, State};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use contracts::audit::lifecycle::RunId;
use contracts::errors::RUN_STATE_CONFLICT;
use edge::{Principal, Problem, RequestInfo, Scope};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use self::preview::Preview;
use self::shown::{Job, job};
use self::token::Seal;
use super::filters::wrong;
use super::rule_change::{self, none};
use super::{Api, problems};
use crate::ingest::query_time;
use crate::lifecycle::RunState;
use crate::retention::{CleanupDraft, RuleSet};
use crate::store::{self, Large, Step};

const KIND: &str = "run";
/// Bytes of a filter that an audit entry repeats; a longer one is known there by its hash.
const FILTER_BYTES_TOLD: usize = 8 * 1024;

/// Who asks for what.
struct Asked<'a> {
    api: &'a Api,
    principal: &'a Principal,
    info: &'a RequestInfo,
    seal: Seal,
    draft: CleanupDraft,
    now: DateTime<Utc>,
}

impl Asked<'_> {
    /// As audit entries tell it.
    fn told(&self) -> Value {
        let draft = json!(self.draft);
        let mut told = json!({ "request_sha256": hex::encode(self.draft.fingerprint()) });
        if draft.to_string().len() <= FILTER_BYTES_TOLD {
            told["request"] = draft;
        }
        told
    }
}

/// Which rules they are, as a token says it.
fn rules_sha256(rules: &RuleSet) -> [u8; 32] {
    Sha256::digest(rules.fingerprint()).into()
}

/// Archives and deletes the logs that a filter matches and that were recorded before a time. Without
/// `confirm` nothing is done: the answer shows what would go and what would stay. With the `confirm` of
/// that answer, within 15 minutes, a run is started; the same token again answers the same run. All of it
/// as query parameters, with `filter` as JSON, or as a JSON body: many clients send no body with DELETE.
#[utoipa::path(delete, path = "/logs/cleanup", tag = "logs", security(("key" = ["logs:cleanup"])),
    params(
        ("before" = Option<String>, Query, description = "Recorded before this time (RFC 3339), which must be over; needed"),
        ("from" = Option<String>, Query, description = "Recorded at this time or later (RFC 3339)"),
        ("filter" = Option<String>, Query, description = "Which logs, as a policy's filter in JSON, e.g. {\"actions\": [\"invoice.*\"]}"),
        ("all" = Option<bool>, Query, description = "`true` in place of a filter: every log of the time"),
        ("confirm" = Option<String>, Query, description = "`confirm` of the dry run; without it, this is one")),
    request_body(content = super::openapi::retention::CleanupBody, description = "In place of the parameters"),
    responses(
        (status = 200, description = "A dry run: what would go", body = Preview),
        (status = 202, description = "The run; it is planned next", body = Job),
        (status = "default", description = "A problem", body = super::openapi::ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn cleanup(
    State(api): State<Arc<Api>>,
    principal: Principal,
    info: RequestInfo,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    principal.require(Scope::LogsCleanup)?;
    let (value, until) = read(&api, &info, &uri, &headers, body).await?;
    let now = rule_change::now(&api);
    let draft = CleanupDraft::read(&value, now).map_err(rule_change::fields)?;
    let seal = Seal::of(&principal, &headers);
    let asked = Asked { api: &api, principal: &principal, info: &info, seal, draft, now };
    let mut answer = match &asked.draft.confirm {
        None => Json(asked.preview().await?).into_response(),
        Some(token) => accepted(&asked.start(token, until).await?)?,
    };
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(answer)
}

fn accepted(job: &Job) -> Result<Response, Problem> {
    let at = HeaderValue::try_from(format!("/logs/cleanup/{}", job.id))
        .map_err(|error| Problem::new(contracts::errors::INTERNAL, error.to_string()))?;
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, at)], Json(job)).into_response())
}

/// What is asked for, and until when it must be answered.
async fn read(
    api: &Api,
    info: &RequestInfo,
    uri: &Uri,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Value, Instant), Problem> {
    let Pairs(pairs) = Pairs::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|error| wrong(format!("the query string cannot be read: {error}")))?;
    match (pairs.is_empty(), headers.contains_key(header::CONTENT_TYPE)) {
        (true, true) => return rule_change::body(api, info, headers, body).await,
        (false, true) => return Err(wrong("expected parameters or a body, and not both")),
        (_, false) => {}
    }
    let mut members = Map::new();
    for (name, text) in pairs {
        let value = if name == "filter" {
            serde_json::from_str(&text)
                .map_err(|error| wrong(format!("filter: expected JSON: {error}")))?
        } else {
            Value::String(text)
        };
        if members.insert(name.clone(), value).is_some() {
            let name: String = name.chars().take(80).collect();
            return Err(wrong(format!("expected {name} once, got it twice")));
        }
    }
    Ok((Value::Object(members), info.arrived + api.publisher.deadline()))
}

/// Reads how a cleanup gets on.
#[utoipa::path(get, path = "/logs/cleanup/{run}", tag = "logs", security(("key" = ["logs:cleanup"])),
    params(("run" = uuid::Uuid, Path, description = "The run's id")),
    responses(
        (status = 200, description = "The run", body = Job),
        (status = "default", description = "A problem", body = super::openapi::ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn one(
    State(api): State<Arc<Api>>,
    principal: Principal,
    Path(run): Path<String>,
) -> Result<Json<Job>, Problem> {
    principal.require(Scope::LogsCleanup)?;
    let (run, tenant) = (rule_change::path_id(&run, KIND)?, &principal.tenant);
    let found = api.read(&principal, Scope::LogsCleanup, |mut transaction| async move {
        store::run_with(&mut transaction, tenant, run, Large::Neither).await
    });
    Ok(Json(found.await?.and_then(job).ok_or_else(|| none(KIND))?))
}

/// Cancels a cleanup: units that nobody has begun stay as they are; those in hand are ended by whoever has
/// them. What is deleted stays deleted, and has its receipt.
#[utoipa::path(post, path = "/logs/cleanup/{run}/cancel", tag = "logs", security(("key" = ["logs:cleanup"])),
    params(("run" = uuid::Uuid, Path, description = "The run's id")),
    responses(
        (status = 200, description = "The run", body = Job),
        (status = "default", description = "A problem", body = super::openapi::ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn cancel(
    State(api): State<Arc<Api>>,
    principal: Principal,
    info: RequestInfo,
    Path(run): Path<String>,
) -> Result<Json<Job>, Problem> {
    principal.require(Scope::LogsCleanup)?;
    let run: RunId = rule_change::path_id(&run, KIND)?;
    let (tenant, now) = (&principal.tenant, rule_change::now(&api));
    let until = info.arrived + api.publisher.deadline();
    let requester = rule_change::requester(&principal, &info);
    let action = "flotilla.cleanup.cancelled";
    let told = (json!({}), now);
    let entries = rule_change::entries(&principal, &requester, action, (KIND, run), told)?;
    let cancelling = async {
        let mut transaction = api.database.tenant(tenant).await?;
        let found = store::run_with(&mut transaction, tenant, run, Large::Neither).await?;
        if found.and_then(job).is_none() {
            return Ok(Err(none(KIND)));
        }
        let why = format!("cancelled with the key {}", requester.key_id);
        let to = RunState::Cancelled;
        let step = store::stop_run(&mut transaction, tenant, run, to, &why).await?;
        if let Step::Refused(state) = step {
            let text = format!("the run is {}; it cannot be cancelled", state.as_str());
            return Ok(Err(Problem::new(RUN_STATE_CONFLICT, text)));
        }
        let found = store::run_with(&mut transaction, tenant, run, Large::Neither).await?;
        let happened = step == Step::Now;
        rule_change::commit(transaction, happened, &entries).await?;
        Ok(Ok((happened, found)))
    };
    let done = database::timed(query_time(until), cancelling).await;
    let (happened, found) = done.map_err(problems::database)??;
    if happened {
        rule_change::announce(&api, &info, entries).await;
    }
    Ok(Json(found.and_then(job).ok_or_else(|| none(KIND))?))
}

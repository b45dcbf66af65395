//! `/holds`: legal holds. One is placed and it is released; both are stored together with their audit
//! entries or not at all. When a hold is answered, every deletion that commits later has seen it.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use contracts::errors::LIMIT_REACHED;
use edge::{Principal, Problem, RequestInfo, Scope};
use http::{HeaderMap, StatusCode, Uri};
use serde::Serialize;
use serde_json::json;

use super::filters::wrong;
use super::rule_change::{self, none};
use super::{Api, problems, reading};
use crate::ingest::query_time;
use crate::retention::hold::REASON_CHARS_MAX;
use crate::retention::{HOLDS_MAX, Hold, HoldDraft, Release};
use crate::store::holds::{self, Placed};

const KIND: &str = "hold";

/// Holds, newest first.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Holds {
    /// At most 1,000; `before` the last one's `placed_at` are older ones.
    #[schema(value_type = Vec<super::openapi::retention::StoredHold>)]
    holds: Vec<Hold>,
}

/// Lists the newest 1,000 holds in force; with `released=true` those that were released too, with `before`
/// those placed before that time.
#[utoipa::path(get, path = "/holds", tag = "retention", security(("key" = ["holds:read"])),
    params(("released" = Option<bool>, Query, description = "Also those that were released"),
           ("before" = Option<String>, Query, description = "A time, as RFC 3339 writes it")),
    responses(
        (status = 200, description = "The holds", body = Holds),
        (status = "default", description = "A problem", body = super::openapi::ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    principal: Principal,
    uri: Uri,
) -> Result<Json<Holds>, Problem> {
    let [released, before] = reading::parameters(&uri, ["released", "before"])?;
    let released = match released.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(wrong("expected released to be true or false")),
    };
    let before = reading::before(before)?;
    let tenant = &principal.tenant;
    let holds = api.read(&principal, Scope::HoldsRead, |mut transaction| async move {
        holds::list(&mut transaction, tenant, released, before).await
    });
    Ok(Json(Holds { holds: holds.await? }))
}

/// Places a hold. With an Idempotency-Key a repeat answers what the first request placed.
#[utoipa::path(post, path = "/holds", tag = "retention", security(("key" = ["holds:write"])),
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters")),
    request_body = super::openapi::retention::HoldBody,
    responses(
        (status = 201, description = "It is in force", body = super::openapi::retention::StoredHold),
        (status = "default", description = "A problem", body = super::openapi::ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn place(
    State(api): State<Arc<Api>>,
    principal: Principal,
    info: RequestInfo,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    principal.require(Scope::HoldsWrite)?;
    let id = rule_change::new_id(&api, &principal, KIND, &headers)?;
    let (value, until) = rule_change::body(&api, &info, &headers, body).await?;
    let draft = HoldDraft::read(&value).map_err(rule_change::fields)?;
    let (tenant, now) = (&principal.tenant, rule_change::now(&api));
    let requester = rule_change::requester(&principal, &info);
    let action = "flotilla.hold.placed";
    let sha256 = rule_change::spec_sha256(&draft)?;
    let told = (json!({ "matter": draft.matter, "spec_sha256": sha256 }), now);
    let entries = rule_change::entries(&principal, &requester, action, (KIND, id), told)?;
    let hold = Hold {
        id,
        draft: draft.clone(),
        placed_by: json!(requester),
        placed_at: now,
        released: None,
    };
    let placing = async {
        let mut transaction = api.database.tenant(tenant).await?;
        let placed = holds::place(&mut transaction, tenant, hold).await?;
        rule_change::commit(transaction, matches!(placed, Placed::Done(_)), &entries).await?;
        Ok(placed)
    };
    match database::timed(query_time(until), placing).await.map_err(problems::database)? {
        Placed::Done(hold) => {
            rule_change::announce(&api, &info, entries).await;
            Ok((StatusCode::CREATED, Json(hold)).into_response())
        }
        Placed::Exists(hold) if hold.draft == draft => Ok(Json(hold).into_response()),
        Placed::Exists(_) => Err(rule_change::mismatch()),
        Placed::TooMany => {
            Err(Problem::new(LIMIT_REACHED, format!("at most {HOLDS_MAX} holds in force")))
        }
    }
}

/// Releases a hold and says why. The first release stands: a repeat answers it.
#[utoipa::path(post, path = "/holds/{id}/release", tag = "retention", security(("key" = ["holds:write"])),
    params(("id" = uuid::Uuid, Path, description = "The hold's id")),
    request_body = super::openapi::retention::ReleaseBody,
    responses(
        (status = 200, description = "The hold with its release", body = super::openapi::retention::StoredHold),
        (status = "default", description = "A problem", body = super::openapi::ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn release(
    State(api): State<Arc<Api>>,
    principal: Principal,
    info: RequestInfo,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    principal.require(Scope::HoldsWrite)?;
    let id = rule_change::path_id(&id, KIND)?;
    let (value, until) = rule_change::body(&api, &info, &headers, body).await?;
    let reason = reason(&value)?;
    let (tenant, now) = (&principal.tenant, rule_change::now(&api));
    let requester = rule_change::requester(&principal, &info);
    let told = (json!({ "reason": reason }), now);
    let action = "flotilla.hold.released";
    let entries = rule_change::entries(&principal, &requester, action, (KIND, id), told)?;
    let release = Release { by: json!(requester), at: now, reason };
    let releasing = async {
        let mut transaction = api.database.tenant(tenant).await?;
        let released = holds::release(&mut transaction, tenant, id, &release).await?;
        let now_released = matches!(released, Some((_, true)));
        rule_change::commit(transaction, now_released, &entries).await?;
        Ok(released)
    };
    let released =
        database::timed(query_time(until), releasing).await.map_err(problems::database)?;
    let (hold, now_released) = released.ok_or_else(|| none(KIND))?;
    if now_released {
        rule_change::announce(&api, &info, entries).await;
    }
    Ok(Json(hold).into_response())
}

fn reason(value: &serde_json::Value) -> Result<String, Problem> {
    let expected = || format!("expected why, 1 to {REASON_CHARS_MAX} characters, none of them NUL");
    let members = value.as_object().filter(|members| members.keys().all(|key| key == "reason"));
    let members =
        members.ok_or_else(|| problems::one_field("", "expected an object with reason only"))?;
    let text = members.get("reason").and_then(|reason| reason.as_str());
    text.filter(|text| {
        (1..=REASON_CHARS_MAX).contains(&text.trim().chars().count()) && !text.contains('\0')
    })
    .map(ToOwned::to_owned)
    .ok_or_else(|| problems::one_field("/reason", expected()))
}

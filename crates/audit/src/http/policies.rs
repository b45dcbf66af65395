//! `/policies`: retention policies, version by version. A change and a deletion are new versions; each
//! is stored together with its audit entries or not at all.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use contracts::errors::{
    IDEMPOTENCY_MISMATCH, INTERNAL, LIMIT_REACHED, NAME_TAKEN, POLICY_CONFLICT, VERSION_CONFLICT,
};
use edge::{Principal, Problem, RequestInfo, Scope};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use super::filters::wrong;
use super::rule_change::{self, none};
use super::{Api, problems, reading};
use crate::ingest::query_time;
use crate::retention::{POLICIES_MAX, Policy, PolicyDraft, PolicyState};
use crate::store::policies::{self, NewVersion, VERSIONS_MAX, Written};

const KIND: &str = "policy";

/// Policies, by name.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Policies {
    /// The newest version of each.
    #[schema(value_type = Vec<super::openapi::retention::StoredPolicy>)]
    policies: Vec<Policy>,
}

/// Versions of a policy, newest first.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Versions {
    /// At most 200; `before` the last one's `version` are older ones.
    #[schema(value_type = Vec<super::openapi::retention::StoredPolicy>)]
    versions: Vec<Policy>,
}

/// A policy with its version as the `ETag`.
fn shown(status: StatusCode, policy: &Policy) -> Result<Response, Problem> {
    let tag = HeaderValue::from_str(&format!("\"{}\"", policy.version))
        .map_err(|error| Problem::new(INTERNAL, error.to_string()))?;
    Ok((status, [(header::ETAG, tag)], Json(policy)).into_response())
}

/// Lists the tenant's policies, at most 1,000.
#[utoipa::path(get, path = "/policies", tag = "retention", security(("key" = ["policies:read"])),
    responses(
        (status = 200, description = "The policies", body = Policies),
        (status = "default", description = "A problem", body = super::openapi::ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    principal: Principal,
) -> Result<Json<Policies>, Problem> {
    let tenant = &principal.tenant;
    let policies = api.read(&principal, Scope::PoliciesRead, |mut transaction| async move {
        policies::list(&mut transaction, tenant).await
    });
    Ok(Json(Policies { policies: policies.await? }))
}

/// Reads the newest version of a policy, also of one that was deleted.
#[utoipa::path(get, path = "/policies/{id}", tag = "retention", security(("key" = ["policies:read"])),
    params(("id" = uuid::Uuid, Path, description = "The policy's id")),
    responses(
        (status = 200, description = "The policy; its ETag is its version", body = super::openapi::retention::StoredPolicy),
        (status = "default", description = "A problem", body = super::openapi::ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn one(
    State(api): State<Arc<Api>>,
    principal: Principal,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    shown(StatusCode::OK, &newest(&api, &principal, Scope::PoliciesRead, &id).await?)
}

/// Lists the newest 200 versions of a policy, newest first; with `before`, those below that number.
#[utoipa::path(get, path = "/policies/{id}/versions", tag = "retention", security(("key" = ["policies:read"])),
    params(("id" = uuid::Uuid, Path, description = "The policy's id"),
           ("before" = Option<u64>, Query, description = "A version's number")),
    responses(
        (status = 200, description = "The versions", body = Versions),
        (status = "default", description = "A problem", body = super::openapi::ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn versions(
    State(api): State<Arc<Api>>,
    principal: Principal,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Json<Versions>, Problem> {
    let (id, tenant) = (rule_change::path_id(&id, KIND)?, &principal.tenant);
    let [before] = reading::parameters(&uri, ["before"])?;
    let number = |text: String| {
        text.parse().map_err(|_| wrong("expected before to be the number of a version"))
    };
    let before: Option<u32> = before.map(number).transpose()?;
    let versions = api.read(&principal, Scope::PoliciesRead, |mut transaction| async move {
        policies::versions(&mut transaction, tenant, id, before).await
    });
    let versions = versions.await?;
    if versions.is_empty() && before.is_none() {
        return Err(none(KIND));
    }
    Ok(Json(Versions { versions }))
}

/// Makes a policy. With an Idempotency-Key a repeat answers what the first request made.
#[utoipa::path(post, path = "/policies", tag = "retention", security(("key" = ["policies:write"])),
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters")),
    request_body = super::openapi::retention::PolicyBody,
    responses(
        (status = 201, description = "The policy's first version", body = super::openapi::retention::StoredPolicy),
        (status = "default", description = "A problem", body = super::openapi::ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    principal: Principal,
    info: RequestInfo,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    principal.require(Scope::PoliciesWrite)?;
    let id = rule_change::new_id(&api, &principal, KIND, &headers)?;
    let change = Change { api: &api, principal: &principal, info: &info };
    let (draft, until) = change.draft(&headers, body).await?;
    let asked = draft.spec.clone();
    let written = change.write(id, draft, None, until).await?;
    match written {
        Written::Done(policy) => shown(StatusCode::CREATED, &policy),
        Written::Exists(policy) if policy.spec == asked => shown(StatusCode::OK, &policy),
        Written::Exists(_) => Err(rule_change::mismatch()),
        refused => Err(problem(refused)),
    }
}

/// Replaces what a policy says, as a new version. The version that the change was made from is told by
/// `If-Match` or as `version` in the body.
#[utoipa::path(put, path = "/policies/{id}", tag = "retention", security(("key" = ["policies:write"])),
    params(
        ("id" = uuid::Uuid, Path, description = "The policy's id"),
        ("If-Match" = Option<String>, Header, description = "The ETag of the version that you read")),
    request_body = super::openapi::retention::PolicyBody,
    responses(
        (status = 200, description = "The new version", body = super::openapi::retention::StoredPolicy),
        (status = "default", description = "A problem", body = super::openapi::ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn change(
    State(api): State<Arc<Api>>,
    principal: Principal,
    info: RequestInfo,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    principal.require(Scope::PoliciesWrite)?;
    let id = rule_change::path_id(&id, KIND)?;
    let tag = rule_change::if_match(&headers)?;
    let change = Change { api: &api, principal: &principal, info: &info };
    let (draft, until) = change.draft(&headers, body).await?;
    let from = tag.or(draft.version).ok_or_else(|| {
        problems::one_field("/version", "expected the version that you read, here or as If-Match")
    })?;
    let asked = draft.spec.clone();
    match change.write(id, draft, Some(from), until).await? {
        Written::Done(policy) => shown(StatusCode::OK, &policy),
        // The answer to the same request was lost.
        Written::Outdated(policy) if policy.version == from + 1 && policy.spec == asked => {
            shown(StatusCode::OK, &policy)
        }
        refused => Err(problem(refused)),
    }
}

/// Deletes a policy: from now on it is not applied, and no more. Its versions stay.
#[utoipa::path(delete, path = "/policies/{id}", tag = "retention", security(("key" = ["policies:write"])),
    params(
        ("id" = uuid::Uuid, Path, description = "The policy's id"),
        ("If-Match" = Option<String>, Header, description = "Only if this is still its version")),
    responses(
        (status = 200, description = "The version that says so", body = super::openapi::retention::StoredPolicy),
        (status = "default", description = "A problem", body = super::openapi::ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    principal: Principal,
    info: RequestInfo,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let tag = rule_change::if_match(&headers)?;
    let until = info.arrived + api.publisher.deadline();
    let newest = newest(&api, &principal, Scope::PoliciesWrite, &id).await?;
    if newest.spec.state == PolicyState::Deleted {
        return shown(StatusCode::OK, &newest);
    }
    let (id, mut spec) = (newest.id, newest.spec);
    spec.state = PolicyState::Deleted;
    let draft = PolicyDraft { spec, effective_at: None, version: None };
    let change = Change { api: &api, principal: &principal, info: &info };
    match change.write(id, draft, Some(tag.unwrap_or(newest.version)), until).await? {
        Written::Done(policy) => shown(StatusCode::OK, &policy),
        refused => Err(problem(refused)),
    }
}

/// The newest version of the policy in a path.
async fn newest(
    api: &Api,
    principal: &Principal,
    scope: Scope,
    id: &str,
) -> Result<Policy, Problem> {
    let (id, tenant) = (rule_change::path_id(id, KIND)?, &principal.tenant);
    let policy = api.read(principal, scope, |mut transaction| async move {
        policies::get(&mut transaction, tenant, id).await
    });
    policy.await?.ok_or_else(|| none(KIND))
}

/// A change on its way.
struct Change<'a> {
    api: &'a Api,
    principal: &'a Principal,
    info: &'a RequestInfo,
}

impl Change<'_> {
    async fn draft(
        &self,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<(PolicyDraft, Instant), Problem> {
        let (value, until) = rule_change::body(self.api, self.info, headers, body).await?;
        let tenant = &self.principal.tenant;
        let scope = Scope::PoliciesWrite;
        let sandbox = self.api.read(self.principal, scope, |mut transaction| async move {
            policies::is_sandbox(&mut transaction, tenant).await
        });
        let sandbox = sandbox.await?;
        let draft = PolicyDraft::read(&value, sandbox, rule_change::now(self.api));
        Ok((draft.map_err(rule_change::fields)?, until))
    }

    /// Writes a version with its audit entries, and tells search. `from`: the version that it follows.
    async fn write(
        &self,
        id: uuid::Uuid,
        draft: PolicyDraft,
        from: Option<u64>,
        until: Instant,
    ) -> Result<Written, Problem> {
        let (tenant, now) = (&self.principal.tenant, rule_change::now(self.api));
        let requester = rule_change::requester(self.principal, self.info);
        let action = match (from, draft.spec.state) {
            (None, _) => "flotilla.policy.created",
            (_, PolicyState::Deleted) => "flotilla.policy.deleted",
            _ => "flotilla.policy.changed",
        };
        let effective_from = draft.effective_at.unwrap_or(now);
        let metadata = json!({ "name": draft.spec.name, "version": from.unwrap_or(0) + 1,
                               "effective_from": effective_from,
                               "spec_sha256": rule_change::spec_sha256(&draft.spec)? });
        let entries =
            rule_change::entries(self.principal, &requester, action, (KIND, id), (metadata, now))?;
        let new = NewVersion {
            id,
            spec: draft.spec,
            effective_from,
            created_by: json!(requester),
            created_at: now,
        };
        let writing = async {
            let mut transaction = self.api.database.tenant(tenant).await?;
            let written = match from {
                None => policies::create(&mut transaction, tenant, new).await?,
                Some(from) => policies::change(&mut transaction, tenant, new, from).await?,
            };
            let happened = matches!(written, Written::Done(_));
            rule_change::commit(transaction, happened, &entries).await?;
            Ok(written)
        };
        let written =
            database::timed(query_time(until), writing).await.map_err(problems::database)?;
        if matches!(written, Written::Done(_)) {
            rule_change::announce(self.api, self.info, entries).await;
        }
        Ok(written)
    }
}

fn problem(refused: Written) -> Problem {
    match refused {
        Written::Missing => none(KIND),
        Written::Outdated(newest) => Problem::new(
            VERSION_CONFLICT,
            format!("version {} is the newest, written {}", newest.version, newest.created_at),
        ),
        Written::NameTaken(other) => {
            Problem::new(NAME_TAKEN, format!("the policy {other} has this name"))
        }
        Written::TooMany(what) => {
            let max = if what == "policies" { POLICIES_MAX as u64 } else { VERSIONS_MAX };
            Problem::new(LIMIT_REACHED, format!("at most {max} {what}"))
        }
        Written::Contradicts(others) => {
            let named: Vec<String> =
                others.iter().take(8).map(|p| format!("{:?} ({})", p.spec.name, p.id)).collect();
            let detail = format!(
                "for some logs the legal maximum of one lies before the legal minimum of the other: {}",
                named.join(", ")
            );
            Problem::new(POLICY_CONFLICT, detail)
        }
        Written::Exists(_) => Problem::new(IDEMPOTENCY_MISMATCH, "there is a policy of that id"),
        Written::Done(_) => Problem::new(INTERNAL, "a change that stands is no problem"),
    }
}

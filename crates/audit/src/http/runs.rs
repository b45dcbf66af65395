//! `/policies/{id}/runs`: what a policy's runs did, and what a person may do to them: start one now, let one
//! pass its brake, cancel one. Each deed is stored together with its audit entries and its message, or not
//! at all. The work itself is the workers'.

mod shown;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, TimeDelta, Utc};
use contracts::audit::Requester;
use contracts::audit::lifecycle::{EvaluatePolicy, PolicyId, RetentionMessage, RunId};
use contracts::errors::{RUN_STATE_CONFLICT, SELF_APPROVAL};
use edge::{Principal, Problem, RequestInfo, Scope};
use http::{HeaderMap, StatusCode, Uri};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::PgConnection;

use super::rule_change::{self, none};
use super::{Api, problems, reading};
use crate::archive::outgoing;
use crate::ingest::query_time;
use crate::lifecycle::{Basis, Run, RunState};
use crate::retention::PolicyState;
use crate::store::{self, Large, RUNS_PAGE_MAX, Step, policies};
use crate::workers::retention::new_run;
use shown::{Shown, shown};

const KIND: &str = "run";

/// Runs of a policy, newest first.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Runs {
    /// At most 200; `before` the last one's `created_at` are older ones.
    #[schema(value_type = Vec<super::openapi::retention::RunBody>)]
    runs: Vec<Shown>,
}

/// Lists the newest 200 runs of a policy; with `before`, those begun before that time.
#[utoipa::path(get, path = "/policies/{id}/runs", tag = "retention", security(("key" = ["policies:read"])),
    params(("id" = uuid::Uuid, Path, description = "The policy's id"),
           ("before" = Option<String>, Query, description = "A time, as RFC 3339 writes it in UTC")),
    responses(
        (status = 200, description = "The runs", body = Runs),
        (status = "default", description = "A problem", body = super::openapi::ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    principal: Principal,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Json<Runs>, Problem> {
    let id = rule_change::path_id(&id, "policy")?;
    // The database's clock may be a little ahead of ours.
    let [before] = reading::parameters(&uri, ["before"])?;
    let before = reading::before(before)?;
    let before = before.unwrap_or_else(|| rule_change::now(&api) + TimeDelta::hours(1));
    let tenant = &principal.tenant;
    let found = api.read(&principal, Scope::PoliciesRead, |mut transaction| async move {
        let policy = policies::get(&mut transaction, tenant, id).await?;
        let runs = store::runs(&mut transaction, tenant, Some(id), before, RUNS_PAGE_MAX).await?;
        Ok((policy, runs))
    });
    let (policy, runs) = found.await?;
    policy.ok_or_else(|| none("policy"))?;
    Ok(Json(Runs { runs: runs.into_iter().filter_map(shown).collect() }))
}

/// Reads a run with its plan: the one that it executes.
#[utoipa::path(get, path = "/policies/{id}/runs/{run}", tag = "retention", security(("key" = ["policies:read"])),
    params(("id" = uuid::Uuid, Path, description = "The policy's id"), ("run" = uuid::Uuid, Path, description = "The run's id")),
    responses(
        (status = 200, description = "The run", body = super::openapi::retention::RunBody),
        (status = "default", description = "A problem", body = super::openapi::ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn one(
    State(api): State<Arc<Api>>,
    principal: Principal,
    Path((id, run)): Path<(String, String)>,
) -> Result<Json<Shown>, Problem> {
    let (id, run) = (rule_change::path_id(&id, "policy")?, rule_change::path_id(&run, KIND)?);
    let tenant = &principal.tenant;
    let found = api.read(&principal, Scope::PoliciesRead, |mut transaction| async move {
        store::run_with(&mut transaction, tenant, run, Large::Plan).await
    });
    Ok(Json(of(found.await?, id).and_then(shown).ok_or_else(|| none(KIND))?))
}

/// The run, where it is that policy's.
fn of(run: Option<Run>, policy: PolicyId) -> Option<Run> {
    run.filter(|run| matches!(run.new.basis, Basis::Policy { id, .. } if id == policy))
}

/// Starts a run of the policy's version in effect now. With an Idempotency-Key a repeat answers the run
/// that the first request started.
#[utoipa::path(post, path = "/policies/{id}/runs", tag = "retention", security(("key" = ["policies:write"])),
    params(("id" = uuid::Uuid, Path, description = "The policy's id"),
           ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters")),
    responses(
        (status = 202, description = "The run; it is planned next", body = super::openapi::retention::RunBody),
        (status = "default", description = "A problem", body = super::openapi::ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn start(
    State(api): State<Arc<Api>>,
    principal: Principal,
    info: RequestInfo,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    principal.require(Scope::PoliciesWrite)?;
    let policy = rule_change::path_id(&id, "policy")?;
    let run = rule_change::new_id(&api, &principal, &format!("run of {policy}"), &headers)?;
    let deed = Deed { api: &api, principal: &principal, info: &info, policy, run };
    let found = deed.do_it(Act::Start).await?;
    Ok((StatusCode::ACCEPTED, Json(shown(found))).into_response())
}

/// Lets a run pass its brake. Only with a key that neither wrote a version of the policy up to the run's nor
/// started the run.
#[utoipa::path(post, path = "/policies/{id}/runs/{run}/approve", tag = "retention", security(("key" = ["policies:approve"])),
    params(("id" = uuid::Uuid, Path, description = "The policy's id"), ("run" = uuid::Uuid, Path, description = "The run's id")),
    responses(
        (status = 202, description = "The run; it is started next", body = super::openapi::retention::RunBody),
        (status = "default", description = "A problem", body = super::openapi::ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn approve(
    State(api): State<Arc<Api>>,
    principal: Principal,
    info: RequestInfo,
    Path((id, run)): Path<(String, String)>,
) -> Result<Response, Problem> {
    principal.require(Scope::PoliciesApprove)?;
    let (policy, run) = (rule_change::path_id(&id, "policy")?, rule_change::path_id(&run, KIND)?);
    let deed = Deed { api: &api, principal: &principal, info: &info, policy, run };
    let found = deed.do_it(Act::Approve).await?;
    Ok((StatusCode::ACCEPTED, Json(shown(found))).into_response())
}

/// Cancels a run: units that nobody has begun stay as they are; those in hand are ended by whoever has
/// them.
#[utoipa::path(post, path = "/policies/{id}/runs/{run}/cancel", tag = "retention", security(("key" = ["policies:write"])),
    params(("id" = uuid::Uuid, Path, description = "The policy's id"), ("run" = uuid::Uuid, Path, description = "The run's id")),
    responses(
        (status = 200, description = "The run", body = super::openapi::retention::RunBody),
        (status = "default", description = "A problem", body = super::openapi::ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn cancel(
    State(api): State<Arc<Api>>,
    principal: Principal,
    info: RequestInfo,
    Path((id, run)): Path<(String, String)>,
) -> Result<Response, Problem> {
    principal.require(Scope::PoliciesWrite)?;
    let (policy, run) = (rule_change::path_id(&id, "policy")?, rule_change::path_id(&run, KIND)?);
    let deed = Deed { api: &api, principal: &principal, info: &info, policy, run };
    let found = deed.do_it(Act::Cancel).await?;
    Ok(Json(shown(found)).into_response())
}

/// What is done to a run.
#[derive(Clone, Copy)]
enum Act {
    Start,
    Approve,
    Cancel,
}

impl Act {
    const fn action(self) -> &'static str {
        match self {
            Self::Start => "flotilla.run.started",
            Self::Approve => "flotilla.run.approved",
            Self::Cancel => "flotilla.run.cancelled",
        }
    }
}

/// What a deed came to.
enum Outcome {
    /// It happened, with a message where something follows.
    Now,
    /// It had happened before.
    Before,
    /// It may not.
    Refused(Problem),
}

/// A deed on its way.
struct Deed<'a> {
    api: &'a Api,
    principal: &'a Principal,
    info: &'a RequestInfo,
    policy: PolicyId,
    run: RunId,
}

impl Deed<'_> {
    /// Does it together with its message and its audit entries, and tells search.
    async fn do_it(&self, act: Act) -> Result<Run, Problem> {
        let (tenant, now) = (&self.principal.tenant, rule_change::now(self.api));
        let until = self.info.arrived + self.api.publisher.deadline();
        let requester = rule_change::requester(self.principal, self.info);
        let metadata = json!({ "policy_id": self.policy });
        let entries = rule_change::entries(
            self.principal,
            &requester,
            act.action(),
            (KIND, self.run),
            (metadata, now),
        )?;
        let doing = async {
            let mut transaction = self.api.database.tenant(tenant).await?;
            let outcome = match act {
                Act::Start => self.start(&mut transaction, &requester, now).await?,
                Act::Approve => self.approve(&mut transaction, &requester, now).await?,
                Act::Cancel => self.cancel(&mut transaction, &requester).await?,
            };
            let happened = match outcome {
                Outcome::Refused(problem) => return Ok(Err(problem)),
                Outcome::Now => true,
                Outcome::Before => false,
            };
            if happened && !matches!(act, Act::Cancel) {
                self.evaluate(&mut transaction, now).await?;
            }
            let run = self.found(&mut transaction).await?;
            rule_change::commit(transaction, happened, &entries).await?;
            Ok(Ok((happened, run)))
        };
        let done = database::timed(query_time(until), doing).await.map_err(problems::database)?;
        let (happened, run) = done?;
        if happened {
            rule_change::announce(self.api, self.info, entries).await;
        }
        run.ok_or_else(|| none(KIND))
    }

    /// The run, where it is the policy's, without its rules and plan.
    async fn found(&self, connection: &mut PgConnection) -> Result<Option<Run>, sqlx::Error> {
        let tenant = &self.principal.tenant;
        let run = store::run_with(connection, tenant, self.run, Large::Neither).await?;
        Ok(of(run, self.policy))
    }

    async fn evaluate(
        &self,
        transaction: &mut PgConnection,
        now: DateTime<Utc>,
    ) -> Result<(), sqlx::Error> {
        let message = EvaluatePolicy { policy_id: self.policy, run_id: self.run };
        let message = RetentionMessage::Evaluate(message);
        let begin = outgoing::begin(&self.principal.tenant, &self.info.correlation_id, now);
        Ok(outgoing::put(transaction, &begin, &message, now).await?)
    }

    async fn start(
        &self,
        transaction: &mut PgConnection,
        requester: &Requester,
        now: DateTime<Utc>,
    ) -> Result<Outcome, sqlx::Error> {
        let tenant = &self.principal.tenant;
        let Some(newest) = policies::get(transaction, tenant, self.policy).await? else {
            return Ok(Outcome::Refused(none("policy")));
        };
        let applied = policies::in_effect_of(transaction, tenant, newest.id, now).await?;
        let Some(policy) = applied.filter(|found| found.spec.state == PolicyState::Active) else {
            let text = "the policy is not applied: it is disabled, deleted or not yet in effect";
            return Ok(Outcome::Refused(Problem::new(RUN_STATE_CONFLICT, text)));
        };
        let when = (now, self.info.correlation_id.as_str());
        let run = new_run(tenant, &policy, (self.run, None), json!(requester), when)
            .map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
        Ok(match store::begin_run(transaction, &run).await? {
            store::Begun::New => Outcome::Now,
            store::Begun::There(_) => Outcome::Before,
        })
    }

    async fn approve(
        &self,
        transaction: &mut PgConnection,
        requester: &Requester,
        now: DateTime<Utc>,
    ) -> Result<Outcome, sqlx::Error> {
        let tenant = &self.principal.tenant;
        let Some(run) = self.found(transaction).await? else {
            return Ok(Outcome::Refused(none(KIND)));
        };
        if let Some(part) = self.part_in(transaction, &run, requester).await? {
            return Ok(Outcome::Refused(Problem::new(SELF_APPROVAL, part)));
        }
        let before = |approval: &Value| approval["by"]["key_id"] == json!(requester.key_id);
        if run.approvals.as_array().is_some_and(|approvals| approvals.iter().any(before)) {
            return Ok(Outcome::Before);
        }
        let approval = json!({ "by": requester, "at": now });
        let step = store::approve_run(transaction, tenant, self.run, &approval).await?;
        Ok(Self::moved(step, "approved"))
    }

    /// What part the key had in the run, so that it may not be the second one to look at it: it wrote a
    /// version of the policy, be it one that a later version was made from, or it started the run.
    async fn part_in(
        &self,
        transaction: &mut PgConnection,
        run: &Run,
        requester: &Requester,
    ) -> Result<Option<String>, sqlx::Error> {
        let key = &requester.key_id;
        if run.new.requester["key_id"] == json!(key) {
            return Ok(Some("this run was started with this key".to_owned()));
        }
        let Basis::Policy { id, version, .. } = run.new.basis else { return Ok(None) };
        let tenant = &self.principal.tenant;
        let wrote = policies::version_by(transaction, tenant, (id, version), key).await?;
        Ok(wrote
            .map(|version| format!("version {version} of the policy was written with this key")))
    }

    async fn cancel(
        &self,
        transaction: &mut PgConnection,
        requester: &Requester,
    ) -> Result<Outcome, sqlx::Error> {
        let tenant = &self.principal.tenant;
        if self.found(transaction).await?.is_none() {
            return Ok(Outcome::Refused(none(KIND)));
        }
        let why = format!("cancelled with the key {}", requester.key_id);
        let to = RunState::Cancelled;
        let step = store::stop_run(transaction, tenant, self.run, to, &why).await?;
        Ok(Self::moved(step, "cancelled"))
    }

    fn moved(step: Step<RunState>, done: &str) -> Outcome {
        match step {
            Step::Now => Outcome::Now,
            Step::Already => Outcome::Before,
            Step::Refused(state) => {
                let text = format!("the run is {}; it cannot be {done}", state.as_str());
                Outcome::Refused(Problem::new(RUN_STATE_CONFLICT, text))
            }
        }
    }
}

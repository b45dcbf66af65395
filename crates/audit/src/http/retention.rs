//! What retention would do: `POST /policies/{id}/simulate` makes the plan that a run would execute, and
//! `GET /logs/{id}/retention` explains one log. Neither changes what is stored of logs.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use chrono::{DateTime, SubsecRound, Utc};
use contracts::LogId;
use contracts::errors::{INTERNAL, OVERLOADED};
use edge::{Principal, Problem, RequestInfo, Scope};
use http::HeaderMap;
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use super::read::log_id;
use super::reading::READ_TIME;
use super::rule_change::{self, none};
use super::{Api, problems};
use crate::model::StoredLog;
use crate::record::Record;
use crate::retention::{Decision, Facts, Plan, Planner, PolicyState, RuleSet};
use crate::store::policies::Figures;
use crate::store::{self, Fed, planning, policies};

/// Simulations at the same time at most, in one process.
pub const SIMULATIONS_MAX: usize = 2;
/// What a simulation may take; a plan that needs longer covers the oldest logs only, and says so.
const SIMULATION_TIME: Duration = Duration::from_secs(20);

/// A plan and what it is compared with.
#[derive(Serialize)]
pub(super) struct Simulation {
    /// What a run would do now.
    plan: Plan,
    /// The newest complete plan of an earlier day.
    previous: Option<Figures>,
    /// How many times as many logs go as then.
    growth: Option<f64>,
}

/// Makes the plan that a run of this policy would execute, from its newest version, as if it was active
/// and in effect. Nothing is archived or deleted.
#[utoipa::path(post, path = "/policies/{id}/simulate", tag = "retention", security(("key" = ["policies:read"])),
    params(("id" = uuid::Uuid, Path, description = "The policy's id")),
    request_body(content = super::openapi::retention::SimulateBody, description = "Optional"),
    responses(
        (status = 200, description = "The plan", body = super::openapi::retention::SimulationBody),
        (status = "default", description = "A problem", body = super::openapi::ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn simulate(
    State(api): State<Arc<Api>>,
    principal: Principal,
    info: RequestInfo,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Simulation>, Problem> {
    principal.require(Scope::PoliciesRead)?;
    let (id, tenant) = (rule_change::path_id(&id, "policy")?, &principal.tenant);
    let now = rule_change::now(&api);
    let as_of = if headers.contains_key(http::header::CONTENT_TYPE) {
        read_as_of(&rule_change::body(&api, &info, &headers, body).await?.0, now)?
    } else {
        now
    };
    let Ok(_permit) = api.simulations.try_acquire() else {
        let detail = format!("{SIMULATIONS_MAX} simulations are being made");
        return Err(Problem::new(OVERLOADED, detail).retry_after(5));
    };
    let until = Instant::now() + SIMULATION_TIME;
    let planner = api.read(&principal, Scope::PoliciesRead, |mut transaction| async move {
        let found = policies::get(&mut transaction, tenant, id).await?;
        let policy = found.filter(|policy| policy.spec.state != PolicyState::Deleted);
        let Some(policy) = policy else { return Ok(None) };
        planning::planner(&mut transaction, tenant, &policy, as_of).await.map(Some)
    });
    let (planner, _rules) = planner.await?.ok_or_else(|| none("policy"))?;
    let plan = plan(&api, &principal, planner, until).await?;
    let previous = database::timed(READ_TIME, compare(&api, &plan, as_of == now)).await;
    let previous = previous.map_err(problems::database)?;
    let growth = previous.filter(|previous| previous.events > 0).map(|previous| {
        #[expect(clippy::cast_precision_loss, reason = "a ratio for a person")]
        let growth = plan.events as f64 / previous.events as f64;
        growth
    });
    Ok(Json(Simulation { plan, previous, growth }))
}

fn read_as_of(value: &Value, now: DateTime<Utc>) -> Result<DateTime<Utc>, Problem> {
    let members = value.as_object().filter(|members| members.keys().all(|key| key == "as_of"));
    let members =
        members.ok_or_else(|| problems::one_field("", "expected an object with as_of only"))?;
    let Some(as_of) = members.get("as_of").filter(|value| !value.is_null()) else { return Ok(now) };
    let at = as_of.as_str().and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    let at = at.map(|at| at.with_timezone(&Utc).trunc_subsecs(6));
    at.filter(|at| (now..=now + chrono::TimeDelta::days(3_660)).contains(at)).ok_or_else(|| {
        problems::one_field(
            "/as_of",
            "expected a time from now to 3660 days ahead, as RFC 3339 writes it",
        )
    })
}

/// Feeds the plan chunk by chunk, each in a transaction of its own, until it is complete, full or the
/// time is over.
async fn plan(
    api: &Api,
    principal: &Principal,
    mut planner: Planner,
    until: Instant,
) -> Result<Plan, Problem> {
    let (tenant, mut after) = (&principal.tenant, None);
    loop {
        let feeding = &mut planner;
        let fed = api.read(principal, Scope::PoliciesRead, move |mut transaction| async move {
            store::feed(&mut transaction, tenant, feeding, after).await
        });
        match fed.await? {
            Fed::End => return Ok(planner.finish(true)),
            Fed::Full => return Ok(planner.finish(false)),
            Fed::More(_) if Instant::now() >= until => return Ok(planner.finish(false)),
            Fed::More(place) => after = Some(place),
        }
    }
}

/// The figures of an earlier day; those of this plan are kept when it is complete and of now.
async fn compare(api: &Api, plan: &Plan, of_now: bool) -> Result<Option<Figures>, sqlx::Error> {
    let mut transaction = api.database.tenant(&plan.tenant).await?;
    let day = plan.as_of.date_naive();
    let previous =
        policies::figures_before(&mut transaction, &plan.tenant, plan.policy_id, day).await?;
    if plan.complete && of_now {
        policies::keep_figures(&mut transaction, plan).await?;
    }
    transaction.commit().await?;
    Ok(previous)
}

/// What becomes of one log, and why.
#[derive(Serialize)]
pub(super) struct Explained {
    /// The log.
    log_id: LogId,
    /// When the server took it.
    recorded_at: DateTime<Utc>,
    /// Its class.
    class: contracts::RetentionClass,
    /// The time that it is judged by: policies in effect and holds in force then.
    as_of: DateTime<Utc>,
    /// Which rules they are.
    rules_fingerprint: String,
    /// What they say.
    #[serde(flatten)]
    decision: Decision,
}

/// Explains a log's retention: which policies match, which decides and why, when it goes, which holds
/// keep it. The matters of holds are shown to keys with `holds:read`.
#[utoipa::path(get, path = "/logs/{id}/retention", tag = "retention", security(("key" = ["policies:read"])),
    params(("id" = uuid::Uuid, Path, description = "The log's id")),
    responses(
        (status = 200, description = "What becomes of it", body = super::openapi::retention::ExplainedBody),
        (status = "default", description = "A problem", body = super::openapi::ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn explain(
    State(api): State<Arc<Api>>,
    principal: Principal,
    Path(id): Path<String>,
) -> Result<Json<Explained>, Problem> {
    let id = log_id(&id)?;
    let (tenant, as_of) = (&principal.tenant, rule_change::now(&api));
    let found = api.read(&principal, Scope::PoliciesRead, |mut transaction| async move {
        let log = store::find(&mut transaction, tenant, id).await?;
        Ok((log, policies::rules(&mut transaction, tenant, as_of).await?))
    });
    let (log, rules) = found.await?;
    let log = log.ok_or_else(problems::no_such_log)?;
    let mut decision = decided(&log, &rules)?;
    if !principal.may(Scope::HoldsRead) {
        decision.conceal_matters();
    }
    let (recorded_at, class) = (log.key.recorded_at, log.key.class);
    let rules_fingerprint = rules.fingerprint();
    Ok(Json(Explained { log_id: id, recorded_at, class, as_of, rules_fingerprint, decision }))
}

/// What these rules say of a log.
pub(super) fn decided(log: &StoredLog, rules: &RuleSet) -> Result<Decision, Problem> {
    let record = Record::parse(&log.record)
        .map_err(|error| Problem::new(INTERNAL, format!("the record cannot be read: {error}")))?;
    let event = &record.event;
    let target_types: Vec<String> =
        event.targets.iter().map(|target| target.kind.as_str().to_owned()).collect();
    let metadata = event.metadata.map(sinks::search::fields::metadata);
    Ok(rules.explain(&Facts {
        recorded_at: log.key.recorded_at,
        actor_type: event.actor.kind.as_str(),
        actor_id: event.actor.id.as_str(),
        action: event.action.as_str(),
        outcome: event.outcome,
        target_types: &target_types,
        metadata: metadata.as_ref(),
    }))
}

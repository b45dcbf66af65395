//! A cleanup's run as the API shows it: what was asked for, where it stands, what became of its logs.

use chrono::{DateTime, Utc};
use contracts::audit::lifecycle::{RunId, Then};
use serde::Serialize;
use serde_json::Value;

use crate::lifecycle::request::Request;
use crate::lifecycle::run::UnitCounts;
use crate::lifecycle::{Basis, Counters, Run, RunState};
use crate::retention::Filter;

/// A run on request.
#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::http) struct Job {
    /// Its id.
    #[schema(value_type = uuid::Uuid)]
    pub(super) id: RunId,
    /// planning, running, done, failed or cancelled.
    #[schema(value_type = String)]
    state: RunState,
    /// Which logs.
    #[schema(value_type = crate::http::openapi::retention::FilterBody)]
    filter: Filter,
    /// Of them, those recorded at this time or later.
    #[schema(value_type = String)]
    from: DateTime<Utc>,
    /// Of them, those recorded before this time.
    #[schema(value_type = String)]
    before: DateTime<Utc>,
    /// Who asked.
    #[schema(value_type = Object)]
    requester: Value,
    /// The time that it judges by: that of the dry run.
    #[schema(value_type = String)]
    as_of: DateTime<Utc>,
    /// Its units of work: all, open, failed.
    #[schema(value_type = Object)]
    units: UnitCounts,
    /// `planned`, `archived`, `verified`, `deleted`, `held`, `gone`, `failed`: logs and bytes each.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    counters: Counters,
    /// Of an ended run: whether every log is accounted for, once.
    #[serde(skip_serializing_if = "Option::is_none")]
    adds_up: Option<bool>,
    /// Why it failed or was cancelled.
    reason: Option<String>,
    /// Follows it from request to receipt.
    correlation_id: String,
    /// When it was started.
    #[schema(value_type = String)]
    created_at: DateTime<Utc>,
    /// When its units were first worked on.
    #[schema(value_type = Option<String>)]
    started_at: Option<DateTime<Utc>>,
    /// When it ended.
    #[schema(value_type = Option<String>)]
    ended_at: Option<DateTime<Utc>>,
}

/// Of a cleanup's run only.
pub(super) fn job(run: Run) -> Option<Job> {
    let Basis::Request(request) = run.new.basis else { return None };
    let Ok(Request::Time { from, to, filter, .. }) = serde_json::from_value(request) else {
        return None;
    };
    let ended = matches!(run.state, RunState::Done | RunState::Failed) && run.units.open == 0;
    (run.new.then == Then::ArchiveAndDelete).then(|| Job {
        id: run.new.id,
        state: run.state,
        filter,
        from,
        before: to,
        requester: run.new.requester,
        as_of: run.new.as_of,
        units: run.units,
        adds_up: ended.then(|| run.counters.adds_up(run.new.then)),
        counters: run.counters,
        reason: run.failure,
        correlation_id: run.new.correlation_id,
        created_at: run.created_at,
        started_at: run.started_at,
        ended_at: run.ended_at,
    })
}

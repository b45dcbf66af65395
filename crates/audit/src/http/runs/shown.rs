//! A run as the API shows it: where it stands and what became of its logs. Its rules stay inside.

use chrono::{DateTime, Utc};
use contracts::audit::lifecycle::{PolicyId, RunId, Then};
use serde::Serialize;
use serde_json::Value;

use crate::lifecycle::run::UnitCounts;
use crate::lifecycle::{Basis, Counters, Run, RunState};

/// A run as it is shown.
#[derive(Serialize)]
pub(in crate::http) struct Shown {
    id: RunId,
    policy_id: PolicyId,
    policy_version: u64,
    slot: Option<DateTime<Utc>>,
    requester: Value,
    then: Then,
    state: RunState,
    as_of: DateTime<Utc>,
    rules_fingerprint: Option<String>,
    approvals: Value,
    units: UnitCounts,
    #[serde(flatten)]
    counters: Counters,
    /// Of an ended run: whether every event is accounted for, once.
    #[serde(skip_serializing_if = "Option::is_none")]
    adds_up: Option<bool>,
    reason: Option<String>,
    /// Of one that waits to be planned, since an earlier one of the policy is at work or the worker is at
    /// another policy of the tenant: when its turn is looked for again.
    #[serde(skip_serializing_if = "Option::is_none")]
    waits_until: Option<DateTime<Utc>>,
    correlation_id: String,
    created_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    ended_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<Value>,
}

/// Of a policy's run only; with its plan where that was read.
pub(super) fn shown(run: Run) -> Option<Shown> {
    let Basis::Policy { id, version, slot } = run.new.basis else { return None };
    let ended = matches!(run.state, RunState::Done | RunState::Failed) && run.units.open == 0;
    Some(Shown {
        id: run.new.id,
        policy_id: id,
        policy_version: version,
        slot,
        requester: run.new.requester,
        then: run.new.then,
        state: run.state,
        as_of: run.new.as_of,
        rules_fingerprint: run.fingerprint.map(hex::encode),
        approvals: run.approvals,
        units: run.units,
        adds_up: ended.then(|| run.counters.adds_up(run.new.then)),
        counters: run.counters,
        reason: run.failure,
        waits_until: run.again_at.filter(|_| run.state == RunState::Planning),
        correlation_id: run.new.correlation_id,
        created_at: run.created_at,
        started_at: run.started_at,
        ended_at: run.ended_at,
        plan: run.plan,
    })
}

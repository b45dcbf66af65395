//! Which rows of a unit's range are the run's: those that its own rules give to it and that are due, or
//! those that were asked for one by one. The plan chose by the same rules, so both see the same rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use contracts::audit::lifecycle::{PolicyId, Then};
use sinks::search::fields;
use uuid::Uuid;

use crate::lifecycle::request::Request;
use crate::lifecycle::{Basis, Run};
use crate::record::{Outcome, Record};
use crate::retention::filter::Facts;
use crate::retention::rules::{Fate, RuleHold, RulePolicy, RuleSet};
use crate::retention::{Hold, Matcher, Term};
use crate::store::ExportRow;

/// Why a run's rows cannot be told from others.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("run {run}: {why}")]
pub(crate) struct NoSelection {
    run: Uuid,
    why: String,
}

/// Tells a run's rows.
#[derive(Debug)]
pub(crate) enum Selection {
    /// Rows that are this policy's by the rules, and due at that time.
    Rules {
        /// The rules, compiled.
        matcher: Box<Matcher>,
        /// The policy; of a request, the rule that stands for it.
        policy: PolicyId,
        /// The time it is judged by.
        as_of: DateTime<Utc>,
    },
    /// These.
    Logs(BTreeSet<Uuid>),
}

impl Selection {
    /// A run's.
    pub(crate) fn of(run: &Run) -> Result<Self, NoSelection> {
        let no = |why: String| NoSelection { run: run.new.id, why };
        let rules = || match &run.new.rules {
            Some(rules) => serde_json::from_value::<RuleSet>(rules.clone())
                .map_err(|error| no(format!("its rules cannot be read: {error}"))),
            None => Err(no("it has no rules".to_owned())),
        };
        match &run.new.basis {
            Basis::Policy { id, .. } => Ok(Self::by(rules()?, *id, run.new.as_of)),
            Basis::Request(request) => {
                let request = serde_json::from_value(request.clone())
                    .map_err(|error| no(format!("its request cannot be read: {error}")))?;
                match request {
                    Request::Logs { ids } => {
                        Ok(Self::Logs(ids.into_iter().map(|id| id.0).collect()))
                    }
                    Request::Time { to, .. } => Ok(Self::by(rules()?, run.new.id, last_before(to))),
                }
            }
        }
    }

    fn by(rules: RuleSet, policy: PolicyId, as_of: DateTime<Utc>) -> Self {
        Self::Rules { matcher: Box::new(Matcher::new(Arc::new(rules))), policy, as_of }
    }

    /// Whether the row is the run's. An error: its record cannot be read.
    pub(crate) fn takes(&mut self, row: &ExportRow) -> Result<bool, String> {
        match self {
            Self::Logs(ids) => Ok(ids.contains(&row.id)),
            Self::Rules { matcher, policy, as_of } => {
                let metadata = if matcher.needs_metadata() { metadata(row)? } else { None };
                let verdict = matcher.decide(&facts(row, metadata.as_ref()));
                Ok(verdict.fate == Fate::Goes
                    && verdict.winner == Some(*policy)
                    && verdict.goes_at.is_some_and(|at| at <= *as_of))
            }
        }
    }
}

/// Tells which logs holds keep, whatever rules say.
#[derive(Debug)]
pub(crate) struct Keeper(Matcher);

impl Keeper {
    /// By these holds.
    pub(crate) fn by(holds: &[Hold]) -> Self {
        let holds = holds.iter().map(RuleHold::from).collect();
        Self(Matcher::new(Arc::new(RuleSet::new(Vec::new(), holds))))
    }

    /// Whether one of them keeps the row. An error: its record cannot be read.
    pub(crate) fn keeps(&mut self, row: &ExportRow) -> Result<bool, String> {
        let metadata = if self.0.needs_metadata() { metadata(row)? } else { None };
        Ok(self.0.is_held(&facts(row, metadata.as_ref())))
    }
}

/// The last moment before a time, as PostgreSQL counts.
pub(super) fn last_before(to: DateTime<Utc>) -> DateTime<Utc> {
    to - TimeDelta::microseconds(1)
}

/// The rule that stands for a request: what it asks for is due at once. Where it deletes, it stands
/// among the tenant's own, above their priorities and under their legal minimums.
fn rule_of(run: &Run, filter: crate::retention::Filter) -> RulePolicy {
    RulePolicy {
        id: run.new.id,
        version: 1,
        name: "request".to_owned(),
        filter,
        keep: Term::ZERO,
        then: run.new.then,
        priority: i32::MAX,
        legal_minimum: None,
        legal_maximum: None,
    }
}

/// The rules that a request is planned by. A copy is nobody's loss: only what deletes heeds others.
pub(super) fn rules_of(run: &Run, of_tenant: RuleSet, filter: crate::retention::Filter) -> RuleSet {
    let ground = match run.new.then {
        Then::Archive => RuleSet::default(),
        Then::ArchiveAndDelete | Then::Delete => of_tenant,
    };
    let mut policies = ground.policies().to_vec();
    policies.push(rule_of(run, filter));
    RuleSet::new(policies, ground.holds().to_vec())
}

fn metadata(row: &ExportRow) -> Result<Option<fields::Metadata>, String> {
    let record = Record::parse(&row.record)
        .map_err(|error| format!("log {}: its record cannot be read: {error}", row.id))?;
    Ok(record.event.metadata.map(fields::metadata))
}

fn facts<'a>(row: &'a ExportRow, metadata: Option<&'a fields::Metadata>) -> Facts<'a> {
    let known = [Outcome::Success, Outcome::Failure, Outcome::Denied];
    let outcome = known.into_iter().find(|outcome| outcome.as_str() == row.outcome);
    Facts {
        recorded_at: row.recorded_at,
        actor_type: &row.actor_type,
        actor_id: &row.actor_id,
        action: &row.action,
        outcome: outcome.unwrap_or_default(),
        target_types: &row.target_types,
        metadata,
    }
}

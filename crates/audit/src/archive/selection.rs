//! Which rows of a unit's range are the run's: those that its own rules give to it and that are due, or
//! those that were asked for one by one. The plan chose by the same rules, so both see the same rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use contracts::audit::lifecycle::{PolicyId, RunId, Then};
use evidence::object::Entry;
use sinks::search::fields;
use uuid::Uuid;

use crate::lifecycle::request::Request;
use crate::lifecycle::{Basis, Run};
use crate::record::{Outcome, Record};
use crate::retention::filter::{Facts, Filter};
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

/// Tells a run's rows: those that are its policy's by the rules, and due at the time it is judged by; of a
/// request, those of the rule that stands for it.
#[derive(Debug)]
pub(crate) struct Selection {
    matcher: Box<Matcher>,
    policy: PolicyId,
    as_of: DateTime<Utc>,
    /// Of them, these alone: they were asked for one by one.
    only: Option<BTreeSet<Uuid>>,
}

impl Selection {
    /// A run's.
    pub(crate) fn of(run: &Run) -> Result<Self, NoSelection> {
        let no = |why: String| NoSelection { run: run.new.id, why };
        let rules = match &run.new.rules {
            Some(rules) => serde_json::from_value::<RuleSet>(rules.clone())
                .map_err(|error| no(format!("its rules cannot be read: {error}")))?,
            None => return Err(no("it has no rules".to_owned())),
        };
        let (policy, only) = match &run.new.basis {
            Basis::Policy { id, .. } => (*id, None),
            Basis::Request(request) => {
                let request = serde_json::from_value(request.clone())
                    .map_err(|error| no(format!("its request cannot be read: {error}")))?;
                let only = match request {
                    Request::Logs { ids } => Some(ids.into_iter().map(|id| id.0).collect()),
                    Request::Time { .. } => None,
                };
                (run.new.id, only)
            }
        };
        let matcher = Box::new(Matcher::new(Arc::new(rules)));
        Ok(Self { matcher, policy, as_of: run.new.as_of, only })
    }

    /// Whether the row is the run's. An error: its record cannot be read.
    pub(crate) fn takes(&mut self, row: &ExportRow) -> Result<bool, String> {
        if self.only.as_ref().is_some_and(|ids| !ids.contains(&row.id)) {
            return Ok(false);
        }
        let metadata = if self.matcher.needs_metadata() { metadata(row)? } else { None };
        let verdict = self.matcher.decide(&facts(row, metadata.as_ref()));
        Ok(verdict.fate == Fate::Goes
            && verdict.winner == Some(self.policy)
            && verdict.goes_at.is_some_and(|at| at <= self.as_of))
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

/// The rules that a request is planned by: the rule that stands for it, by which what it asks for is due at
/// once. Where it deletes, that rule stands among the tenant's own, above their priorities and under their
/// legal minimums and holds. A copy is nobody's loss: it heeds no others.
pub(crate) fn rules_of(
    (request, then): (RunId, Then),
    of_tenant: RuleSet,
    filter: Filter,
) -> RuleSet {
    let ground = match then {
        Then::Archive => RuleSet::default(),
        Then::ArchiveAndDelete | Then::Delete => of_tenant,
    };
    ground.with_policy(RulePolicy {
        id: request,
        version: 1,
        name: "request".to_owned(),
        filter,
        keep: Term::ZERO,
        then,
        priority: i32::MAX,
        legal_minimum: None,
        legal_maximum: None,
    })
}

/// A line as the rules ask about it.
pub(crate) fn row_of(entry: &Entry<'_>) -> Result<ExportRow, String> {
    let record = Record::parse(entry.line.bytes).map_err(|error| error.to_string())?;
    let event = &record.event;
    Ok(ExportRow {
        recorded_at: entry.line.recorded_at,
        id: entry.line.key.id,
        record: entry.line.bytes.to_vec(),
        salt: entry.salt.to_vec(),
        revision: 0,
        actor_type: event.actor.kind.as_str().to_owned(),
        actor_id: event.actor.id.as_str().to_owned(),
        action: event.action.as_str().to_owned(),
        outcome: event.outcome.as_str().to_owned(),
        target_types: event.targets.iter().map(|target| target.kind.as_str().to_owned()).collect(),
    })
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

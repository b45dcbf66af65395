//! What a policy would do now: how many logs go, of which hours and classes, cut into units of work.
//! A plan is made from one stream of logs in the order of `(recorded_at, id)`; what a simulation shows
//! and what a run executes is the same object. Memory is bounded, however many logs there are.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use contracts::audit::lifecycle::{PolicyId, Then};
use contracts::{LogId, RetentionClass, Tenant};
use serde::{Deserialize, Serialize};
use sinks::search::fields;

use super::filter::{Facts, Filter};
use super::matcher::Matcher;
use super::rules::{Fate, RuleSet};
use super::term::Term;
use crate::record::Outcome;

/// Bytes of records of one unit at most: the size of an archive's object before it is packed. One
/// record may be over it by itself.
pub const UNIT_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Logs of one unit at most.
pub const UNIT_EVENTS_MAX: u64 = 500_000;
/// Units of one plan at most: what is more is the next plan's.
pub const UNITS_MAX: usize = 20_000;
/// Actions that a plan names; the others are added up.
pub const ACTIONS_SHOWN: usize = 20;
/// Actions that are counted one by one while a plan is made; those first seen later are added up.
const ACTIONS_COUNTED_MAX: usize = 10_000;

/// One log as a plan sees it.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its class.
    pub class: RetentionClass,
    /// When the API accepted it.
    pub recorded_at: DateTime<Utc>,
    /// Its id.
    pub id: LogId,
    /// Bytes of its record.
    pub bytes: u64,
    /// The actor's type.
    pub actor_type: String,
    /// The actor's id.
    pub actor_id: String,
    /// What was done.
    pub action: String,
    /// How it ended.
    pub outcome: Outcome,
    /// The targets' types.
    pub target_types: Vec<String>,
    /// Flattened metadata, where a rule asks for any.
    pub metadata: Option<fields::Metadata>,
    /// Whether an archive holds it already.
    pub archived: bool,
}

impl Candidate {
    /// What rules ask about it.
    pub fn facts(&self) -> Facts<'_> {
        Facts {
            recorded_at: self.recorded_at,
            actor_type: &self.actor_type,
            actor_id: &self.actor_id,
            action: &self.action,
            outcome: self.outcome,
            target_types: &self.target_types,
            metadata: self.metadata.as_ref(),
        }
    }
}

/// What a policy would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Whose logs.
    pub tenant: Tenant,
    /// The policy.
    pub policy_id: PolicyId,
    /// Its version.
    pub policy_version: u64,
    /// What it does.
    pub then: Then,
    /// The time that it judges by.
    pub as_of: DateTime<Utc>,
    /// Logs recorded before this time were looked at; later ones are not due.
    pub cutoff: DateTime<Utc>,
    /// Logs of transactions below this one were looked at; later ones are the next plan's.
    pub snapshot_xmin: u64,
    /// Which rules it was made by.
    pub rules_fingerprint: String,
    /// Whether every such log was looked at; else the plan covers the oldest, up to `covers_until`.
    pub complete: bool,
    /// The last log looked at, where the plan is not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covers_until: Option<DateTime<Utc>>,
    /// Logs that were looked at.
    pub looked_at: u64,
    /// Logs that go.
    pub events: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// The oldest of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<DateTime<Utc>>,
    /// The newest of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<DateTime<Utc>>,
    /// Logs of the policy past its term that stay all the same.
    pub staying: Staying,
    /// Those that go, by action, most first.
    pub by_action: Vec<ActionTally>,
    /// Those of all other actions.
    pub other_actions: Tally,
    /// Those that go, by hour and class.
    pub cells: Vec<Cell>,
    /// Those that go, as units of work.
    pub units: Vec<Unit>,
}

/// Logs of the policy past its term that stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staying {
    /// By a hold.
    pub held: u64,
    /// By a legal minimum.
    pub by_floor: u64,
    /// Because another policy decides about them.
    pub by_policy: u64,
    /// Because a legal maximum contradicts a minimum.
    pub conflicts: u64,
    /// Archived already, by a policy that only archives.
    pub already_archived: u64,
}

/// A count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Logs.
    pub events: u64,
    /// Bytes of their records.
    pub bytes: u64,
}

impl Tally {
    fn add(&mut self, bytes: u64) {
        self.events += 1;
        self.bytes += bytes;
    }
}

/// A count of one action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionTally {
    /// The action.
    pub action: String,
    /// Of it.
    #[serde(flatten)]
    pub tally: Tally,
}

/// A count of one hour and class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// The class.
    pub class: RetentionClass,
    /// The hour's beginning.
    pub hour: DateTime<Utc>,
    /// Of them.
    #[serde(flatten)]
    pub tally: Tally,
}

/// A place in the order of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// When the log was recorded.
    pub recorded_at: DateTime<Utc>,
    /// Its id.
    pub id: LogId,
}

/// A piece of work: logs of one class and hour between two places. Others between them stay; who works
/// on a unit asks the plan's rules about each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// The class.
    pub class: RetentionClass,
    /// The hour's beginning.
    pub hour: DateTime<Utc>,
    /// The first log that goes.
    pub first: Place,
    /// The last log that goes.
    pub last: Place,
    /// How many go.
    #[serde(flatten)]
    pub tally: Tally,
}

/// Makes a plan of a stream of logs.
#[derive(Debug)]
pub struct Planner {
    plan: Plan,
    matcher: Matcher,
    filter: Filter,
    keep: Term,
    actions: HashMap<String, Tally>,
    /// At most one cell and unit per class: the stream is in the order of time.
    open: BTreeMap<RetentionClass, (Cell, Unit)>,
}

impl Planner {
    /// A plan for a policy of the rules; `None` when it is not one of them.
    pub fn new(
        tenant: &Tenant,
        rules: Arc<RuleSet>,
        policy_id: PolicyId,
        as_of: DateTime<Utc>,
        snapshot_xmin: u64,
    ) -> Option<Self> {
        let policy = rules.policy(policy_id)?;
        let plan = Plan {
            tenant: tenant.clone(),
            policy_id,
            policy_version: policy.version,
            then: policy.then,
            as_of,
            cutoff: policy.keep.starts_before(as_of),
            snapshot_xmin,
            rules_fingerprint: rules.fingerprint(),
            complete: true,
            covers_until: None,
            looked_at: 0,
            events: 0,
            bytes: 0,
            oldest: None,
            newest: None,
            staying: Staying::default(),
            by_action: Vec::new(),
            other_actions: Tally::default(),
            cells: Vec::new(),
            units: Vec::new(),
        };
        Some(Self {
            plan,
            filter: policy.filter.clone(),
            keep: policy.keep,
            matcher: Matcher::new(rules),
            actions: HashMap::new(),
            open: BTreeMap::new(),
        })
    }

    /// Logs recorded before this time are wanted.
    pub fn cutoff(&self) -> DateTime<Utc> {
        self.plan.cutoff
    }

    /// Logs of transactions below this one are wanted.
    pub fn snapshot_xmin(&self) -> u64 {
        self.plan.snapshot_xmin
    }

    /// Whether the logs' metadata is wanted.
    pub fn needs_metadata(&self) -> bool {
        self.matcher.needs_metadata()
    }

    /// Looks at one more log, in the order of `(recorded_at, id)`. False when the plan is full: this one
    /// and those after it are the next plan's.
    pub fn add(&mut self, log: &Candidate) -> bool {
        if self.is_full(log) {
            return false;
        }
        self.plan.looked_at += 1;
        self.plan.covers_until = Some(log.recorded_at);
        let facts = log.facts();
        if self.keep.after(log.recorded_at) <= self.plan.as_of && self.filter.matches(&facts) {
            self.judge(log, &facts);
        }
        true
    }

    fn is_full(&self, log: &Candidate) -> bool {
        let open = self.open.get(&log.class);
        let goes_on =
            open.is_some_and(|(_, unit)| unit.hour == hour(log.recorded_at) && fits(unit, log));
        self.plan.units.len() + self.open.len() >= UNITS_MAX && !goes_on
    }

    fn judge(&mut self, log: &Candidate, facts: &Facts<'_>) {
        let verdict = self.matcher.decide(facts);
        let staying = &mut self.plan.staying;
        match verdict.fate {
            Fate::Held => staying.held += 1,
            Fate::Conflict => staying.conflicts += 1,
            Fate::Goes if verdict.winner != Some(self.plan.policy_id) => staying.by_policy += 1,
            Fate::Goes if verdict.goes_at.is_none_or(|at| at > self.plan.as_of) => {
                staying.by_floor += 1;
            }
            Fate::Goes if log.archived && self.plan.then == Then::Archive => {
                staying.already_archived += 1;
            }
            Fate::Goes => self.take(log),
            // The policy itself matches, so some policy does.
            Fate::Kept => staying.by_policy += 1,
        }
    }

    fn take(&mut self, log: &Candidate) {
        self.plan.events += 1;
        self.plan.bytes += log.bytes;
        self.plan.oldest.get_or_insert(log.recorded_at);
        self.plan.newest = Some(log.recorded_at);
        if let Some(tally) = self.actions.get_mut(&log.action) {
            tally.add(log.bytes);
        } else if self.actions.len() < ACTIONS_COUNTED_MAX {
            self.actions.insert(log.action.clone(), Tally { events: 1, bytes: log.bytes });
        } else {
            self.plan.other_actions.add(log.bytes);
        }
        let (hour, place) =
            (hour(log.recorded_at), Place { recorded_at: log.recorded_at, id: log.id });
        // What is open of an earlier hour is complete: the order is that of time.
        let over: Vec<RetentionClass> = self
            .open
            .iter()
            .filter(|(_, (cell, _))| cell.hour != hour)
            .map(|(class, _)| *class)
            .collect();
        for class in over {
            self.close(class);
        }
        let new =
            || Unit { class: log.class, hour, first: place, last: place, tally: Tally::default() };
        let (cell, unit) = self
            .open
            .entry(log.class)
            .or_insert_with(|| (Cell { class: log.class, hour, tally: Tally::default() }, new()));
        if !fits(unit, log) {
            self.plan.units.push(std::mem::replace(unit, new()));
        }
        cell.tally.add(log.bytes);
        unit.tally.add(log.bytes);
        unit.last = place;
    }

    fn close(&mut self, class: RetentionClass) {
        if let Some((cell, unit)) = self.open.remove(&class) {
            self.plan.cells.push(cell);
            self.plan.units.push(unit);
        }
    }

    /// The plan; `complete` says whether the stream came to its end.
    pub fn finish(mut self, complete: bool) -> Plan {
        let open: Vec<RetentionClass> = self.open.keys().copied().collect();
        for class in open {
            self.close(class);
        }
        let mut actions: Vec<ActionTally> =
            self.actions.into_iter().map(|(action, tally)| ActionTally { action, tally }).collect();
        actions.sort_by(|a, b| {
            b.tally.events.cmp(&a.tally.events).then_with(|| a.action.cmp(&b.action))
        });
        let mut plan = self.plan;
        for rest in actions.drain(ACTIONS_SHOWN.min(actions.len())..) {
            plan.other_actions.events += rest.tally.events;
            plan.other_actions.bytes += rest.tally.bytes;
        }
        plan.by_action = actions;
        plan.complete = complete;
        if complete {
            plan.covers_until = None;
        }
        plan
    }
}

fn fits(unit: &Unit, log: &Candidate) -> bool {
    unit.tally.events == 0
        || (unit.tally.events < UNIT_EVENTS_MAX && unit.tally.bytes + log.bytes <= UNIT_BYTES_MAX)
}

fn hour(at: DateTime<Utc>) -> DateTime<Utc> {
    at.duration_trunc(TimeDelta::hours(1)).unwrap_or(at)
}

#[cfg(test)]
mod tests;

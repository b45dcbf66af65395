//! Makes a plan of a stream of logs in the order of `(recorded_at, id)`: judged one by one, counted, and
//! cut into units. Its memory is that of the plan, which is bounded, however many logs there are.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use contracts::audit::lifecycle::{PolicyId, Then, UnitId};
use contracts::{RetentionClass, Tenant};

use super::{
    ACTIONS_SHOWN, ActionTally, Again, Candidate, Cell, Place, Plan, Staying, Tally,
    UNIT_BYTES_MAX, UNIT_EVENTS_MAX, UNITS_MAX, Unit,
};
use crate::lifecycle::KeyRange;
use crate::retention::filter::{Facts, Filter};
use crate::retention::matcher::Matcher;
use crate::retention::rules::{Fate, RuleSet};
use crate::retention::term::Term;

/// Actions that are counted one by one while a plan is made; those first seen later are added up.
const ACTIONS_COUNTED_MAX: usize = 10_000;

/// Makes a plan of a stream of logs.
#[derive(Debug)]
pub struct Planner {
    plan: Plan,
    matcher: Matcher,
    filter: Filter,
    keep: Term,
    actions: HashMap<String, Tally>,
    /// At most one cell and unit per class: the stream is in the order of time.
    open: BTreeMap<RetentionClass, (Cell, Option<Unit>)>,
    /// Of the hour at hand.
    again: BTreeMap<UnitId, Again>,
    left_out: LeftOut,
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
            again: Vec::new(),
        };
        Some(Self {
            plan,
            filter: policy.filter.clone(),
            keep: policy.keep,
            matcher: Matcher::new(rules),
            actions: HashMap::new(),
            open: BTreeMap::new(),
            again: BTreeMap::new(),
            left_out: LeftOut::default(),
        })
    }

    /// Leaves out logs in these ranges: runs that have not ended are at them.
    #[must_use]
    pub fn leaving_out(self, ranges: Vec<KeyRange>) -> Self {
        Self { left_out: LeftOut::new(ranges), ..self }
    }

    /// Of the logs that are due, only those recorded before this time: what comes later is not looked at.
    #[must_use]
    pub fn before(mut self, to: DateTime<Utc>) -> Self {
        self.plan.cutoff = self.plan.cutoff.min(to);
        self
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
        let goes_on = match self.of_object(log) {
            Some(unit) => self.again.get(&unit).is_some_and(|at| at.hour == hour(log.recorded_at)),
            None => self.open.get(&log.class).is_some_and(|(cell, unit)| {
                cell.hour == hour(log.recorded_at)
                    && unit.as_ref().is_some_and(|unit| fits(unit, log))
            }),
        };
        let units = self.plan.units.len() + self.open.len();
        units + self.plan.again.len() + self.again.len() >= UNITS_MAX && !goes_on
    }

    /// The object by which the log is deleted, where the archive has it already.
    fn of_object(&self, log: &Candidate) -> Option<UnitId> {
        log.archived.filter(|_| self.plan.then != Then::Archive)
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
            Fate::Goes if log.archived.is_some() && self.plan.then == Then::Archive => {
                staying.already_archived += 1;
            }
            Fate::Goes if self.left_out.holds(log) => staying.in_progress += 1,
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
        self.put(log);
    }

    /// Into its cell, and its unit of work.
    fn put(&mut self, log: &Candidate) {
        let (hour, place) =
            (hour(log.recorded_at), Place { recorded_at: log.recorded_at, id: log.id });
        self.close_before(hour);
        let of_object = self.of_object(log);
        let (cell, open) = self
            .open
            .entry(log.class)
            .or_insert_with(|| (Cell { class: log.class, hour, tally: Tally::default() }, None));
        cell.tally.add(log.bytes);
        if let Some(unit_id) = of_object {
            let new = || Again { unit_id, class: log.class, hour, tally: Tally::default() };
            self.again.entry(unit_id).or_insert_with(new).tally.add(log.bytes);
            return;
        }
        let new =
            || Unit { class: log.class, hour, first: place, last: place, tally: Tally::default() };
        let unit = open.get_or_insert_with(new);
        if !fits(unit, log) {
            self.plan.units.push(std::mem::replace(unit, new()));
        }
        unit.tally.add(log.bytes);
        unit.last = place;
    }

    /// What is open of an earlier hour is complete: the order is that of time.
    fn close_before(&mut self, hour: DateTime<Utc>) {
        let over = |at: &DateTime<Utc>| *at != hour;
        while let Some(class) =
            self.open.iter().find(|(_, (cell, _))| over(&cell.hour)).map(|(class, _)| *class)
        {
            self.close(class);
        }
        if self.again.values().next().is_some_and(|again| over(&again.hour)) {
            self.plan.again.extend(std::mem::take(&mut self.again).into_values());
        }
    }

    fn close(&mut self, class: RetentionClass) {
        if let Some((cell, unit)) = self.open.remove(&class) {
            self.plan.cells.push(cell);
            self.plan.units.extend(unit);
        }
    }

    /// The plan; `complete` says whether the stream came to its end.
    pub fn finish(mut self, complete: bool) -> Plan {
        while let Some(class) = self.open.keys().next().copied() {
            self.close(class);
        }
        self.plan.again.extend(std::mem::take(&mut self.again).into_values());
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

/// Ranges of keys by class, disjoint and in order; asked in the order of time.
#[derive(Debug, Default)]
struct LeftOut(BTreeMap<RetentionClass, VecDeque<KeyRange>>);

impl LeftOut {
    fn new(mut ranges: Vec<KeyRange>) -> Self {
        ranges.sort_by_key(|range| (range.first, range.last));
        let mut by_class: BTreeMap<RetentionClass, VecDeque<KeyRange>> = BTreeMap::new();
        for range in ranges {
            let of_class = by_class.entry(range.class).or_default();
            match of_class.back_mut() {
                Some(last) if range.first <= last.last => last.last = last.last.max(range.last),
                _ => of_class.push_back(range),
            }
        }
        Self(by_class)
    }

    fn holds(&mut self, log: &Candidate) -> bool {
        let Some(ranges) = self.0.get_mut(&log.class) else { return false };
        while ranges.front().is_some_and(|range| range.last < (log.recorded_at, log.id.0)) {
            ranges.pop_front();
        }
        ranges.front().is_some_and(|range| range.holds(log.recorded_at, log.id.0))
    }
}

#[cfg(test)]
mod tests;

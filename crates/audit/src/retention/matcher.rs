//! The rules, compiled: what [`RuleSet::explain`] says, without words, for millions of logs. Per action
//! it remembers which rules can match at all and folds those that need no further look into the few
//! that can decide, so that a thousand policies cost little more than one. It keeps a bounded memory.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use contracts::audit::lifecycle::PolicyId;

use super::filter::{Facts, Rest, glob_matches};
use super::rules::{Fate, RulePolicy, RuleSet};
use super::term::Term;

/// Actions that are remembered; more than that, and it begins anew.
const ACTIONS_MAX: usize = 10_000;

/// What becomes of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Where it stands.
    pub fate: Fate,
    /// The policy that decides.
    pub winner: Option<PolicyId>,
    /// When it goes, or would without a hold.
    pub goes_at: Option<DateTime<Utc>>,
}

/// Rules that can be asked quickly.
#[derive(Debug)]
pub struct Matcher {
    rules: Arc<RuleSet>,
    /// What each policy asks beside its actions; `None`: nothing.
    policies: Vec<Option<Rest>>,
    holds: Vec<Option<Rest>>,
    by_action: HashMap<Box<str>, Arc<Folded>>,
}

/// The rules that an action can meet.
#[derive(Debug, Default)]
struct Folded {
    /// Policies that match every log of the action, those that can decide.
    contenders: Vec<usize>,
    /// Legal minimums of those that match every log of the action, those that can be the longest.
    floors: Vec<Term>,
    /// Legal maximums, those that can be the shortest.
    ceilings: Vec<Term>,
    /// Policies that have to be asked.
    asked: Vec<usize>,
    /// Holds that have to be asked, also those that ask for a time only.
    holds: Vec<usize>,
}

/// What the rules add up to for one log.
struct Tally<'r> {
    at: DateTime<Utc>,
    winner: Option<(&'r RulePolicy, DateTime<Utc>)>,
    floor: Option<DateTime<Utc>>,
    ceiling: Option<DateTime<Utc>>,
}

impl<'r> Tally<'r> {
    fn compete(&mut self, policy: &'r RulePolicy) {
        let end = policy.keep.after(self.at);
        let stronger = self.winner.is_none_or(|(best, best_end)| {
            let order = best.priority.cmp(&policy.priority).then(best_end.cmp(&end));
            order.then(policy.then.cmp(&best.then)).then(policy.id.cmp(&best.id)).is_lt()
        });
        if stronger {
            self.winner = Some((policy, end));
        }
    }

    fn floor(&mut self, term: Term) {
        self.floor = self.floor.max(Some(term.after(self.at)));
    }

    fn ceiling(&mut self, term: Term) {
        let end = term.after(self.at);
        self.ceiling = Some(self.ceiling.map_or(end, |ceiling| ceiling.min(end)));
    }
}

impl Matcher {
    /// Compiles the rules.
    pub fn new(rules: Arc<RuleSet>) -> Self {
        let rest = |filter| Some(Rest::of(filter)).filter(|rest| !rest.is_empty());
        Self {
            policies: rules.policies().iter().map(|policy| rest(&policy.filter)).collect(),
            holds: rules.holds().iter().map(|hold| rest(&hold.filter)).collect(),
            rules,
            by_action: HashMap::new(),
        }
    }

    /// The rules.
    pub fn rules(&self) -> &Arc<RuleSet> {
        &self.rules
    }

    /// Whether any rule asks for metadata.
    pub fn needs_metadata(&self) -> bool {
        self.policies.iter().chain(&self.holds).flatten().any(Rest::needs_metadata)
    }

    /// Whether a hold keeps the log: what is asked before anything is deleted.
    pub fn is_held(&mut self, facts: &Facts<'_>) -> bool {
        let folded = self.folded(facts.action);
        self.held(&folded, facts)
    }

    /// What becomes of a log.
    pub fn decide(&mut self, facts: &Facts<'_>) -> Verdict {
        let folded = self.folded(facts.action);
        let policies = self.rules.policies();
        let mut tally = Tally { at: facts.recorded_at, winner: None, floor: None, ceiling: None };
        folded.contenders.iter().for_each(|at| tally.compete(&policies[*at]));
        folded.floors.iter().for_each(|term| tally.floor(*term));
        folded.ceilings.iter().for_each(|term| tally.ceiling(*term));
        for at in &folded.asked {
            let (policy, rest) = (&policies[*at], self.policies[*at].as_ref());
            if rest.is_none_or(|rest| rest.matches(facts)) {
                tally.compete(policy);
                policy.legal_minimum.into_iter().for_each(|term| tally.floor(term));
                policy.legal_maximum.into_iter().for_each(|term| tally.ceiling(term));
            }
        }
        let conflict =
            tally.floor.zip(tally.ceiling).is_some_and(|(floor, ceiling)| ceiling < floor);
        let fate = match tally.winner {
            _ if self.held(&folded, facts) => Fate::Held,
            None => Fate::Kept,
            Some(_) if conflict => Fate::Conflict,
            Some(_) => Fate::Goes,
        };
        let goes_at = tally.winner.filter(|_| !conflict).map(|(_, end)| Some(end).max(tally.floor));
        let winner = tally.winner.map(|(policy, _)| policy.id);
        Verdict { fate, winner, goes_at: goes_at.flatten() }
    }

    fn held(&self, folded: &Folded, facts: &Facts<'_>) -> bool {
        folded.holds.iter().any(|at| {
            self.rules.holds()[*at].is_of(facts.recorded_at)
                && self.holds[*at].as_ref().is_none_or(|rest| rest.matches(facts))
        })
    }

    fn folded(&mut self, action: &str) -> Arc<Folded> {
        if let Some(folded) = self.by_action.get(action) {
            return Arc::clone(folded);
        }
        if self.by_action.len() >= ACTIONS_MAX {
            self.by_action.clear();
        }
        let folded = Arc::new(self.fold(action));
        self.by_action.insert(action.into(), Arc::clone(&folded));
        folded
    }

    fn fold(&self, action: &str) -> Folded {
        let of =
            |globs: &[String]| globs.is_empty() || globs.iter().any(|g| glob_matches(g, action));
        let mut folded = Folded::default();
        let policies = self.rules.policies();
        for (at, policy) in policies.iter().enumerate().filter(|(_, p)| of(&p.filter.actions)) {
            if self.policies[at].is_some() {
                folded.asked.push(at);
                continue;
            }
            keep_strongest(&mut folded.contenders, at, policies);
            if let Some(term) = policy.legal_minimum {
                keep_most(&mut folded.floors, term, Term::covers);
            }
            if let Some(term) = policy.legal_maximum {
                keep_most(&mut folded.ceilings, term, |a, b| b.covers(a));
            }
        }
        let holds = self.rules.holds().iter().enumerate();
        folded.holds =
            holds.filter(|(_, hold)| of(&hold.filter.actions)).map(|(at, _)| at).collect();
        folded
    }
}

/// Adds a policy to those that can decide, unless one of them always goes before it; and drops those
/// that it always goes before. Terms of months and terms of days are both kept: which is longer
/// depends on the log.
fn keep_strongest(contenders: &mut Vec<usize>, new: usize, policies: &[RulePolicy]) {
    let beats = |a: usize, b: usize| {
        let (a, b) = (&policies[a], &policies[b]);
        if a.priority != b.priority {
            return a.priority > b.priority;
        }
        if a.keep == b.keep {
            return (a.then, a.id) < (b.then, b.id);
        }
        // More months end later on each day; more days too. So is both, whatever the calendar.
        a.keep.covers(b.keep)
    };
    if contenders.iter().any(|old| beats(*old, new)) {
        return;
    }
    contenders.retain(|old| !beats(new, *old));
    contenders.push(new);
}

fn keep_most(terms: &mut Vec<Term>, new: Term, covers: fn(Term, Term) -> bool) {
    if terms.iter().any(|old| covers(*old, new)) {
        return;
    }
    terms.retain(|old| !covers(new, *old));
    terms.push(new);
}

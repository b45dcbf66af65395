//! What the policies in effect and the holds in force say about one log. Protective where they differ:
//! a hold keeps; the longest legal minimum is a floor under everything; then the highest priority, the
//! longest keep, the least destructive end and the id decide. A legal maximum that lies before the
//! floor is a contradiction: the log is kept and a person is asked.
//!
//! [`RuleSet::explain`] is the plain reading, one rule after the other; [`super::Matcher`] is the fast
//! one and says the same.

use std::cmp::{Ordering, Reverse};

use chrono::{DateTime, SecondsFormat, Utc};
use contracts::audit::lifecycle::{PolicyId, Then};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::filter::{Facts, Filter};
use super::hold::{Hold, HoldId};
use super::term::Term;

/// What resolution needs of a policy's version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulePolicy {
    /// The policy.
    pub id: PolicyId,
    /// Its version.
    pub version: u64,
    /// Its name, for people.
    pub name: String,
    /// Which logs.
    pub filter: Filter,
    /// How long they are kept.
    pub keep: Term,
    /// What happens then.
    pub then: Then,
    /// The higher one decides.
    pub priority: i32,
    /// A floor for whatever it matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legal_minimum: Option<Term>,
    /// What it matches should be gone by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legal_maximum: Option<Term>,
}

impl RulePolicy {
    /// Of two policies that match a log recorded then, the one that decides comes first.
    pub(super) fn precedence(&self, other: &Self, recorded_at: DateTime<Utc>) -> Ordering {
        let key = |policy: &Self| {
            (
                Reverse(policy.priority),
                Reverse(policy.keep.after(recorded_at)),
                policy.then,
                policy.id,
            )
        };
        key(self).cmp(&key(other))
    }
}

/// What resolution needs of a hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleHold {
    /// The hold.
    pub id: HoldId,
    /// The case, for people.
    pub matter: String,
    /// Which logs.
    pub filter: Filter,
    /// Recorded at this time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<DateTime<Utc>>,
    /// Recorded before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<DateTime<Utc>>,
}

impl RuleHold {
    /// Whether a log recorded then is in its time.
    pub(super) fn is_of(&self, at: DateTime<Utc>) -> bool {
        self.from.is_none_or(|from| from <= at) && self.to.is_none_or(|to| at < to)
    }

    /// Whether it keeps the log.
    pub fn holds(&self, facts: &Facts<'_>) -> bool {
        self.is_of(facts.recorded_at) && self.filter.matches(facts)
    }
}

impl From<&Hold> for RuleHold {
    fn from(hold: &Hold) -> Self {
        let draft = &hold.draft;
        Self {
            id: hold.id,
            matter: draft.matter.clone(),
            filter: draft.filter.clone(),
            from: draft.from,
            to: draft.to,
        }
    }
}

/// Policies in effect at some time and holds in force, in one order. A plan keeps the very set that it
/// was made with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleSet {
    policies: Vec<RulePolicy>,
    holds: Vec<RuleHold>,
}

/// Where a log stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// No policy matches: it is kept.
    Kept,
    /// A hold keeps it.
    Held,
    /// A legal maximum lies before the floor: it is kept until a person mends the policies.
    Conflict,
    /// It goes at a time.
    Goes,
}

/// A bound and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bound {
    /// The policy.
    pub policy_id: PolicyId,
    /// The time.
    pub at: DateTime<Utc>,
}

/// A policy that matches, with what it says about this log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Matched {
    /// The policy.
    pub policy_id: PolicyId,
    /// Its version.
    pub version: u64,
    /// Its name.
    pub name: String,
    /// Its priority.
    pub priority: i32,
    /// When its term ends.
    pub keep_until: DateTime<Utc>,
    /// What it wants then.
    pub then: Then,
    /// No policy lets the log go before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<DateTime<Utc>>,
    /// It should be gone by then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gone_by: Option<DateTime<Utc>>,
}

/// A hold that keeps the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeldBy {
    /// The hold.
    pub hold_id: HoldId,
    /// The case.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub matter: String,
}

/// What becomes of one log, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// Where it stands.
    pub fate: Fate,
    /// When it goes; absent where it does not by these rules. With a hold: when it would.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goes_at: Option<DateTime<Utc>>,
    /// What happens to it then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub then: Option<Then>,
    /// The policy that decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub winner: Option<PolicyId>,
    /// Every policy that matches, the one that decides first.
    pub matched: Vec<Matched>,
    /// Every hold that keeps it, by id.
    pub held_by: Vec<HeldBy>,
    /// The latest of the legal minimums.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor: Option<Bound>,
    /// The earliest of the legal maximums.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<Bound>,
    /// The same in words.
    pub why: String,
}

impl Decision {
    /// Leaves out the matters of holds, for a reader who may not see them.
    pub fn conceal_matters(&mut self) {
        self.held_by.iter_mut().for_each(|hold| hold.matter.clear());
        self.why = why(self);
    }
}

impl RuleSet {
    /// The rules, whatever order they come in.
    pub fn new(mut policies: Vec<RulePolicy>, mut holds: Vec<RuleHold>) -> Self {
        policies.sort_by_key(|policy| (policy.id, policy.version));
        holds.sort_by_key(|hold| hold.id);
        Self { policies, holds }
    }

    /// The policies, by id.
    pub fn policies(&self) -> &[RulePolicy] {
        &self.policies
    }

    /// The holds, by id.
    pub fn holds(&self) -> &[RuleHold] {
        &self.holds
    }

    /// The policy of that id.
    pub fn policy(&self, id: PolicyId) -> Option<&RulePolicy> {
        self.policies.iter().find(|policy| policy.id == id)
    }

    /// The same rules with this version of the policy, as if it was in effect.
    #[must_use]
    pub fn with_policy(mut self, policy: RulePolicy) -> Self {
        self.policies.retain(|other| other.id != policy.id);
        self.policies.push(policy);
        Self::new(self.policies, self.holds)
    }

    /// Names the rules: SHA-256, hex, over which versions of which policies and which holds they are,
    /// as canonical JSON (RFC 8785).
    pub fn fingerprint(&self) -> String {
        let policies: Vec<_> = self.policies.iter().map(|p| json!([p.id, p.version])).collect();
        let holds: Vec<_> = self.holds.iter().map(|hold| hold.id).collect();
        let rules = json!({ "holds": holds, "policies": policies });
        // Texts and whole numbers: these are always written.
        let bytes = serde_json_canonicalizer::to_vec(&rules).unwrap_or_default();
        hex::encode(Sha256::digest(bytes))
    }

    /// Whether any rule asks for metadata.
    pub fn needs_metadata(&self) -> bool {
        let filters = self.policies.iter().map(|policy| &policy.filter);
        let mut filters = filters.chain(self.holds.iter().map(|hold| &hold.filter));
        filters.any(|filter| !filter.metadata.is_empty())
    }

    /// What becomes of a log, and why: every rule asked, one after the other.
    pub fn explain(&self, facts: &Facts<'_>) -> Decision {
        let at = facts.recorded_at;
        let mut policies: Vec<&RulePolicy> =
            self.policies.iter().filter(|policy| policy.filter.matches(facts)).collect();
        policies.sort_by(|a, b| a.precedence(b, at));
        let holds = self.holds.iter().filter(|hold| hold.holds(facts));
        let held_by: Vec<HeldBy> =
            holds.map(|hold| HeldBy { hold_id: hold.id, matter: hold.matter.clone() }).collect();
        let bound = |term: fn(&RulePolicy) -> Option<Term>| {
            let bounds = policies.iter().filter_map(move |policy| {
                term(policy).map(|term| Bound { policy_id: policy.id, at: term.after(at) })
            });
            bounds.collect::<Vec<_>>()
        };
        let floor = bound(|policy| policy.legal_minimum).into_iter().max_by_key(|bound| bound.at);
        let ceiling = bound(|policy| policy.legal_maximum).into_iter().min_by_key(|bound| bound.at);
        let winner = policies.first().copied();
        let goes_at = winner.map(|winner| {
            let end = winner.keep.after(at);
            floor.map_or(end, |floor| floor.at.max(end))
        });
        let conflict = floor.zip(ceiling).is_some_and(|(floor, ceiling)| ceiling.at < floor.at);
        let fate = match winner {
            _ if !held_by.is_empty() => Fate::Held,
            None => Fate::Kept,
            Some(_) if conflict => Fate::Conflict,
            Some(_) => Fate::Goes,
        };
        let matched = policies.iter().map(|policy| matched(policy, at)).collect();
        let mut decision = Decision {
            fate,
            goes_at: goes_at.filter(|_| !conflict),
            then: winner.map(|winner| winner.then),
            winner: winner.map(|winner| winner.id),
            matched,
            held_by,
            floor,
            ceiling,
            why: String::new(),
        };
        decision.why = why(&decision);
        decision
    }
}

fn matched(policy: &RulePolicy, at: DateTime<Utc>) -> Matched {
    Matched {
        policy_id: policy.id,
        version: policy.version,
        name: policy.name.clone(),
        priority: policy.priority,
        keep_until: policy.keep.after(at),
        then: policy.then,
        not_before: policy.legal_minimum.map(|term| term.after(at)),
        gone_by: policy.legal_maximum.map(|term| term.after(at)),
    }
}

fn why(decision: &Decision) -> String {
    let day = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let mut words = Vec::new();
    match &decision.held_by[..] {
        [] => {}
        [hold] if hold.matter.is_empty() => {
            words.push(format!("Kept by the hold {}.", hold.hold_id));
        }
        [hold] => words.push(format!("Kept by the hold {} ({}).", hold.hold_id, hold.matter)),
        holds => words.push(format!("Kept by {} holds.", holds.len())),
    }
    let Some(winner) = decision.matched.first() else {
        words.push("No policy in effect matches: it is kept.".to_owned());
        return words.join(" ");
    };
    words.push(match decision.matched.get(1) {
        None => format!("{:?} alone matches.", winner.name),
        Some(next) if winner.priority > next.priority => {
            format!("{:?} decides by its priority of {}.", winner.name, winner.priority)
        }
        Some(next) if winner.keep_until > next.keep_until => {
            format!("{:?} decides: of those of the highest priority it keeps longest.", winner.name)
        }
        Some(next) if winner.then < next.then => {
            format!("{:?} decides: of those that keep longest it destroys least.", winner.name)
        }
        Some(_) => format!("{:?} decides: of equal ones it has the lowest id.", winner.name),
    });
    let (Some(floor), at) = (decision.floor, winner.keep_until) else {
        words.push(format!("Its term ends {}.", day(winner.keep_until)));
        return words.join(" ");
    };
    match decision.ceiling.filter(|ceiling| ceiling.at < floor.at) {
        Some(ceiling) => words.push(format!(
            "The legal maximum of policy {} ends {}, before the legal minimum of policy {} does, {}: \
             it is kept until somebody mends the policies.",
            ceiling.policy_id,
            day(ceiling.at),
            floor.policy_id,
            day(floor.at)
        )),
        None if floor.at > at => words.push(format!(
            "Its term ends {}, but the legal minimum of policy {} keeps it until {}.",
            day(at),
            floor.policy_id,
            day(floor.at)
        )),
        None => words.push(format!("Its term ends {}.", day(at))),
    }
    words.join(" ")
}

//! What a policy would do now: how many logs go, of which hours and classes, cut into units of work.
//! A plan is made from one stream of logs in the order of `(recorded_at, id)`; what a simulation shows
//! and what a run executes is the same object. Memory is bounded, however many logs there are.

mod planner;

use chrono::{DateTime, Utc};
use contracts::audit::lifecycle::{PolicyId, Then, UnitId};
use contracts::{LogId, RetentionClass, Tenant};
use serde::{Deserialize, Serialize};
use sinks::search::fields;

use super::filter::Facts;
use crate::record::Outcome;

pub use planner::Planner;

/// Bytes of records of one unit at most: the size of an archive's object before it is packed. One
/// record may be over it by itself.
pub const UNIT_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Logs of one unit at most.
pub const UNIT_EVENTS_MAX: u64 = 500_000;
/// Units of one plan at most: what is more is the next plan's.
pub const UNITS_MAX: usize = 20_000;
/// Actions that a plan names; the others are added up.
pub const ACTIONS_SHOWN: usize = 20;

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
    /// The unit whose object holds it already, where the archive has one.
    pub archived: Option<UnitId>,
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
    /// Those that go by an object which holds them already, by the unit that made it.
    #[serde(default)]
    pub again: Vec<Again>,
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
    /// In the hands of a run that has not ended: what is left of them is a later plan's.
    #[serde(default)]
    pub in_progress: u64,
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

/// Logs that an object of an earlier unit holds and that are to be deleted only now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Again {
    /// The earlier unit.
    pub unit_id: UnitId,
    /// Of all its logs.
    pub class: RetentionClass,
    /// The hour's beginning.
    pub hour: DateTime<Utc>,
    /// How many of them go.
    #[serde(flatten)]
    pub tally: Tally,
}

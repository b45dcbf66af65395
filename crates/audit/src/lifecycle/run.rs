//! A run: one execution of a policy, or of somebody's request. It carries the very rules and plan that
//! it was made with, and counters that add up. What it does not say is how logs are chosen: rules and
//! plan are JSON here, read by `retention`.

use chrono::{DateTime, Utc};
use contracts::Tenant;
use contracts::audit::lifecycle::{PolicyId, RunId, Then};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::words;

words! {
    /// Where a run stands.
    pub enum RunState {
        /// Its units are being listed.
        Planning = "planning",
        /// It would do more than expected and waits for an approval.
        Braked = "braked",
        /// Its units are being worked on.
        Running = "running",
        /// Every unit has ended well.
        Done = "done",
        /// Every unit has ended, not all of them well; or it could not be planned.
        Failed = "failed",
        /// Somebody stopped it; units that had begun are ended.
        Cancelled = "cancelled",
    }
}

impl RunState {
    /// The states from which a run may come into this one.
    pub const fn from(self) -> &'static [Self] {
        match self {
            Self::Planning => &[],
            Self::Braked => &[Self::Planning],
            Self::Running => &[Self::Planning, Self::Braked],
            Self::Done => &[Self::Running],
            Self::Failed | Self::Cancelled => &[Self::Planning, Self::Braked, Self::Running],
        }
    }

    /// Nothing changes any more.
    pub const fn ended(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// By whose word a run is.
#[derive(Clone, Debug, PartialEq)]
pub enum Basis {
    /// A policy's.
    Policy {
        /// The policy.
        id: PolicyId,
        /// The version that is used, whatever is written meanwhile.
        version: u64,
        /// The time by its schedule; `None` where somebody started it.
        slot: Option<DateTime<Utc>>,
    },
    /// Somebody's.
    Request(Value),
}

/// Events, and bytes of their records; revisions are in neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// How many.
    pub events: u64,
    /// Bytes of their records.
    pub bytes: u64,
}

impl Tally {
    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            events: self.events.saturating_add(other.events),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    /// What is left without the other; never below nothing.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self {
            events: self.events.saturating_sub(other.events),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

/// What became of the events of a unit or of a run, so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Found by the plan.
    pub planned: Tally,
    /// In an object of the archive.
    pub archived: Tally,
    /// Of them, read back whole and in the chain.
    pub verified: Tally,
    /// Deleted from PostgreSQL and search.
    pub deleted: Tally,
    /// They stay: by a hold, because they are not due any more, or because the run was cancelled.
    pub held: Tally,
    /// Not there any more when they were looked for: erased meanwhile.
    pub gone: Tally,
    /// Of units that failed.
    pub failed: Tally,
}

impl Counters {
    /// Whether the events of an ended run are all accounted for, each once.
    pub fn adds_up(&self, then: Then) -> bool {
        let end = match then {
            Then::Archive => self.archived.and(self.held),
            Then::ArchiveAndDelete | Then::Delete => self.deleted.and(self.held),
        };
        let archived = match then {
            Then::Archive => self.deleted == Tally::default(),
            Then::ArchiveAndDelete => true,
            Then::Delete => self.archived == Tally::default(),
        };
        archived
            && self.archived == self.verified
            && end.and(self.gone).and(self.failed) == self.planned
    }

    /// What no other number accounts for: what fails when the unit fails.
    pub const fn open(&self) -> Tally {
        self.planned.without(self.deleted).without(self.held).without(self.gone)
    }
}

/// A run to be.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRun {
    /// Its id, chosen by whoever starts it: the same start twice is one run.
    pub id: RunId,
    /// Whose logs.
    pub tenant: Tenant,
    /// By whose word.
    pub basis: Basis,
    /// Who started it, as JSON; the scheduler says so of itself.
    pub requester: Value,
    /// What happens to the logs.
    pub then: Then,
    /// How they are archived; `None` where they only go.
    pub archive: Option<Value>,
    /// The rules it goes by; may follow with the plan.
    pub rules: Option<Value>,
    /// The time it judges by.
    pub as_of: DateTime<Utc>,
    /// Targets of the policy's version that are told how it ended.
    pub notify: u32,
    /// Follows it from request to receipt.
    pub correlation_id: String,
}

/// A run as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// What it was begun as.
    pub new: NewRun,
    /// Where it stands.
    pub state: RunState,
    /// The plan, once there is one.
    pub plan: Option<Value>,
    /// Of the rules, as the plan says it.
    pub fingerprint: Option<[u8; 32]>,
    /// Rows of transactions below it are the run's; `None` before it is planned.
    pub snapshot_xmin: Option<u64>,
    /// Who let it pass the brake, and when.
    pub approvals: Value,
    /// Its units, those that have not ended, and those that failed.
    pub units: UnitCounts,
    /// What became of its events.
    pub counters: Counters,
    /// Why it failed or was cancelled.
    pub failure: Option<String>,
    /// Of one that waits to be planned: when its turn is looked for again.
    pub again_at: Option<DateTime<Utc>>,
    /// When it was begun.
    pub created_at: DateTime<Utc>,
    /// When its units were first worked on.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
}

impl Run {
    /// By whose rule it archives and deletes, as documents of the chain name it.
    pub fn grounds(&self) -> evidence::document::Basis {
        match &self.new.basis {
            Basis::Policy { id, version, .. } => {
                evidence::document::Basis::Policy { id: id.to_string(), version: *version }
            }
            Basis::Request(_) => evidence::document::Basis::Request { id: self.new.id.to_string() },
        }
    }
}

/// How many units a run has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitCounts {
    /// In all.
    pub all: u64,
    /// Not ended.
    pub open: u64,
    /// Failed.
    pub failed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_has_one_name_and_no_way_out_of_an_end() {
        for state in RunState::ALL {
            assert_eq!(state.as_str().parse(), Ok(*state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
            assert!(state.from().iter().all(|before| !before.ended()), "{state:?}");
        }
        assert!("paused".parse::<RunState>().is_err());
    }

    fn tally(events: u64) -> Tally {
        Tally { events, bytes: events * 100 }
    }

    #[test]
    fn counters_add_up_or_are_seen_not_to() {
        let base = Counters { planned: tally(10), ..Counters::default() };
        let archive = Counters {
            archived: tally(7),
            verified: tally(7),
            gone: tally(1),
            failed: tally(2),
            ..base
        };
        assert!(archive.adds_up(Then::Archive));
        assert!(!archive.adds_up(Then::ArchiveAndDelete) && !archive.adds_up(Then::Delete));
        let deleted = Counters { deleted: tally(6), held: tally(1), ..archive };
        assert!(deleted.adds_up(Then::ArchiveAndDelete));
        assert!(!deleted.adds_up(Then::Archive));
        let only = Counters { archived: tally(0), verified: tally(0), ..deleted };
        assert!(only.adds_up(Then::Delete));
        let bytes = Tally { events: 1, bytes: 1 };
        assert!(!Counters { held: bytes, ..deleted }.adds_up(Then::ArchiveAndDelete));
        assert!(!Counters { verified: tally(6), ..deleted }.adds_up(Then::ArchiveAndDelete));
        assert_eq!(Counters { failed: tally(0), ..deleted }.open(), tally(2));
    }
}

//! A unit of work: the rows of one class and hour between two keys, at most 256 MB of them. It becomes
//! one object, or one deletion, or nothing; it is done whole or done again.

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use contracts::audit::lifecycle::{RunId, UnitId};
use contracts::{RetentionClass, Tenant};
use evidence::Codec;
use evidence::document::ManifestRef;
use evidence::object::Contents;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::run::{Counters, Tally};
use super::words;

/// Bytes of records of a unit at most, unless one record alone is larger: what is done again after a
/// crash, and what is read back at once.
pub const UNIT_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Events of a unit at most: their ids are in memory while the unit is verified.
pub const UNIT_EVENTS_MAX: u64 = 1_000_000;

words! {
    /// Where a unit stands.
    pub enum UnitState {
        /// Its rows are listed.
        Planned = "planned",
        /// Its object is complete in the store; nothing is proved of it.
        Written = "written",
        /// Its object was read back whole and its manifest is in the chain; its rows are to be deleted.
        Sealed = "sealed",
        /// Its rows are deleted; search and the receipt follow.
        Deleting = "deleting",
        /// The end: its rows are deleted, the receipt is in the chain.
        Deleted = "deleted",
        /// The end: its rows stay, by an archive-only run, by holds, or because the run was cancelled.
        Kept = "kept",
        /// The end: none of its rows was there any more.
        Empty = "empty",
        /// The end: it says why.
        Failed = "failed",
    }
}

impl UnitState {
    /// The states from which a unit may come into this one.
    pub const fn from(self) -> &'static [Self] {
        match self {
            Self::Written => &[Self::Planned],
            // Planned again: an object that turned out wrong.
            Self::Sealed | Self::Planned => &[Self::Written],
            // Deleting again: more of its rows; empty then: none of them was there.
            Self::Deleting | Self::Empty => &[Self::Planned, Self::Sealed, Self::Deleting],
            Self::Deleted => &[Self::Deleting],
            Self::Kept | Self::Failed => {
                &[Self::Planned, Self::Written, Self::Sealed, Self::Deleting]
            }
        }
    }

    /// Nothing changes any more.
    pub const fn ended(self) -> bool {
        matches!(self, Self::Deleted | Self::Kept | Self::Empty | Self::Failed)
    }
}

words! {
    /// What is to be done.
    pub enum Work {
        /// Rows become an object.
        Archive = "archive",
        /// Rows go without one.
        Delete = "delete",
        /// Rows that an object of an earlier unit holds are due now. Such a unit begins sealed, with
        /// that object and its manifest.
        Again = "again",
    }
}

/// Rows of one class and hour between two keys of `(recorded_at, id)`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRange {
    /// Of all its rows.
    pub class: RetentionClass,
    /// The first row.
    pub first: (DateTime<Utc>, Uuid),
    /// The last row.
    pub last: (DateTime<Utc>, Uuid),
}

impl KeyRange {
    /// The hour that all of it is in; `None` when it is not in one.
    pub fn hour(&self) -> Option<DateTime<Utc>> {
        let hour = |at: DateTime<Utc>| at.duration_trunc(TimeDelta::hours(1)).ok();
        let (first, last) = (hour(self.first.0)?, hour(self.last.0)?);
        (first == last && self.first <= self.last).then_some(first)
    }

    /// Whether a row of that key is in it.
    pub fn holds(&self, at: DateTime<Utc>, id: Uuid) -> bool {
        (self.first..=self.last).contains(&(at, id))
    }
}

/// A unit to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewUnit {
    /// Its id, e.g. a random one; messages name it.
    pub id: UnitId,
    /// Its place in the run, from 1; adding the same number twice adds one unit.
    pub number: u32,
    /// What is to be done.
    pub work: NewWork,
    /// Which rows; of [`NewWork::Again`]: all of the earlier unit.
    pub range: KeyRange,
    /// Found by the plan.
    pub planned: Tally,
}

/// What is to be done, with what it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewWork {
    /// See [`Work::Archive`].
    Archive(Codec),
    /// See [`Work::Delete`].
    Delete,
    /// See [`Work::Again`]: the object's name.
    Again(String),
}

/// A unit as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Unit {
    /// Its id.
    pub id: UnitId,
    /// Its run.
    pub run_id: RunId,
    /// Whose rows.
    pub tenant: Tenant,
    /// Its place in the run, from 1.
    pub number: u32,
    /// What is to be done.
    pub work: Work,
    /// Which rows.
    pub range: KeyRange,
    /// The hour that they are of.
    pub hour: DateTime<Utc>,
    /// Where it stands.
    pub state: UnitState,
    /// Of its object in the hour, once given.
    pub part: Option<u32>,
    /// How its object is packed.
    pub codec: Option<Codec>,
    /// Its object's name, once given.
    pub object: Option<String>,
    /// An upload that may not be complete.
    pub upload: Option<Value>,
    /// What its object holds, from written to sealed.
    pub contents: Option<Contents>,
    /// Its manifest in the tenant's chain, once sealed.
    pub manifest: Option<ManifestRef>,
    /// Its receipt's number there, once deleted.
    pub receipt: Option<u64>,
    /// What became of its events.
    pub counters: Counters,
    /// Why it failed.
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_has_one_name_and_no_way_out_of_an_end() {
        for state in UnitState::ALL {
            assert_eq!(state.as_str().parse(), Ok(*state));
            assert!(state.from().iter().all(|before| !before.ended()), "{state:?}");
        }
        for work in Work::ALL {
            assert_eq!(work.as_str().parse(), Ok(*work));
        }
    }

    #[test]
    fn a_range_is_within_an_hour() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let id = Uuid::from_u128;
        let range = |first: (&str, u128), last: (&str, u128)| KeyRange {
            class: RetentionClass::Days30,
            first: (at(first.0), id(first.1)),
            last: (at(last.0), id(last.1)),
        };
        let (begin, end) = ("2026-01-31T23:00:00Z", "2026-01-31T23:59:59.999999Z");
        assert_eq!(range((begin, 9), (end, 1)).hour(), Some(at(begin)));
        assert_eq!(range((begin, 1), (begin, 1)).hour(), Some(at(begin)));
        assert_eq!(range((begin, 1), ("2026-02-01T00:00:00Z", 1)).hour(), None);
        assert_eq!(range((end, 1), (begin, 9)).hour(), None);
        assert_eq!(range((begin, 2), (begin, 1)).hour(), None);
        let some = range((begin, 5), (end, 5));
        assert!(some.holds(at(begin), id(5)) && some.holds(at(end), id(5)));
        assert!(!some.holds(at(begin), id(4)) && !some.holds(at(end), id(6)));
    }
}

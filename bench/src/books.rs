//! Lost and duplicated, from sets of ids and not from totals: two errors of opposite sign would hide
//! in a total.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

/// What was accepted against what arrived.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Books {
    /// Accepted.
    pub accepted: usize,
    /// Accepted and never seen.
    pub lost: usize,
    /// Seen more than once, counted once per surplus.
    pub duplicated: usize,
    /// Seen and never accepted.
    pub foreign: usize,
}

impl Books {
    /// Compares two lists of ids.
    pub fn compare(accepted: &[u128], seen: &[u128]) -> Self {
        let accepted: HashSet<u128> = accepted.iter().copied().collect();
        let mut counts: HashMap<u128, usize> = HashMap::with_capacity(seen.len());
        for id in seen {
            *counts.entry(*id).or_default() += 1;
        }
        Self {
            accepted: accepted.len(),
            lost: accepted.iter().filter(|id| !counts.contains_key(id)).count(),
            duplicated: counts.values().map(|count| count - 1).sum(),
            foreign: counts.keys().filter(|id| !accepted.contains(id)).count(),
        }
    }

    /// With those of another round.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            accepted: self.accepted + other.accepted,
            lost: self.lost + other.lost,
            duplicated: self.duplicated + other.duplicated,
            foreign: self.foreign + other.foreign,
        }
    }

    /// The same ids looked for in a second place: the worse of both.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        Self {
            accepted: self.accepted.max(other.accepted),
            lost: self.lost.max(other.lost),
            duplicated: self.duplicated.max(other.duplicated),
            foreign: self.foreign.max(other.foreign),
        }
    }

    /// Whether everything arrived, once, and nothing else.
    pub fn balance(self) -> bool {
        self.lost + self.duplicated + self.foreign == 0
    }

    /// The two columns of the table.
    pub fn columns(self) -> (String, String) {
        let foreign = match self.foreign {
            0 => String::new(),
            foreign => format!(", {foreign} never accepted"),
        };
        (format!("{} of {}", self.lost, self.accepted), format!("{}{foreign}", self.duplicated))
    }
}

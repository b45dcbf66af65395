//! Lost and duplicated, from sets of ids and not from totals: two errors of opposite sign would hide
//! in a total.

use std::collections::{HashMap, HashSet};

/// What was accepted against what arrived.
pub struct Books {
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
            lost: accepted.iter().filter(|id| !counts.contains_key(id)).count(),
            duplicated: counts.values().map(|count| count - 1).sum(),
            foreign: counts.keys().filter(|id| !accepted.contains(id)).count(),
        }
    }
}

impl std::fmt::Display for Books {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "lost {} duplicated {} foreign {}", self.lost, self.duplicated, self.foreign)
    }
}

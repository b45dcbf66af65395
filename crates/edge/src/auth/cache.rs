//! What is known of keys, and since when. Bounded: a flood of unknown ids replaces unknown ids.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::{FRESH, Known, USABLE};

/// Keys remembered at most, unknown ones included.
pub(super) const ENTRIES_MAX: usize = 50_000;

struct Entry {
    /// `None`: there is no such key.
    known: Option<Arc<Known>>,
    at: Instant,
}

#[derive(Default)]
pub(super) struct Cache {
    entries: HashMap<String, Entry>,
    distrusted_at: Option<Instant>,
    void_at: Option<Instant>,
}

/// What the cache says of an id.
pub(super) enum Seen {
    /// Use it.
    Fresh(Option<Arc<Known>>),
    /// Ask again; use it when there is no answer.
    Stale(Arc<Known>),
    /// Ask.
    Nothing,
}

impl Cache {
    pub(super) fn get(&self, key_id: &str, now: Instant) -> Seen {
        let Some(entry) = self.entries.get(key_id) else { return Seen::Nothing };
        let age = now.saturating_duration_since(entry.at);
        let trusted = self.distrusted_at.is_none_or(|at| entry.at > at);
        if age < FRESH && trusted {
            return Seen::Fresh(entry.known.clone());
        }
        match &entry.known {
            Some(known) if age < USABLE => Seen::Stale(Arc::clone(known)),
            _ => Seen::Nothing,
        }
    }

    /// `at` is when the question was asked, so that an answer is never younger than what it tells.
    /// `false`: the answer is void.
    #[must_use]
    pub(super) fn put(&mut self, key_id: &str, known: Option<Arc<Known>>, at: Instant) -> bool {
        if self.void_at.is_some_and(|void| at <= void) {
            return false;
        }
        if self.entries.len() >= ENTRIES_MAX && !self.entries.contains_key(key_id) {
            self.entries.retain(|_, entry| entry.known.is_some());
            if self.entries.len() >= ENTRIES_MAX {
                self.entries.clear();
            }
        }
        self.entries.insert(key_id.to_owned(), Entry { known, at });
        true
    }

    /// Nothing that was asked for until now is used again, not even in an outage.
    pub(super) fn void(&mut self, now: Instant) {
        self.entries.clear();
        self.void_at = Some(now);
    }

    pub(super) fn distrust(&mut self, now: Instant) {
        self.distrusted_at = Some(now);
    }
}

//! Keys whose revocation was announced. PostgreSQL has it before it is announced, so an answer that
//! was asked for later knows of it; an earlier one is used for [`USABLE`] at most. After that the
//! announcement has said all it can say and is forgotten. Bounded in number as well.

use std::collections::HashMap;

use tokio::time::Instant;

use super::USABLE;

/// Announcements remembered at most, some 1 MB.
pub(super) const REVOKED_MAX: usize = 10_000;

#[derive(Default)]
pub(super) struct Revoked {
    announced: HashMap<String, Instant>,
}

impl Revoked {
    pub(super) fn contains(&self, key_id: &str) -> bool {
        self.announced.contains_key(key_id)
    }

    /// `false`: there was no room, and all of them are forgotten. Whoever holds earlier answers must
    /// forget those, too.
    #[must_use]
    pub(super) fn insert(&mut self, key_id: &str, now: Instant) -> bool {
        if self.announced.len() >= REVOKED_MAX {
            self.age(now);
        }
        if self.announced.len() >= REVOKED_MAX && !self.announced.contains_key(key_id) {
            self.announced = HashMap::new();
            return false;
        }
        self.announced.insert(key_id.to_owned(), now);
        true
    }

    /// Forgets what no earlier answer can contradict any more.
    pub(super) fn age(&mut self, now: Instant) {
        self.announced.retain(|_, at| now.saturating_duration_since(*at) <= USABLE);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.announced.len()
    }
}

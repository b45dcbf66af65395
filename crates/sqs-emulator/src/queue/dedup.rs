//! The five minutes in which a FIFO queue remembers deduplication ids. Bounded by pruning: ids leave
//! in the order they came, since duplicates do not extend their stay.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use uuid::Uuid;

use crate::limits::DEDUPLICATION_WINDOW_MS;

/// A deduplication id in its scope.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DedupKey {
    /// The group, where the scope is the group.
    pub(crate) group: Option<Arc<str>>,
    pub(crate) id: Arc<str>,
}

/// What was sent first under an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Original {
    pub(crate) id: Uuid,
    pub(crate) seq: u64,
    pub(crate) at: i64,
}

/// The ids of the last five minutes.
#[derive(Clone, Debug, Default)]
pub(crate) struct DedupWindow {
    originals: HashMap<DedupKey, Original>,
    by_age: VecDeque<(i64, DedupKey)>,
}

impl DedupWindow {
    /// What was sent under that id within the window.
    pub(crate) fn find(&self, key: &DedupKey, now: i64) -> Option<Original> {
        self.originals
            .get(key)
            .copied()
            .filter(|original| now - original.at < DEDUPLICATION_WINDOW_MS)
    }

    /// Remembers an id and forgets those whose time is over.
    pub(crate) fn insert(&mut self, key: DedupKey, original: Original) {
        self.prune(original.at);
        self.by_age.push_back((original.at, key.clone()));
        self.originals.insert(key, original);
    }

    pub(crate) fn prune(&mut self, now: i64) {
        while let Some((at, key)) = self.by_age.front() {
            if now - at < DEDUPLICATION_WINDOW_MS {
                break;
            }
            if self.originals.get(key).is_some_and(|original| original.at == *at) {
                self.originals.remove(key);
            }
            self.by_age.pop_front();
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// When the latest of them was sent.
    pub(crate) fn latest_at(&self) -> Option<i64> {
        self.by_age.back().map(|(at, _)| *at)
    }

    /// What is remembered, oldest first, for snapshots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&DedupKey, Original)> {
        self.by_age.iter().filter_map(|(_, key)| Some((key, *self.originals.get(key)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_just_under_five_minutes_and_stays_bounded() {
        let key = |n: i64| DedupKey { group: None, id: n.to_string().into() };
        let original = |at| Original { id: Uuid::nil(), seq: 0, at };
        let mut window = DedupWindow::default();
        window.insert(key(0), original(1_000));
        assert!(window.find(&key(0), 1_000 + DEDUPLICATION_WINDOW_MS - 1).is_some());
        assert!(window.find(&key(0), 1_000 + DEDUPLICATION_WINDOW_MS).is_none());
        for n in 0..10_000 {
            window.insert(key(n), original(n * 1_000));
        }
        let kept = usize::try_from(DEDUPLICATION_WINDOW_MS / 1_000).unwrap();
        assert_eq!(window.originals.len(), kept);
        assert_eq!(window.by_age.len(), kept);
    }
}

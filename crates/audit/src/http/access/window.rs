//! Counts repeats within a time: what is seen first is told at once, what is seen again is counted until
//! its time is over. Pure: the time is passed in, memory is bounded.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

use chrono::{DateTime, Utc};

use super::{ACCESS_QUERIES_MAX, ACCESS_WINDOW};

/// What noting came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Note<V> {
    /// The first of its time, or one that is not counted: to be told now.
    First(V),
    /// It is counted.
    Again,
}

/// Repeats of one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    /// How many.
    pub(super) searches: u64,
    /// What they came to, together.
    pub(super) results: u64,
    /// When the first one was, which is not among them.
    pub(super) since: DateTime<Utc>,
}

/// Things seen, by key.
#[derive(Debug)]
pub(super) struct Window<K, V> {
    seen: HashMap<K, (V, Counted)>,
}

impl<K, V> Default for Window<K, V> {
    fn default() -> Self {
        Self { seen: HashMap::new() }
    }
}

impl<K: Eq + Hash, V: Clone> Window<K, V> {
    /// Notes one. What has been there for its time is counted on until it is taken.
    pub(super) fn note(
        &mut self,
        key: K,
        at: DateTime<Utc>,
        results: u64,
        new: impl FnOnce() -> V,
    ) -> Note<V> {
        let room = self.seen.len() < ACCESS_QUERIES_MAX;
        match self.seen.entry(key) {
            Entry::Occupied(mut entry) => {
                let counted = &mut entry.get_mut().1;
                counted.searches += 1;
                counted.results = counted.results.saturating_add(results);
                Note::Again
            }
            Entry::Vacant(entry) => {
                let value = new();
                if room {
                    let counted = Counted { searches: 0, results: 0, since: at };
                    entry.insert((value.clone(), counted));
                }
                Note::First(value)
            }
        }
    }

    /// Takes out what has been there for its time, or everything; what was repeated is answered.
    pub(super) fn take(&mut self, now: DateTime<Utc>, all: bool) -> Vec<(V, Counted)> {
        let over = |counted: &Counted| {
            all || now
                .signed_duration_since(counted.since)
                .to_std()
                .is_ok_and(|age| age >= ACCESS_WINDOW)
        };
        let taken = self.seen.extract_if(|_, (_, counted)| over(counted));
        taken.map(|(_, seen)| seen).filter(|(_, counted)| counted.searches > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    #[test]
    fn the_first_is_told_and_the_others_are_counted_until_their_time_is_over() {
        let mut window = Window::default();
        assert_eq!(window.note("a", at(0), 5, || 1), Note::First(1));
        assert_eq!(window.note("b", at(1), 5, || 2), Note::First(2));
        assert_eq!(window.note("a", at(2), 7, || 9), Note::Again);
        assert_eq!(window.note("a", at(59), 1, || 9), Note::Again);
        assert_eq!(window.take(at(59), false), []);
        let counted = Counted { searches: 2, results: 8, since: at(0) };
        assert_eq!(window.take(at(60), false), [(1, counted)]);
        assert_eq!(window.note("a", at(60), 5, || 3), Note::First(3), "a new minute");
        assert_eq!(window.take(at(61), false), [], "b was not repeated: its entry says it all");
        assert_eq!(window.note("b", at(62), 5, || 4), Note::First(4));
        window.note("b", at(62), 5, || 9);
        assert_eq!(window.take(at(62), true).len(), 1, "what is repeated and not told");
    }

    #[test]
    fn a_full_window_tells_each() {
        let mut window = Window::default();
        for key in 0..ACCESS_QUERIES_MAX {
            window.note(key, at(0), 0, || ());
        }
        for _ in 0..2 {
            assert_eq!(window.note(ACCESS_QUERIES_MAX, at(0), 0, || ()), Note::First(()));
        }
        assert_eq!(window.note(0, at(0), 0, || ()), Note::Again);
        assert_eq!(window.seen.len(), ACCESS_QUERIES_MAX);
    }

    #[test]
    fn a_clock_that_goes_back_keeps_counting() {
        let mut window = Window::default();
        window.note("a", at(100), 0, || ());
        window.note("a", at(0), 1, || ());
        assert_eq!(window.take(at(0), false), []);
        assert_eq!(window.take(at(160), false).len(), 1);
    }
}

//! Failures that the attempt store has not taken yet, by message, in the order in which the messages
//! came. Bounded: beyond the bounds the oldest are forgotten. It calls nobody.

use std::collections::{BTreeMap, HashMap};

use super::{ATTEMPTS_KEPT, History, RecordedFailure};

/// Messages with failures that the store has not taken; beyond it the oldest are forgotten.
const MESSAGES_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Unrecorded {
    of: HashMap<String, Kept>,
    /// Which message came when.
    order: BTreeMap<u64, String>,
    came: u64,
}

#[derive(Debug)]
struct Kept {
    since: u64,
    failures: Vec<RecordedFailure>,
}

impl Unrecorded {
    pub(super) fn keeps(&self, message: &str) -> bool {
        self.of.contains_key(message)
    }

    /// Keeps a failure behind those of the same message. One that says the same as the last and
    /// counts as little takes its place: the newest tells how far the receives are accounted for.
    pub(super) fn keep(&mut self, message: &str, failure: RecordedFailure) {
        let (came, order) = (&mut self.came, &mut self.order);
        let kept = self.of.entry(message.to_owned()).or_insert_with(|| {
            *came += 1;
            order.insert(*came, message.to_owned());
            Kept { since: *came, failures: Vec::new() }
        });
        match kept.failures.last_mut() {
            Some(last) if says_the_same(last, &failure) => *last = failure,
            _ => kept.failures.push(failure),
        }
        if kept.failures.len() > ATTEMPTS_KEPT {
            kept.failures.remove(0);
        }
        while self.of.len() > MESSAGES_MAX {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            self.of.remove(&oldest);
        }
    }

    /// Adds what is kept of a message to what the store knows.
    pub(super) fn add_to(&self, message: &str, history: &mut History) {
        for failure in self.of.get(message).into_iter().flat_map(|kept| &kept.failures) {
            history.push(failure.clone());
        }
    }

    /// The oldest failure of a message.
    pub(super) fn first_of(&self, message: &str) -> Option<RecordedFailure> {
        self.of.get(message)?.failures.first().cloned()
    }

    /// The oldest failure of the message that has waited longest.
    pub(super) fn first(&self) -> Option<(String, RecordedFailure)> {
        let (_, message) = self.order.first_key_value()?;
        Some((message.clone(), self.first_of(message)?))
    }

    /// The store has taken the oldest failure of a message.
    pub(super) fn taken(&mut self, message: &str, failure: &RecordedFailure) {
        let Some(kept) = self.of.get_mut(message) else { return };
        if kept.failures.first() == Some(failure) {
            kept.failures.remove(0);
        }
        if kept.failures.is_empty() {
            self.forget(message);
        }
    }

    pub(super) fn forget(&mut self, message: &str) {
        if let Some(kept) = self.of.remove(message) {
            self.order.remove(&kept.since);
        }
    }
}

fn says_the_same(one: &RecordedFailure, other: &RecordedFailure) -> bool {
    !one.counts && !other.counts && one.code == other.code && one.error == other.error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(error: &str, receives: u32, counts: bool) -> RecordedFailure {
        RecordedFailure {
            at: chrono::DateTime::UNIX_EPOCH,
            code: "released".into(),
            error: error.into(),
            worker: "test 1".into(),
            counts,
            receives,
        }
    }

    fn of(kept: &Unrecorded, message: &str) -> Vec<u32> {
        let mut history = History::default();
        kept.add_to(message, &mut history);
        history.attempts.iter().map(|attempt| attempt.receives).collect()
    }

    #[test]
    fn the_first_come_is_the_first_to_be_taken() {
        let mut kept = Unrecorded::default();
        kept.keep("a", failure("one", 1, true));
        kept.keep("b", failure("one", 1, true));
        kept.keep("a", failure("two", 2, true));
        let mut taken = Vec::new();
        while let Some((message, failure)) = kept.first() {
            kept.taken(&message, &failure);
            // Taken twice is taken once.
            kept.taken(&message, &failure);
            taken.push((message, failure.receives));
        }
        assert_eq!(taken, [("a".to_owned(), 1), ("a".to_owned(), 2), ("b".to_owned(), 1)]);
        assert!(kept.of.is_empty() && kept.order.is_empty());
    }

    #[test]
    fn what_says_the_same_and_does_not_count_is_kept_once() {
        let mut kept = Unrecorded::default();
        for receives in 1..=3 {
            kept.keep("a", failure("a sink is down", receives, false));
            kept.keep("b", failure("bad", receives, true));
        }
        assert_eq!((of(&kept, "a"), of(&kept, "b")), (vec![3], vec![1, 2, 3]));
    }

    #[test]
    fn messages_and_failures_have_an_end() {
        let mut kept = Unrecorded::default();
        for receives in 1..=20 {
            kept.keep("much", failure("bad", receives, true));
        }
        assert_eq!(of(&kept, "much"), (5..=20).collect::<Vec<_>>());
        for other in 0..MESSAGES_MAX {
            kept.keep(&format!("other-{other}"), failure("bad", 1, true));
        }
        assert_eq!((kept.of.len(), kept.order.len()), (MESSAGES_MAX, MESSAGES_MAX));
        assert_eq!(of(&kept, "much"), [0; 0]);
        kept.forget("other-0");
        assert_eq!((kept.of.len(), kept.order.len()), (MESSAGES_MAX - 1, MESSAGES_MAX - 1));
    }
}

//! Receive attempts on FIFO queues: the same `ReceiveRequestAttemptId` within five minutes gets the
//! same messages and handles again, as long as none of them was deleted or changed. Kept in memory
//! only, bounded in time and number.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::limits::{RECEIVE_ATTEMPT_WINDOW_MS, RECEIVE_ATTEMPTS_MAX};

/// What an attempt got: numbers with the nonce of the receive and the end of the lease it set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) seq: u64,
    pub(crate) nonce: u64,
    pub(crate) until: i64,
}

/// The attempts of the last five minutes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attempts {
    taken: HashMap<Arc<str>, (i64, Vec<Taken>)>,
    by_age: VecDeque<(i64, Arc<str>)>,
}

impl Attempts {
    pub(crate) fn find(&self, id: &str, now: i64) -> Option<&[Taken]> {
        let (at, taken) = self.taken.get(id)?;
        (now - at < RECEIVE_ATTEMPT_WINDOW_MS).then_some(taken)
    }

    /// Remembers what an attempt got; a repeat keeps its first time.
    pub(crate) fn insert(&mut self, id: &str, now: i64, taken: Vec<Taken>) {
        self.prune(now);
        if let Some((at, known)) = self.taken.get_mut(id)
            && now - *at < RECEIVE_ATTEMPT_WINDOW_MS
        {
            *known = taken;
            return;
        }
        let id: Arc<str> = id.into();
        self.by_age.push_back((now, Arc::clone(&id)));
        self.taken.insert(id, (now, taken));
    }

    pub(crate) fn forget(&mut self, id: &str) {
        self.taken.remove(id);
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn prune(&mut self, now: i64) {
        while let Some((at, id)) = self.by_age.front() {
            if now - at < RECEIVE_ATTEMPT_WINDOW_MS && self.by_age.len() < RECEIVE_ATTEMPTS_MAX {
                break;
            }
            if self.taken.get(id).is_some_and(|(known, _)| known == at) {
                self.taken.remove(id);
            }
            self.by_age.pop_front();
        }
    }
}

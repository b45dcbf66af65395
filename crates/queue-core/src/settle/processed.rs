//! What was handled to the end and whose delete did not come through: when it is delivered again, it
//! costs one delete and no work. Bounded; what is forgotten is handled again, which handlers bear.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Messages remembered; beyond it the oldest are forgotten.
pub(crate) const PROCESSED_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub(crate) struct Processed {
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    known: HashSet<String>,
    /// In the order they were remembered; may name some that were forgotten since.
    order: VecDeque<String>,
}

impl Processed {
    fn with<T>(&self, run: impl FnOnce(&mut Memory) -> T) -> T {
        run(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn remember(&self, message_id: &str) {
        self.with(|memory| {
            if !memory.known.insert(message_id.to_owned()) {
                return;
            }
            memory.order.push_back(message_id.to_owned());
            while memory.order.len() > PROCESSED_MAX {
                if let Some(oldest) = memory.order.pop_front() {
                    memory.known.remove(&oldest);
                }
            }
        });
    }

    pub(crate) fn forget(&self, message_id: &str) {
        // Nearly always there is none, and then nothing has to be hashed.
        self.with(|memory| !memory.known.is_empty() && memory.known.remove(message_id));
    }

    pub(crate) fn knows(&self, message_id: &str) -> bool {
        self.with(|memory| !memory.known.is_empty() && memory.known.contains(message_id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_bounded_and_forgets_the_oldest() {
        let processed = Processed::default();
        for at in 0..PROCESSED_MAX {
            processed.remember(&at.to_string());
        }
        assert!(processed.knows("0"), "at the limit nothing is forgotten");
        processed.remember("one more");
        assert!(!processed.knows("0") && processed.knows("1") && processed.knows("one more"));
        processed.forget("1");
        assert!(!processed.knows("1"));
    }
}

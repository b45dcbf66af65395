//! FIFO order. A group is available when none of its messages is leased and its oldest one is
//! visible: a hidden head blocks its followers, a later delayed message blocks nothing before it.
//! A receive takes from one group as long as it can before it takes from another. It looks for groups
//! among the oldest messages only (120,000 on AWS, whatever their state): a backlog of one group hides
//! what was sent behind it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use super::order::Kind;

#[derive(Clone, Debug, Default)]
struct Group {
    messages: BTreeMap<u64, Kind>,
    leased: usize,
    /// Under which number it stands in `available`.
    listed: Option<u64>,
}

/// The order of a FIFO queue.
#[derive(Clone, Debug)]
pub(crate) struct Fifo {
    groups: HashMap<Arc<str>, Group>,
    /// Available groups by their oldest message.
    available: BTreeMap<u64, Arc<str>>,
    /// Every message.
    all: BTreeSet<u64>,
    lookahead: usize,
    /// The last message that is looked at; `None` while there are no more than that.
    horizon: Option<u64>,
}

impl Fifo {
    pub(crate) fn new(lookahead: usize) -> Self {
        Self {
            groups: HashMap::new(),
            available: BTreeMap::new(),
            all: BTreeSet::new(),
            lookahead,
            horizon: None,
        }
    }

    /// The same rules, no messages.
    pub(crate) fn emptied(&self) -> Self {
        Self::new(self.lookahead)
    }

    /// Available groups; with a horizon at most one, so that no call counts through a long backlog.
    pub(crate) fn ready(&self) -> usize {
        match self.horizon {
            None => self.available.len(),
            Some(_) => usize::from(self.next(None).is_some()),
        }
    }

    pub(crate) fn set(&mut self, seq: u64, name: &Arc<str>, from: Option<Kind>, to: Option<Kind>) {
        match (from, to) {
            (None, Some(_)) => self.appear(seq),
            (Some(_), None) => self.vanish(seq),
            _ => {}
        }
        if !self.groups.contains_key(name) {
            self.groups.insert(Arc::clone(name), Group::default());
        }
        let Some(group) = self.groups.get_mut(name) else { return };
        let before = match to {
            Some(kind) => group.messages.insert(seq, kind),
            None => group.messages.remove(&seq),
        };
        group.leased -= usize::from(before == Some(Kind::Leased));
        group.leased += usize::from(to == Some(Kind::Leased));

        let head = group.messages.first_key_value();
        let listed = match head {
            Some((&seq, Kind::Visible)) if group.leased == 0 => Some(seq),
            _ => None,
        };
        if listed != group.listed {
            if let Some(old) = group.listed {
                self.available.remove(&old);
            }
            if let Some(new) = listed {
                self.available.insert(new, Arc::clone(name));
            }
            group.listed = listed;
        }
        if group.messages.is_empty() {
            self.groups.remove(name);
        }
    }

    pub(crate) fn next(&self, after: Option<(u64, &Arc<str>)>) -> Option<u64> {
        after
            .and_then(|(seq, name)| {
                let messages = &self.groups.get(name)?.messages;
                let following = messages.range((Bound::Excluded(seq), Bound::Unbounded)).next()?;
                (*following.1 == Kind::Visible).then_some(*following.0)
            })
            .or_else(|| {
                let oldest = self.available.first_key_value().map(|(seq, _)| *seq);
                oldest.filter(|seq| self.horizon.is_none_or(|horizon| *seq <= horizon))
            })
    }

    fn appear(&mut self, seq: u64) {
        self.all.insert(seq);
        self.horizon = match self.horizon {
            // One more than fits: the last but one is the last that is looked at.
            None if self.all.len() > self.lookahead => self.all.iter().nth_back(1).copied(),
            Some(horizon) if seq < horizon => self.all.range(..horizon).next_back().copied(),
            unchanged => unchanged,
        };
    }

    fn vanish(&mut self, seq: u64) {
        self.all.remove(&seq);
        self.horizon = match self.horizon {
            Some(_) if self.all.len() <= self.lookahead => None,
            Some(horizon) if seq <= horizon => {
                self.all.range((Bound::Excluded(horizon), Bound::Unbounded)).next().copied()
            }
            unchanged => unchanged,
        };
    }

    /// Groups with messages, for tests of bounded memory.
    #[cfg(test)]
    pub(crate) fn groups(&self) -> std::collections::BTreeSet<&str> {
        self.groups.keys().map(AsRef::as_ref).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_hidden_head_blocks_its_group_only() {
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut order = Fifo::new(10);
        order.set(1, &a, None, Some(Kind::Delayed));
        order.set(2, &a, None, Some(Kind::Visible));
        order.set(3, &b, None, Some(Kind::Visible));
        assert_eq!(order.next(None), Some(3));
        order.set(1, &a, Some(Kind::Delayed), Some(Kind::Visible));
        assert_eq!(order.next(None), Some(1));
        order.set(1, &a, Some(Kind::Visible), Some(Kind::Leased));
        assert_eq!(order.next(Some((1, &a))), Some(2), "the same receive goes on in the group");
        assert_eq!(order.next(None), Some(3), "another receive does not");
        order.set(1, &a, Some(Kind::Leased), None);
        order.set(2, &a, Some(Kind::Visible), Some(Kind::Delayed));
        order.set(3, &b, Some(Kind::Visible), None);
        assert_eq!(order.next(None), None);
        order.set(2, &a, Some(Kind::Delayed), None);
        assert!(order.groups().is_empty(), "empty groups are forgotten");
    }

    proptest! {
        /// Against counting from the start each time.
        #[test]
        fn the_horizon_is_the_last_message_that_is_looked_at(
            steps in prop::collection::vec((0_u64..30, any::<bool>()), 1..120)
        ) {
            const LOOKAHEAD: usize = 5;
            let group: Arc<str> = "g".into();
            let mut order = Fifo::new(LOOKAHEAD);
            let mut plain = BTreeSet::new();
            for (seq, appears) in steps {
                if appears && plain.insert(seq) {
                    order.set(seq, &group, None, Some(Kind::Visible));
                } else if !appears && plain.remove(&seq) {
                    order.set(seq, &group, Some(Kind::Visible), None);
                }
                let beyond = plain.len() > LOOKAHEAD;
                let expected = plain.iter().nth(LOOKAHEAD - 1).copied().filter(|_| beyond);
                prop_assert_eq!(order.horizon, expected);
            }
        }
    }
}

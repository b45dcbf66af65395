//! FIFO order. A group is available when its oldest message is visible: a hidden head blocks its
//! followers, a later hidden message blocks nothing before it. A receive takes from one group as long
//! as it can before it takes from another, and a group that was taken from goes behind the others
//! (recorded from AWS, both). Groups are looked for among the oldest messages only (120,000 on AWS,
//! whatever their state): a backlog of one group hides what was sent behind it.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use super::order::Kind;

#[derive(Clone, Debug, Default)]
struct Group {
    messages: BTreeMap<u64, Kind>,
    /// Its place among the groups: when it appeared or was taken from last.
    turn: u64,
    /// Under which turn it stands in `available`.
    listed: Option<u64>,
}

/// The order of a FIFO queue.
#[derive(Clone, Debug)]
pub(crate) struct Fifo {
    groups: HashMap<Arc<str>, Group>,
    /// Available groups by their turn.
    available: BTreeMap<u64, Arc<str>>,
    last_turn: u64,
    /// Every message with its group.
    all: BTreeMap<u64, Arc<str>>,
    lookahead: usize,
    /// The last message that is looked at; `None` while there are no more than that.
    horizon: Option<u64>,
}

impl Fifo {
    pub(crate) fn new(lookahead: usize) -> Self {
        Self {
            groups: HashMap::new(),
            available: BTreeMap::new(),
            last_turn: 0,
            all: BTreeMap::new(),
            lookahead,
            horizon: None,
        }
    }

    /// The same rules, no messages.
    pub(crate) fn emptied(&self) -> Self {
        Self::new(self.lookahead)
    }

    pub(crate) fn ready(&self) -> usize {
        self.available.len()
    }

    pub(crate) fn set(&mut self, seq: u64, name: &Arc<str>, from: Option<Kind>, to: Option<Kind>) {
        if !self.groups.contains_key(name) {
            self.last_turn += 1;
            let group = Group { turn: self.last_turn, ..Group::default() };
            self.groups.insert(Arc::clone(name), group);
        }
        let Some(group) = self.groups.get_mut(name) else { return };
        match to {
            Some(kind) => group.messages.insert(seq, kind),
            None => group.messages.remove(&seq),
        };
        if (from, to) == (Some(Kind::Visible), Some(Kind::Leased)) {
            self.last_turn += 1;
            group.turn = self.last_turn;
        }
        match (from, to) {
            (None, Some(_)) => self.appear(seq, name),
            (Some(_), None) => self.vanish(seq),
            _ => {}
        }
        self.relist(name);
    }

    /// The next message for a receive that has just taken `after`, a number with its group.
    pub(crate) fn next(&self, after: Option<(u64, &Arc<str>)>) -> Option<u64> {
        after
            .and_then(|(seq, name)| {
                let messages = &self.groups.get(name)?.messages;
                let following = messages.range((Bound::Excluded(seq), Bound::Unbounded)).next()?;
                (*following.1 == Kind::Visible).then_some(*following.0)
            })
            .or_else(|| {
                let (_, name) = self.available.first_key_value()?;
                self.groups.get(name)?.messages.first_key_value().map(|(seq, _)| *seq)
            })
    }

    /// Puts a group where it now stands among the available ones, and forgets an empty one.
    fn relist(&mut self, name: &Arc<str>) {
        let Some(group) = self.groups.get_mut(name) else { return };
        let available = match group.messages.first_key_value() {
            Some((seq, Kind::Visible)) => self.horizon.is_none_or(|horizon| *seq <= horizon),
            _ => false,
        };
        let listed = available.then_some(group.turn);
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

    fn appear(&mut self, seq: u64, name: &Arc<str>) {
        self.all.insert(seq, Arc::clone(name));
        let horizon = match self.horizon {
            // One more than fits: the last but one is the last that is looked at.
            None if self.all.len() > self.lookahead => self.all.keys().nth_back(1).copied(),
            Some(horizon) if seq < horizon => {
                self.all.range(..horizon).next_back().map(|(seq, _)| *seq)
            }
            unchanged => unchanged,
        };
        self.look_up_to(horizon);
    }

    fn vanish(&mut self, seq: u64) {
        self.all.remove(&seq);
        let horizon = match self.horizon {
            Some(_) if self.all.len() <= self.lookahead => None,
            Some(horizon) if seq <= horizon => {
                let beyond = self.all.range((Bound::Excluded(horizon), Bound::Unbounded)).next();
                beyond.map(|(seq, _)| *seq)
            }
            unchanged => unchanged,
        };
        self.look_up_to(horizon);
    }

    /// Moves the horizon. One message at most changes sides: its group may stand elsewhere now.
    fn look_up_to(&mut self, horizon: Option<u64>) {
        if horizon == self.horizon {
            return;
        }
        let crossing = match (self.horizon, horizon) {
            (Some(before), Some(now)) => Some(before.max(now)),
            _ => self.all.last_key_value().map(|(seq, _)| *seq),
        };
        self.horizon = horizon;
        if let Some(name) = crossing.and_then(|seq| self.all.get(&seq).cloned()) {
            self.relist(&name);
        }
    }

    /// Groups with messages, for tests of bounded memory.
    #[cfg(test)]
    pub(crate) fn groups(&self) -> std::collections::BTreeSet<&str> {
        self.groups.keys().map(AsRef::as_ref).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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
            let groups = [0_u64, 1, 2].map(|n| Arc::<str>::from(n.to_string()));
            let group = |seq: u64| &groups[usize::try_from(seq % 3).unwrap()];
            let mut order = Fifo::new(LOOKAHEAD);
            let mut plain = BTreeSet::new();
            for (seq, appears) in steps {
                if appears && plain.insert(seq) {
                    order.set(seq, group(seq), None, Some(Kind::Visible));
                } else if !appears && plain.remove(&seq) {
                    order.set(seq, group(seq), Some(Kind::Visible), None);
                }
                let beyond = plain.len() > LOOKAHEAD;
                let expected = plain.iter().nth(LOOKAHEAD - 1).copied().filter(|_| beyond);
                prop_assert_eq!(order.horizon, expected);
                let seen: BTreeSet<&Arc<str>> =
                    plain.iter().take(LOOKAHEAD).map(|seq| group(*seq)).collect();
                prop_assert_eq!(order.available.values().collect::<BTreeSet<_>>(), seen);
            }
        }
    }
}

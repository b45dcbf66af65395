//! FIFO order. A group is available when none of its messages is leased and its oldest one is
//! visible: a hidden head blocks its followers, a later delayed message blocks nothing before it.
//! A receive takes from one group as long as it can before it takes from another.

use std::collections::{BTreeMap, HashMap};
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
#[derive(Clone, Debug, Default)]
pub(crate) struct Fifo {
    groups: HashMap<Arc<str>, Group>,
    /// Available groups by their oldest message.
    available: BTreeMap<u64, Arc<str>>,
}

impl Fifo {
    pub(crate) fn ready(&self) -> usize {
        self.available.len()
    }

    pub(crate) fn set(&mut self, seq: u64, name: &Arc<str>, to: Option<Kind>) {
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
            .or_else(|| self.available.first_key_value().map(|(seq, _)| *seq))
    }

    /// Groups with messages, for tests of bounded memory.
    #[cfg(test)]
    pub(crate) fn groups(&self) -> std::collections::BTreeSet<&str> {
        self.groups.keys().map(AsRef::as_ref).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_head_blocks_its_group_only() {
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut order = Fifo::default();
        order.set(1, &a, Some(Kind::Delayed));
        order.set(2, &a, Some(Kind::Visible));
        order.set(3, &b, Some(Kind::Visible));
        assert_eq!(order.next(None), Some(3));
        order.set(1, &a, Some(Kind::Visible));
        assert_eq!(order.next(None), Some(1));
        order.set(1, &a, Some(Kind::Leased));
        assert_eq!(order.next(Some((1, &a))), Some(2), "the same receive goes on in the group");
        assert_eq!(order.next(None), Some(3), "another receive does not");
        order.set(1, &a, None);
        order.set(2, &a, Some(Kind::Delayed));
        order.set(3, &b, None);
        assert_eq!(order.next(None), None);
        order.set(2, &a, None);
        assert!(order.groups().is_empty(), "empty groups are forgotten");
    }
}

//! Proofs over the tree: that a leaf is in it, and that a smaller tree is the beginning of a larger
//! one. Checking follows RFC 9162 §2.1.3.2 and §2.1.4.2 step by step.

use serde::{Deserialize, Serialize};

use super::{Tree, node};
use crate::hash::Hash;

/// That a leaf stands at a place of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InclusionProof {
    /// The leaf's place, counted from 0.
    pub index: u64,
    /// Leaves of the tree.
    pub size: u64,
    /// The neighbours on the way to the root, the leaf's own first.
    pub path: Vec<Hash>,
}

impl InclusionProof {
    /// The root that follows from the leaf; `None` when the path does not fit the place.
    pub fn root(&self, leaf: Hash) -> Option<Hash> {
        let (mut place, mut last) = (self.index, self.size.checked_sub(1)?);
        if place > last {
            return None;
        }
        let mut root = leaf;
        for neighbour in &self.path {
            if last == 0 {
                return None;
            }
            if place & 1 == 1 || place == last {
                root = node(neighbour, &root);
                while place & 1 == 0 && place != 0 {
                    (place, last) = (place >> 1, last >> 1);
                }
            } else {
                root = node(&root, neighbour);
            }
            (place, last) = (place >> 1, last >> 1);
        }
        (last == 0).then_some(root)
    }

    /// Whether it proves the leaf under this root.
    pub fn proves(&self, leaf: Hash, root: Hash) -> bool {
        self.root(leaf) == Some(root)
    }
}

/// Makes an inclusion proof from the leaves as they pass by, in O(log² n) memory.
#[derive(Clone, Debug)]
pub struct InclusionProver {
    index: u64,
    size: u64,
    seen: u64,
    /// The neighbours' ranges of leaves, root's side first, with what has been seen of each.
    neighbours: Vec<(std::ops::Range<u64>, Tree)>,
}

impl InclusionProver {
    /// For the leaf at `index` of a tree of `size`; `None` when there is no such leaf.
    pub fn new(index: u64, size: u64) -> Option<Self> {
        let mut neighbours = Vec::new();
        let (mut from, mut to) = (0, size);
        if index >= size {
            return None;
        }
        while to - from > 1 {
            let middle = from + split(to - from);
            if index < middle {
                neighbours.push((middle..to, Tree::new()));
                to = middle;
            } else {
                neighbours.push((from..middle, Tree::new()));
                from = middle;
            }
        }
        Some(Self { index, size, seen: 0, neighbours })
    }

    /// The next leaf of the tree.
    pub fn push(&mut self, leaf: Hash) {
        let seen = self.seen;
        let range = self.neighbours.iter_mut().find(|(range, _)| range.contains(&seen));
        if let Some((_, tree)) = range {
            tree.push(leaf);
        }
        self.seen += 1;
    }

    /// The proof; `None` unless exactly the tree's leaves passed by.
    pub fn finish(self) -> Option<InclusionProof> {
        let path = self.neighbours.iter().rev().map(|(_, tree)| tree.root()).collect();
        let all = self.seen == self.size;
        all.then_some(InclusionProof { index: self.index, size: self.size, path })
    }
}

/// That the tree of `from` leaves is the beginning of the tree of `to` leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsistencyProof {
    /// Leaves of the smaller tree, at least one.
    pub from: u64,
    /// Leaves of the larger.
    pub to: u64,
    /// The nodes that both roots follow from.
    pub path: Vec<Hash>,
}

impl ConsistencyProof {
    /// Whether `old` (of `from` leaves) is the beginning of `new` (of `to` leaves).
    pub fn proves(&self, old: Hash, new: Hash) -> bool {
        if self.from == 0 || self.from > self.to {
            return false;
        }
        if self.from == self.to {
            return self.path.is_empty() && old == new;
        }
        // A perfect old tree is itself the first node and is not repeated in the path.
        let implied = self.from.is_power_of_two().then_some(old);
        let mut path = implied.into_iter().chain(self.path.iter().copied());
        let Some(first) = path.next() else { return false };
        let (mut place, mut last) = (self.from - 1, self.to - 1);
        let odd = place.trailing_ones();
        (place, last) = (place >> odd, last >> odd);
        let (mut from_root, mut to_root) = (first, first);
        for next in path {
            if last == 0 {
                return false;
            }
            if place & 1 == 1 || place == last {
                from_root = node(&next, &from_root);
                to_root = node(&next, &to_root);
                while place & 1 == 0 && place != 0 {
                    (place, last) = (place >> 1, last >> 1);
                }
            } else {
                to_root = node(&to_root, &next);
            }
            (place, last) = (place >> 1, last >> 1);
        }
        last == 0 && from_root == old && to_root == new
    }
}

/// The consistency proof of the first `from` of these leaves with all of them; `None` when `from` is 0
/// or there are fewer.
pub fn consistency_proof(leaves: &[Hash], from: u64) -> Option<ConsistencyProof> {
    let to = leaves.len() as u64;
    if from == 0 || from > to {
        return None;
    }
    let root = |leaves: &[Hash]| leaves.iter().copied().collect::<Tree>().root();
    let (mut rest, mut begun, mut whole, mut path) = (leaves, from, true, Vec::new());
    while begun != rest.len() as u64 {
        let middle = split(rest.len() as u64);
        let (left, right) = rest.split_at(usize::try_from(middle).ok()?);
        if begun <= middle {
            path.push(root(right));
            rest = left;
        } else {
            path.push(root(left));
            (rest, begun, whole) = (right, begun - middle, false);
        }
    }
    if !whole {
        path.push(root(rest));
    }
    path.reverse();
    Some(ConsistencyProof { from, to, path })
}

/// The largest power of two below `size`, which is at least 2.
fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

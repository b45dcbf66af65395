//! The Merkle tree of RFC 6962 (and RFC 9162, which kept it): leaves and nodes are hashed apart, an odd
//! node is never paired with itself. The root of any number of leaves is made in O(log n) memory.
//!
//! It never sorts, drops or pads a leaf; the order of the leaves is part of what is proved.

mod proof;
#[cfg(test)]
mod tests;

use sha2::{Digest, Sha256};

use crate::hash::Hash;

pub use proof::{ConsistencyProof, InclusionProof, InclusionProver, consistency_proof};

/// Bytes of the random salt that goes before an event in its leaf.
pub const SALT_BYTES: usize = 16;
/// Keeps a leaf that outlived its event from being guessed.
pub type Salt = [u8; SALT_BYTES];

/// `SHA-256(0x00 ‖ data)`.
pub fn leaf(data: &[u8]) -> Hash {
    Hash::finish(Sha256::new_with_prefix([0]).chain_update(data))
}

/// The leaf of an event: `SHA-256(0x00 ‖ salt ‖ line)`, the line without its line feed.
pub fn salted_leaf(salt: &Salt, line: &[u8]) -> Hash {
    Hash::finish(Sha256::new_with_prefix([0]).chain_update(salt).chain_update(line))
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Hash::finish(Sha256::new_with_prefix([1]).chain_update(left.0).chain_update(right.0))
}

/// A tree that is given one leaf after the other.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    size: u64,
    /// Roots of the perfect subtrees from left to right: one per bit that is set in `size`.
    perfect: Vec<Hash>,
}

impl Tree {
    /// A tree without leaves.
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on with a tree of `size` leaves from what [`Tree::subtrees`] told; `None` when they do not
    /// fit together.
    pub fn resume(size: u64, subtrees: Vec<Hash>) -> Option<Self> {
        (size.count_ones() as usize == subtrees.len()).then_some(Self { size, perfect: subtrees })
    }

    /// Roots of its perfect subtrees from left to right: with the size, all there is to go on from.
    pub fn subtrees(&self) -> &[Hash] {
        &self.perfect
    }

    /// How many leaves it has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf on the right.
    pub fn push(&mut self, leaf: Hash) {
        let mut top = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.perfect.pop() {
                top = node(&left, &top);
            }
        }
        self.perfect.push(top);
        self.size += 1;
    }

    /// The root; of no leaves it is the hash of nothing.
    pub fn root(&self) -> Hash {
        let mut right_to_left = self.perfect.iter().rev().copied();
        let Some(last) = right_to_left.next() else { return Hash::of([]) };
        right_to_left.fold(last, |right, left| node(&left, &right))
    }
}

impl FromIterator<Hash> for Tree {
    fn from_iter<I: IntoIterator<Item = Hash>>(leaves: I) -> Self {
        let mut tree = Self::new();
        leaves.into_iter().for_each(|leaf| tree.push(leaf));
        tree
    }
}

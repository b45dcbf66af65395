//! The manifest of an archive object: what it holds, why it was archived, and which object it takes the
//! place of. With the replaced object's own manifest, a superseding one proves that nothing but the
//! erased lines is gone.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Basis, Unit};
use crate::hash::Hash;
use crate::merkle::Tree;
use crate::moment;
use crate::object::Contents;

/// Erased lines that one manifest names at most; past that the object is archived anew in parts.
pub const ERASED_MAX: usize = 2_048;

/// What an object holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The object's name.
    pub object: String,
    /// The unit of work that made it; doing it again makes the same object.
    pub unit: Unit,
    /// By whose rule.
    pub basis: Basis,
    /// Everything that follows from the object's bytes, its index among it.
    pub contents: Contents,
    /// Until when the object store refuses to delete it, where it does.
    #[serde(with = "moment::maybe", skip_serializing_if = "Option::is_none", default)]
    pub locked_until: Option<DateTime<Utc>>,
    /// The object whose place it takes, if any.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub supersedes: Option<Supersedes>,
}

/// An object that was written again without the lines of erased logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supersedes {
    /// Sequence number of the manifest of the object that is replaced.
    pub replaces: u64,
    /// Sequence number of the first of the line; `replaces` where the replaced one replaced none.
    pub original: u64,
    /// The original's lines that are gone, in their order: at most [`ERASED_MAX`].
    pub erased: Vec<Erased>,
}

/// A line that was erased. Its leaf is salted, so that it tells nothing about the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Erased {
    /// Its place among the original's lines, counted from 0.
    pub index: u64,
    /// Its leaf.
    pub leaf: Hash,
}

/// Puts erased leaves back between the lines that are left, and so finds the original's root again.
#[derive(Clone, Debug)]
pub(crate) struct Reunion<'a> {
    tree: Tree,
    erased: std::iter::Peekable<std::slice::Iter<'a, Erased>>,
}

impl Supersedes {
    /// For the leaves of the object's lines, in their order.
    pub(crate) fn reunion(&self) -> Reunion<'_> {
        Reunion { tree: Tree::new(), erased: self.erased.iter().peekable() }
    }
}

impl Reunion<'_> {
    /// The next line that is left.
    pub(crate) fn push(&mut self, leaf: Hash) {
        self.put_back();
        self.tree.push(leaf);
    }

    fn put_back(&mut self) {
        while let Some(erased) = self.erased.next_if(|erased| erased.index == self.tree.size()) {
            self.tree.push(erased.leaf);
        }
    }

    /// The original's size and root; `None` when an erased line has no place.
    pub(crate) fn finish(mut self) -> Option<(u64, Hash)> {
        self.put_back();
        self.erased.next().is_none().then(|| (self.tree.size(), self.tree.root()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::leaf;

    #[test]
    fn what_was_erased_is_put_back_in_its_place() {
        let leaves: Vec<Hash> = (0..9_u8).map(|number| leaf(&[number])).collect();
        let whole: Tree = leaves.iter().copied().collect();
        for gone in [&[][..], &[0_usize], &[8], &[3, 4], &[0, 4, 8], &[0, 1, 2, 3, 4, 5, 6, 7, 8]] {
            let erased =
                gone.iter().map(|at| Erased { index: *at as u64, leaf: leaves[*at] }).collect();
            let supersedes = Supersedes { replaces: 1, original: 1, erased };
            let mut reunion = supersedes.reunion();
            for (at, leaf) in leaves.iter().enumerate() {
                if !gone.contains(&at) {
                    reunion.push(*leaf);
                }
            }
            assert_eq!(reunion.finish(), Some((9, whole.root())), "{gone:?}");
        }
        let misplaced = Supersedes {
            replaces: 1,
            original: 1,
            erased: vec![Erased { index: 5, leaf: leaves[0] }],
        };
        assert_eq!(misplaced.reunion().finish(), None);
    }
}

//! What an object holds, as its manifest says it and as a reader finds it: the same type, so that
//! verifying is comparing. The blocks are the index for reading by range.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::codec::Codec;
use crate::hash::Hash;
use crate::moment;

/// Everything that can be said of an object from its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// How its blocks are packed.
    pub codec: Codec,
    /// The object as it is stored.
    pub packed: Packed,
    /// The lines that it unpacks to.
    pub plain: Plain,
    /// RFC 6962 root over the salted leaves of the lines, in their order.
    pub root: Hash,
    /// Events and revisions.
    pub lines: u64,
    /// Those of them that are revisions.
    pub revisions: u64,
    /// What the lines cover; none in an object without lines.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub range: Option<Range>,
    /// In the order in which they stand in the object.
    pub blocks: Vec<Block>,
}

/// The object's own bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    /// Its size.
    pub bytes: u64,
    /// As `sha256sum OBJECT` prints it.
    pub sha256: Hash,
}

/// The bytes that it unpacks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plain {
    /// Their size, line feeds included.
    pub bytes: u64,
    /// As `zcat OBJECT | sha256sum` prints it.
    pub sha256: Hash,
}

/// First and last of some lines, by id and by time; the two need not be the same line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The smallest id.
    pub first_id: Uuid,
    /// The largest.
    pub last_id: Uuid,
    /// The earliest `recorded_at`.
    #[serde(with = "moment")]
    pub from: DateTime<Utc>,
    /// The latest.
    #[serde(with = "moment")]
    pub to: DateTime<Utc>,
}

impl Range {
    /// Both.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            first_id: self.first_id.min(other.first_id),
            last_id: self.last_id.max(other.last_id),
            from: self.from.min(other.from),
            to: self.to.max(other.to),
        }
    }
}

/// One block: it is unpacked, and checked by its root, without any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Bytes in the object; the first block begins at 0, each other where the one before it ends.
    pub packed: u64,
    /// Bytes that it unpacks to.
    pub plain: u64,
    /// Its lines, at least one.
    pub lines: u64,
    /// RFC 6962 root over the salted leaves of its lines.
    pub root: Hash,
    /// What they cover.
    #[serde(flatten)]
    pub range: Range,
}

impl Contents {
    /// The blocks that may hold a log and its revisions, each with the byte at which it begins.
    pub fn blocks_of(&self, id: Uuid) -> impl Iterator<Item = (u64, &Block)> {
        self.placed()
            .filter(move |(_, block)| (block.range.first_id..=block.range.last_id).contains(&id))
    }

    /// The blocks that may hold lines recorded at `from` or later and before `to`.
    pub fn blocks_between(
        &self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> impl Iterator<Item = (u64, &Block)> {
        self.placed().filter(move |(_, block)| block.range.from < to && block.range.to >= from)
    }

    fn placed(&self) -> impl Iterator<Item = (u64, &Block)> {
        self.blocks.iter().scan(0, |end: &mut u64, block| {
            let begin = *end;
            *end = begin.saturating_add(block.packed);
            Some((begin, block))
        })
    }

    /// Whether the sums over the blocks are what the whole says; a range read relies on it.
    pub fn adds_up(&self) -> bool {
        let sum = |of: fn(&Block) -> u64| {
            self.blocks.iter().try_fold(0_u64, |sum, block| sum.checked_add(of(block)))
        };
        let range = self.blocks.iter().map(|block| block.range).reduce(Range::and);
        sum(|block| block.packed) == Some(self.packed.bytes)
            && sum(|block| block.plain) == Some(self.plain.bytes)
            && sum(|block| block.lines) == Some(self.lines)
            && range == self.range
            && self.revisions <= self.lines
            && self.blocks.len() <= super::BLOCKS_MAX
    }
}

//! Writes an object: lines go in, in order, and packed blocks come out. The same lines give the same
//! bytes, so that a unit which is done again is the same object.

use std::io::{self, Write};

use sha2::{Digest, Sha256};

use super::{BLOCK_BYTES, BLOCK_LINES_MAX, BLOCKS_MAX, Block, Contents, Packed, Plain, Range};
use crate::codec::Codec;
use crate::hash::Hash;
use crate::line::{BadLine, Line, LineKey};
use crate::merkle::{SALT_BYTES, Salt, Tree, salted_leaf};

/// Why a line did not go in. Nothing of it was written.
#[derive(Debug, thiserror::Error)]
pub enum Unwritable {
    /// It is no line of an archive.
    #[error(transparent)]
    Line(#[from] BadLine),
    /// It belongs before a line that is in already, or is that line again.
    #[error(
        "line {0:?} is not after {1:?}: read the rows in the order of id and revision, each once"
    )]
    Order(LineKey, LineKey),
    /// It is another tenant's.
    #[error("a line of tenant {0:?} in an object of tenant {1:?}")]
    Tenant(String, String),
    /// [`BLOCKS_MAX`] blocks are in.
    #[error("the object is full at {BLOCKS_MAX} blocks: finish it and begin the next part")]
    Full,
    /// The sink failed; the object cannot go on.
    #[error("the object could not be written: {0}")]
    Io(#[from] io::Error),
}

/// Writes one tenant's object.
#[derive(Debug)]
pub struct ObjectWriter<W> {
    out: W,
    codec: Codec,
    tenant: String,
    block_bytes: usize,
    last: Option<LineKey>,
    block: OpenBlock,
    packed_buffer: Vec<u8>,
    packed: (u64, Sha256),
    plain: (u64, Sha256),
    tree: Tree,
    revisions: u64,
    blocks: Vec<Block>,
}

/// Lines that are not packed yet.
#[derive(Debug, Default)]
struct OpenBlock {
    salts: Vec<u8>,
    plain: Vec<u8>,
    tree: Tree,
    range: Option<Range>,
}

impl<W: Write> ObjectWriter<W> {
    /// Writes to `out`, blocks of about [`BLOCK_BYTES`].
    pub fn new(out: W, codec: Codec, tenant: &contracts::Tenant) -> Self {
        Self {
            out,
            codec,
            tenant: tenant.as_str().to_owned(),
            block_bytes: BLOCK_BYTES,
            last: None,
            block: OpenBlock::default(),
            packed_buffer: Vec::new(),
            packed: Default::default(),
            plain: Default::default(),
            tree: Tree::new(),
            revisions: 0,
            blocks: Vec::new(),
        }
    }

    /// Blocks of `bytes` of lines instead; at most [`BLOCK_BYTES`]. Smaller ones make one event cheaper
    /// to fetch and the object larger.
    #[must_use]
    pub fn with_block_bytes(self, bytes: usize) -> Self {
        Self { block_bytes: bytes.clamp(1, BLOCK_BYTES), ..self }
    }

    /// Packed bytes that are out, for a caller that keeps an object below a size.
    pub fn packed_bytes(&self) -> u64 {
        self.packed.0
    }

    /// Lines that are in.
    pub fn lines(&self) -> u64 {
        self.tree.size()
    }

    /// Adds a line, without its line feed.
    pub fn push(&mut self, salt: &Salt, bytes: &[u8]) -> Result<(), Unwritable> {
        let line = Line::parse(bytes)?;
        if line.tenant != self.tenant {
            return Err(Unwritable::Tenant(line.tenant.to_owned(), self.tenant.clone()));
        }
        if let Some(last) = self.last.filter(|last| *last >= line.key) {
            return Err(Unwritable::Order(line.key, last));
        }
        if self.blocks.len() >= BLOCKS_MAX {
            return Err(Unwritable::Full);
        }
        let leaf = salted_leaf(salt, bytes);
        self.tree.push(leaf);
        self.block.tree.push(leaf);
        self.block.salts.extend(salt);
        self.block.plain.extend(bytes);
        self.block.plain.push(b'\n');
        let (id, at) = (line.key.id, line.recorded_at);
        let range = Range { first_id: id, last_id: id, from: at, to: at };
        self.block.range = Some(self.block.range.map_or(range, |before| before.and(range)));
        self.revisions += u64::from(line.key.revision > 0);
        self.last = Some(line.key);
        let full = self.block.salts.len() >= BLOCK_LINES_MAX * SALT_BYTES;
        if self.block.plain.len() >= self.block_bytes || full {
            self.pack()?;
        }
        Ok(())
    }

    /// Packs what is open, so that everything that went in is out: a checkpoint.
    pub fn pack(&mut self) -> io::Result<()> {
        let Some(range) = self.block.range.take() else { return Ok(()) };
        self.packed_buffer.clear();
        self.codec.pack(&self.block.salts, &self.block.plain, &mut self.packed_buffer)?;
        self.out.write_all(&self.packed_buffer)?;
        let (packed, plain) = (self.packed_buffer.len() as u64, self.block.plain.len() as u64);
        self.packed.0 += packed;
        self.packed.1.update(&self.packed_buffer);
        self.plain.0 += plain;
        self.plain.1.update(&self.block.plain);
        let (lines, root) = (self.block.tree.size(), self.block.tree.root());
        self.blocks.push(Block { packed, plain, lines, root, range });
        self.block.salts.clear();
        self.block.plain.clear();
        self.block.tree = Tree::new();
        Ok(())
    }

    /// Ends the object. An object without lines has no bytes.
    pub fn finish(mut self) -> io::Result<(W, Contents)> {
        self.pack()?;
        self.out.flush()?;
        let contents = Contents {
            codec: self.codec,
            packed: Packed { bytes: self.packed.0, sha256: Hash::finish(self.packed.1) },
            plain: Plain { bytes: self.plain.0, sha256: Hash::finish(self.plain.1) },
            root: self.tree.root(),
            lines: self.tree.size(),
            revisions: self.revisions,
            range: self.blocks.iter().map(|block| block.range).reduce(Range::and),
            blocks: self.blocks,
        };
        Ok((self.out, contents))
    }
}

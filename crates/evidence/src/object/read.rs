//! Reads an object without believing anything that was said of it: what it finds is what the bytes say,
//! and the caller compares. It holds one block at a time, and stops unpacking at the first damage, while
//! the hash of the stored bytes goes on to the end.

use std::io::{self, BufRead, BufReader, Read};

use sha2::{Digest, Sha256};

use super::{BLOCK_LINES_MAX, BLOCK_PLAIN_MAX, BLOCKS_MAX, Block, Contents, Packed, Plain, Range};
use crate::codec::{Codec, Unpacked};
use crate::hash::Hash;
use crate::line::{BadLine, Line, LineKey};
use crate::merkle::{SALT_BYTES, Salt, Tree, salted_leaf};

/// A line as it was found.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its place in the object, counted from 0.
    pub index: u64,
    /// The line.
    pub line: Line<'a>,
    /// Its salt.
    pub salt: Salt,
    /// Its leaf in the tree.
    pub leaf: Hash,
}

/// Why an object cannot be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// The packed bytes are no blocks, or end early.
    #[error("block {block} does not unpack: {reason}")]
    Packing {
        /// Counted from 0.
        block: usize,
        /// What the decoder said.
        reason: String,
    },
    /// A line is no record.
    #[error("line {index}: {reason}")]
    Line {
        /// Counted from 0.
        index: u64,
        /// What is wrong with it.
        reason: BadLine,
    },
    /// Lines are not in order, or one is there twice.
    #[error("line {0} is not after the line before it")]
    Order(u64),
}

/// What reading an object came to.
#[derive(Debug)]
pub struct Observed {
    /// The stored bytes, all of them.
    pub packed: Packed,
    /// The contents, or where they stop.
    pub contents: Result<Contents, Damage>,
    /// The first line of a tenant other than the first line's, or of the first line's: who they are.
    pub tenants: Tenants,
}

/// Whose lines an object holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tenants {
    /// The first line's tenant.
    pub first: Option<String>,
    /// The first other tenant, and the line where it stands.
    pub other: Option<(u64, String)>,
}

/// Reads the whole object and gives each line to `each` as long as there is no damage. An error is the
/// source's own: it could not be read.
pub fn survey(
    from: impl Read,
    codec: Codec,
    mut each: impl FnMut(&Entry<'_>),
) -> io::Result<Observed> {
    let mut from = Hashed {
        inner: BufReader::with_capacity(64 * 1024, from),
        bytes: 0,
        digest: Sha256::new(),
        failed: None,
    };
    let mut found = Found::default();
    let outcome = found.read(&mut from, codec, &mut each);
    let packed = from.drain()?;
    let contents = outcome.map(|()| Contents {
        codec,
        packed,
        plain: Plain { bytes: found.plain.0, sha256: Hash::finish(found.plain.1) },
        root: found.tree.root(),
        lines: found.tree.size(),
        revisions: found.revisions,
        range: found.blocks.iter().map(|block| block.range).reduce(Range::and),
        blocks: found.blocks,
    });
    Ok(Observed { packed, contents, tenants: found.tenants })
}

/// The lines of one block that was fetched by range, checked against what the manifest says of it.
pub fn read_block(
    packed: &[u8],
    codec: Codec,
    expected: &Block,
    each: impl FnMut(&Entry<'_>),
) -> Result<(), String> {
    let observed = survey(packed, codec, each).map_err(|error| error.to_string())?;
    let contents = observed.contents.map_err(|damage| damage.to_string())?;
    match contents.blocks.as_slice() {
        [block] if block == expected => Ok(()),
        _ => Err("the block is not the one that the manifest describes".to_owned()),
    }
}

#[derive(Default)]
struct Found {
    plain: (u64, Sha256),
    tree: Tree,
    revisions: u64,
    last: Option<LineKey>,
    blocks: Vec<Block>,
    tenants: Tenants,
}

impl Found {
    fn read<R: Read>(
        &mut self,
        from: &mut Hashed<R>,
        codec: Codec,
        each: &mut impl FnMut(&Entry<'_>),
    ) -> Result<(), Damage> {
        let mut unpacked = Unpacked::default();
        loop {
            let (number, before) = (self.blocks.len(), from.bytes);
            let damage =
                |reason: &str| Damage::Packing { block: number, reason: reason.to_owned() };
            match codec.unpack(from, BLOCK_PLAIN_MAX, &mut unpacked) {
                Ok(true) if number == BLOCKS_MAX => return Err(damage("too many blocks")),
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => return Err(damage(&error.to_string())),
            }
            let packed = from.bytes - before;
            self.block(&unpacked, packed, each).map_err(|error| match error {
                Broken::Packing(reason) => damage(reason),
                Broken::Line(damage) => damage,
            })?;
        }
    }

    fn block(
        &mut self,
        unpacked: &Unpacked,
        packed: u64,
        each: &mut impl FnMut(&Entry<'_>),
    ) -> Result<(), Broken> {
        let Some(lines) = unpacked.plain.strip_suffix(b"\n") else {
            return Err(Broken::Packing("its last line has no line feed"));
        };
        let (salts, odd) = unpacked.extra.as_chunks::<SALT_BYTES>();
        if !odd.is_empty() || salts.len() > BLOCK_LINES_MAX {
            return Err(Broken::Packing("its salts are not 16 bytes each"));
        }
        let (mut tree, mut range, mut salts) = (Tree::new(), None::<Range>, salts.iter());
        for bytes in lines.split(|byte| *byte == b'\n') {
            let salt = *salts.next().ok_or(Broken::Packing("it has more lines than salts"))?;
            let index = self.tree.size();
            let line = Line::parse(bytes)
                .map_err(|reason| Broken::Line(Damage::Line { index, reason }))?;
            if self.last.is_some_and(|last| last >= line.key) {
                return Err(Broken::Line(Damage::Order(index)));
            }
            let leaf = salted_leaf(&salt, bytes);
            each(&Entry { index, line, salt, leaf });
            self.note(&line, index);
            tree.push(leaf);
            self.tree.push(leaf);
            let (id, at) = (line.key.id, line.recorded_at);
            let one = Range { first_id: id, last_id: id, from: at, to: at };
            range = Some(range.map_or(one, |before| before.and(one)));
        }
        if salts.next().is_some() {
            return Err(Broken::Packing("it has more salts than lines"));
        }
        let plain = unpacked.plain.len() as u64;
        self.plain.0 += plain;
        self.plain.1.update(&unpacked.plain);
        let Some(range) = range else { return Ok(()) };
        let (lines, root) = (tree.size(), tree.root());
        self.blocks.push(Block { packed, plain, lines, root, range });
        Ok(())
    }

    fn note(&mut self, line: &Line<'_>, index: u64) {
        self.last = Some(line.key);
        self.revisions += u64::from(line.key.revision > 0);
        match &self.tenants.first {
            None => self.tenants.first = Some(line.tenant.to_owned()),
            Some(first) if first != line.tenant && self.tenants.other.is_none() => {
                self.tenants.other = Some((index, line.tenant.to_owned()));
            }
            Some(_) => {}
        }
    }
}

enum Broken {
    Packing(&'static str),
    Line(Damage),
}

/// Hashes and counts what is taken out of it, so that decoders which read ahead do not blur a block's
/// end.
struct Hashed<R> {
    inner: BufReader<R>,
    bytes: u64,
    digest: Sha256,
    /// The source's own failure, which decoders would report as damage.
    failed: Option<io::Error>,
}

impl<R: Read> Hashed<R> {
    fn drain(mut self) -> io::Result<Packed> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        loop {
            let read = self.inner.fill_buf()?.len();
            if read == 0 {
                return Ok(Packed { bytes: self.bytes, sha256: Hash::finish(self.digest) });
            }
            self.consume(read);
        }
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let from = self.fill_buf()?;
        let read = from.len().min(into.len());
        into[..read].copy_from_slice(&from[..read]);
        self.consume(read);
        Ok(read)
    }
}

impl<R: Read> BufRead for Hashed<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self.inner.fill_buf() {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                self.failed = Some(io::Error::new(error.kind(), error.to_string()));
                Err(error)
            }
            other => other,
        }
    }

    fn consume(&mut self, bytes: usize) {
        self.digest.update(&self.inner.buffer()[..bytes]);
        self.bytes += bytes as u64;
        self.inner.consume(bytes);
    }
}

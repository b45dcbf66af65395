//! An archive object: lines of NDJSON in id order, in blocks that are packed one by one, so that tools
//! read it as a whole and one event is fetched by range. Writing and reading hold one block at a time.

mod contents;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use contents::{Block, Contents, Packed, Plain, Range};
pub use read::{Damage, Entry, Observed, read_block, survey};
pub use write::{ObjectWriter, Unwritable};

/// Bytes of lines after which a block is packed, unless told otherwise.
pub const BLOCK_BYTES: usize = 1024 * 1024;
/// Lines of a block at most: their salts fit gzip's extra field.
pub const BLOCK_LINES_MAX: usize = crate::codec::EXTRA_BYTES_MAX / crate::merkle::SALT_BYTES;
/// Blocks of an object at most, so that the manifest that lists them stays below its own limit.
pub const BLOCKS_MAX: usize = 4_000;
/// Bytes that a block unpacks to at most.
pub(crate) const BLOCK_PLAIN_MAX: usize = BLOCK_BYTES + crate::line::LINE_BYTES_MAX + 1;

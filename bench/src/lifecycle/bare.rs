//! What archive and verify are compared with: the codec with the product's settings and the hashes by
//! `sha2`, over blocks that are ready made. It parses no line, checks nothing and knows all sizes
//! beforehand.

use std::io::{self, Read, Write};
use std::ops::Range;

use evidence::Codec;
use evidence::merkle::SALT_BYTES;
use evidence::object::{BLOCK_BYTES, BLOCK_LINES_MAX};
use flate2::{Compression, GzBuilder};
use lz4_flex::frame::{BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use sha2::{Digest, Sha256};

/// A SHA-256.
pub type Sum = [u8; 32];

/// Lines that become one block, as they go to the codec.
pub struct Block {
    salts: Vec<u8>,
    plain: Vec<u8>,
    /// Each line without its line feed.
    lines: Vec<Range<usize>>,
}

/// What was computed; the same as the product's, or nothing of it counts.
#[derive(Debug, PartialEq, Eq)]
pub struct Sums {
    /// Of the packed bytes.
    pub packed: Sum,
    /// Of the lines.
    pub plain: Sum,
    /// Of the whole tree, where leaves were hashed.
    pub root: Option<Sum>,
}

/// Whether leaves and trees are hashed, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hashes {
    /// Packed and plain bytes.
    Both,
    /// Those, each salted line, the tree of each block and that of the object.
    All,
}

/// Cuts lines into blocks where the product does.
pub fn blocks<'a>(lines: impl Iterator<Item = (&'a [u8; SALT_BYTES], &'a [u8])>) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open = Block { salts: Vec::new(), plain: Vec::new(), lines: Vec::new() };
    for (salt, line) in lines {
        let begin = open.plain.len();
        open.salts.extend(salt);
        open.plain.extend(line);
        open.lines.push(begin..open.plain.len());
        open.plain.push(b'\n');
        if open.plain.len() >= BLOCK_BYTES || open.lines.len() >= BLOCK_LINES_MAX {
            let next = Block { salts: Vec::new(), plain: Vec::new(), lines: Vec::new() };
            blocks.push(std::mem::replace(&mut open, next));
        }
    }
    if !open.lines.is_empty() {
        blocks.push(open);
    }
    blocks
}

/// Packs blocks one after the other, with all hashes of an object. `out` keeps its memory.
pub fn pack(codec: Codec, blocks: &[Block], out: &mut Vec<u8>) -> io::Result<Sums> {
    out.clear();
    let (mut packed, mut plain, mut leaves) = (Sha256::new(), Sha256::new(), Vec::new());
    for block in blocks {
        let begin = out.len();
        pack_block(codec, block, out)?;
        packed.update(&out[begin..]);
        plain.update(&block.plain);
        hash_lines(block, &block.plain, &mut leaves);
    }
    let root = Some(root(leaves));
    Ok(Sums { packed: packed.finalize().into(), plain: plain.finalize().into(), root })
}

fn pack_block(codec: Codec, block: &Block, out: &mut Vec<u8>) -> io::Result<()> {
    let Block { salts, plain, .. } = block;
    match codec {
        Codec::Gzip => {
            let bytes = u16::try_from(salts.len()).map_err(io::Error::other)?;
            let field = [&b"FS"[..], &bytes.to_le_bytes()[..], &salts[..]].concat();
            let mut gzip = GzBuilder::new().extra(field).write(out, Compression::new(6));
            gzip.write_all(plain)?;
            gzip.finish()?;
        }
        Codec::Lz4 => {
            skippable(salts, out)?;
            let info = FrameInfo::new()
                .block_size(BlockSize::Max1MB)
                .content_size(Some(plain.len() as u64))
                .block_checksums(true)
                .content_checksum(true);
            let mut lz4 = FrameEncoder::with_frame_info(info, out);
            lz4.write_all(plain)?;
            lz4.finish().map_err(io::Error::other)?;
        }
        Codec::Zstd => {
            skippable(salts, out)?;
            let mut zstd = zstd::Encoder::new(out, 3)?;
            zstd.include_checksum(true)?;
            zstd.set_pledged_src_size(Some(plain.len() as u64))?;
            zstd.write_all(plain)?;
            zstd.finish()?;
        }
    }
    Ok(())
}

fn skippable(salts: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    out.extend(0x184D_2A50_u32.to_le_bytes());
    out.extend(u32::try_from(salts.len()).map_err(io::Error::other)?.to_le_bytes());
    out.extend(salts);
    Ok(())
}

/// Unpacks an object whose blocks and their lines are known, with these hashes. `plain` keeps its memory.
pub fn unpack(
    codec: Codec,
    packed: &[u8],
    blocks: &[evidence::object::Block],
    known: &[Block],
    hashes: Hashes,
    plain: &mut Vec<u8>,
) -> io::Result<Sums> {
    let (mut of_packed, mut of_plain, mut rest) = (Sha256::new(), Sha256::new(), packed);
    let mut leaves = Vec::new();
    for (block, known) in blocks.iter().zip(known) {
        let bytes = usize::try_from(block.packed).map_err(io::Error::other)?;
        let (now, later) = rest.split_at_checked(bytes).ok_or(io::ErrorKind::UnexpectedEof)?;
        rest = later;
        of_packed.update(now);
        plain.clear();
        unpack_block(codec, now, known.salts.len(), plain)?;
        of_plain.update(&plain[..]);
        if hashes == Hashes::All {
            hash_lines(known, plain, &mut leaves);
        }
    }
    let root = (hashes == Hashes::All).then(|| root(leaves));
    Ok(Sums { packed: of_packed.finalize().into(), plain: of_plain.finalize().into(), root })
}

fn unpack_block(codec: Codec, packed: &[u8], salts: usize, plain: &mut Vec<u8>) -> io::Result<()> {
    // Behind the skippable frame of the salts, whose head is eight bytes.
    let frame = packed.get(8 + salts..).ok_or(io::ErrorKind::UnexpectedEof)?;
    match codec {
        Codec::Gzip => flate2::bufread::GzDecoder::new(packed).read_to_end(plain)?,
        Codec::Lz4 => FrameDecoder::new(frame).read_to_end(plain)?,
        Codec::Zstd => zstd::Decoder::with_buffer(frame)?.single_frame().read_to_end(plain)?,
    };
    Ok(())
}

/// The leaves of a block's lines, and the block's own tree.
fn hash_lines(block: &Block, plain: &[u8], leaves: &mut Vec<Sum>) {
    let (salts, _) = block.salts.as_chunks::<SALT_BYTES>();
    let begin = leaves.len();
    leaves.extend(salts.iter().zip(&block.lines).map(|(salt, line)| {
        let line = &plain[line.clone()];
        Sum::from(Sha256::new_with_prefix([0]).chain_update(salt).chain_update(line).finalize())
    }));
    std::hint::black_box(root(leaves[begin..].to_vec()));
}

/// The root of RFC 6962, level by level: an odd node goes up as it is.
fn root(mut level: Vec<Sum>) -> Sum {
    while level.len() > 1 {
        let next = level.chunks(2).map(|pair| match pair {
            [left, right] => {
                let node = Sha256::new_with_prefix([1]).chain_update(left).chain_update(right);
                Sum::from(node.finalize())
            }
            odd => odd[0],
        });
        level = next.collect();
    }
    level.first().copied().unwrap_or_else(|| Sha256::digest([]).into())
}

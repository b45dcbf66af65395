//! How a block of lines is packed: a gzip member, an LZ4 frame or a Zstandard frame of its own, with the
//! salts of its lines where each format lets an application put bytes that other readers skip. So an
//! object is a series of members or frames, which `zcat`, `lz4 -d` and `zstd -d` read as one.

use std::io::{self, BufRead, Read, Write};

use flate2::{Compression, GzBuilder};
use lz4_flex::frame::{BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use serde::{Deserialize, Serialize};

/// gzip's extra field: two letters that name it (RFC 1952 §2.3.1.1), ours.
const SUBFIELD: [u8; 2] = *b"FS";
/// Bytes that go before the salts in it.
const SUBFIELD_HEAD: usize = 4;
/// The first of the sixteen magic numbers of a skippable frame; LZ4 and Zstandard share them.
const SKIPPABLE: [u8; 4] = 0x184D_2A50_u32.to_le_bytes();
/// zstd's own default.
const ZSTD_LEVEL: i32 = 3;
/// Bytes that go before the lines of a block at most: gzip's extra field counts in 16 bits.
pub(crate) const EXTRA_BYTES_MAX: usize = u16::MAX as usize - SUBFIELD_HEAD;

/// How an object is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// RFC 1952, level 6: everything reads it.
    Gzip,
    /// LZ4 frames with checksums: the fastest.
    Lz4,
    /// RFC 8878, level 3: smaller than gzip and several times as fast.
    Zstd,
}

impl Codec {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Gzip, Self::Lz4, Self::Zstd];

    /// What ends an object's name, as tools know it.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Gzip => "gz",
            Self::Lz4 => "lz4",
            Self::Zstd => "zst",
        }
    }

    /// Writes one block to `out`. The same bytes come out for the same bytes in.
    pub(crate) fn pack(self, extra: &[u8], plain: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        debug_assert!(extra.len() <= EXTRA_BYTES_MAX);
        match self {
            Self::Gzip => {
                let mut field = Vec::with_capacity(SUBFIELD_HEAD + extra.len());
                field.extend(SUBFIELD);
                field.extend(u16::try_from(extra.len()).unwrap_or(u16::MAX).to_le_bytes());
                field.extend(extra);
                let mut gzip = GzBuilder::new().extra(field).write(out, Compression::new(6));
                gzip.write_all(plain)?;
                gzip.finish()?;
            }
            Self::Lz4 => {
                skippable(extra, out);
                let info = FrameInfo::new()
                    .block_size(BlockSize::Max1MB)
                    .content_size(Some(plain.len() as u64))
                    .block_checksums(true)
                    .content_checksum(true);
                let mut lz4 = FrameEncoder::with_frame_info(info, out);
                lz4.write_all(plain)?;
                lz4.finish().map_err(io::Error::other)?;
            }
            Self::Zstd => {
                skippable(extra, out);
                let mut zstd = zstd::Encoder::new(out, ZSTD_LEVEL)?;
                zstd.include_checksum(true)?;
                zstd.set_pledged_src_size(Some(plain.len() as u64))?;
                zstd.write_all(plain)?;
                zstd.finish()?;
            }
        }
        Ok(())
    }

    /// Reads the next block of `from` and nothing behind it; `false` at the end. What is larger than
    /// the limits is an error before it is held.
    pub(crate) fn unpack(
        self,
        from: &mut impl BufRead,
        plain_max: usize,
        block: &mut Unpacked,
    ) -> io::Result<bool> {
        block.extra.clear();
        block.plain.clear();
        if from.fill_buf()?.is_empty() {
            return Ok(false);
        }
        match self {
            Self::Gzip => {
                let mut gzip = flate2::bufread::GzDecoder::new(from);
                read_limited(&mut gzip, plain_max, &mut block.plain)?;
                let field = gzip.header().and_then(|header| header.extra()).unwrap_or_default();
                block.extra.extend_from_slice(subfield(field)?);
            }
            Self::Lz4 => {
                read_skippable(from, &mut block.extra)?;
                read_limited(&mut FrameDecoder::new(Whole(from)), plain_max, &mut block.plain)?;
            }
            Self::Zstd => {
                read_skippable(from, &mut block.extra)?;
                let mut zstd = zstd::Decoder::with_buffer(from)?.single_frame();
                // A frame may ask for a window of 3.75 TiB; ours are no larger than a block.
                zstd.window_log_max(23)?;
                read_limited(&mut zstd, plain_max, &mut block.plain)?;
            }
        }
        Ok(true)
    }
}

/// A block's own bytes.
#[derive(Debug, Default)]
pub(crate) struct Unpacked {
    /// What other readers skip: the salts.
    pub(crate) extra: Vec<u8>,
    /// The lines.
    pub(crate) plain: Vec<u8>,
}

/// Makes the end of the bytes an error: the LZ4 decoder takes a frame without its end for a whole one.
struct Whole<R>(R);

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(into)?;
        if read == 0 && !into.is_empty() {
            return Err(invalid("the object ends inside a frame"));
        }
        Ok(read)
    }
}

fn skippable(extra: &[u8], out: &mut Vec<u8>) {
    out.extend(SKIPPABLE);
    out.extend(u32::try_from(extra.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend(extra);
}

fn read_skippable(from: &mut impl BufRead, extra: &mut Vec<u8>) -> io::Result<()> {
    let mut head = [0; 8];
    from.read_exact(&mut head)?;
    let [a, b, c, d, rest @ ..] = head;
    let bytes = u32::from_le_bytes(rest) as usize;
    if [a, b, c, d] != SKIPPABLE || bytes > EXTRA_BYTES_MAX {
        return Err(invalid("no block begins here: a skippable frame with the salts was expected"));
    }
    extra.resize(bytes, 0);
    from.read_exact(extra)
}

fn subfield(field: &[u8]) -> io::Result<&[u8]> {
    let missing = || invalid("the gzip member has no extra field FS with the salts");
    let rest = field.strip_prefix(&SUBFIELD).ok_or_else(missing)?;
    let (bytes, salts) = rest.split_first_chunk::<2>().ok_or_else(missing)?;
    let fits = usize::from(u16::from_le_bytes(*bytes)) == salts.len();
    fits.then_some(salts).ok_or_else(missing)
}

fn read_limited(from: &mut impl Read, max: usize, into: &mut Vec<u8>) -> io::Result<()> {
    // One byte more than allowed. Below that the decoder itself says where the end is, after it has
    // checked what follows the last byte; asked again it would go on into the next frame.
    from.by_ref().take(max as u64 + 1).read_to_end(into)?;
    if into.len() > max {
        return Err(invalid(&format!("a block unpacks to more than {max} bytes")));
    }
    Ok(())
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(codec: Codec, blocks: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (extra, plain) in blocks {
            codec.pack(extra, plain, &mut out).unwrap();
        }
        out
    }

    fn unpacked(codec: Codec, mut from: &[u8], max: usize) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let (mut blocks, mut block) = (Vec::new(), Unpacked::default());
        while codec.unpack(&mut from, max, &mut block)? {
            blocks.push((block.extra.clone(), block.plain.clone()));
        }
        Ok(blocks)
    }

    #[test]
    fn blocks_come_back_one_by_one() {
        let long = vec![b'x'; 3_000_000];
        let salts = vec![9; EXTRA_BYTES_MAX];
        let blocks: [(&[u8], &[u8]); 4] =
            [(b"salt", b"one\n"), (b"", b""), (&salts, &long), (b"s", b"last\n")];
        for codec in Codec::ALL {
            let found = unpacked(codec, &packed(codec, &blocks), long.len()).unwrap();
            let found: Vec<_> = found.iter().map(|(e, p)| (e.as_slice(), p.as_slice())).collect();
            assert!(found == blocks, "{codec:?}");
        }
    }

    #[test]
    fn the_same_bytes_pack_to_the_same_bytes() {
        for codec in Codec::ALL {
            assert_eq!(packed(codec, &[(b"s", b"l\n")]), packed(codec, &[(b"s", b"l\n")]));
        }
    }

    #[test]
    fn more_than_the_limit_and_less_than_a_block_are_errors() {
        for codec in Codec::ALL {
            let bytes = packed(codec, &[(b"salt", &[b'x'; 5_000])]);
            assert!(unpacked(codec, &bytes, 4_999).is_err(), "{codec:?}");
            for cut in 1..bytes.len() {
                assert!(unpacked(codec, &bytes[..cut], 9_999).is_err(), "{codec:?} {cut}");
            }
        }
    }

    #[test]
    fn other_peoples_blocks_are_refused() {
        let plain = zstd::encode_all(&b"line\n"[..], 1).unwrap();
        assert!(unpacked(Codec::Zstd, &plain, 100).is_err());
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(b"line\n").unwrap();
        assert!(unpacked(Codec::Gzip, &gzip.finish().unwrap(), 100).is_err());
        let huge = [&SKIPPABLE[..], &u32::MAX.to_le_bytes()].concat();
        assert!(unpacked(Codec::Lz4, &huge, 100).is_err());
    }

    #[test]
    fn any_bytes_end_in_an_answer() {
        proptest::proptest!(|(bytes: Vec<u8>)| {
            for codec in Codec::ALL {
                let _ = unpacked(codec, &bytes, 1_000);
            }
        });
    }
}

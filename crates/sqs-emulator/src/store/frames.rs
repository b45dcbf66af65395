//! Records as they lie in a file: length, check sum, bytes. A file starts with eight bytes that say
//! what it is and which version wrote it.

use std::io::{self, Write};

/// First bytes of every segment and snapshot.
pub(super) const MAGIC: &[u8; 8] = b"sqslog\x00\x01";
/// Bytes before a record's content.
pub(super) const HEAD_BYTES: usize = 8;
/// A record larger than this is taken for damage: ten messages of 1 MiB, moved and stored, and
/// snapshot pieces, stay far below.
pub(super) const RECORD_BYTES_MAX: usize = 256 * 1_048_576;

/// Appends a record to a buffer.
pub(super) fn push(buffer: &mut Vec<u8>, record: &[u8]) {
    let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
    buffer.extend_from_slice(&length.to_le_bytes());
    buffer.extend_from_slice(&crc32fast::hash(record).to_le_bytes());
    buffer.extend_from_slice(record);
}

/// Writes a record to a file.
pub(super) fn write(file: &mut impl Write, record: &[u8]) -> io::Result<()> {
    let length = u32::try_from(record.len()).map_err(io::Error::other)?;
    file.write_all(&length.to_le_bytes())?;
    file.write_all(&crc32fast::hash(record).to_le_bytes())?;
    file.write_all(record)
}

/// What stands at the start of `bytes`.
pub(super) enum Frame<'a> {
    /// A whole record.
    Record(&'a [u8]),
    /// Nothing more.
    End,
    /// Bytes that are no whole record.
    Torn,
}

/// Reads the next record.
pub(super) fn next(bytes: &[u8]) -> Frame<'_> {
    if bytes.is_empty() {
        return Frame::End;
    }
    let (Some(length), Some(check)) = (word(bytes, 0), word(bytes, 4)) else { return Frame::Torn };
    let length = length as usize;
    let record = bytes.get(HEAD_BYTES..HEAD_BYTES.saturating_add(length));
    match record {
        Some(record) if length <= RECORD_BYTES_MAX && crc32fast::hash(record) == check => {
            Frame::Record(record)
        }
        _ => Frame::Torn,
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_or_changed_record_is_torn() {
        let mut buffer = Vec::new();
        push(&mut buffer, b"one");
        let whole = buffer.len();
        push(&mut buffer, b"two");
        assert!(matches!(next(&buffer), Frame::Record(b"one")));
        assert!(matches!(next(&buffer[whole..]), Frame::Record(b"two")));
        assert!(matches!(next(&buffer[buffer.len()..]), Frame::End));
        for cut in 1..whole {
            assert!(matches!(next(&buffer[..cut]), Frame::Torn), "{cut}");
        }
        for at in 0..whole {
            let mut changed = buffer[..whole].to_vec();
            changed[at] ^= 0x10;
            assert!(!matches!(next(&changed), Frame::Record(_)), "{at}");
        }
    }
}

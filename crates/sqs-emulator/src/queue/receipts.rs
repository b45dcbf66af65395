//! Receipt handles: opaque to callers, a queue, a message and a receive to us. The check sum tells a
//! mangled handle from an old one; it is no protection against a caller who wants to forge one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;

use crate::model::QueueId;

const LENGTH: usize = 28;

/// What a receipt handle names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) queue: QueueId,
    pub(crate) seq: u64,
    /// Of the receive that made it.
    pub(crate) nonce: u64,
}

impl Receipt {
    pub(crate) fn encode(self) -> String {
        let mut bytes = [0_u8; LENGTH];
        bytes[..8].copy_from_slice(&self.queue.0.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.seq.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.nonce.to_be_bytes());
        let check = crc32fast::hash(&bytes[..24]);
        bytes[24..].copy_from_slice(&check.to_be_bytes());
        URL_SAFE.encode(bytes)
    }

    pub(crate) fn decode(text: &str) -> Option<Self> {
        let mut bytes = [0_u8; LENGTH + 3];
        let length = URL_SAFE.decode_slice(text, &mut bytes).ok()?;
        if length != LENGTH {
            return None;
        }
        let number = |at: usize| -> Option<u64> {
            Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
        };
        let check = u32::from_be_bytes(bytes.get(24..LENGTH)?.try_into().ok()?);
        (check == crc32fast::hash(&bytes[..24])).then_some(Self {
            queue: QueueId(number(0)?),
            seq: number(8)?,
            nonce: number(16)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_reads_back_and_a_mangled_one_does_not() {
        let receipt = Receipt { queue: QueueId(7), seq: 42, nonce: u64::MAX };
        let text = receipt.encode();
        assert_eq!(Receipt::decode(&text), Some(receipt));
        let mangled = text.replacen('A', "B", 1);
        assert_ne!(mangled, text);
        assert_eq!(Receipt::decode(&mangled), None);
        assert_eq!(Receipt::decode(""), None);
        assert_eq!(Receipt::decode("not a handle"), None);
        assert_eq!(Receipt::decode(&text.repeat(50)), None);
    }
}

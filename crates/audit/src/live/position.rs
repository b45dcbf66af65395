//! A place in the live tail, as the opaque text that clients hold. `recorded_at` cannot be one: what
//! commits late falls behind it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use contracts::LogId;
use uuid::Uuid;

use crate::store::FeedPosition;

const VERSION: u8 = 1;
const LENGTH: usize = 1 + 8 + 8 + 16;

/// Everything up to and including `(xid, id)` has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The database's feed epoch; a restore starts a new one.
    pub epoch: i64,
    /// Transaction that stored the log.
    pub xid: u64,
    /// Place inside the transaction.
    pub id: LogId,
}

impl Position {
    /// Before everything that is not stored for certain yet.
    pub(super) fn before(now: FeedPosition) -> Self {
        let id = LogId(Uuid::max());
        Self { epoch: now.epoch, xid: now.horizon.saturating_sub(1), id }
    }

    /// Whether a log at `(xid, id)` was sent before.
    pub(super) fn covers(self, xid: u64, id: LogId) -> bool {
        (xid, id) <= (self.xid, self.id)
    }

    /// The later of the two.
    pub(super) fn max(self, other: Self) -> Self {
        if (other.xid, other.id) > (self.xid, self.id) { other } else { self }
    }

    /// The text for clients.
    pub fn encode(self) -> String {
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.epoch.to_be_bytes());
        bytes.extend_from_slice(&self.xid.to_be_bytes());
        bytes.extend_from_slice(self.id.0.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads the text; `None` when it is damaged.
    pub fn decode(text: &str) -> Option<Self> {
        let bytes: [u8; LENGTH] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let position = Self {
            epoch: i64::from_be_bytes(bytes[1..9].try_into().ok()?),
            xid: u64::from_be_bytes(bytes[9..17].try_into().ok()?),
            id: LogId(Uuid::from_slice(&bytes[17..]).ok()?),
        };
        (bytes[0] == VERSION).then_some(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn reads_back(epoch in any::<i64>(), xid in any::<u64>(), id in any::<u128>()) {
            let position = Position { epoch, xid, id: LogId(Uuid::from_u128(id)) };
            let text = position.encode();
            // A close frame's reason holds 123 bytes.
            prop_assert!(text.len() <= 60);
            prop_assert_eq!(Position::decode(&text), Some(position));
        }

        #[test]
        fn damaged_text_is_none(text in ".{0,60}") {
            prop_assert_eq!(Position::decode(&text), None);
        }
    }

    #[test]
    fn the_start_is_before_what_is_still_open() {
        let start = Position::before(FeedPosition { epoch: 1, horizon: 10 });
        assert!(start.covers(9, LogId(Uuid::max())));
        assert!(!start.covers(10, LogId(Uuid::nil())));
    }
}

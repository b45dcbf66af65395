//! One stored log as it travels through Redis: a line of JSON, then the record's bytes.
//! The record is neither decoded nor encoded on the way.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use contracts::{LogId, Tenant};
use serde::{Deserialize, Serialize};

/// Records above this travel without their bytes, to bound Redis' memory; the reader fetches them
/// from the database.
pub const RECORD_BYTES_MAX: usize = 32 * 1024;

/// The header's version that this build writes and reads.
const VERSION: u32 = 1;

/// One stored log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedEvent {
    /// Whose log.
    pub tenant: Tenant,
    /// The log; readers drop repeats by it.
    pub id: LogId,
    /// With `id` the place in the feed's order: `logs.ingest_xid`.
    pub ingest_xid: u64,
    /// The server's time, microseconds.
    pub recorded_at: DateTime<Utc>,
    /// The canonical record. One over [`RECORD_BYTES_MAX`] arrives as `None`.
    pub record: Option<Bytes>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    v: u32,
    tenant: Tenant,
    id: LogId,
    xid: u64,
    recorded_us: i64,
    record: bool,
}

impl FeedEvent {
    /// The bytes on the wire.
    pub(super) fn encode(&self) -> Vec<u8> {
        let record = self.record.as_ref().filter(|record| record.len() <= RECORD_BYTES_MAX);
        let header = Header {
            v: VERSION,
            tenant: self.tenant.clone(),
            id: self.id,
            xid: self.ingest_xid,
            recorded_us: self.recorded_at.timestamp_micros(),
            record: record.is_some(),
        };
        let mut bytes = serde_json::to_vec(&header).expect("numbers and text are always JSON");
        bytes.push(b'\n');
        bytes.extend(record.into_iter().flatten());
        bytes
    }

    /// Reads them; `None` when they are of another version, or damaged.
    pub(super) fn decode(bytes: &Bytes) -> Option<Self> {
        let line_feed = bytes.iter().position(|byte| *byte == b'\n')?;
        let header: Header = serde_json::from_slice(&bytes[..line_feed]).ok()?;
        if header.v != VERSION {
            return None;
        }
        Some(Self {
            tenant: header.tenant,
            id: header.id,
            ingest_xid: header.xid,
            recorded_at: DateTime::from_timestamp_micros(header.recorded_us)?,
            record: header.record.then(|| bytes.slice(line_feed + 1..)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{FeedEvent, RECORD_BYTES_MAX};
    use bytes::Bytes;

    fn event(record: Option<Bytes>) -> FeedEvent {
        FeedEvent {
            tenant: "acme".parse().unwrap(),
            id: "0190a6a0-0000-7000-8000-000000000001".parse().unwrap(),
            ingest_xid: 771,
            recorded_at: "2026-11-21T12:00:00.000001Z".parse().unwrap(),
            record,
        }
    }

    #[test]
    fn the_wire_shape_is_pinned() {
        let bytes = event(Some(Bytes::from_static(b"{\"id\":1}"))).encode();
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "{\"v\":1,\"tenant\":\"acme\",\"id\":\"0190a6a0-0000-7000-8000-000000000001\",\
             \"xid\":771,\"recorded_us\":1795262400000001,\"record\":true}\n{\"id\":1}"
        );
    }

    #[test]
    fn comes_back_equal_but_for_a_record_that_is_too_long() {
        for len in [0, RECORD_BYTES_MAX] {
            let event = event(Some(Bytes::from(vec![b'\n'; len])));
            assert_eq!(FeedEvent::decode(&event.encode().into()), Some(event));
        }
        let long = event(Some(Bytes::from(vec![b'x'; RECORD_BYTES_MAX + 1])));
        assert_eq!(FeedEvent::decode(&long.encode().into()), Some(event(None)));
        assert_eq!(FeedEvent::decode(&Bytes::from_static(b"{\"v\":2}\n")), None);
    }
}

//! One stored log as it travels through Redis: a small header, a line feed, the record's bytes.
//! The record is neither decoded nor encoded on the way.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use contracts::{LogId, Tenant};

/// Records above this travel without their bytes, to bound Redis' memory; the reader fetches them
/// from the database.
pub const RECORD_BYTES_MAX: usize = 32 * 1024;

/// One stored log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedEvent {
    /// Whose log.
    pub tenant: Tenant,
    /// The log; readers drop repeats by it.
    pub id: LogId,
    /// With `id` the place in the feed's order: `logs.ingest_xid`.
    pub ingest_xid: u64,
    /// The server's time.
    pub recorded_at: DateTime<Utc>,
    /// The canonical record; `None` when it is over [`RECORD_BYTES_MAX`].
    pub record: Option<Bytes>,
}

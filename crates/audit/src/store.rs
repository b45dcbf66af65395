//! All SQL of the audit subsystem. Every function takes a connection, so the caller chooses the
//! role and, for the API, the tenant (`Database::tenant`); the tenant stands in every query all the
//! same. Errors are sqlx's, read by `database::classify`; only `PostgresLogs`
//! repeats a transaction, where PostgreSQL asks for it.

mod candidates;
pub(crate) mod chain;
mod erase;
pub mod holds;
mod insert;
mod locks;
pub mod policies;
mod port;
mod read;
mod reserve;
mod revise;
mod revisions;
mod scan;
mod self_audit;
mod tickets;

pub use candidates::{CHUNK_ROWS, Fed, feed};
/// The keys that sign the archive, as an operator sets them up.
pub mod signing_keys {
    pub use super::chain::{KeyOverview, SigningKey, newest_key, overview, put_key};
}

pub use erase::{TOMBSTONE_DAYS, erase, erased_among};
pub use insert::{insert_batch, insert_rows};
pub use port::{LogStore, PostgresLogs, StoreError};
pub use read::{FeedPosition, backfill_after, feed_position, fetch_by_keys, fetch_page, find};
pub use reserve::{INGEST_KEY_HOURS, Reservation, Reserved, mark_published, reserve_ingest_key};
pub use revise::append_revision;
pub use revisions::{REVISIONS_READ_MAX, StoredRevision, revisions};
pub use scan::{keys_between, logs_estimated, months, times_stored};
pub use self_audit::record_self_audit;
pub use tickets::{TICKETS_MAX, put_ticket, take_ticket};

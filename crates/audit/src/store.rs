//! All SQL of the audit subsystem. Every function takes a connection, so the caller chooses the
//! role and, for the API, the tenant (`Database::tenant`); the tenant stands in every query all the
//! same. Errors are sqlx's, read by `database::classify`; only `PostgresLogs`
//! repeats a transaction, where PostgreSQL asks for it.

pub(crate) mod alarms;
mod archived;
mod candidates;
pub(crate) mod chain;
pub(crate) mod cleanup;
mod discards;
mod erase;
pub(crate) mod erasures;
pub(crate) mod expiring;
mod export;
pub mod holds;
mod insert;
mod locks;
pub mod planning;
pub mod policies;
mod port;
mod read;
pub(crate) mod reconcile;
mod reserve;
mod revise;
mod revisions;
mod runs;
mod scan;
mod self_audit;
pub mod slots;
mod tickets;
mod units;

pub use archived::{
    ArchivedObject, MARKS_MAX, OBJECTS_PAGE_MAX, archived_among, archived_object, mark_archived,
    objects_between, objects_holding, unmark_archived,
};
pub use candidates::{CHUNK_ROWS, Fed, feed, feed_these};
pub use cleanup::{BATCH_ROWS_MAX, Cleanup, cleanup};
pub(crate) use discards::{Discard, due_discards, end_discard, look_again};

/// The keys that sign the archive, as an operator sets them up.
pub mod signing_keys {
    pub use super::chain::{KeyOverview, SigningKey, newest_key, overview, put_key};
}

pub use erase::{TOMBSTONE_DAYS, erase, erased_among};
pub use export::{
    ExportRevision, ExportRow, REVISIONS_EXPORTED_MAX, Wanted, erased_of, export_by_key,
    export_revisions, export_rows, keys_of, other_keys, revised_together, snapshot_xmin,
};
pub use insert::{insert_batch, insert_rows};
pub use port::{LogStore, PostgresLogs, StoreError};
pub use read::{FeedPosition, backfill_after, feed_position, fetch_by_keys, fetch_page, find};
pub use reserve::{INGEST_KEY_HOURS, Reservation, Reserved, mark_published, reserve_ingest_key};
pub use revise::append_revision;
pub use revisions::{REVISIONS_READ_MAX, StoredRevision, revisions};
pub use runs::{
    Begun, Large, Planned, RUNS_PAGE_MAX, RunEnd, Step, approve_run, begin_run, brake_run,
    keep_plan, run, run_with, runs, start_run, stop_run,
};
pub use scan::{keys_between, logs_estimated, months, times_stored};
pub use self_audit::record_self_audit;
pub use tickets::{TICKETS_MAX, put_ticket, take_ticket};
pub use units::{
    Claim, Claimed, Deletion, Moved, OPEN_RANGES_MAX, Sealing, UNITS_ADDED_MAX, UnitError,
    add_units, allot_part, attend_units, claim_unit, delete_some, delete_unit, empty_unit,
    fail_unit, finish_unit, index_object, keep_unit, next_part, note_receipt, note_upload,
    open_ranges, release_claim, renew_claim, seal_unit, spare_unit, unit, units_of, unwrite_unit,
    write_unit,
};

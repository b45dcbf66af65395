//! What the reconciler asks of PostgreSQL, and the statements by which it mends what was rolled back. The
//! chain's rows are added after their published end, under the chain's lock, and never changed; rows of logs
//! are counted and compared here, and deleted by [`super::cleanup`] alone.

mod chain;
mod objects;
mod rows;

pub(crate) use chain::{
    Known, has_key, hash_of, known_chain, leaves, public_keys, receipt, seal_again, set_seal,
};
pub(crate) use objects::{
    Indexed, StoreName, class_of_unit, index_object, mark_stored, names_in_use, names_of,
    objects_of_manifest, supersede, term_of, unbacked_marks,
};
pub(crate) use rows::{
    HourCounts, Listed, StoredKey, buried_receipts, buried_rows, bury_listed, hours, lock_cleanup,
    marks, share, stored_keys, tenants,
};

//! The cleanup worker against a real database, search in it and a directory in the bucket's place: what it
//! deletes is gone everywhere, and an auditor verifies the receipts from the files alone.

mod crash;
mod evidence;
mod expired;
mod faults;
mod holds;
mod policy;
mod requests;
pub(crate) mod scene;
mod superseding;
mod units;

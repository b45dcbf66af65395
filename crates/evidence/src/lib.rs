//! What the audit archive proves, and how: Merkle trees, objects, manifests, receipts, heads, and the
//! verification of all of them from downloaded files and public keys alone. The formats are in
//! `docs/ARCHIVE.md`.
//!
//! It never opens a connection, reads a clock, asks the environment or deletes anything: it takes bytes
//! and times, and answers values.

pub mod codec;
pub mod hash;
pub mod line;
pub mod merkle;
pub mod moment;
pub mod object;

pub use codec::Codec;
pub use hash::{Hash, InvalidHash};

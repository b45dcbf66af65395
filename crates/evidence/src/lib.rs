//! What the audit archive proves, and how: Merkle trees, objects, manifests, receipts, heads, and the
//! verification of all of them from downloaded files and public keys alone. The formats are in
//! `docs/ARCHIVE.md`.
//!
//! It never opens a connection, reads a clock, asks the environment or deletes anything: it takes bytes
//! and times, and answers values.

pub mod bundle;
pub mod codec;
pub mod document;
pub mod hash;
pub mod head;
pub mod key;
pub mod line;
pub mod merkle;
pub mod moment;
pub mod note;
pub mod object;
pub mod source;
pub mod verify;

pub use codec::Codec;
pub use document::{Document, Sealed};
pub use hash::{Hash, InvalidHash};
pub use head::{Head, SignedHead};
pub use key::{MemorySigner, Signer, VerifyKey};

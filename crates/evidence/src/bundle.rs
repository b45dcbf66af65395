//! The evidence for one event, in a folder that stands by itself: the event's bytes with the proof that
//! a manifest covers them, or the receipt of its deletion with the proof that it was among what was
//! deleted; the documents, a signed head that counts them, and a page in plain words.
//!
//! Making it believes the archive; checking it believes nothing but the given keys.

mod assemble;
mod check;
mod page;

use std::collections::BTreeMap;

use contracts::Tenant;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::hash::Hash;
use crate::merkle::InclusionProof;

pub use assemble::{NoEvidence, assemble};
pub use check::{BundleReport, Doubt, check, is_bundle};

/// The file that says what the others are.
pub const INDEX: &str = "evidence.json";
/// The event's line.
pub const EVENT: &str = "event.json";
/// The head.
pub const HEAD: &str = "head.checkpoint";
/// The page in plain words.
pub const PAGE: &str = "README.txt";
/// Bytes of the index at most.
pub const INDEX_BYTES_MAX: u64 = 1024 * 1024;

/// A bundle's files by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// What the files prove, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Which version this is.
    #[serde(rename = "type")]
    pub version: Version,
    /// Whose event.
    pub tenant: Tenant,
    /// Which.
    pub id: Uuid,
    /// The event in an archive object; none when no object holds it any more.
    pub archived: Option<Archived>,
    /// The event in a list of deleted ids, if it is in one.
    pub deleted: Option<Deleted>,
    /// The documents, in the order of the chain: key records, the manifest, receipts.
    pub documents: Vec<Placed>,
    /// Whether there is a head.
    pub head: bool,
}

/// The one version so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    /// See `docs/ARCHIVE.md`.
    #[serde(rename = "flotilla.evidence/v1")]
    V1,
}

/// That a manifest's root covers the event's line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archived {
    /// The manifest's sequence number.
    pub manifest: u64,
    /// 32 hexadecimal digits.
    pub salt: String,
    /// The line's place under the manifest's root.
    pub proof: InclusionProof,
}

/// That a receipt's list holds the event's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deleted {
    /// The receipt's sequence number.
    pub receipt: u64,
    /// The leaf that the event had in the archive.
    pub leaf: Hash,
    /// The entry's place under the list's root.
    pub proof: InclusionProof,
}

/// A document and its place under the head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placed {
    /// The file.
    pub file: String,
    /// Its place under the head's root; none when the head is older.
    pub proof: Option<InclusionProof>,
}

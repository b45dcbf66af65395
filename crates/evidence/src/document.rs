//! The signed documents of a tenant's chain: key records, manifests and deletion receipts. A document
//! is one line of canonical JSON (RFC 8785) and its line feed; it names the SHA-256 of the one before
//! it, and is sealed by a signed note that names its own.
//!
//! It decides nothing about what is archived or deleted, and takes its times from the caller.

mod manifest;
mod names;
mod receipt;
mod sealed;
#[cfg(test)]
mod tests;

use chrono::{DateTime, TimeDelta, Utc};
use contracts::Tenant;
use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use crate::moment;

pub use manifest::{ERASED_MAX, Erased, Manifest, Supersedes};
pub use names::{
    DocumentName, InvalidUnit, Unit, chain_prefix, deleted_ids_name, document_name, head_name,
    heads_prefix, object_name, objects_prefix, parse_document_name, proof_prefix,
};
pub use receipt::{
    DELETED_ID_BYTES, DeletedIds, HoldsChecked, ManifestRef, Receipt, Scope, Survivor, deleted_leaf,
};
pub use sealed::{BadDocument, Sealed, seal};

/// Bytes of a document with its seal at most.
pub const DOCUMENT_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// How far a clock may be behind the chain's last document; further is refused. Up to here the
/// document takes the last one's time, so that times never go back along a chain.
pub const CLOCK_SKEW_MAX: TimeDelta = TimeDelta::seconds(60);

/// One document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Its place in the chain.
    #[serde(flatten)]
    pub header: Header,
    /// What it says.
    #[serde(flatten)]
    pub body: Body,
}

/// Where a document stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Whose chain.
    pub tenant: Tenant,
    /// Counted from 1, without gaps.
    pub sequence: u64,
    /// SHA-256 of the document before it; none for the first.
    pub previous: Option<Hash>,
    /// When it was issued; never before the one before it.
    #[serde(with = "moment")]
    pub issued_at: DateTime<Utc>,
    /// How it is signed.
    pub alg: Algorithm,
    /// With which key.
    pub key_id: String,
}

/// Signature algorithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Pure Ed25519, RFC 8032.
    Ed25519,
}

/// What a document says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Body {
    /// Which key signs from here on.
    #[serde(rename = "flotilla.key/v1")]
    Key(KeyRecord),
    /// What an archive object holds.
    #[serde(rename = "flotilla.manifest/v1")]
    Manifest(Box<Manifest>),
    /// What was deleted, and why.
    #[serde(rename = "flotilla.receipt/v1")]
    Receipt(Box<Receipt>),
}

/// The kinds of document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// [`KeyRecord`].
    Key,
    /// [`Manifest`].
    Manifest,
    /// [`Receipt`].
    Receipt,
}

impl Kind {
    /// As it stands in names and statements.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Manifest => "manifest",
            Self::Receipt => "receipt",
        }
    }
}

impl Body {
    /// Which kind it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Key(_) => Kind::Key,
            Self::Manifest(_) => Kind::Manifest,
            Self::Receipt(_) => Kind::Receipt,
        }
    }
}

/// The key that signs every document after this one. The first document of a chain is one, signed by
/// the key itself; a rotation is signed by the old key and by the new one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// The key, as signed notes write it.
    pub public_key: String,
    /// Id of the key that it takes over from; none in a chain's first document.
    pub replaces: Option<String>,
    /// Why, in words: `first`, `rotation`, `compromise`, …
    pub reason: String,
}

/// By whose rule something was archived or deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Basis {
    /// A retention policy.
    Policy {
        /// Its id.
        id: String,
        /// The version that the run used.
        version: u64,
    },
    /// Somebody's request, e.g. a clean-up or an erasure.
    Request {
        /// Its id.
        id: String,
    },
}

/// The end of a chain: what the next document follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainEnd {
    /// Documents so far.
    pub sequence: u64,
    /// SHA-256 of the last.
    pub hash: Hash,
    /// When it was issued.
    pub issued_at: DateTime<Utc>,
}

/// The clock says a time well before the chain's last document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the clock says {now}, the chain's last document is of {last}: nothing is issued until the clock is right"
)]
pub struct ClockBehind {
    /// What the clock said.
    pub now: DateTime<Utc>,
    /// The last document's time.
    pub last: DateTime<Utc>,
}

impl Header {
    /// The header of the document that follows `end`, or of the first. Take it in the transaction that
    /// holds the chain's end locked.
    pub fn next(
        tenant: &Tenant,
        end: Option<ChainEnd>,
        now: DateTime<Utc>,
        key_id: String,
    ) -> Result<Self, ClockBehind> {
        let last = end.map_or(now, |end| end.issued_at);
        if last - now > CLOCK_SKEW_MAX {
            return Err(ClockBehind { now, last });
        }
        Ok(Self {
            tenant: tenant.clone(),
            sequence: end.map_or(0, |end| end.sequence) + 1,
            previous: end.map(|end| end.hash),
            issued_at: now.max(last),
            alg: Algorithm::Ed25519,
            key_id,
        })
    }
}

impl Document {
    /// Its bytes: canonical JSON and a line feed.
    pub fn bytes(&self) -> Vec<u8> {
        // A document holds texts, whole numbers below 2^53, lists and objects: nothing that JSON lacks.
        let mut bytes = serde_json_canonicalizer::to_vec(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// The end of the chain once this document is its last.
    pub fn end(&self) -> ChainEnd {
        let Header { sequence, issued_at, .. } = self.header;
        ChainEnd { sequence, hash: Hash::of(self.bytes()), issued_at }
    }
}

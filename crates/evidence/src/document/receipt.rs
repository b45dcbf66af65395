//! The deletion receipt: what was deleted, from where, by whose rule, after which checks, and what
//! survives elsewhere. With the list of deleted ids it proves of one event, years later, that it was
//! among them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Basis, Unit};
use crate::hash::Hash;
use crate::merkle;
use crate::moment;

/// Bytes of one entry in a list of deleted ids: the id, then the event's leaf.
pub const DELETED_ID_BYTES: usize = 16 + 32;

/// What was deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// From where.
    pub scope: Scope,
    /// The unit of work; one receipt per unit and scope.
    pub unit: Unit,
    /// By whose rule.
    pub basis: Basis,
    /// Who asked: a key's id, a user, or `scheduler`.
    pub requester: String,
    /// The archive that holds what was deleted, or that was itself deleted; none for a deletion
    /// without an archive.
    pub manifest: Option<ManifestRef>,
    /// Events that were there and are gone.
    pub deleted: u64,
    /// Events that were gone before, e.g. erased.
    pub already_gone: u64,
    /// Events that stay: a hold keeps them, they are not due any more, they were changed since, or the
    /// deletion had to stop before them.
    pub held: u64,
    /// Which events; none when `scope` is `object`, where the manifest says it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ids: Option<DeletedIds>,
    /// The holds that were looked at in the deleting transaction.
    pub holds: HoldsChecked,
    /// When the deletion took effect.
    #[serde(with = "moment")]
    pub deleted_at: DateTime<Utc>,
    /// When search was counted to none of them; none when `scope` is `object`.
    #[serde(with = "moment::maybe", skip_serializing_if = "Option::is_none", default)]
    pub search_empty_at: Option<DateTime<Utc>>,
    /// Copies that the deletion did not reach.
    pub survives: Vec<Survivor>,
}

/// From where something was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Rows of PostgreSQL and documents of search.
    Rows,
    /// An archive object.
    Object,
}

/// A manifest of the same chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestRef {
    /// Its sequence number.
    pub sequence: u64,
    /// SHA-256 of its document.
    pub sha256: Hash,
}

/// The list of deleted ids: entries of [`DELETED_ID_BYTES`], sorted by id, kept as an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedIds {
    /// The object's name.
    pub object: String,
    /// SHA-256 of the list.
    pub sha256: Hash,
    /// RFC 6962 root over the entries.
    pub root: Hash,
}

/// What was known of legal holds when it counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldsChecked {
    /// When.
    #[serde(with = "moment")]
    pub at: DateTime<Utc>,
    /// Holds in force for the tenant.
    pub in_force: u64,
}

/// A copy that outlives the deletion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survivor {
    /// Where, in words.
    pub place: String,
    /// Until when at most; none when nobody knows.
    #[serde(with = "moment::maybe")]
    pub until: Option<DateTime<Utc>>,
}

/// The leaf of a deleted event: `SHA-256(0x00 ‖ id ‖ leaf of the event)`.
pub fn deleted_leaf(id: Uuid, event_leaf: &Hash) -> Hash {
    merkle::leaf(&[&id.as_bytes()[..], &event_leaf.0].concat())
}

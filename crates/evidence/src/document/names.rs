//! What objects and documents are called, in a bucket as in a directory of downloaded files. Names use
//! the alphabet of the objects sink and sort in the order of the chain.

use chrono::{DateTime, Utc};
use contracts::Tenant;
use serde::{Deserialize, Serialize};

use super::Kind;
use crate::codec::Codec;

/// A unit of work's name, `[A-Za-z0-9._=-]{1,100}`: it stands in objects' names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Unit(String);

/// A text that names no unit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no unit of work: 1 to 100 of A-Z a-z 0-9 . _ = -")]
pub struct InvalidUnit(String);

impl TryFrom<String> for Unit {
    type Error = InvalidUnit;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._=-".contains(&byte);
        let dots = text.bytes().all(|byte| byte == b'.');
        if (1..=100).contains(&text.len()) && text.bytes().all(known) && !dots {
            Ok(Self(text))
        } else {
            Err(InvalidUnit(text.chars().take(100).collect()))
        }
    }
}

impl From<Unit> for String {
    fn from(unit: Unit) -> Self {
        unit.0
    }
}

/// Where every tenant's documents are.
pub fn proof_prefix() -> &'static str {
    "proof/"
}

/// Where a tenant's chain is.
pub fn chain_prefix(tenant: &Tenant) -> String {
    format!("proof/{tenant}/chain/")
}

/// Where its heads are.
pub fn heads_prefix(tenant: &Tenant) -> String {
    format!("proof/{tenant}/heads/")
}

/// Where its objects are.
pub fn objects_prefix(tenant: &Tenant) -> String {
    format!("archive/{tenant}/")
}

/// A part of an hour: `archive/acme/year=2026/month=01/day=31/hour=23/part-00001.ndjson.zst`.
pub fn object_name(tenant: &Tenant, hour: DateTime<Utc>, part: u32, codec: Codec) -> String {
    let hour = hour.format("year=%Y/month=%m/day=%d/hour=%H");
    format!("archive/{tenant}/{hour}/part-{part:05}.ndjson.{}", codec.extension())
}

/// A document: `proof/acme/chain/000000000017-manifest.note`.
pub fn document_name(tenant: &Tenant, sequence: u64, kind: Kind) -> String {
    format!("{}{sequence:012}-{}.note", chain_prefix(tenant), kind.as_str())
}

/// A head: `proof/acme/heads/20260131T230000Z-000000000017.checkpoint`.
pub fn head_name(tenant: &Tenant, at: DateTime<Utc>, size: u64) -> String {
    format!("{}{}-{size:012}.checkpoint", heads_prefix(tenant), at.format("%Y%m%dT%H%M%SZ"))
}

/// The list of ids that a unit deleted.
pub fn deleted_ids_name(tenant: &Tenant, unit: &Unit) -> String {
    format!("proof/{tenant}/deleted/{}.ids", unit.0)
}

/// What the name of a document says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DocumentName {
    /// Its place in the chain.
    pub sequence: u64,
    /// What it is.
    pub kind: Kind,
}

/// Reads the last part of a document's name.
pub fn parse_document_name(file: &str) -> Option<DocumentName> {
    let (number, kind) = file.strip_suffix(".note")?.split_once('-')?;
    let kind =
        [Kind::Key, Kind::Manifest, Kind::Receipt].into_iter().find(|k| k.as_str() == kind)?;
    let digits = number.len() == 12 && number.bytes().all(|byte| byte.is_ascii_digit());
    let sequence = digits.then(|| number.parse().ok()).flatten().filter(|number| *number > 0)?;
    Some(DocumentName { sequence, kind })
}

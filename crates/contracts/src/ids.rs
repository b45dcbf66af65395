//! Identifiers, a type each, so that a log's id never stands where an envelope's belongs.
//! They are parsed once at the edge; nothing behind it checks them again.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

uuid_id! {
    /// One accepted audit log. `UUIDv7`: its millisecond is that of `recorded_at`, so a read by id
    /// touches one partition per class.
    LogId
}
uuid_id! {
    /// One message as we published it. Survives redrive and re-sending, unlike the SQS message id;
    /// it is what the ledger and the attempt store are keyed by.
    EnvelopeId
}

/// A `UUIDv7` for the given time: milliseconds from `at`, the other 74 bits random.
pub fn uuid_v7_at(at: DateTime<Utc>, random: [u8; 10]) -> Uuid {
    let millis = u64::try_from(at.timestamp_millis()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

impl LogId {
    /// The millisecond the id carries, which is that of the log's `recorded_at`; `None` when the
    /// id is not a `UUIDv7` (a legacy message's id is a `UUIDv5`).
    pub fn recorded_millis(self) -> Option<DateTime<Utc>> {
        let (seconds, nanos) = self.0.get_timestamp()?.to_unix();
        (self.0.get_version_num() == 7)
            .then(|| DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanos))
            .flatten()
    }
}

/// A tenant's name, `^[a-z0-9][a-z0-9-]{0,62}$`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tenant(std::sync::Arc<str>);

/// The tenant that the fleet writes its own audit trail to; nobody else may use it.
pub const SYSTEM_TENANT: &str = "system";

impl Tenant {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The reserved tenant of the fleet's own audit trail.
    pub fn system() -> Self {
        Self(SYSTEM_TENANT.into())
    }
}

/// A tenant name outside `^[a-z0-9][a-z0-9-]{0,62}$`.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a tenant name: 1 to 63 of a-z, 0-9 and -, not starting with -, e.g. acme-eu")]
pub struct InvalidTenant(String);

impl FromStr for Tenant {
    type Err = InvalidTenant;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = text.as_bytes();
        let valid = (1..=63).contains(&bytes.len())
            && bytes[0] != b'-'
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-');
        if valid {
            Ok(Self(text.into()))
        } else {
            Err(InvalidTenant(text.chars().take(80).collect()))
        }
    }
}

impl TryFrom<String> for Tenant {
    type Error = InvalidTenant;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Tenant> for String {
    fn from(tenant: Tenant) -> Self {
        tenant.0.as_ref().to_owned()
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

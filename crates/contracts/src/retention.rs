//! Retention classes: how long a log is kept, decided at ingest, carried in the record and used to
//! partition the table. A class never changes after ingest; policies refine inside it.

use serde::{Deserialize, Serialize};

/// How long logs of a class are kept, and so how its partitions are cut.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum RetentionClass {
    /// Seven days, daily partitions.
    #[serde(rename = "7d")]
    Days7,
    /// Thirty days, daily partitions.
    #[serde(rename = "30d")]
    Days30,
    /// Ninety days, daily partitions.
    #[serde(rename = "90d")]
    Days90,
    /// One year, monthly partitions.
    #[serde(rename = "1y")]
    Year1,
    /// Seven years, monthly partitions.
    #[serde(rename = "7y")]
    Years7,
    /// As the tenant's own policy says, monthly partitions, deleted by row.
    #[serde(rename = "custom")]
    Custom,
}

impl RetentionClass {
    /// Every class, shortest first.
    pub const ALL: [Self; 6] =
        [Self::Days7, Self::Days30, Self::Days90, Self::Year1, Self::Years7, Self::Custom];

    /// The name on the wire, in SQL and in index names.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Days7 => "7d",
            Self::Days30 => "30d",
            Self::Days90 => "90d",
            Self::Year1 => "1y",
            Self::Years7 => "7y",
            Self::Custom => "custom",
        }
    }

    /// Whether partitions are cut by day (short classes) or by month.
    pub const fn partitions_daily(self) -> bool {
        matches!(self, Self::Days7 | Self::Days30 | Self::Days90)
    }
}

/// A name that is no retention class.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a retention class; one of 7d, 30d, 90d, 1y, 7y, custom")]
pub struct UnknownClass(String);

impl std::str::FromStr for RetentionClass {
    type Err = UnknownClass;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|class| class.as_str() == text)
            .ok_or_else(|| UnknownClass(text.chars().take(40).collect()))
    }
}

impl std::fmt::Display for RetentionClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

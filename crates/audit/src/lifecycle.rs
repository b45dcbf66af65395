//! The life of stored logs after their term, as data: runs of policies and requests, their units of
//! work, and which step may follow which. Pure: no SQL, no clock; the steps themselves are in `store`.

pub mod request;
pub mod run;
pub mod unit;

pub use run::{Basis, Counters, NewRun, Run, RunState, Tally};
pub use unit::{KeyRange, NewUnit, Unit, UnitState, Work};

/// Characters of a reason that are kept at most; PostgreSQL's checks say the same.
pub const REASON_CHARS_MAX: usize = 2_000;

/// A reason as it is stored: bounded, and without what PostgreSQL's text refuses.
pub fn bounded(reason: &str) -> String {
    reason.chars().filter(|c| *c != '\0').take(REASON_CHARS_MAX).collect()
}

macro_rules! words {
    ($(#[$doc:meta])* pub enum $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant),+
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name in SQL and on the wire.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::lifecycle::UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::ALL
                    .iter()
                    .copied()
                    .find(|word| word.as_str() == text)
                    .ok_or_else(|| crate::lifecycle::UnknownWord(text.to_owned()))
            }
        }
    };
}
pub(crate) use words;

/// A word in the database that this release does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no state or kind that this release knows")]
pub struct UnknownWord(pub String);

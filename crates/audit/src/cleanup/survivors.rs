//! What survives a deletion elsewhere, as the configuration says it: snapshots, backups. Receipts repeat
//! it; nobody checks it.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use evidence::document::Survivor;

use crate::retention::Term;

/// Characters of a place at most.
const PLACE_CHARS_MAX: usize = 100;

/// A copy that no deletion reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    name: String,
    /// `None`: nobody knows.
    term: Option<Term>,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survivors(Vec<Place>);

/// A text that says no such thing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} names no surviving copy: write PLACE=TERM, e.g. RDS snapshots=P35D, or PLACE=unknown"
)]
pub struct InvalidSurvivor(String);

impl Survivors {
    /// With those of the texts.
    pub fn read(texts: &[String]) -> Result<Self, InvalidSurvivor> {
        texts.iter().map(|text| text.parse()).collect::<Result<_, _>>().map(Self)
    }

    /// As a receipt of that time says it.
    pub(super) fn after(&self, deleted_at: DateTime<Utc>) -> Vec<Survivor> {
        let survivor = |place: &Place| Survivor {
            place: place.name.clone(),
            until: place.term.map(|term| term.after(deleted_at)),
        };
        self.0.iter().map(survivor).collect()
    }
}

impl FromStr for Place {
    type Err = InvalidSurvivor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidSurvivor(text.chars().take(PLACE_CHARS_MAX).collect());
        let (name, term) = text.split_once('=').ok_or_else(invalid)?;
        let name = name.trim();
        if name.is_empty() || name.chars().count() > PLACE_CHARS_MAX {
            return Err(invalid());
        }
        let term = match term.trim() {
            "unknown" => None,
            term => Some(term.parse().map_err(|_| invalid())?),
        };
        Ok(Self { name: name.to_owned(), term })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_survives_is_read_and_dated() {
        let texts = ["RDS snapshots=P35D".to_owned(), "tapes=unknown".to_owned()];
        let at = "2026-01-01T00:00:00Z".parse().unwrap();
        let after = Survivors::read(&texts).unwrap().after(at);
        assert_eq!(after[0].place, "RDS snapshots");
        assert_eq!(after[0].until, Some("2026-02-05T00:00:00Z".parse().unwrap()));
        assert_eq!((after[1].place.as_str(), after[1].until), ("tapes", None));
        for bad in ["", "P35D", "=P35D", "backups=", "backups=35 days"] {
            assert!(Survivors::read(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}

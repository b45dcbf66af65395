//! What a reconciliation can find: a closed list of kinds. Each is counted whole; of each, some are shown.

use std::collections::BTreeMap;
use std::fmt::Display;

use chrono::{DateTime, Utc};
use serde::Serialize;

/// Findings of one kind that are shown; the others are counted.
pub const EXAMPLES_MAX: usize = 100;

macro_rules! kinds {
    ($($name:ident $text:literal $meaning:literal,)*) => {
        /// The kinds of findings.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub enum FindingKind {
            $(
                #[doc = $meaning]
                #[serde(rename = $text)]
                $name,
            )*
        }

        impl FindingKind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// As reports and metrics write it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// What it means.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => $meaning,)*
                }
            }
        }
    };
}

kinds! {
    ChainBroken "chain-broken"
        "The published chain and PostgreSQL's are two: one number, two documents, or documents that a signed head counts are nowhere.",
    ChainRolledBack "chain-rolled-back"
        "The archive's store holds documents behind the end of PostgreSQL's chain: PostgreSQL was restored to an earlier point.",
    DocumentUnpublished "document-unpublished"
        "PostgreSQL says that a document of the chain is in the archive's store, and it is not.",
    NotSearchable "not-searchable"
        "The log is stored and search does not find it.",
    NotStored "not-stored"
        "Search finds the log and PostgreSQL does not store it.",
    ObjectMissing "object-missing"
        "The archive's index names an object that the store has not.",
    ObjectDiffers "object-differs"
        "The store's object is not of the size, or not of the bytes, that its manifest says.",
    ObjectUnknown "object-unknown"
        "The store holds an object that the archive's index does not name.",
    MarkWithoutObject "mark-without-object"
        "The log is marked as archived and its unit has no object in the archive.",
    StoredAndDeleted "stored-and-deleted"
        "The log is stored and its tombstone says that it was deleted.",
    ReceiptUnproved "receipt-unproved"
        "A receipt's list of deleted ids is not there or not the one that was signed: what it deleted cannot be deleted again.",
}

impl std::fmt::Display for FindingKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub kind: FindingKind,
    /// The log, object or document that it is about.
    pub about: String,
    /// The hour that it is in, where it is in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hour: Option<DateTime<Utc>>,
    /// In detail.
    pub detail: String,
}

/// How many there are of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Found.
    pub found: u64,
    /// Of them, those that are mended.
    pub repaired: u64,
}

/// What was found of a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// By kind.
    pub counts: BTreeMap<FindingKind, Count>,
    /// Some of each kind, at most [`EXAMPLES_MAX`].
    pub shown: Vec<Finding>,
}

impl Findings {
    /// One more.
    pub fn add(&mut self, kind: FindingKind, about: &dyn Display, detail: &str) {
        self.put(Finding { kind, about: about.to_string(), hour: None, detail: detail.to_owned() });
    }

    /// One more of that hour.
    pub(super) fn add_at(
        &mut self,
        kind: FindingKind,
        hour: DateTime<Utc>,
        about: &dyn Display,
        detail: &str,
    ) {
        let (about, detail) = (about.to_string(), detail.to_owned());
        self.put(Finding { kind, about, hour: Some(hour), detail });
    }

    fn put(&mut self, finding: Finding) {
        self.counts.entry(finding.kind).or_default().found += 1;
        let shown = self.shown.iter().filter(|other| other.kind == finding.kind).count();
        if shown < EXAMPLES_MAX {
            self.shown.push(finding);
        }
    }

    /// So many more that are not shown.
    pub(super) fn add_uncounted(&mut self, kind: FindingKind, found: u64) {
        if found > 0 {
            self.counts.entry(kind).or_default().found += found;
        }
    }

    /// So many of them are mended.
    pub(super) fn repaired(&mut self, kind: FindingKind, count: u64) {
        if count > 0 {
            self.counts.entry(kind).or_default().repaired += count;
        }
    }

    /// How many of a kind were found.
    pub fn found(&self, kind: FindingKind) -> u64 {
        self.counts.get(&kind).map_or(0, |count| count.found)
    }

    /// How many of a kind were mended.
    pub fn mended(&self, kind: FindingKind) -> u64 {
        self.counts.get(&kind).map_or(0, |count| count.repaired)
    }

    /// How many are left as they were found.
    pub fn left(&self) -> u64 {
        self.counts.values().map(|count| count.found.saturating_sub(count.repaired)).sum()
    }

    /// Whether nothing is left.
    pub fn is_clean(&self) -> bool {
        self.left() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_some_are_shown() {
        let mut findings = Findings::default();
        for number in 0..250 {
            findings.add(FindingKind::NotSearchable, &number, "stored");
        }
        findings.add(FindingKind::NotStored, &"x", "found");
        findings.repaired(FindingKind::NotSearchable, 249);
        assert_eq!(findings.shown.len(), EXAMPLES_MAX + 1);
        assert_eq!((findings.found(FindingKind::NotSearchable), findings.left()), (250, 2));
        assert!(!findings.is_clean());
    }

    #[test]
    fn every_kind_is_explained_in_the_runbook() {
        let document = include_str!("../../../../docs/operations.md");
        for kind in FindingKind::ALL {
            let row = format!("| `{kind}` | {} |", kind.meaning());
            assert!(document.contains(&row), "docs/operations.md lacks {row}");
        }
    }
}

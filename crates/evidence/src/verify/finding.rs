//! What a verification can find: a closed list of codes, each with what it means. One deed is named by
//! one code, so that a reader knows what was done and not only that a hash differs.

use serde::Serialize;

/// What was found, where, and in detail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub code: Code,
    /// The file that it is about, or that is not there.
    pub file: String,
    /// What was expected and what is there.
    pub detail: String,
    /// What the code means.
    pub meaning: &'static str,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident $text:literal $meaning:literal,)*) => {
        /// The codes of findings.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub enum Code {
            $(
                #[doc = $meaning]
                #[serde(rename = $text)]
                $name,
            )*
        }

        impl Code {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// As reports write it.
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

codes! {
    // Objects.
    ObjectCorrupt "object-corrupt"
        "The object's bytes were changed or cut: it no longer unpacks.",
    EventsEdited "events-edited"
        "The object unpacks, but its events are not those that were archived: somebody edited, added or removed events and packed them again.",
    SaltsEdited "salts-edited"
        "The events are those that were archived, but the salts beside them are not: single events of it can no longer be proved.",
    ObjectRepacked "object-repacked"
        "Every event is as it was archived, but the packed bytes are others: somebody packed the object again.",
    ObjectMisplaced "object-misplaced"
        "The object holds the bytes of another object of this archive: objects were swapped or copied over one another.",
    ObjectOfAnotherTenant "object-of-another-tenant"
        "The object holds another tenant's events, or is outside the tenant's folder.",
    ObjectMissing "object-missing"
        "The object is not there, and the chain, which has no gap behind its manifest, holds no receipt of its deletion.",
    ReceiptMissing "receipt-missing"
        "The object is not there, and documents that could have been the receipt of its deletion are missing.",
    ObjectStillThere "object-still-there"
        "A receipt says that the object was deleted, and it is there.",
    ObjectUnlisted "object-unlisted"
        "No manifest names the object: it was added, or its manifest is missing.",
    // Documents.
    DocumentUnreadable "document-unreadable"
        "The file is no document that this release can read.",
    ChainStartMissing "chain-start-missing"
        "The first documents of the chain are missing: what they listed cannot be known.",
    DocumentMissing "document-missing"
        "Documents in the middle of the chain are missing.",
    TailMissing "tail-missing"
        "A signed head counts more documents than there are: the last ones were removed.",
    DocumentMisplaced "document-misplaced"
        "The file holds a document with another number or kind than its name: documents were swapped or copied.",
    DocumentOfAnotherTenant "document-of-another-tenant"
        "The document belongs to another tenant's chain.",
    ManifestEdited "manifest-edited"
        "The manifest was changed after it was signed.",
    ManifestResigned "manifest-signed-by-another-key"
        "The manifest is signed by a key that is neither given nor introduced by a trusted one.",
    ManifestWrong "manifest-wrong"
        "The manifest is signed and contradicts itself, another document, or its own object: whoever signed it was wrong or lied.",
    ReceiptForged "receipt-forged"
        "The receipt was changed after it was signed, or was never signed by a trusted key: it proves no deletion.",
    ReceiptWrong "receipt-wrong"
        "The receipt is signed and contradicts itself, the manifest that it names, or the list of what was deleted.",
    KeyRecordForged "key-record-forged"
        "The key record was changed, or is not signed by the old and by the new key: the key that it introduces is not trusted.",
    SignedByRetiredKey "signed-by-retired-key"
        "The document is signed by a trusted key that was not the chain's key at its place.",
    ChainBroken "chain-broken"
        "The document does not follow the one before it: one of the two was replaced by whoever holds the key.",
    SupersedesWrong "supersedes-wrong"
        "The object that was written again is not the original without the erased lines: more was changed than the manifest admits.",
    DeletedIdsMissing "deleted-ids-missing"
        "The list of deleted ids that a receipt names is not there: single deletions can no longer be proved.",
    // Heads and time.
    HeadUnreadable "head-unreadable"
        "The file is no signed head.",
    HeadForged "head-forged"
        "The head is not signed by a trusted key, or is of another chain.",
    HistoryRewritten "history-rewritten"
        "A signed head commits to other documents than those that are there: the chain was written anew.",
    ClockSetBack "clock-set-back"
        "A time goes back along the chain, or lies after a document that knows of it: a clock was set back, or a time was made up.",
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Findings of one tenant that are kept; further ones are counted.
pub const FINDINGS_MAX: usize = 10_000;

/// Collects findings.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) kept: Vec<Finding>,
    pub(crate) more: u64,
}

impl Findings {
    pub(crate) fn add(&mut self, code: Code, file: &str, detail: impl Into<String>) {
        if self.kept.len() < FINDINGS_MAX {
            let (file, detail) = (file.to_owned(), detail.into());
            self.kept.push(Finding { code, file, detail, meaning: code.meaning() });
        } else {
            self.more += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_explained_in_the_documents() {
        let document = include_str!("../../../../docs/ARCHIVE.md");
        for code in Code::ALL {
            let row = format!("| `{code}` | {} |\n", code.meaning());
            assert!(document.contains(&row), "docs/ARCHIVE.md lacks {row}");
        }
    }
}

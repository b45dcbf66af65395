//! The signed heads of a tenant, checked against the tree of its documents while the chain is walked.

use chrono::{DateTime, Utc};
use contracts::Tenant;
use serde::Serialize;

use super::finding::{Code, Findings};
use super::keyring::Keyring;
use crate::document::heads_prefix;
use crate::head::{HEAD_BYTES_MAX, Head, SignedHead, origin};
use crate::merkle::Tree;
use crate::moment;
use crate::source::Source;

/// What the latest head that fits proves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proven {
    /// The chain had exactly these documents …
    pub documents: u64,
    /// … at this time.
    #[serde(serialize_with = "moment::serialize")]
    pub at: DateTime<Utc>,
    /// The head's file.
    pub head: String,
}

/// Heads by size, then time.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    waiting: std::vec::IntoIter<(Head, String)>,
    next: Option<(Head, String)>,
    /// Heads that were read and are signed.
    pub(crate) count: u64,
    /// The largest of them.
    pub(crate) largest: Option<(u64, String)>,
    pub(crate) proven: Option<Proven>,
}

impl Heads {
    pub(crate) fn read(
        source: &dyn Source,
        tenant: &Tenant,
        keys: &Keyring,
        findings: &mut Findings,
    ) -> std::io::Result<Self> {
        let mut heads = Vec::new();
        for file in source.list(&heads_prefix(tenant))? {
            let name = file.name;
            if file.bytes > HEAD_BYTES_MAX {
                findings.add(Code::HeadUnreadable, &name, "it is larger than 64 KiB");
                continue;
            }
            let bytes = source.read(&name, HEAD_BYTES_MAX)?.unwrap_or_default();
            let SignedHead { head, note } = match SignedHead::parse(&bytes) {
                Ok(signed) => signed,
                Err(error) => {
                    findings.add(Code::HeadUnreadable, &name, error.to_string());
                    continue;
                }
            };
            let ours = |key: &crate::VerifyKey| origin(key.name(), tenant) == head.origin;
            if keys.signed(&note, ours) {
                heads.push((head, name));
            } else {
                let detail =
                    format!("its origin is {}, its signers {}", head.origin, note.key_ids());
                findings.add(Code::HeadForged, &name, detail);
            }
        }
        heads.sort_by_key(|(head, _)| (head.size, head.at));
        for two in heads.windows(2) {
            if two[0].0.at > two[1].0.at {
                let detail = format!(
                    "it counts {} documents at {}, and {} counts {} at {}",
                    two[1].0.size,
                    moment::text(two[1].0.at),
                    two[0].1,
                    two[0].0.size,
                    moment::text(two[0].0.at),
                );
                findings.add(Code::ClockSetBack, &two[1].1, detail);
            }
        }
        let (count, largest) = (heads.len() as u64, heads.last());
        let largest = largest.map(|(head, name)| (head.size, name.clone()));
        let mut waiting = heads.into_iter();
        let next = waiting.next();
        Ok(Self { waiting, next, count, largest, proven: None })
    }

    /// Checks the heads of the tree's size. `last` is when the last document in it was issued.
    pub(crate) fn check(
        &mut self,
        tree: &Tree,
        last: Option<DateTime<Utc>>,
        findings: &mut Findings,
    ) {
        let here = |next: &mut (Head, String)| next.0.size <= tree.size();
        while let Some((head, name)) = self.next.take_if(here) {
            self.next = self.waiting.next();
            if head.size < tree.size() {
                // Passed over while the chain had a gap: nothing can be said of it.
            } else if head.root != tree.root() {
                let detail = format!("its root over {} documents is not theirs", head.size);
                findings.add(Code::HistoryRewritten, &name, detail);
            } else if last.is_some_and(|last| last > head.at) {
                let detail = format!(
                    "it is of {} and counts a document of {}",
                    moment::text(head.at),
                    last.map(moment::text).unwrap_or_default()
                );
                findings.add(Code::ClockSetBack, &name, detail);
            } else {
                self.proven = Some(Proven { documents: head.size, at: head.at, head: name });
            }
        }
    }
}

//! What the chain claims: which objects there are, what they hold, which were deleted. Each claim is
//! held against the documents before it at once, and against the files when the walk is over.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;

use super::finding::{Code, Findings};
use crate::document::{
    DeletedIds, ERASED_MAX, Erased, Manifest, Receipt, Scope, Sealed, Supersedes, objects_prefix,
};
use crate::hash::Hash;
use crate::moment;

/// A manifest's claim, without its index.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) object: String,
    /// The manifest's file.
    pub(crate) document: String,
    pub(crate) document_hash: Hash,
    pub(crate) packed: Hash,
    pub(crate) packed_bytes: u64,
    pub(crate) root: Hash,
    pub(crate) lines: u64,
    events: u64,
    /// Sequence number of the original, and what was erased of it.
    line_of: Option<(u64, Vec<Erased>)>,
}

/// Everything that is claimed.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    /// By the manifest's sequence number.
    pub(crate) objects: BTreeMap<u64, Claim>,
    by_name: HashMap<String, u64>,
    pub(crate) by_hash: HashMap<Hash, u64>,
    /// Receipts that say that an object is gone, by the manifest's sequence number.
    pub(crate) gone: HashMap<u64, String>,
    /// Lists of deleted ids, with their receipt's file, the manifest and the count.
    pub(crate) deleted: Vec<DeletedList>,
    /// Numbers of documents that are missing, or there and not believed.
    pub(crate) unknown: Vec<RangeInclusive<u64>>,
}

/// A receipt's list.
#[derive(Debug)]
pub(crate) struct DeletedList {
    pub(crate) receipt: String,
    pub(crate) ids: DeletedIds,
    pub(crate) count: u64,
    pub(crate) manifest: Option<u64>,
}

impl Claims {
    /// Whether a manifest names the object.
    pub(crate) fn names(&self, object: &str) -> bool {
        self.by_name.contains_key(object)
    }

    /// Whether a document that could be the receipt of a deletion is missing.
    pub(crate) fn receipt_may_be_missing(&self, manifest: u64) -> bool {
        self.unknown.iter().any(|unknown| *unknown.end() > manifest)
    }

    fn is_unknown(&self, sequence: u64) -> bool {
        self.unknown.iter().any(|unknown| unknown.contains(&sequence))
    }

    pub(crate) fn manifest(
        &mut self,
        sealed: &Sealed,
        manifest: &Manifest,
        file: &str,
        findings: &mut Findings,
    ) {
        let (header, contents) = (&sealed.document.header, &manifest.contents);
        let mut wrong = |detail: String| findings.add(Code::ManifestWrong, file, detail);
        if !contents.adds_up() {
            wrong("its blocks do not add up to the whole".to_owned());
        }
        if let Some(first) = self.by_name.get(&manifest.object) {
            wrong(format!("{} is the object of manifest {first} already", manifest.object));
        }
        if !manifest.object.starts_with(&objects_prefix(&header.tenant)) {
            let detail = format!("manifest {} names it for {}", header.sequence, header.tenant);
            findings.add(Code::ObjectOfAnotherTenant, &manifest.object, detail);
        }
        if let Some(range) = contents.range.filter(|range| range.to > header.issued_at) {
            let detail = format!(
                "it was issued at {}, and holds an event of {}",
                moment::text(header.issued_at),
                moment::text(range.to)
            );
            findings.add(Code::ClockSetBack, file, detail);
        }
        if let Some(supersedes) = &manifest.supersedes
            && let Err(detail) = self.supersedes(header.sequence, contents.lines, supersedes)
        {
            findings.add(Code::SupersedesWrong, file, detail);
        }
        self.by_name.insert(manifest.object.clone(), header.sequence);
        self.by_hash.insert(contents.packed.sha256, header.sequence);
        let line_of = manifest.supersedes.as_ref();
        let claim = Claim {
            object: manifest.object.clone(),
            document: file.to_owned(),
            document_hash: sealed.hash,
            packed: contents.packed.sha256,
            packed_bytes: contents.packed.bytes,
            root: contents.root,
            lines: contents.lines,
            events: contents.lines.saturating_sub(contents.revisions),
            line_of: line_of.map(|supersedes| (supersedes.original, supersedes.erased.clone())),
        };
        self.objects.insert(header.sequence, claim);
    }

    fn supersedes(&self, sequence: u64, lines: u64, new: &Supersedes) -> Result<(), String> {
        // What is missing or forged is reported as that, and nothing can be held against it.
        if self.is_unknown(new.replaces) || self.is_unknown(new.original) {
            return Ok(());
        }
        let known = |number: u64| {
            let claim = self.objects.get(&number).filter(|_| number < sequence);
            claim.ok_or_else(|| format!("there is no manifest {number} before it"))
        };
        let (replaced, original) = (known(new.replaces)?, known(new.original)?);
        let nothing = Vec::new();
        let (before, erased_before) = match &replaced.line_of {
            Some((original, erased)) => (*original, erased),
            None => (new.replaces, &nothing),
        };
        if before != new.original {
            return Err(format!(
                "the original of {} is {before}, not {}",
                new.replaces, new.original
            ));
        }
        let sorted = new.erased.windows(2).all(|two| two[0].index < two[1].index);
        if !sorted || new.erased.len() > ERASED_MAX {
            return Err(format!("its erased lines are not in order, or more than {ERASED_MAX}"));
        }
        if erased_before.iter().any(|erased| new.erased.binary_search(erased).is_err()) {
            return Err(format!("it does not admit all that {} had erased already", new.replaces));
        }
        if lines + new.erased.len() as u64 != original.lines {
            return Err(format!(
                "{lines} lines and {} erased ones are not the original's {}",
                new.erased.len(),
                original.lines
            ));
        }
        Ok(())
    }

    pub(crate) fn receipt(
        &mut self,
        sealed: &Sealed,
        receipt: &Receipt,
        file: &str,
        findings: &mut Findings,
    ) {
        let header = &sealed.document.header;
        for detail in self.contradictions(header.sequence, receipt) {
            findings.add(Code::ReceiptWrong, file, detail);
        }
        let times = [Some(receipt.holds.at), Some(receipt.deleted_at), receipt.search_empty_at];
        let times: Vec<_> = times.into_iter().flatten().chain([header.issued_at]).collect();
        if !times.is_sorted() {
            let detail = "holds checked, deleted, search empty, receipt issued: not in this order";
            findings.add(Code::ClockSetBack, file, detail);
        }
        let manifest = receipt.manifest.map(|manifest| manifest.sequence);
        if let (Scope::Object, Some(manifest)) = (receipt.scope, manifest) {
            self.gone.insert(manifest, file.to_owned());
        }
        if let Some(ids) = &receipt.ids {
            let (receipt, count) = (file.to_owned(), receipt.deleted);
            self.deleted.push(DeletedList { receipt, ids: ids.clone(), count, manifest });
        }
    }

    fn contradictions(&self, sequence: u64, receipt: &Receipt) -> Vec<String> {
        let mut found = Vec::new();
        let claim = receipt.manifest.and_then(|named| {
            let claim = self.objects.get(&named.sequence).filter(|_| named.sequence < sequence)?;
            (claim.document_hash == named.sha256).then_some(claim)
        });
        match (receipt.manifest, claim) {
            // A manifest that is missing or forged is reported as that.
            (Some(named), None) if !self.is_unknown(named.sequence) => {
                found.push(format!("manifest {} is not the one that it names", named.sequence));
            }
            (Some(_), Some(claim)) => {
                let accounted = [receipt.deleted, receipt.already_gone, receipt.held];
                let sum = accounted.into_iter().fold(0, u64::saturating_add);
                if sum != claim.events {
                    found.push(format!(
                        "deleted {}, gone before {}, held {}: not the manifest's {} events",
                        receipt.deleted, receipt.already_gone, receipt.held, claim.events
                    ));
                }
            }
            (None, _) if receipt.scope == Scope::Object => {
                found.push("it says that an object was deleted, and names none".to_owned());
            }
            _ => {}
        }
        if receipt.scope == Scope::Rows {
            if receipt.ids.is_none() {
                found.push("it does not say which events".to_owned());
            }
            if receipt.search_empty_at.is_none() {
                found.push("search was not counted to none".to_owned());
            }
        } else if receipt.held > 0 {
            found.push("an object was deleted although events in it are held".to_owned());
        }
        found
    }
}

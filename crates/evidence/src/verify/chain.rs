//! Walks a tenant's chain from the first document to the last: seals, signatures, order, times, and the
//! heads on the way. What the documents say is handed to the claims; no document is kept.

use std::io;

use chrono::{DateTime, Utc};
use contracts::Tenant;

use super::claims::Claims;
use super::finding::{Code, Findings};
use super::heads::Heads;
use super::keyring::{Keyring, key_record};
use crate::document::{
    BadDocument, Body, DOCUMENT_BYTES_MAX, DocumentName, Kind, Sealed, chain_prefix,
    parse_document_name,
};
use crate::hash::Hash;
use crate::merkle::Tree;
use crate::moment;
use crate::note::Signed;
use crate::source::Source;

/// The walk's state: what is known of the documents so far.
pub(crate) struct Chain<'a> {
    source: &'a dyn Source,
    tenant: &'a Tenant,
    keys: &'a Keyring,
    pub(crate) heads: Heads,
    pub(crate) claims: Claims,
    /// Number that comes next.
    next: u64,
    /// The document before, where it is beyond doubt.
    before: Option<(Hash, DateTime<Utc>)>,
    /// The tree of documents; `None` behind a gap, where no root can be known.
    tree: Option<Tree>,
    /// Id of the key that signs here, where a key record says so.
    signer: Option<String>,
    /// Documents of each kind that are beyond doubt.
    pub(crate) counts: Counts,
}

/// Documents by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Key records.
    pub keys: u64,
    /// Manifests.
    pub manifests: u64,
    /// Receipts.
    pub receipts: u64,
}

/// Files of the chain in their order, those without a document's name reported.
pub(crate) fn files(
    source: &dyn Source,
    tenant: &Tenant,
    findings: &mut Findings,
) -> io::Result<Vec<(DocumentName, String)>> {
    let prefix = chain_prefix(tenant);
    let mut files = Vec::new();
    for file in source.list(&prefix)? {
        match file.name.strip_prefix(&prefix).and_then(parse_document_name) {
            Some(name) => files.push((name, file.name)),
            None => findings.add(
                Code::DocumentUnreadable,
                &file.name,
                "documents are named as 000000000001-manifest.note",
            ),
        }
    }
    files.sort_by(|one, two| (one.0.sequence, &one.1).cmp(&(two.0.sequence, &two.1)));
    Ok(files)
}

/// Reads a document's file; `None` when it is not there.
pub(crate) fn read(
    source: &dyn Source,
    name: &str,
) -> io::Result<Option<Result<Sealed, BadDocument>>> {
    match source.read(name, DOCUMENT_BYTES_MAX) {
        Ok(bytes) => Ok(bytes.map(|bytes| Sealed::parse(&bytes))),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            Ok(Some(Err(BadDocument::Form("it is longer than 2 MiB"))))
        }
        Err(error) => Err(error),
    }
}

impl<'a> Chain<'a> {
    pub(crate) fn new(
        source: &'a dyn Source,
        tenant: &'a Tenant,
        keys: &'a Keyring,
        heads: Heads,
    ) -> Self {
        Self {
            source,
            tenant,
            keys,
            heads,
            claims: Claims::default(),
            next: 1,
            before: None,
            tree: Some(Tree::new()),
            signer: None,
            counts: Counts::default(),
        }
    }

    /// Documents up to the last that is there.
    pub(crate) fn length(&self) -> u64 {
        self.next - 1
    }

    /// The next file.
    pub(crate) fn document(
        &mut self,
        name: DocumentName,
        file: &str,
        findings: &mut Findings,
    ) -> io::Result<()> {
        if name.sequence < self.next {
            let detail = format!("document {} is there twice", name.sequence);
            findings.add(Code::DocumentMisplaced, file, detail);
            return Ok(());
        }
        if name.sequence > self.next {
            self.gap(name.sequence, file, findings);
        }
        self.next = name.sequence + 1;
        let sealed = match read(self.source, file)? {
            Some(Ok(sealed)) => self.placed(sealed, name, file, findings),
            Some(Err(error)) => {
                findings.add(unreadable(&error, name.kind), file, error.to_string());
                None
            }
            None => None,
        };
        let Some(sealed) = sealed else {
            self.claims.unknown.push(name.sequence..=name.sequence);
            (self.before, self.tree) = (None, None);
            return Ok(());
        };
        self.follow(&sealed, file, findings);
        if let Some(tree) = &mut self.tree {
            tree.push(sealed.leaf);
            self.heads.check(tree, Some(sealed.document.header.issued_at), findings);
        }
        self.register(&sealed, file, findings);
        Ok(())
    }

    /// After the last file.
    pub(crate) fn end(&mut self, findings: &mut Findings) {
        let Some((size, head)) = self.heads.largest.clone() else { return };
        let (length, first) = (self.length(), self.next);
        if size > length {
            self.claims.unknown.push(first..=size);
            let what =
                if first == size { format!("{first}") } else { format!("{first} to {size}") };
            let detail = format!(
                "{head} counts {size} documents, {length} are there: {what} missing at the end"
            );
            findings.add(Code::TailMissing, &chain_prefix(self.tenant), detail);
        }
    }

    fn gap(&mut self, found: u64, file: &str, findings: &mut Findings) {
        let (from, to) = (self.next, found - 1);
        let what = if from == to { format!("{from}") } else { format!("{from} to {to}") };
        let only_keys = self.counts.manifests + self.counts.receipts == 0 && self.length() <= 1;
        let code = if only_keys { Code::ChainStartMissing } else { Code::DocumentMissing };
        findings.add(code, file, format!("document {what} is missing before it"));
        self.claims.unknown.push(from..=to);
        (self.before, self.tree) = (None, None);
    }

    /// The document, when it belongs here and is signed by whom it should be.
    fn placed(
        &self,
        sealed: Sealed,
        name: DocumentName,
        file: &str,
        findings: &mut Findings,
    ) -> Option<Sealed> {
        let (header, kind) = (&sealed.document.header, sealed.document.body.kind());
        if header.tenant != *self.tenant {
            let detail = format!("it is document {} of tenant {}", header.sequence, header.tenant);
            findings.add(Code::DocumentOfAnotherTenant, file, detail);
            return None;
        }
        if (header.sequence, kind) != (name.sequence, name.kind) {
            let detail = format!("it holds {} {}", kind.as_str(), header.sequence);
            findings.add(Code::DocumentMisplaced, file, detail);
            return None;
        }
        if let Some((code, detail)) = mistrusted(self.keys, self.signer.as_deref(), &sealed) {
            findings.add(code, file, detail);
            return None;
        }
        Some(sealed)
    }

    /// Whether it follows the document before it.
    fn follow(&mut self, sealed: &Sealed, file: &str, findings: &mut Findings) {
        let header = &sealed.document.header;
        let known = self.before.map(|(hash, _)| Some(hash));
        let expected = if header.sequence == 1 { Some(None) } else { known };
        if expected.is_some_and(|expected| expected != header.previous) {
            let text = |hash: Option<Hash>| hash.map_or("none".to_owned(), |hash| hash.to_string());
            let detail = format!(
                "it follows {}, the document before it is {}",
                text(header.previous),
                text(expected.flatten())
            );
            findings.add(Code::ChainBroken, file, detail);
        }
        if let Some((_, last)) = self.before.filter(|(_, last)| *last > header.issued_at) {
            let detail = format!(
                "it was issued at {}, the document before it at {}",
                moment::text(header.issued_at),
                moment::text(last)
            );
            findings.add(Code::ClockSetBack, file, detail);
        }
        self.before = Some((sealed.hash, header.issued_at));
    }

    fn register(&mut self, sealed: &Sealed, file: &str, findings: &mut Findings) {
        match &sealed.document.body {
            Body::Key(record) => {
                self.counts.keys += 1;
                self.signer = record.public_key.parse().ok().map(|key: crate::VerifyKey| key.id());
            }
            Body::Manifest(manifest) => {
                self.counts.manifests += 1;
                self.claims.manifest(sealed, manifest, file, findings);
            }
            Body::Receipt(receipt) => {
                self.counts.receipts += 1;
                self.claims.receipt(sealed, receipt, file, findings);
            }
        }
    }
}

/// What is wrong with a document's signatures, if anything is; `signer` is the chain's key at its place,
/// where that is known.
pub(super) fn mistrusted(
    keys: &Keyring,
    signer: Option<&str>,
    sealed: &Sealed,
) -> Option<(Code, String)> {
    let (id, kind) = (&sealed.document.header.key_id, sealed.document.body.kind());
    let signers = sealed.note.key_ids();
    match keys.get(id).map(|key| sealed.note.signed_by(key)) {
        None => {
            let what = format!("its key {id} is not trusted; it is signed by {signers}");
            return Some((foreign(kind), what));
        }
        Some(Signed::Absent) => {
            let what = format!("its key is {id}, and it is signed by {signers}");
            return Some((foreign(kind), what));
        }
        Some(Signed::Forged) => {
            return Some((edited(kind), format!("the signature of {id} is not that key's")));
        }
        Some(Signed::Valid) => {}
    }
    if key_record(sealed).is_some_and(|record| !keys.accepts(record, &sealed.note)) {
        let what = "the key that it introduces did not sign it".to_owned();
        return Some((Code::KeyRecordForged, what));
    }
    let expected = signer.filter(|expected| *expected != id)?;
    let what = format!("it is signed by {id}; the chain's key is {expected} here");
    Some((Code::SignedByRetiredKey, what))
}

pub(super) fn unreadable(error: &BadDocument, kind: Kind) -> Code {
    match error {
        BadDocument::Edited { .. } => edited(kind),
        _ => Code::DocumentUnreadable,
    }
}

fn edited(kind: Kind) -> Code {
    match kind {
        Kind::Key => Code::KeyRecordForged,
        Kind::Manifest => Code::ManifestEdited,
        Kind::Receipt => Code::ReceiptForged,
    }
}

fn foreign(kind: Kind) -> Code {
    match kind {
        Kind::Manifest => Code::ManifestResigned,
        other => edited(other),
    }
}

//! Checks a bundle with public keys alone, and says in words what it proves.

use std::io;

use serde::Serialize;

use super::{Archived, Deleted, EVENT, Evidence, HEAD, INDEX, INDEX_BYTES_MAX};
use crate::document::{DOCUMENT_BYTES_MAX, Receipt, Scope, Sealed, parse_document_name};
use crate::hash::Hash;
use crate::head::{HEAD_BYTES_MAX, Head, SignedHead, origin};
use crate::key::VerifyKey;
use crate::line::{LINE_BYTES_MAX, Line};
use crate::merkle::{Salt, salted_leaf};
use crate::moment;
use crate::note::Signed;
use crate::source::Source;
use crate::verify::{Keyring, Verdict};

/// What a bundle comes to.
#[derive(Clone, Debug, Serialize)]
pub struct BundleReport {
    /// Verified, without a head that counts every document, or not what it says.
    pub verdict: Verdict,
    /// The event.
    pub id: String,
    /// What is proved, a sentence each.
    pub proved: Vec<String>,
    /// What is not as it should be.
    pub doubts: Vec<Doubt>,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Doubt {
    /// The file.
    pub file: String,
    /// What is wrong with it.
    pub detail: String,
}

/// Whether a folder holds a bundle.
pub fn is_bundle(source: &dyn Source) -> io::Result<bool> {
    Ok(source.open(INDEX)?.is_some())
}

struct Check<'a> {
    source: &'a dyn Source,
    evidence: Evidence,
    keys: Keyring,
    documents: Vec<Sealed>,
    proved: Vec<String>,
    doubts: Vec<Doubt>,
}

/// Checks the bundle of a source. An error is the source's, or that there is no bundle.
pub fn check(source: &dyn Source, keys: &[VerifyKey]) -> io::Result<BundleReport> {
    let index = source.read(INDEX, INDEX_BYTES_MAX)?.ok_or(io::ErrorKind::NotFound)?;
    let evidence: Evidence = serde_json::from_slice(&index)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{INDEX}: {error}")))?;
    let (keys, id) = (Keyring::new(keys), evidence.id.to_string());
    let (documents, proved, doubts) = (Vec::new(), Vec::new(), Vec::new());
    let mut check = Check { source, evidence, keys, documents, proved, doubts };
    check.read_documents()?;
    let counted = check.head()?;
    check.event()?;
    check.deletion();
    let verdict = match (check.doubts.is_empty() && !check.proved.is_empty(), counted) {
        (false, _) => Verdict::Findings,
        (true, false) => Verdict::TailUnproven,
        (true, true) => Verdict::Verified,
    };
    Ok(BundleReport { verdict, id, proved: check.proved, doubts: check.doubts })
}

impl Check<'_> {
    fn doubt(&mut self, file: &str, detail: impl Into<String>) {
        self.doubts.push(Doubt { file: file.to_owned(), detail: detail.into() });
    }

    /// Every document is this tenant's, and signed by a trusted key; only such a one is kept.
    fn read_documents(&mut self) -> io::Result<()> {
        let mut read = Vec::new();
        for placed in self.evidence.documents.clone() {
            let file = placed.file;
            // Also keeps the name inside the folder.
            let Some(name) = parse_document_name(&file) else {
                self.doubt(&file, "no name of a document");
                continue;
            };
            let bytes = self.source.read(&file, DOCUMENT_BYTES_MAX)?.unwrap_or_default();
            match Sealed::parse(&bytes) {
                Ok(sealed) if sealed.document.header.tenant != self.evidence.tenant => {
                    self.doubt(&file, "it is another tenant's");
                }
                Ok(sealed) if sealed.document.header.sequence != name.sequence => {
                    self.doubt(&file, "its number is not the one of its name");
                }
                Ok(sealed) => read.push((file, sealed)),
                Err(error) => self.doubt(&file, error.to_string()),
            }
        }
        self.keys.learn(read.iter().map(|(_, sealed)| sealed));
        for (file, sealed) in read {
            let id = &sealed.document.header.key_id;
            let signed = self.keys.get(id).map(|key| sealed.note.signed_by(key));
            if signed == Some(Signed::Valid) {
                self.documents.push(sealed);
            } else {
                let signers = sealed.note.key_ids();
                self.doubt(&file, format!("it is not signed by a trusted key, but by {signers}"));
            }
        }
        Ok(())
    }

    /// Whether a signed head counts every document.
    fn head(&mut self) -> io::Result<bool> {
        if !self.evidence.head {
            return Ok(false);
        }
        let bytes = self.source.read(HEAD, HEAD_BYTES_MAX)?.unwrap_or_default();
        let SignedHead { head, note } = match SignedHead::parse(&bytes) {
            Ok(signed) => signed,
            Err(error) => {
                self.doubt(HEAD, error.to_string());
                return Ok(false);
            }
        };
        let ours = |key: &VerifyKey| origin(key.name(), &self.evidence.tenant) == head.origin;
        if !self.keys.signed(&note, ours) {
            let signers = note.key_ids();
            self.doubt(
                HEAD,
                format!("it is not this chain's, or not signed by a trusted key, but by {signers}"),
            );
            return Ok(false);
        }
        Ok(self.counted(&head))
    }

    fn counted(&mut self, head: &Head) -> bool {
        let mut all = true;
        for placed in self.evidence.documents.clone() {
            let number = parse_document_name(&placed.file).map(|name| name.sequence);
            let leaf = self.documents.iter().find_map(|sealed| {
                (Some(sealed.document.header.sequence) == number).then_some(sealed.leaf)
            });
            let (Some(leaf), Some(number)) = (leaf, number) else { continue };
            match &placed.proof {
                None => all = false,
                Some(proof) => {
                    let place = proof.index + 1 == number && proof.size == head.size;
                    if !(place && proof.proves(leaf, head.root)) {
                        self.doubt(&placed.file, "the head does not count it at its place");
                        all = false;
                    }
                }
            }
        }
        if all {
            self.proved.push(format!(
                "The documents here are those that the chain of {} had on {}: a signed head over its {} documents counts each of them at its place.",
                self.evidence.tenant,
                moment::text(head.at),
                head.size
            ));
        }
        all
    }

    fn numbered(&self, sequence: u64) -> Option<&Sealed> {
        self.documents.iter().find(|sealed| sealed.document.header.sequence == sequence)
    }

    /// The event's leaf is under the manifest's root.
    fn event(&mut self) -> io::Result<()> {
        let Some(archived) = self.evidence.archived.clone() else { return Ok(()) };
        let bytes = self.source.read(EVENT, LINE_BYTES_MAX as u64 + 1)?.unwrap_or_default();
        let leaf = match self.event_leaf(&archived, &bytes) {
            Ok(leaf) => leaf,
            Err(detail) => {
                self.doubt(EVENT, detail);
                return Ok(());
            }
        };
        if self.evidence.deleted.as_ref().is_some_and(|deleted| deleted.leaf != leaf) {
            self.doubt(INDEX, "the leaf that was deleted is not that of the event");
        }
        let Some(sealed) = self.numbered(archived.manifest) else {
            self.doubt(INDEX, format!("there is no manifest {}", archived.manifest));
            return Ok(());
        };
        let (issued, manifest) = (sealed.document.header.issued_at, sealed.manifest());
        let said = manifest.map(|manifest| (manifest.contents.root, manifest.contents.lines));
        let Some((root, lines)) = said else {
            self.doubt(INDEX, format!("document {} is no manifest", archived.manifest));
            return Ok(());
        };
        if archived.proof.size == lines && archived.proof.proves(leaf, root) {
            self.proved.push(format!(
                "The bytes of {EVENT} were archived unchanged: they are line {} of {lines} of the object that manifest {} describes, which was signed on {}.",
                archived.proof.index + 1,
                archived.manifest,
                moment::text(issued)
            ));
        } else {
            self.doubt(
                EVENT,
                "it is not the event that the manifest covers: bytes, salt or place differ",
            );
        }
        Ok(())
    }

    fn event_leaf(&self, archived: &Archived, bytes: &[u8]) -> Result<Hash, String> {
        let bytes = bytes.strip_suffix(b"\n").ok_or("its last line feed is missing")?;
        let line = Line::parse(bytes).map_err(|error| error.to_string())?;
        let ours = line.tenant == self.evidence.tenant.as_str() && line.key.id == self.evidence.id;
        if !ours || line.key.revision != 0 {
            return Err(format!("it is another event: {} of {}", line.key.id, line.tenant));
        }
        let mut salt = Salt::default();
        hex::decode_to_slice(&archived.salt, &mut salt)
            .map_err(|_| "its salt in the index is not 32 hexadecimal digits".to_owned())?;
        Ok(salted_leaf(&salt, bytes))
    }

    /// The id is under the receipt's root, and which objects are gone.
    fn deletion(&mut self) {
        if let Some(deleted) = self.evidence.deleted.clone() {
            match self.listed(&deleted) {
                Ok(sentence) => self.proved.push(sentence),
                Err(detail) => self.doubt(INDEX, detail),
            }
        }
        let objects: Vec<String> = self
            .documents
            .iter()
            .filter_map(|sealed| Some((sealed, sealed.receipt()?)))
            .filter(|(_, receipt)| receipt.scope == Scope::Object)
            .filter_map(|(sealed, receipt)| {
                let named = receipt.manifest?;
                let manifest = self.numbered(named.sequence)?;
                (manifest.hash == named.sha256).then(|| {
                    let number = sealed.document.header.sequence;
                    let at = moment::text(receipt.deleted_at);
                    let object = &manifest.manifest()?.object;
                    Some(format!(
                        "The archive object {object} was deleted on {at}: receipt {number} says so."
                    ))
                })?
            })
            .collect();
        self.proved.extend(objects);
    }

    fn listed(&self, deleted: &Deleted) -> Result<String, String> {
        let missing = || format!("there is no receipt {} with a list of ids", deleted.receipt);
        let sealed = self.numbered(deleted.receipt).ok_or_else(missing)?;
        let receipt: &Receipt = sealed.receipt().ok_or_else(missing)?;
        let ids = receipt.ids.as_ref().ok_or_else(missing)?;
        let entry = crate::document::deleted_leaf(self.evidence.id, &deleted.leaf);
        if deleted.proof.size != receipt.deleted || !deleted.proof.proves(entry, ids.root) {
            return Err(format!("receipt {} does not list the event", deleted.receipt));
        }
        let survivors: Vec<String> =
            receipt.survives.iter().map(|survivor| survivor.place.clone()).collect();
        let survivors = if survivors.is_empty() { "none".to_owned() } else { survivors.join(", ") };
        let unarchived = match receipt.manifest {
            Some(_) => "",
            None => " It was deleted without an archive.",
        };
        Ok(format!(
            "The event was deleted from the database and from search on {}: it is one of the {} events of receipt {}, asked for by {}. Legal holds were checked at {}. Copies that the receipt names: {survivors}.{unarchived}",
            moment::text(receipt.deleted_at),
            receipt.deleted,
            deleted.receipt,
            receipt.requester,
            moment::text(receipt.holds.at),
        ))
    }
}

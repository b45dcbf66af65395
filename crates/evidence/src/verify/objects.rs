//! Reads every object that a manifest claims, from its first byte to its last, and holds what it finds
//! against the manifest, the receipts and the object that it takes the place of.

use std::io::{self, Read};

use contracts::Tenant;

use super::chain::read as read_document;
use super::claims::{Claim, Claims, DeletedList};
use super::finding::{Code, Findings};
use super::{Progress, Watch};
use crate::document::{DELETED_ID_BYTES, deleted_leaf, objects_prefix};
use crate::hash::Hash;
use crate::merkle::Tree;
use crate::object::{Contents, Observed, survey};
use crate::source::Source;

/// Bytes of a list of deleted ids at most: those of ten million events.
pub const DELETED_IDS_BYTES_MAX: u64 = 10_000_000 * DELETED_ID_BYTES as u64;
/// Progress is told after so many bytes.
const STEP_BYTES: u64 = 1024 * 1024;

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Totals {
    /// Objects that are as their manifests say.
    pub objects: u64,
    /// Objects that are gone with a receipt.
    pub deleted_objects: u64,
    /// Lines in the objects.
    pub lines: u64,
    /// Bytes of the objects as they are stored.
    pub packed_bytes: u64,
    /// Bytes that they unpack to.
    pub plain_bytes: u64,
}

pub(crate) struct Objects<'a> {
    pub(crate) source: &'a dyn Source,
    pub(crate) tenant: &'a Tenant,
    pub(crate) claims: &'a Claims,
    pub(crate) totals: Totals,
}

impl Objects<'_> {
    /// Everything that is claimed, then what is there beyond it.
    pub(crate) fn check(
        &mut self,
        findings: &mut Findings,
        progress: &mut Progress,
        watch: Watch<'_>,
    ) -> io::Result<()> {
        for (sequence, claim) in &self.claims.objects {
            self.object(*sequence, claim, findings, &mut |bytes| {
                progress.bytes += bytes;
                watch(progress);
            })?;
            progress.objects += 1;
            watch(progress);
        }
        for list in self.claims.deleted.iter().filter(|list| list.manifest.is_none()) {
            self.deleted_ids(list, findings)?;
        }
        for file in self.source.list(&objects_prefix(self.tenant))? {
            if !self.claims.names(&file.name) {
                findings.add(Code::ObjectUnlisted, &file.name, format!("{} bytes", file.bytes));
            }
        }
        Ok(())
    }

    fn object(
        &mut self,
        sequence: u64,
        claim: &Claim,
        findings: &mut Findings,
        read: &mut dyn FnMut(u64),
    ) -> io::Result<()> {
        let gone = self.claims.gone.get(&sequence);
        let mut lists = Vec::new();
        for list in self.claims.deleted.iter().filter(|list| list.manifest == Some(sequence)) {
            lists.extend(self.deleted_ids(list, findings)?.map(|bytes| Deleted::new(list, bytes)));
        }
        let Some(object) = self.source.open(&claim.object)? else {
            if gone.is_some() {
                self.totals.deleted_objects += 1;
                return Ok(());
            }
            let missing = self.claims.receipt_may_be_missing(sequence);
            let code = if missing { Code::ReceiptMissing } else { Code::ObjectMissing };
            findings.add(code, &claim.object, format!("{} describes it", claim.document));
            return Ok(());
        };
        if let Some(receipt) = gone {
            let detail = format!("{receipt} says that it was deleted");
            findings.add(Code::ObjectStillThere, &claim.object, detail);
        }
        let Some(Ok(sealed)) = read_document(self.source, &claim.document)? else {
            return Ok(());
        };
        // The walk has verified this document; a file that changed under our hands is none.
        let Some(manifest) = sealed.manifest().filter(|_| sealed.hash == claim.document_hash)
        else {
            let detail = "it changed while the archive was verified";
            findings.add(Code::DocumentUnreadable, &claim.document, detail);
            return Ok(());
        };
        let mut reunion = manifest.supersedes.as_ref().map(|supersedes| supersedes.reunion());
        let counted = Counted { inner: object, unsaid: 0, say: read };
        let observed = survey(counted, manifest.contents.codec, |entry| {
            if let Some(reunion) = &mut reunion {
                reunion.push(entry.leaf);
            }
            for list in &mut lists {
                list.saw(entry.line.key.id, &entry.leaf);
            }
        })?;
        if let Some((code, detail)) = self.differs(claim, &manifest.contents, &observed) {
            findings.add(code, &claim.object, detail);
            return Ok(());
        }
        self.totals.objects += 1;
        self.totals.lines += claim.lines;
        self.totals.packed_bytes += claim.packed_bytes;
        self.totals.plain_bytes += manifest.contents.plain.bytes;
        if let (Some(reunion), Some(supersedes)) = (reunion, &manifest.supersedes) {
            self.reunited(claim, supersedes.original, reunion.finish(), findings);
        }
        for list in lists.iter().filter(|list| !list.all_seen()) {
            let detail = format!("it lists events that {} does not hold", claim.object);
            findings.add(Code::ReceiptWrong, &list.receipt, detail);
        }
        Ok(())
    }

    /// An object that supersedes another, with the erased leaves, must be that other one.
    fn reunited(
        &self,
        claim: &Claim,
        original: u64,
        reunion: Option<(u64, Hash)>,
        findings: &mut Findings,
    ) {
        let expected = self.claims.objects.get(&original);
        let expected = expected.map(|expected| (expected.lines, expected.root));
        if expected.is_some() && reunion != expected {
            let detail =
                format!("with the erased leaves it is not the object of manifest {original}");
            findings.add(Code::SupersedesWrong, &claim.object, detail);
        }
    }

    /// What was done to an object that is not as its manifest says.
    fn differs(
        &self,
        claim: &Claim,
        expected: &Contents,
        observed: &Observed,
    ) -> Option<(Code, String)> {
        let other = observed.tenants.other.as_ref().map(|(line, tenant)| (*line, tenant));
        let first = observed.tenants.first.as_ref().map(|tenant| (0, tenant));
        let foreign = [first, other].into_iter().flatten();
        let foreign = foreign.into_iter().find(|(_, tenant)| *tenant != self.tenant.as_str());
        if let Some((line, tenant)) = foreign {
            let detail = format!("line {line} is an event of tenant {tenant}");
            return Some((Code::ObjectOfAnotherTenant, detail));
        }
        let sizes = format!(
            "{} bytes with SHA-256 {}, {} says {} bytes with {}",
            observed.packed.bytes,
            observed.packed.sha256,
            claim.document,
            claim.packed_bytes,
            claim.packed
        );
        match &observed.contents {
            Ok(contents) if contents == expected => None,
            Ok(_) if observed.packed == expected.packed => {
                let detail = format!("it describes {} otherwise than it is", claim.object);
                Some((Code::ManifestWrong, detail))
            }
            _ if self.claims.by_hash.contains_key(&observed.packed.sha256) => {
                let owner = self.claims.by_hash.get(&observed.packed.sha256);
                let owner = owner.and_then(|number| self.claims.objects.get(number));
                let owner = owner.map_or("", |owner| owner.object.as_str());
                Some((Code::ObjectMisplaced, format!("it holds the bytes of {owner}")))
            }
            Err(damage) => Some((Code::ObjectCorrupt, format!("{damage}; {sizes}"))),
            Ok(contents) if contents.plain != expected.plain => {
                Some((Code::EventsEdited, format!("{}; {sizes}", first_change(contents, expected))))
            }
            Ok(contents) if contents.root != expected.root => Some((Code::SaltsEdited, sizes)),
            Ok(_) => Some((Code::ObjectRepacked, sizes)),
        }
    }

    /// A list of deleted ids that is what its receipt says.
    fn deleted_ids(
        &self,
        list: &DeletedList,
        findings: &mut Findings,
    ) -> io::Result<Option<Vec<u8>>> {
        let name = &list.ids.object;
        let Some(bytes) = self.source.read(name, DELETED_IDS_BYTES_MAX)? else {
            let detail = format!("{} names it", list.receipt);
            findings.add(Code::DeletedIdsMissing, name, detail);
            return Ok(None);
        };
        let (entries, rest) = bytes.as_chunks::<DELETED_ID_BYTES>();
        let root = entries.iter().map(|entry| crate::merkle::leaf(entry)).collect::<Tree>().root();
        let sorted = entries.windows(2).all(|two| two[0][..16] < two[1][..16]);
        let whole = rest.is_empty() && sorted && entries.len() as u64 == list.count;
        if whole && root == list.ids.root && Hash::of(&bytes) == list.ids.sha256 {
            return Ok(Some(bytes));
        }
        let detail = format!("{name} is not the list of {} ids that it names", list.count);
        findings.add(Code::ReceiptWrong, &list.receipt, detail);
        Ok(None)
    }
}

fn first_change(contents: &Contents, expected: &Contents) -> String {
    let mut line = 0;
    for (number, block) in expected.blocks.iter().enumerate() {
        if contents.blocks.get(number).map(|found| found.root) != Some(block.root) {
            let (from, to) = (line, line + block.lines);
            return format!(
                "{} lines, {} expected; the first change is in block {number}, lines {from} to {}",
                contents.lines,
                expected.lines,
                to - 1
            );
        }
        line += block.lines;
    }
    format!("{} lines, {} expected", contents.lines, expected.lines)
}

/// Deleted entries that are looked for among an object's lines.
struct Deleted {
    receipt: String,
    bytes: Vec<u8>,
    seen: usize,
}

impl Deleted {
    fn new(list: &DeletedList, bytes: Vec<u8>) -> Self {
        Self { receipt: list.receipt.clone(), bytes, seen: 0 }
    }

    /// Both are in the order of ids.
    fn saw(&mut self, id: uuid::Uuid, leaf: &Hash) {
        let (entries, _) = self.bytes.as_chunks::<DELETED_ID_BYTES>();
        let next = entries.get(self.seen).map(|entry| crate::merkle::leaf(entry));
        if next == Some(deleted_leaf(id, leaf)) {
            self.seen += 1;
        }
    }

    fn all_seen(&self) -> bool {
        self.seen == self.bytes.len() / DELETED_ID_BYTES
    }
}

struct Counted<'a, R> {
    inner: R,
    unsaid: u64,
    say: &'a mut dyn FnMut(u64),
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.unsaid += read as u64;
        if self.unsaid >= STEP_BYTES || read == 0 {
            (self.say)(std::mem::take(&mut self.unsaid));
        }
        Ok(read)
    }
}

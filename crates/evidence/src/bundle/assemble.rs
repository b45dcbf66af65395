//! Collects the evidence for an event from an archive: which manifest covers it, which receipt lists
//! it, and the latest head. It reads the chain once, the event's object twice, and of the lists of deleted
//! ids only those that may hold it. What is missing is told and never taken for "there was nothing".

use std::collections::BTreeSet;
use std::io;

use contracts::Tenant;
use uuid::Uuid;

use super::{Archived, Deleted, EVENT, Evidence, Files, HEAD, INDEX, PAGE, Placed, Version, page};
use crate::document::{
    BadDocument, Body, DELETED_ID_BYTES, DOCUMENT_BYTES_MAX, Manifest, Scope, Sealed, chain_prefix,
    heads_prefix,
};
use crate::hash::Hash;
use crate::head::{HEAD_BYTES_MAX, SignedHead};
use crate::line::LineKey;
use crate::merkle::{InclusionProof, InclusionProver, Tree, leaf};
use crate::object::survey;
use crate::source::Source;
use crate::verify::DELETED_IDS_BYTES_MAX;

/// Why there is no evidence.
#[derive(Debug, thiserror::Error)]
pub enum NoEvidence {
    /// The files could not be read.
    #[error("the archive could not be read: {0}")]
    Source(#[from] io::Error),
    /// A document of the chain is none.
    #[error("{0}: {1}; verify the archive first")]
    Document(String, BadDocument),
    /// What may hold the event, or list it, is not there, and no receipt says that it was deleted.
    #[error("{0} is missing, and it may tell of the event; verify the archive first")]
    Missing(String),
    /// The one object that may have held it was deleted by its own term; its lines were not listed.
    #[error(
        "event {id} of tenant {tenant} is in no object: if it was ever archived, it was in {object}, which was deleted whole, as receipt {receipt} says; no list of deleted events names it"
    )]
    Gone {
        /// Whose event.
        tenant: Tenant,
        /// Which.
        id: Uuid,
        /// The object.
        object: String,
        /// The receipt's number.
        receipt: u64,
    },
    /// Nothing is known of the event.
    #[error(
        "no object holds event {1} of tenant {0}, and no receipt lists it: it was not archived yet, or the id is another tenant's"
    )]
    Unknown(Tenant, Uuid),
}

/// The chain's documents that matter, and the leaves of all.
#[derive(Default)]
struct Chain {
    leaves: Vec<Hash>,
    /// Name, bytes and content.
    kept: Vec<(String, Vec<u8>, Sealed)>,
    head: Option<(Vec<u8>, SignedHead)>,
}

/// Where an event is, and where it was deleted from.
#[derive(Default)]
struct Found {
    archived: Option<(Archived, Vec<u8>)>,
    deleted: Option<Deleted>,
}

/// The evidence for one event, as files.
pub fn assemble(source: &dyn Source, tenant: &Tenant, id: Uuid) -> Result<Files, NoEvidence> {
    let mut chain = read_chain(source, tenant, id)?;
    let Found { archived, deleted } = find(source, &chain, tenant, id)?;
    let mut files = Files::new();
    let archived = archived.map(|(archived, line)| {
        files.insert(EVENT.to_owned(), line);
        archived
    });
    chain.keep_what_tells(archived.as_ref(), deleted.as_ref());
    let documents = place(&chain);
    for (name, bytes, _) in &chain.kept {
        files.insert(name.clone(), bytes.clone());
    }
    if let Some((bytes, _)) = &chain.head {
        files.insert(HEAD.to_owned(), bytes.clone());
    }
    let head = chain.head.is_some();
    let (tenant, version) = (tenant.clone(), Version::V1);
    let evidence = Evidence { version, tenant, id, archived, deleted, documents, head };
    let sealed: Vec<&Sealed> = chain.kept.iter().map(|(_, _, sealed)| sealed).collect();
    let head = chain.head.as_ref().map(|(_, signed)| &signed.head);
    files.insert(PAGE.to_owned(), page::text(&evidence, &sealed, head).into_bytes());
    let mut index = serde_json::to_vec_pretty(&evidence).unwrap_or_default();
    index.push(b'\n');
    files.insert(INDEX.to_owned(), index);
    Ok(files)
}

impl Chain {
    fn sealed(&self) -> impl DoubleEndedIterator<Item = &Sealed> {
        self.kept.iter().map(|(_, _, sealed)| sealed)
    }

    /// Key records, and the manifests and receipts that tell of the event.
    fn keep_what_tells(&mut self, archived: Option<&Archived>, deleted: Option<&Deleted>) {
        let manifest = archived.map(|archived| archived.manifest);
        let receipt = deleted.map(|deleted| deleted.receipt);
        let deleted_from = self.sealed().find_map(|sealed| {
            let named = sealed.receipt()?.manifest?.sequence;
            (Some(sealed.document.header.sequence) == receipt).then_some(named)
        });
        self.kept.retain(|(_, _, sealed)| {
            let sequence = Some(sealed.document.header.sequence);
            match &sealed.document.body {
                Body::Key(_) => true,
                Body::Manifest(_) => sequence == manifest || sequence == deleted_from.or(manifest),
                Body::Receipt(other) => {
                    let of = other.manifest.map(|manifest| manifest.sequence);
                    let object = other.scope == Scope::Object && of.is_some();
                    sequence == receipt || object && (of == manifest || of == deleted_from)
                }
            }
        });
    }

    /// The receipt of an object's deletion, by the number of its manifest.
    fn deleted_whole(&self, manifest: u64) -> Option<u64> {
        self.sealed().find_map(|sealed| {
            let receipt = sealed.receipt().filter(|receipt| receipt.scope == Scope::Object)?;
            let of = receipt.manifest.map(|named| named.sequence);
            (of == Some(manifest)).then_some(sealed.document.header.sequence)
        })
    }
}

/// Looks for the event in objects, the newest first, and in the lists of what was deleted.
fn find(
    source: &dyn Source,
    chain: &Chain,
    tenant: &Tenant,
    id: Uuid,
) -> Result<Found, NoEvidence> {
    let (mut found, mut gone, mut missing) = (Found::default(), None, None);
    for sealed in chain.sealed().rev() {
        let Some(manifest) = sealed.manifest() else { continue };
        if let Some(object) = source.open(&manifest.object)? {
            found.archived = find_line((source, object), sealed, manifest, id)?;
        } else if let Some(receipt) = chain.deleted_whole(sealed.document.header.sequence) {
            gone = gone.or_else(|| Some((manifest.object.clone(), receipt)));
        } else {
            missing = missing.or_else(|| Some(manifest.object.clone()));
        }
        if found.archived.is_some() {
            break;
        }
    }
    for sealed in chain.sealed() {
        let Some(receipt) = sealed.receipt() else { continue };
        let Some(ids) = &receipt.ids else { continue };
        let Some(list) = source.read(&ids.object, DELETED_IDS_BYTES_MAX)? else {
            if receipt.manifest.is_some() {
                return Err(NoEvidence::Missing(ids.object.clone()));
            }
            // Of a deletion without an archive only the list says which events it was.
            missing = missing.or_else(|| Some(ids.object.clone()));
            continue;
        };
        let deleted = find_deleted(&list, sealed.document.header.sequence, id);
        found.deleted = found.deleted.or(deleted);
    }
    match (&found.archived, &found.deleted, missing, gone) {
        (None, None, Some(missing), _) => Err(NoEvidence::Missing(missing)),
        (None, None, None, Some((object, receipt))) => {
            Err(NoEvidence::Gone { tenant: tenant.clone(), id, object, receipt })
        }
        (None, None, None, None) => Err(NoEvidence::Unknown(tenant.clone(), id)),
        _ => Ok(found),
    }
}

fn read_chain(source: &dyn Source, tenant: &Tenant, id: Uuid) -> Result<Chain, NoEvidence> {
    let mut heads = Vec::new();
    for file in source.list(&heads_prefix(tenant))? {
        let bytes = source.read(&file.name, HEAD_BYTES_MAX)?.unwrap_or_default();
        // A head that cannot be read is no use; the verification reports it.
        heads.extend(SignedHead::parse(&bytes).ok().map(|signed| (bytes, signed)));
    }
    heads.sort_by_key(|(_, signed)| (signed.head.size, signed.head.at));
    let (mut chain, mut tree, prefix) = (Chain::default(), Tree::new(), chain_prefix(tenant));
    let mut may_hold = BTreeSet::new();
    for file in source.list(&prefix)? {
        let bytes = source.read(&file.name, DOCUMENT_BYTES_MAX)?.unwrap_or_default();
        let sealed = Sealed::parse(&bytes)
            .map_err(|error| NoEvidence::Document(file.name.clone(), error))?;
        chain.leaves.push(sealed.leaf);
        tree.push(sealed.leaf);
        let fits = |signed: &SignedHead| {
            signed.head.size == tree.size() && signed.head.root == tree.root()
        };
        if let Some(found) = heads.iter().rfind(|(_, signed)| fits(signed)) {
            chain.head = Some(found.clone());
        }
        let matters = match &sealed.document.body {
            Body::Manifest(manifest) => {
                let may = manifest.contents.blocks_of(id).next().is_some();
                may && may_hold.insert(sealed.document.header.sequence)
            }
            // Its list is of events that the object held.
            Body::Receipt(receipt) => {
                receipt.manifest.is_none_or(|manifest| may_hold.contains(&manifest.sequence))
            }
            Body::Key(_) => true,
        };
        if matters {
            let name = file.name.strip_prefix(&prefix).unwrap_or(&file.name);
            chain.kept.push((name.to_owned(), bytes, sealed));
        }
    }
    Ok(chain)
}

/// The event's line in an object, with its proof.
fn find_line<'a>(
    (source, object): (&'a dyn Source, Box<dyn io::Read + 'a>),
    sealed: &Sealed,
    manifest: &Manifest,
    id: Uuid,
) -> io::Result<Option<(Archived, Vec<u8>)>> {
    let (codec, key) = (manifest.contents.codec, LineKey { id, revision: 0 });
    let mut found = None;
    survey(object, codec, |entry| {
        if entry.line.key == key {
            found =
                Some((entry.index, hex::encode(entry.salt), [entry.line.bytes, b"\n"].concat()));
        }
    })?;
    let Some((index, salt, line)) = found else { return Ok(None) };
    let prover = InclusionProver::new(index, manifest.contents.lines);
    let (Some(mut prover), Some(object)) = (prover, source.open(&manifest.object)?) else {
        return Ok(None);
    };
    survey(object, codec, |entry| prover.push(entry.leaf))?;
    let manifest = sealed.document.header.sequence;
    Ok(prover.finish().map(|proof| (Archived { manifest, salt, proof }, line)))
}

/// The event's entry in a receipt's list, with its proof.
fn find_deleted(list: &[u8], sequence: u64, id: Uuid) -> Option<Deleted> {
    let (entries, _) = list.as_chunks::<DELETED_ID_BYTES>();
    let at = entries.binary_search_by(|entry| entry[..16].cmp(id.as_bytes())).ok()?;
    let mut event_leaf = [0; 32];
    event_leaf.copy_from_slice(&entries[at][16..]);
    let leaves = entries.iter().map(|entry| leaf(entry));
    let proof = proof(leaves, at as u64, entries.len() as u64)?;
    Some(Deleted { receipt: sequence, leaf: Hash(event_leaf), proof })
}

fn place(chain: &Chain) -> Vec<Placed> {
    let size = chain.head.as_ref().map_or(0, |(_, signed)| signed.head.size);
    let placed = chain.kept.iter().map(|(file, _, sealed)| {
        let index = sealed.document.header.sequence - 1;
        let counted = chain.leaves.iter().take(usize::try_from(size).unwrap_or(usize::MAX));
        Placed { file: file.clone(), proof: proof(counted.copied(), index, size) }
    });
    placed.collect()
}

fn proof(leaves: impl Iterator<Item = Hash>, index: u64, size: u64) -> Option<InclusionProof> {
    let mut prover = InclusionProver::new(index, size)?;
    leaves.for_each(|leaf| prover.push(leaf));
    prover.finish()
}

//! Collects the evidence for an event from an archive: which manifest covers it, which receipt lists
//! it, and the latest head. It reads the chain once and the event's object twice.

use std::io;

use contracts::Tenant;
use uuid::Uuid;

use super::{Archived, Deleted, EVENT, Evidence, Files, HEAD, INDEX, PAGE, Placed, Version, page};
use crate::document::{
    BadDocument, Body, DELETED_ID_BYTES, DOCUMENT_BYTES_MAX, Manifest, Receipt, Scope, Sealed,
    chain_prefix, heads_prefix,
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

/// The evidence for one event, as files.
pub fn assemble(source: &dyn Source, tenant: &Tenant, id: Uuid) -> Result<Files, NoEvidence> {
    let mut chain = read_chain(source, tenant, id)?;
    let mut files = Files::new();
    let mut archived = None;
    for (_, _, sealed) in chain.kept.iter().rev() {
        let Some(manifest) = sealed.manifest() else { continue };
        if let Some((found, line)) = find_line(source, sealed, manifest, id)? {
            files.insert(EVENT.to_owned(), line);
            archived = Some(found);
            break;
        }
    }
    let mut deleted: Option<Deleted> = None;
    for (_, _, sealed) in &chain.kept {
        let Some(receipt) = sealed.receipt() else { continue };
        let found = find_deleted(source, sealed.document.header.sequence, receipt, id)?;
        deleted = deleted.or(found);
    }
    if archived.is_none() && deleted.is_none() {
        return Err(NoEvidence::Unknown(tenant.clone(), id));
    }
    let manifest = archived.as_ref().map(|archived| archived.manifest);
    let receipt = deleted.as_ref().map(|deleted| deleted.receipt);
    let deleted_from = chain.kept.iter().find_map(|(_, _, sealed)| {
        let named = sealed.receipt()?.manifest?.sequence;
        (Some(sealed.document.header.sequence) == receipt).then_some(named)
    });
    chain.kept.retain(|(_, _, sealed)| {
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

fn read_chain(source: &dyn Source, tenant: &Tenant, id: Uuid) -> Result<Chain, NoEvidence> {
    let mut heads = Vec::new();
    for file in source.list(&heads_prefix(tenant))? {
        let bytes = source.read(&file.name, HEAD_BYTES_MAX)?.unwrap_or_default();
        // A head that cannot be read is no use; the verification reports it.
        heads.extend(SignedHead::parse(&bytes).ok().map(|signed| (bytes, signed)));
    }
    heads.sort_by_key(|(_, signed)| (signed.head.size, signed.head.at));
    let (mut chain, mut tree, prefix) = (Chain::default(), Tree::new(), chain_prefix(tenant));
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
            Body::Manifest(manifest) => manifest.contents.blocks_of(id).next().is_some(),
            Body::Key(_) | Body::Receipt(_) => true,
        };
        if matters {
            let name = file.name.strip_prefix(&prefix).unwrap_or(&file.name);
            chain.kept.push((name.to_owned(), bytes, sealed));
        }
    }
    Ok(chain)
}

/// The event's line in an object, with its proof.
fn find_line(
    source: &dyn Source,
    sealed: &Sealed,
    manifest: &Manifest,
    id: Uuid,
) -> io::Result<Option<(Archived, Vec<u8>)>> {
    let (codec, key) = (manifest.contents.codec, LineKey { id, revision: 0 });
    let Some(object) = source.open(&manifest.object)? else { return Ok(None) };
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
fn find_deleted(
    source: &dyn Source,
    sequence: u64,
    receipt: &Receipt,
    id: Uuid,
) -> io::Result<Option<Deleted>> {
    let Some(ids) = &receipt.ids else { return Ok(None) };
    let bytes = source.read(&ids.object, DELETED_IDS_BYTES_MAX)?.unwrap_or_default();
    let (entries, _) = bytes.as_chunks::<DELETED_ID_BYTES>();
    let Ok(at) = entries.binary_search_by(|entry| entry[..16].cmp(id.as_bytes())) else {
        return Ok(None);
    };
    let mut event_leaf = [0; 32];
    event_leaf.copy_from_slice(&entries[at][16..]);
    let proof = proof(entries.iter().map(|entry| leaf(entry)), at as u64, entries.len() as u64);
    Ok(proof.map(|proof| Deleted { receipt: sequence, leaf: Hash(event_leaf), proof }))
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

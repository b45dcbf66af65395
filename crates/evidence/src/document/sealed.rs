//! A document and its seal in one file: the document's line, an empty line, and a signed note over a
//! statement of four lines (type, tenant, sequence number, SHA-256 of the document). What is signed is
//! short because key services sign little at once, and is text so that it can be checked by hand.

use super::{Body, DOCUMENT_BYTES_MAX, Document, Kind};
use crate::hash::Hash;
use crate::key::{SignError, Signer};
use crate::merkle;
use crate::note::{BadNote, Note};

/// A sealed document as it was read. Its bytes are those of its statement; whether the signatures are
/// anybody's is for the caller to ask the note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The document.
    pub document: Document,
    /// SHA-256 of its line, which the next document names.
    pub hash: Hash,
    /// Its leaf in the tree that heads are signed over.
    pub leaf: Hash,
    /// The signed statement.
    pub note: Note,
}

/// Bytes that are no sealed document.
#[derive(Debug, thiserror::Error)]
pub enum BadDocument {
    /// Longer than [`DOCUMENT_BYTES_MAX`], not text, or without its seal.
    #[error("no sealed document: {0}")]
    Form(&'static str),
    /// The part after the empty line.
    #[error(transparent)]
    Seal(#[from] BadNote),
    /// The statement names another document than the line above it.
    #[error("the seal is over another document: it says\n{said}where the document is\n{is}")]
    Edited {
        /// The statement in the file.
        said: String,
        /// The statement that belongs to the line.
        is: String,
    },
    /// A type or version that this release does not know, or a member that is missing.
    #[error("the document cannot be read: {0}; a newer release may know it")]
    Unknown(serde_json::Error),
    /// The same values can be written in one way only.
    #[error("the document is not canonical JSON (RFC 8785)")]
    NotCanonical,
}

/// Seals a document with each of the keys. The first is the one that its header names.
pub async fn seal(document: &Document, signers: &[&dyn Signer]) -> Result<Vec<u8>, SignError> {
    let mut file = document.bytes();
    let header = &document.header;
    let kind = document.body.kind();
    let text = statement(kind, header.tenant.as_str(), header.sequence, Hash::of(&file));
    let note = Note::sign(text, signers).await?;
    file.push(b'\n');
    file.extend(note.to_string().into_bytes());
    Ok(file)
}

fn statement(kind: Kind, tenant: &str, sequence: u64, hash: Hash) -> String {
    format!("flotilla.{}/v1\n{tenant}\n{sequence}\n{hash}\n", kind.as_str())
}

impl Sealed {
    /// Reads a file.
    pub fn parse(file: &[u8]) -> Result<Self, BadDocument> {
        if file.len() as u64 > DOCUMENT_BYTES_MAX {
            return Err(BadDocument::Form("it is longer than 2 MiB"));
        }
        let text = std::str::from_utf8(file).map_err(|_| BadDocument::Form("it is not UTF-8"))?;
        let (line, seal) = text
            .split_once("\n\n")
            .ok_or(BadDocument::Form("there is no empty line after the document"))?;
        let line = &text[..=line.len()];
        let (hash, note) = (Hash::of(line), Note::parse(seal)?);
        // An edited document need not parse; that it was edited is the better answer.
        if note.text.lines().last() != Some(hash.to_string().as_str()) {
            let is = format!("…\n{hash}\n");
            return Err(BadDocument::Edited { said: note.text, is });
        }
        let value: serde_json::Value = serde_json::from_str(line).map_err(BadDocument::Unknown)?;
        let canonical = serde_json_canonicalizer::to_string(&value).unwrap_or_default();
        if Some(canonical.as_str()) != line.strip_suffix('\n') {
            return Err(BadDocument::NotCanonical);
        }
        let document: Document = serde_json::from_value(value).map_err(BadDocument::Unknown)?;
        let header = &document.header;
        let is = statement(document.body.kind(), header.tenant.as_str(), header.sequence, hash);
        if note.text != is {
            return Err(BadDocument::Edited { said: note.text, is });
        }
        Ok(Self { document, hash, leaf: merkle::leaf(line.as_bytes()), note })
    }

    /// The manifest, when it is one.
    pub fn manifest(&self) -> Option<&super::Manifest> {
        match &self.document.body {
            Body::Manifest(manifest) => Some(manifest),
            _ => None,
        }
    }

    /// The receipt, when it is one.
    pub fn receipt(&self) -> Option<&super::Receipt> {
        match &self.document.body {
            Body::Receipt(receipt) => Some(receipt),
            _ => None,
        }
    }
}

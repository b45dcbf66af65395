//! Follows a tenant's chain document by document from an end that is known: what somebody needs who takes
//! published documents back into a database that lost them. Each document is the next one, signed by the
//! key that the chain has at its place, or an error; nothing is passed over and nothing is read anew.

use contracts::Tenant;

use super::chain::{mistrusted, unreadable};
use super::finding::Code;
use super::keyring::{Keyring, key_record};
use crate::document::{ChainEnd, DocumentName, Sealed};
use crate::head::{Head, SignedHead, origin};
use crate::key::VerifyKey;
use crate::merkle::Tree;
use crate::moment;

/// Where the following begins.
#[derive(Clone, Debug, Default)]
pub struct Begin {
    /// The last document that is known; none before the first.
    pub end: Option<ChainEnd>,
    /// Id of the key that signs the next one; none before the first.
    pub signer: Option<String>,
    /// The tree over the documents so far.
    pub tree: Tree,
}

/// A document that is not the chain's next, or a head that is not the chain's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {what}: {detail}")]
pub struct Broken {
    /// What was done to it.
    pub code: Code,
    /// Which document or head.
    pub what: String,
    /// What was expected and what is there.
    pub detail: String,
}

/// Follows one tenant's chain.
#[derive(Clone, Debug)]
pub struct Follower {
    tenant: Tenant,
    keys: Keyring,
    end: Option<ChainEnd>,
    signer: Option<String>,
    tree: Tree,
}

impl Follower {
    /// Believes the `given` keys and what the chain's key `records` tie to them.
    pub fn new(tenant: &Tenant, given: &[VerifyKey], records: &[Sealed], begin: Begin) -> Self {
        let mut keys = Keyring::new(given);
        keys.learn(records.iter());
        let Begin { end, signer, tree } = begin;
        Self { tenant: tenant.clone(), keys, end, signer, tree }
    }

    /// The last document.
    pub fn end(&self) -> Option<ChainEnd> {
        self.end
    }

    /// Id of the key that signs what comes next.
    pub fn signer(&self) -> Option<&str> {
        self.signer.as_deref()
    }

    /// The tree over the documents so far.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// A key that is believed.
    pub fn key(&self, id: &str) -> Option<&VerifyKey> {
        self.keys.get(id)
    }

    /// Takes the next document's file. After an error it stands where it stood.
    pub fn next(&mut self, name: DocumentName, file: &[u8]) -> Result<Sealed, Broken> {
        let what = format!("document {} of {}", name.sequence, self.tenant);
        let broken = |code, detail: String| Broken { code, what: what.clone(), detail };
        let sealed = Sealed::parse(file)
            .map_err(|error| broken(unreadable(&error, name.kind), error.to_string()))?;
        let (header, kind) = (&sealed.document.header, sealed.document.body.kind());
        if header.tenant != self.tenant {
            let detail = format!("it is document {} of {}", header.sequence, header.tenant);
            return Err(broken(Code::DocumentOfAnotherTenant, detail));
        }
        let next = self.end.map_or(0, |end| end.sequence) + 1;
        if header.sequence != next || (header.sequence, kind) != (name.sequence, name.kind) {
            let detail =
                format!("it holds {} {} where number {next} comes", kind.as_str(), header.sequence);
            return Err(broken(Code::DocumentMisplaced, detail));
        }
        if let Some((code, detail)) = mistrusted(&self.keys, self.signer.as_deref(), &sealed) {
            return Err(broken(code, detail));
        }
        if header.previous != self.end.map(|end| end.hash) {
            let detail = "it does not follow the document before it".to_owned();
            return Err(broken(Code::ChainBroken, detail));
        }
        if self.end.is_some_and(|end| end.issued_at > header.issued_at) {
            let detail = format!("it was issued at {}", moment::text(header.issued_at));
            return Err(broken(Code::ClockSetBack, detail));
        }
        self.end = Some(sealed.document.end());
        self.tree.push(sealed.leaf);
        if let Some(record) = key_record(&sealed) {
            self.signer = record.public_key.parse().ok().map(|key: VerifyKey| key.id());
        }
        Ok(sealed)
    }

    /// Reads a head that a trusted key signed for this tenant. Whether it fits is for
    /// [`Follower::fits`].
    pub fn head(&self, name: &str, file: &[u8]) -> Result<Head, Broken> {
        let broken = |code, detail| Broken { code, what: name.to_owned(), detail };
        let SignedHead { head, note } = SignedHead::parse(file)
            .map_err(|error| broken(Code::HeadUnreadable, error.to_string()))?;
        let ours = |key: &VerifyKey| origin(key.name(), &self.tenant) == head.origin;
        if self.keys.signed(&note, ours) {
            return Ok(head);
        }
        let detail = format!("its origin is {}, its signers {}", head.origin, note.key_ids());
        Err(broken(Code::HeadForged, detail))
    }

    /// Whether a head of the tree's very size commits to this tree.
    pub fn fits(&self, head: &Head) -> bool {
        head.size == self.tree.size() && head.root == self.tree.root()
    }
}

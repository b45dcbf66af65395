//! Claim check: a body too large for the broker waits in an object store, and the message carries a
//! claim on it. Here is the port to that store. The object is fetched and verified when its message is
//! decoded. Only when the message is settled for good does a mark of a few bytes take its place: never
//! on a retry, and not when it is dead-lettered, since a redrive must still find it. By the mark a late
//! duplicate is known for what it is, by every worker. What nobody removes, marks included, is bounded
//! by a lifecycle rule of the store that outlasts the longest redelivery.

mod memory;
mod pack;
mod unpack;

use std::time::Duration;

use async_trait::async_trait;
use contracts::{Claim, EnvelopeId, Tenant};
use sha2::{Digest, Sha256};

pub use memory::{MEMORY_OBJECTS_BYTES_MAX, MemoryClaims};
pub use pack::{COMPRESS_FROM_BYTES, PackError, Packed, Packer};
pub use unpack::UNPACKED_BYTES_MAX;
pub(crate) use unpack::{Unopened, Unpacker};

/// A call to the store ends within this, should its own limit not hold.
pub const CALL_MAX: Duration = Duration::from_secs(20);

/// What a mark begins with; no body does, being JSON or gzip.
const MARK: &str = "settled ";
/// Bytes of a mark at most.
pub const MARK_BYTES_MAX: usize = 128;

/// Why the store did not do as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// There is no such object.
    #[error("no object {0:?}")]
    Missing(String),
    /// The message of that id was handled to the end and deleted, and the object with it.
    #[error("the body of message {0}, which was settled")]
    Settled(String),
    /// The claim does not name an object that this tenant's messages may have: another bucket,
    /// another tenant's prefix, another size. It is not touched.
    #[error("the claim is not one of ours: {0}")]
    Foreign(String),
    /// The store does not answer, or refuses us; what was asked may have been done.
    #[error("{message}")]
    Unavailable {
        /// The error chain as text.
        message: String,
        /// When the store itself said to come back.
        retry_after: Option<Duration>,
    },
}

impl ClaimError {
    /// The store does not answer.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::Unavailable { message: message.into(), retry_after: None }
    }
}

/// Where large bodies wait for their messages.
///
/// Guarantees: an object is there for every reader once `put` has returned; its key cannot be guessed
/// and lies under its tenant's own prefix; `get` and `remove` touch nothing outside of that prefix,
/// whatever a claim says; every call makes one attempt and ends within a time limit of its own.
#[async_trait]
pub trait ClaimStore: Send + Sync + 'static {
    /// Stores an object under a new key and answers the claim on it.
    async fn put(&self, tenant: &Tenant, object: Vec<u8>) -> Result<Claim, ClaimError>;

    /// The claimed object, at most as large as the claim says.
    async fn get(&self, tenant: &Tenant, claim: &Claim) -> Result<Vec<u8>, ClaimError>;

    /// Removes the object; that it is gone already is no error.
    async fn remove(&self, tenant: &Tenant, claim: &Claim) -> Result<(), ClaimError>;

    /// Puts a [`mark`] in the object's place: from now on `get` answers [`ClaimError::Settled`].
    async fn settle(
        &self,
        tenant: &Tenant,
        claim: &Claim,
        message: EnvelopeId,
    ) -> Result<(), ClaimError>;
}

/// Whether an object is the one claimed; tells how it is another.
pub fn verify(claim: &Claim, object: &[u8]) -> Result<(), String> {
    let (size, sha256) = (object.len() as u64, digest(object));
    if size == claim.size && sha256 == claim.sha256 {
        return Ok(());
    }
    Err(format!(
        "object {:?} has {size} bytes and SHA-256 {sha256}, claimed are {} and {}",
        claim.key, claim.size, claim.sha256
    ))
}

/// What takes the place of a settled message's body.
pub fn mark(message: EnvelopeId) -> Vec<u8> {
    format!("{MARK}{message}").into_bytes()
}

/// The message whose mark this is; `None` for a body.
pub fn marked(object: &[u8]) -> Option<&str> {
    let short = object.len() <= MARK_BYTES_MAX;
    std::str::from_utf8(object).ok().filter(|_| short)?.strip_prefix(MARK)
}

/// SHA-256 as a claim writes it.
pub fn digest(object: &[u8]) -> String {
    hex::encode(Sha256::digest(object))
}

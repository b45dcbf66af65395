//! Packing, the one way of every producer: a body over the limit is compressed, and what is still too
//! large goes to the object store. It sends nothing; what it stored for a message that was not sent,
//! its caller gives back.

use std::sync::Arc;

use contracts::packing::{self, BODY_BYTES_MAX};
use contracts::{Body, Claim, Claimed, Encoding, Envelope, Gzipped, Tenant};
use serde_json::value::RawValue;

use super::{CALL_MAX, ClaimError, ClaimStore};

/// A message over this is compressed: SQS bills per 64 KiB, and this is where publishing packs to.
pub const COMPRESS_FROM_BYTES: usize = 256 << 10;

/// Why a message could not be packed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// Too large for the broker, compressed too, and there is no store for it or no reader would
    /// take it.
    #[error("a message of {0} bytes")]
    TooLarge(usize),
    /// The store did not take it.
    #[error("object store: {0}")]
    Store(ClaimError),
    /// It cannot be written as JSON.
    #[error("{0}")]
    Unwritable(String),
}

/// A message as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// The message's text.
    pub text: String,
    /// What was put into the store for it.
    pub claim: Option<(Tenant, Claim)>,
}

/// How messages are packed. Cheap to clone.
#[derive(Clone)]
pub struct Packer {
    store: Option<Arc<dyn ClaimStore>>,
    compress_from: usize,
}

impl Default for Packer {
    fn default() -> Self {
        Self { store: None, compress_from: COMPRESS_FROM_BYTES }
    }
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer")
            .field("store", &self.store.is_some())
            .field("compress_from", &self.compress_from)
            .finish()
    }
}

impl Packer {
    /// A packer; without a store it only compresses.
    pub fn new(store: Option<Arc<dyn ClaimStore>>) -> Self {
        Self { store, ..Self::default() }
    }

    /// Compresses from that many bytes of a message on.
    #[must_use]
    pub fn compressing_from(self, compress_from: usize) -> Self {
        Self { compress_from, ..self }
    }

    /// The message's text, at most `room` bytes. What is packed already stays as it is.
    pub async fn pack(&self, envelope: &Envelope, room: usize) -> Result<Packed, PackError> {
        let plain = text(envelope)?;
        let Body::Inline(body) = &envelope.body else { return inline(plain, room) };
        if plain.len() <= self.compress_from.min(room) {
            return inline(plain, room);
        }
        if body.get().len() as u64 > BODY_BYTES_MAX {
            return Err(PackError::TooLarge(plain.len()));
        }
        let compressed = packing::compress(body.get());
        if Gzipped::wire_len(compressed.len()) < body.get().len() {
            let gzipped = Gzipped::new(body.get().len(), &compressed);
            let packed = text(&with(envelope, Body::Gzip(gzipped)))?;
            if packed.len() <= room {
                return inline(packed, room);
            }
        }
        if plain.len() <= room {
            return inline(plain, room);
        }
        self.claim(envelope, body, compressed, plain.len(), room).await
    }

    /// Puts the smaller of the two forms into the store.
    async fn claim(
        &self,
        envelope: &Envelope,
        body: &RawValue,
        compressed: Vec<u8>,
        size: usize,
        room: usize,
    ) -> Result<Packed, PackError> {
        let store = self.store.as_ref().ok_or(PackError::TooLarge(size))?;
        let (encoding, object) = if compressed.len() < body.get().len() {
            (Encoding::Gzip, compressed)
        } else {
            (Encoding::Json, body.get().as_bytes().to_vec())
        };
        let tenant = &envelope.header.tenant;
        let put = tokio::time::timeout(CALL_MAX, store.put(tenant, object)).await;
        let late = || ClaimError::unavailable(format!("no answer in {CALL_MAX:?}"));
        let claim = put.unwrap_or_else(|_| Err(late())).map_err(PackError::Store)?;
        let bytes = body.get().len() as u64;
        let claimed = Claimed { claim: claim.clone(), encoding, bytes };
        let text = text(&with(envelope, Body::Claim(claimed)))?;
        let packed = Packed { text, claim: Some((tenant.clone(), claim)) };
        if packed.text.len() > room {
            self.give_back(&packed).await;
            return Err(PackError::TooLarge(packed.text.len()));
        }
        Ok(packed)
    }

    /// Removes what was stored for a message that was certainly not sent. What cannot be removed
    /// now is left to the store's lifecycle rule.
    pub async fn give_back(&self, packed: &Packed) {
        if let (Some(store), Some((tenant, claim))) = (&self.store, &packed.claim) {
            let removal = tokio::time::timeout(CALL_MAX, store.remove(tenant, claim)).await;
            if !matches!(removal, Ok(Ok(()))) {
                tracing::warn!(key = claim.key, "an object without a message is left behind");
            }
        }
    }
}

fn inline(text: String, room: usize) -> Result<Packed, PackError> {
    if text.len() > room {
        Err(PackError::TooLarge(text.len()))
    } else {
        Ok(Packed { text, claim: None })
    }
}

fn with(envelope: &Envelope, body: Body) -> Envelope {
    Envelope { header: envelope.header.clone(), body }
}

fn text(envelope: &Envelope) -> Result<String, PackError> {
    envelope.to_json().map_err(|error| PackError::Unwritable(error.to_string()))
}

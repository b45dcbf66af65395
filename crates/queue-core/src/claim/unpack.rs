//! Unpacking on the worker's side: within a bound on what is unpacked at the same time, verified
//! before anything is believed. It never removes an object on its own account.

use std::sync::Arc;

use contracts::packing::{BODY_BYTES_MAX, UnpackError};
use contracts::{Body, Claim, Claimed, EnvelopeId, ErrorCode, Header, Tenant, errors};
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{CALL_MAX, ClaimError, ClaimStore, verify};
use crate::worker::{Error, Failure};

/// Bytes of unpacked bodies and their objects in hand at the same time, per engine.
pub const UNPACKED_BYTES_MAX: u64 = 64 << 20;
/// What one permit stands for.
const UNIT: u64 = 1_024;

/// A body and its room; the room is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) body: Box<RawValue>,
    /// Given back with it.
    pub(crate) room: OwnedSemaphorePermit,
}

/// Why there is no body.
#[derive(Debug)]
pub(crate) enum Unopened {
    /// Its message was settled before.
    Settled,
    /// It will stay so.
    Never(ErrorCode, String),
    /// This worker cannot, another may.
    NotHere(String),
    /// Not now, for no fault of the message.
    Later(Failure),
}

/// Opens packed bodies.
pub(crate) struct Unpacker {
    store: Option<Arc<dyn ClaimStore>>,
    room: Arc<Semaphore>,
}

impl Unpacker {
    pub(crate) fn new(store: Option<Arc<dyn ClaimStore>>) -> Self {
        let units = usize::try_from(UNPACKED_BYTES_MAX / UNIT).unwrap_or(1);
        Self { store, room: Arc::new(Semaphore::new(units)) }
    }

    /// The body, once there is room for it.
    pub(crate) async fn open(&self, header: &Header, body: &Body) -> Result<Opened, Unopened> {
        let (unpacked, packed) = match body {
            Body::Inline(body) => (body.get().len() as u64, 0),
            Body::Gzip(gzipped) => (gzipped.bytes, gzipped.base64.len() as u64),
            Body::Claim(claimed) => (claimed.bytes, claimed.claim.size),
        };
        if unpacked.max(packed) > BODY_BYTES_MAX {
            let error = UnpackError::TooLarge(unpacked.max(packed));
            return Err(Unopened::Never(errors::MALFORMED_MESSAGE, error.to_string()));
        }
        let units = u32::try_from((unpacked + packed).div_ceil(UNIT)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(units).await;
        // Nobody closes it.
        let room = room.map_err(|error| Unopened::NotHere(error.to_string()))?;
        let body = match body {
            Body::Inline(body) => Ok(body.clone()),
            Body::Gzip(gzipped) => gzipped.unpack(),
            Body::Claim(claimed) => claimed.unpack(&self.fetch(header, claimed).await?),
        };
        match body {
            Ok(body) => Ok(Opened { body, room }),
            Err(error) => Err(Unopened::Never(errors::MALFORMED_MESSAGE, error.to_string())),
        }
    }

    /// The claimed object, as large as claimed and with the claimed hash.
    async fn fetch(&self, header: &Header, claimed: &Claimed) -> Result<Vec<u8>, Unopened> {
        let claim = &claimed.claim;
        let Some(store) = &self.store else {
            let text = "its body is an object, and no object store is set: see CLAIM_BUCKET";
            return Err(Unopened::NotHere(text.to_owned()));
        };
        let get = tokio::time::timeout(CALL_MAX, store.get(&header.tenant, claim)).await;
        let late = || ClaimError::unavailable(format!("no answer in {CALL_MAX:?}"));
        let object = match get.unwrap_or_else(|_| Err(late())) {
            Ok(object) => object,
            Err(ClaimError::Missing(_)) => {
                let text = format!("object {:?} of bucket {:?} is gone", claim.key, claim.bucket);
                return Err(Unopened::Never(errors::CLAIM_MISSING, text));
            }
            Err(ClaimError::Settled(message)) if message == header.id.to_string() => {
                return Err(Unopened::Settled);
            }
            Err(error @ (ClaimError::Foreign(_) | ClaimError::Settled(_))) => {
                return Err(Unopened::Never(errors::CLAIM_MISMATCH, error.to_string()));
            }
            Err(ClaimError::Unavailable { message, retry_after }) => {
                let error = Error::infrastructure(errors::OBJECTS_UNAVAILABLE, message);
                return Err(Unopened::Later(match retry_after {
                    Some(delay) => Failure::RetryAfter(error, delay),
                    None => Failure::Retry(error),
                }));
            }
        };
        verify(claim, &object).map_err(|text| Unopened::Never(errors::CLAIM_MISMATCH, text))?;
        Ok(object)
    }

    /// Lets go of the object of a message that is settled for good; tells why not.
    pub(crate) async fn settle(
        &self,
        tenant: &Tenant,
        claim: &Claim,
        message: EnvelopeId,
    ) -> Result<(), ClaimError> {
        let Some(store) = &self.store else { return Ok(()) };
        tokio::time::timeout(CALL_MAX, store.settle(tenant, claim, message))
            .await
            .unwrap_or_else(|_| Err(ClaimError::unavailable(format!("no answer in {CALL_MAX:?}"))))
    }
}

//! Claims in memory, for tests and simulations. It forgets at exit.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use contracts::{Claim, EnvelopeId, Tenant};
use rand::Rng;

use super::{ClaimError, ClaimStore, digest, mark, marked};

/// Bytes that it holds; more is refused as an outage.
pub const MEMORY_OBJECTS_BYTES_MAX: usize = 256 << 20;
/// What stands for a bucket.
const BUCKET: &str = "memory";

/// A store in memory.
#[derive(Debug, Default)]
pub struct MemoryClaims {
    objects: Mutex<HashMap<String, Vec<u8>>>,
}

impl MemoryClaims {
    fn objects(&self) -> MutexGuard<'_, HashMap<String, Vec<u8>>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keys of the bodies that are there, in order.
    pub fn keys(&self) -> Vec<String> {
        let objects = self.objects();
        let bodies = objects.iter().filter(|(_, object)| marked(object).is_none());
        let mut keys: Vec<String> = bodies.map(|(key, _)| key.clone()).collect();
        keys.sort();
        keys
    }

    /// Loses a body; tells whether it was there.
    pub fn lose(&self, key: &str) -> bool {
        let mut objects = self.objects();
        objects.remove(key).is_some_and(|object| marked(&object).is_none())
    }

    /// Puts other bytes in an object's place.
    pub fn overwrite(&self, key: &str, object: Vec<u8>) {
        self.objects().insert(key.to_owned(), object);
    }
}

fn own(tenant: &Tenant, claim: &Claim) -> Result<(), ClaimError> {
    if claim.bucket == BUCKET && claim.key.starts_with(&format!("claims/{tenant}/")) {
        return Ok(());
    }
    Err(ClaimError::Foreign(format!("{:?} in {:?}", claim.key, claim.bucket)))
}

#[async_trait]
impl ClaimStore for MemoryClaims {
    async fn put(&self, tenant: &Tenant, object: Vec<u8>) -> Result<Claim, ClaimError> {
        let key = format!("claims/{tenant}/{:032x}", rand::rng().random::<u128>());
        let mut objects = self.objects();
        let held: usize = objects.values().map(Vec::len).sum();
        if held + object.len() > MEMORY_OBJECTS_BYTES_MAX {
            return Err(ClaimError::unavailable("memory is full"));
        }
        let claim = Claim {
            bucket: BUCKET.to_owned(),
            key: key.clone(),
            sha256: digest(&object),
            size: object.len() as u64,
        };
        objects.insert(key, object);
        Ok(claim)
    }

    async fn get(&self, tenant: &Tenant, claim: &Claim) -> Result<Vec<u8>, ClaimError> {
        own(tenant, claim)?;
        let object = self.objects().get(&claim.key).cloned();
        let object = object.ok_or_else(|| ClaimError::Missing(claim.key.clone()))?;
        match marked(&object) {
            Some(message) => Err(ClaimError::Settled(message.to_owned())),
            None => Ok(object),
        }
    }

    async fn remove(&self, tenant: &Tenant, claim: &Claim) -> Result<(), ClaimError> {
        own(tenant, claim)?;
        self.objects().remove(&claim.key);
        Ok(())
    }

    async fn settle(
        &self,
        tenant: &Tenant,
        claim: &Claim,
        message: EnvelopeId,
    ) -> Result<(), ClaimError> {
        own(tenant, claim)?;
        self.objects().insert(claim.key.clone(), mark(message));
        Ok(())
    }
}

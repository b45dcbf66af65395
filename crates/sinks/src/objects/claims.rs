//! Large bodies as objects: `claims/{tenant}/{day}/{random}`. A claim that names anything else is
//! refused without a call, so that no message can make a worker read or remove an object that is not
//! a body of that tenant.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use contracts::packing::BODY_BYTES_MAX;
use contracts::{Claim, EnvelopeId, Tenant, catalogue};
use queue_core::claim::{ClaimError, ClaimStore, MARK_BYTES_MAX, digest, mark, marked};
use queue_core::{Clock, SystemClock};

use super::{
    Deletion, ObjectKey, Objects, PAGE_MAX, SharedObjects, SinkError, SinkErrorKind, Write,
};

/// What every body's name begins with; a bucket's lifecycle rule names it.
pub const CLAIMS_PREFIX: &str = "claims/";
/// How long an object without a message may stay: longer than any message can be redelivered.
pub const ORPHAN_TERM: Duration = Duration::from_secs(catalogue::redelivery_max_secs() + 7 * DAY);
const DAY: u64 = 86_400;
/// Pages looked at per sweep; the next one goes on.
const SWEEP_PAGES_MAX: usize = 200;

/// [`ClaimStore`] on objects.
#[derive(Clone, Debug)]
pub struct ClaimObjects {
    objects: SharedObjects,
}

impl ClaimObjects {
    /// Claims in that store.
    pub fn new(objects: SharedObjects) -> Self {
        Self { objects }
    }

    /// The claimed object's name, where the claim is one that this tenant may have.
    fn own(&self, tenant: &Tenant, claim: &Claim) -> Result<ObjectKey, ClaimError> {
        let foreign = |why: String| Err(ClaimError::Foreign(why));
        if claim.bucket != self.objects.bucket() {
            let (named, ours) = (&claim.bucket, self.objects.bucket());
            return foreign(format!("it names bucket {named:?}, bodies are in {ours:?}"));
        }
        if claim.size > BODY_BYTES_MAX {
            return foreign(format!("{} bytes, the limit is {BODY_BYTES_MAX}", claim.size));
        }
        match claim.key.parse::<ObjectKey>() {
            Ok(key) if claim.key.starts_with(&format!("{CLAIMS_PREFIX}{tenant}/")) => Ok(key),
            Ok(_) => foreign(format!("{:?} is no body of tenant {tenant}", claim.key)),
            Err(error) => foreign(error.to_string()),
        }
    }
}

fn failed(error: &SinkError) -> ClaimError {
    ClaimError::Unavailable { message: error.to_string(), retry_after: error.retry_after }
}

#[async_trait]
impl ClaimStore for ClaimObjects {
    async fn put(&self, tenant: &Tenant, object: Vec<u8>) -> Result<Claim, ClaimError> {
        let day = SystemClock.now().format("%Y%m%d");
        // 128 bits from the system's generator: nobody finds a body by guessing.
        let random = hex::encode(rand::random::<[u8; 16]>());
        let key = format!("{CLAIMS_PREFIX}{tenant}/{day}/{random}");
        let claim = Claim {
            bucket: self.objects.bucket().to_owned(),
            sha256: digest(&object),
            size: object.len() as u64,
            key,
        };
        let key = self.own(tenant, &claim)?;
        self.objects.put(&key, object, Write::Replace).await.map_err(|error| failed(&error))?;
        Ok(claim)
    }

    async fn get(&self, tenant: &Tenant, claim: &Claim) -> Result<Vec<u8>, ClaimError> {
        let key = self.own(tenant, claim)?;
        let most = claim.size.max(MARK_BYTES_MAX as u64);
        match self.objects.get(&key, most).await {
            Ok(Some(object)) => match marked(&object) {
                Some(message) => Err(ClaimError::Settled(message.to_owned())),
                None if object.len() as u64 > claim.size => {
                    Err(larger(&key, object.len() as u64, claim))
                }
                None => Ok(object),
            },
            Ok(None) => Err(ClaimError::Missing(claim.key.clone())),
            Err(error) => Err(self.refused(&key, claim, error).await),
        }
    }

    async fn remove(&self, tenant: &Tenant, claim: &Claim) -> Result<(), ClaimError> {
        let key = self.own(tenant, claim)?;
        match self.objects.delete(&key).await.map_err(|error| failed(&error))? {
            Deletion::Deleted | Deletion::AlreadyGone => Ok(()),
            Deletion::Locked(held) => {
                let message = format!("{key} is {held}; a bucket for bodies needs no lock");
                Err(ClaimError::Unavailable { message, retry_after: None })
            }
        }
    }

    async fn settle(
        &self,
        tenant: &Tenant,
        claim: &Claim,
        message: EnvelopeId,
    ) -> Result<(), ClaimError> {
        let key = self.own(tenant, claim)?;
        let marked = self.objects.put(&key, mark(message), Write::Replace).await;
        marked.map(drop).map_err(|error| failed(&error))
    }
}

fn larger(key: &ObjectKey, size: u64, claim: &Claim) -> ClaimError {
    ClaimError::Foreign(format!("{key} has {size} bytes, claimed are {}", claim.size))
}

impl ClaimObjects {
    /// An object that is larger than claimed is another one; every other refusal is the store's.
    async fn refused(&self, key: &ObjectKey, claim: &Claim, error: SinkError) -> ClaimError {
        if error.kind == SinkErrorKind::Refused
            && let Ok(Some(meta)) = self.objects.head(key).await
            && meta.size > claim.size
        {
            return larger(key, meta.size, claim);
        }
        failed(&error)
    }
}

/// Removes bodies that nobody removed within [`ORPHAN_TERM`], for stores without a lifecycle rule.
/// Answers how many went.
pub async fn sweep(objects: &dyn Objects, now: DateTime<Utc>) -> Result<u64, SinkError> {
    let term = TimeDelta::from_std(ORPHAN_TERM).unwrap_or(TimeDelta::MAX);
    let (mut gone, mut after) = (0, None);
    for _ in 0..SWEEP_PAGES_MAX {
        let page = objects.list(CLAIMS_PREFIX, after.as_ref(), PAGE_MAX).await?;
        for object in page.objects.iter().filter(|object| now - object.modified > term) {
            if objects.delete(&object.key).await? == Deletion::Deleted {
                gone += 1;
            }
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok(gone)
}

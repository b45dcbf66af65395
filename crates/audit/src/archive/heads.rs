//! Signed heads: over the documents that are in the store, every hour and after a quiet period. A head
//! is kept before it is put, so that it is put again with the same bytes; it never counts a document
//! that is not stored.

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use contracts::Tenant;
use database::timed;
use evidence::document::head_name;
use evidence::head::{HEAD_BYTES_MAX, Head, SignedHead, origin};
use sinks::objects::{Objects, Write, Written};

use super::events::HeadStored;
use super::seal::{CALL_TIMEOUT, SIGN_TIMEOUT, SealError, Sealer, object_key};
use crate::crash::{CrashPoint, reach};
use crate::store::chain::{self as store, Checkpoint, Standing};

/// Heads that are put in one go.
const HEADS: i64 = 50;

impl Sealer {
    pub(super) fn head_due(&self, standing: &Standing) -> bool {
        let now = self.clock.now();
        let quiet = standing.stored_at.is_none_or(|at| now - at >= self.config.head_after_quiet);
        match standing.head {
            _ if standing.stored == 0 => false,
            Some((size, _)) if size > standing.stored => false,
            Some((size, at)) => {
                now - at >= self.config.head_every || (size < standing.stored && quiet)
            }
            None => quiet,
        }
    }

    /// Signs the head that is due, and puts what is not in every store.
    pub(super) async fn heads(
        &self,
        standing: &Standing,
        count: &mut u64,
    ) -> Result<(), SealError> {
        let tenant = &standing.tenant;
        let mut waiting = standing.unpublished;
        if self.head_due(standing) {
            self.sign_head(standing).await?;
            *count += 1;
            waiting = true;
        }
        if waiting { self.publish(tenant).await } else { Ok(()) }
    }

    /// Signs a head over what is stored now and puts it into the stores, due or not: e.g. before a
    /// deletion that is to be provable at once. Tells how many documents it counts; zero signs none.
    pub async fn head_now(&self, tenant: &Tenant) -> Result<u64, SealError> {
        let mut size = 0;
        let standings = store::standing_of(self.database.pool(), tenant, self.second.is_some());
        if let Some(standing) = timed(CALL_TIMEOUT, standings).await?
            && standing.stored > 0
        {
            self.sign_head(&standing).await?;
            self.publish(tenant).await?;
            size = standing.stored;
        }
        Ok(size)
    }

    async fn sign_head(&self, standing: &Standing) -> Result<(), SealError> {
        let (pool, tenant, size) = (self.database.pool(), &standing.tenant, standing.stored);
        let (tree, key_id, issued_at) =
            timed(CALL_TIMEOUT, store::tree(pool, tenant, size)).await?;
        let signer = self.signer(&key_id)?;
        // Never before what it counts, and after the head that it follows.
        let after = |(_, at): (u64, DateTime<Utc>)| issued_at.max(at + TimeDelta::microseconds(1));
        let floor = standing.head.map_or(issued_at, after);
        let at: DateTime<Utc> = self.clock.now().trunc_subsecs(6).max(floor);
        let origin = origin(signer.key().name(), tenant);
        let head = Head { origin, size, root: tree.root(), at };
        let file = match tokio::time::timeout(SIGN_TIMEOUT, head.sign(signer)).await {
            Ok(file) => file?,
            Err(_) => return Err(SealError::SignTimeout(key_id)),
        };
        reach(CrashPoint::AfterHeadSign);
        let keep = store::keep_checkpoint(pool, tenant, size, at, file.as_bytes());
        timed(CALL_TIMEOUT, keep).await?;
        reach(CrashPoint::AfterHeadKept);
        Ok(())
    }

    async fn publish(&self, tenant: &Tenant) -> Result<(), SealError> {
        let (pool, second) = (self.database.pool(), self.second.as_ref());
        let waiting = store::unpublished(pool, tenant, second.is_some(), HEADS);
        let mut failed = None;
        for checkpoint in timed(CALL_TIMEOUT, waiting).await? {
            if !checkpoint.stored {
                put(&*self.objects, tenant, &checkpoint).await?;
                reach(CrashPoint::AfterHeadPut);
                let mark = store::mark_published(pool, tenant, checkpoint.signed_at, false);
                timed(CALL_TIMEOUT, mark).await?;
                HeadStored { tenant, size: checkpoint.size, store: "archive" }.emit();
            }
            // A second store that is away keeps no head from the first.
            if let Some(second) = second.filter(|_| !checkpoint.copied && failed.is_none()) {
                if let Err(error) = put(&**second, tenant, &checkpoint).await {
                    failed = Some(error);
                    continue;
                }
                reach(CrashPoint::AfterHeadCopied);
                let mark = store::mark_published(pool, tenant, checkpoint.signed_at, true);
                timed(CALL_TIMEOUT, mark).await?;
                HeadStored { tenant, size: checkpoint.size, store: "second" }.emit();
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

/// Puts a head under its name. One of the same second that says the same of the chain will do.
async fn put(
    objects: &dyn Objects,
    tenant: &Tenant,
    checkpoint: &Checkpoint,
) -> Result<(), SealError> {
    let Checkpoint { size, signed_at, file, .. } = checkpoint;
    let name = head_name(tenant, *signed_at, *size);
    let key = object_key(&name, *size)?;
    if objects.put(&key, file.clone(), Write::IfAbsent).await? == Written::New {
        return Ok(());
    }
    let there = objects.get(&key, HEAD_BYTES_MAX).await?;
    let says = |file: &[u8]| {
        SignedHead::parse(file)
            .ok()
            .map(|SignedHead { head, .. }| (head.origin, head.size, head.root))
    };
    match there {
        Some(there) if there == *file || says(&there).is_some_and(|it| Some(it) == says(file)) => {
            Ok(())
        }
        _ => Err(SealError::Forked(name)),
    }
}

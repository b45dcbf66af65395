//! From deleted rows to the receipt: the list of ids into the store, then everything that makes the
//! deletion official in one transaction.

use chrono::{DateTime, Utc};
use evidence::document::{
    Body, DELETED_ID_BYTES, DeletedIds, HoldsChecked, Receipt, Scope, deleted_ids_name,
};
use evidence::merkle::{self, Tree};
use evidence::{Hash, document};
use sinks::objects::{ObjectKey, Write, Written};

use super::events::Deleted;
use super::{Cleaner, Done, Job, Obstacle, wrong};
use crate::archive::{chain, outgoing};
use crate::crash::{CrashPoint, reach};
use crate::lifecycle::Run;
use crate::store::{self, Cleanup};

/// Who asked, as a receipt names them.
pub(super) fn requester(run: &Run) -> String {
    let key = run.new.requester.get("key_id").and_then(serde_json::Value::as_str);
    key.unwrap_or("scheduler").to_owned()
}

pub(super) fn unit_name(unit: uuid::Uuid) -> Result<document::Unit, Obstacle> {
    document::Unit::try_from(unit.to_string()).map_err(|error| wrong(error.to_string()))
}

impl Cleaner {
    /// Ends a unit of whose rows none goes any more. Each step may have been done before.
    pub(super) async fn finish(&self, job: &Job<'_>) -> Result<Done, Obstacle> {
        let Some(cleanup) = self.known(job).await? else {
            return Err(wrong(format!("unit {} has no deletion to end", job.unit.id)));
        };
        if cleanup.ended_at.is_some() {
            return Ok(Done::Over);
        }
        if cleanup.deleted == 0 {
            return self.spare(job, &cleanup).await;
        }
        let search_empty_at = self.forget(job, &cleanup).await?;
        let ids = self.put_ids(job, &cleanup).await?;
        reach(CrashPoint::AfterIdsPut);
        let receipt = self.receipt(job, &cleanup, ids, search_empty_at).await?;
        self.append(job, &cleanup, receipt).await
    }

    /// Nothing was deleted: no receipt.
    async fn spare(&self, job: &Job<'_>, cleanup: &Cleanup) -> Result<Done, Obstacle> {
        let (tenant, unit, now) = (job.tenant(), job.unit.id, self.now());
        let mut transaction = self.database.pool().begin().await?;
        let c = &mut *transaction;
        let moved = match &cleanup.failure {
            Some(why) => store::fail_unit(c, tenant, unit, why).await?,
            None => store::spare_unit(c, tenant, unit).await?,
        };
        outgoing::tell(c, &job.cause, moved.run.as_ref(), now).await?;
        store::cleanup::end_cleanup(c, tenant, (unit, Scope::Rows, ""), None, now).await?;
        transaction.commit().await?;
        Ok(Done::Spared)
    }

    /// The list of deleted ids, in the store under the unit's name.
    async fn put_ids(&self, job: &Job<'_>, cleanup: &Cleanup) -> Result<DeletedIds, Obstacle> {
        let mut list = Vec::new();
        for number in 1..=cleanup.batches {
            list.extend(self.batch_of(job, number).await?.0);
        }
        let (entries, rest) = list.as_chunks::<DELETED_ID_BYTES>();
        let sorted = entries.windows(2).all(|two| two[0][..16] < two[1][..16]);
        if !rest.is_empty() || !sorted || entries.len() as u64 != cleanup.deleted {
            let text = format!("the list of {} deleted ids is not whole", cleanup.deleted);
            return Err(wrong(text));
        }
        let root = entries.iter().map(|entry| merkle::leaf(entry)).collect::<Tree>().root();
        let object = deleted_ids_name(job.tenant(), &unit_name(job.unit.id)?);
        let key: ObjectKey = object.parse().map_err(|error| wrong(format!("{object}: {error}")))?;
        let (sha256, bytes) = (Hash::of(&list), list.len() as u64);
        if self.objects.put(&key, list, Write::IfAbsent).await? == Written::AlreadyThere {
            let there = self.objects.get(&key, bytes + 1).await;
            if there?.map(Hash::of) != Some(sha256) {
                // After a restore of the database; never overwritten.
                let text = format!("{object} is there and lists other ids than were deleted");
                return Err(wrong(text));
            }
        }
        Ok(DeletedIds { object, sha256, root })
    }

    async fn receipt(
        &self,
        job: &Job<'_>,
        cleanup: &Cleanup,
        ids: DeletedIds,
        search_empty_at: DateTime<Utc>,
    ) -> Result<Receipt, Obstacle> {
        let (Some(holds), Some(deleted_at)) = (cleanup.holds, cleanup.deleted_at) else {
            return Err(wrong(format!("unit {}: when it was deleted is not known", job.unit.id)));
        };
        let (already_gone, held) = if let Some(reference) = job.manifest {
            let contents = self.manifest(job, reference).await?.contents;
            let events = contents.lines.saturating_sub(contents.revisions);
            // All that is not gone stays, also where the deletion stopped before it.
            let gone = cleanup.gone;
            (gone, events.saturating_sub(cleanup.deleted.saturating_add(gone)))
        } else {
            let planned = job.unit.counters.planned.events;
            let known = cleanup.deleted.saturating_add(cleanup.kept);
            (planned.saturating_sub(known), cleanup.kept)
        };
        Ok(Receipt {
            scope: Scope::Rows,
            unit: unit_name(job.unit.id)?,
            basis: job.run.grounds(),
            requester: requester(job.run),
            manifest: job.manifest,
            deleted: cleanup.deleted,
            already_gone,
            held,
            ids: Some(ids),
            holds: HoldsChecked { at: holds.0, in_force: holds.1 },
            deleted_at,
            search_empty_at: Some(search_empty_at),
            survives: self.survivors.after(deleted_at),
        })
    }

    /// Receipt, unit, run and what its end leads to, or none of them.
    async fn append(
        &self,
        job: &Job<'_>,
        cleanup: &Cleanup,
        receipt: Receipt,
    ) -> Result<Done, Obstacle> {
        let (tenant, unit) = (job.tenant(), job.unit.id);
        let mut transaction = self.database.pool().begin().await?;
        let c = &mut *transaction;
        let key = (unit, Scope::Rows, "");
        let locked = store::cleanup::begin_cleanup(c, tenant, key, job.run.new.id).await?;
        if locked.ended_at.is_some() {
            return Ok(Done::Over);
        }
        let now = self.now().max(receipt.search_empty_at.unwrap_or_default());
        let deleted = receipt.deleted;
        let end = chain::append(c, tenant, Body::Receipt(Box::new(receipt)), now).await?;
        let moved = match &cleanup.failure {
            Some(why) => {
                store::note_receipt(c, tenant, unit, end.sequence).await?;
                store::fail_unit(c, tenant, unit, why).await?
            }
            None => store::finish_unit(c, tenant, unit, end.sequence).await?,
        };
        outgoing::tell(c, &job.cause, moved.run.as_ref(), now).await?;
        store::cleanup::end_cleanup(c, tenant, key, Some(end.sequence), now).await?;
        reach(CrashPoint::BeforeReceiptCommit);
        transaction.commit().await?;
        reach(CrashPoint::AfterReceiptCommit);
        Deleted { unit, receipt: end.sequence, events: deleted }.emit();
        Ok(Done::Deleted)
    }
}

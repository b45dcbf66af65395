//! One transaction that deletes: with the tenant's locks it looks once more at everything that could
//! speak against a row, and does all of it or nothing.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use evidence::document::Scope;
use sqlx::PgConnection;
use uuid::Uuid;

use super::listing::{Entry, Listing, batch, leaf};
use super::{Cleaner, Job, Obstacle, wrong};
use crate::archive::lines;
use crate::archive::selection::{Keeper, Selection};
use crate::crash::{CrashPoint, reach};
use crate::lifecycle::{Tally, Work};
use crate::store::cleanup::{Batch, Burial};
use crate::store::{self, ExportRow};

/// What is to become of the rows of a batch.
#[derive(Debug, Default)]
struct Sorted {
    /// They go: entries of the list of deleted ids.
    entries: Vec<u8>,
    going: Vec<(DateTime<Utc>, Uuid)>,
    deleted: Tally,
    /// A hold keeps them.
    held: Tally,
    /// All that stay.
    kept: u64,
    /// Of them, those that the archive holds as they are.
    marked: Vec<(DateTime<Utc>, Uuid)>,
    /// Of them, those that were changed since: the next run archives them as they are now.
    changed: Vec<(DateTime<Utc>, Uuid)>,
    missing: Vec<Uuid>,
}

impl Cleaner {
    /// Deletes what of the unit is left to be deleted, batch by batch.
    pub(super) async fn delete_rows(&self, job: &Job<'_>) -> Result<(), Obstacle> {
        let listing = self.list(job).await?;
        loop {
            let known = self.known(job).await?;
            if known.as_ref().is_some_and(|cleanup| cleanup.rows_done) {
                return Ok(());
            }
            let after = known.and_then(|cleanup| cleanup.after);
            let begin = listing.entries.partition_point(|entry| Some(entry.id) <= after);
            let left = &listing.entries[begin..];
            let (now, later) = left.split_at(batch(left));
            self.delete_batch(job, &listing, (after, now, later.is_empty())).await?;
            (job.progress)();
        }
    }

    /// Goes on after `after`; where another attempt is further by now, nothing happens.
    async fn delete_batch(
        &self,
        job: &Job<'_>,
        listing: &Listing,
        (after, entries, last): (Option<Uuid>, &[Entry], bool),
    ) -> Result<(), Obstacle> {
        let (tenant, unit) = (job.tenant(), &job.unit);
        let mut transaction = self.database.pool().begin().await?;
        let c = &mut *transaction;
        store::holds::lock_shared(c, tenant).await?;
        store::cleanup::alone(c, tenant).await?;
        let key = (unit.id, Scope::Rows, "");
        let before = store::cleanup::begin_cleanup(c, tenant, key, job.run.new.id).await?;
        if before.after != after || before.rows_done {
            return Ok(());
        }
        let now = self.now();
        let holds = store::holds::in_force(c, tenant).await?;
        let mut keeper = Keeper::by(&holds);
        let sorted = sort(c, job, listing, entries, &mut keeper).await?;
        self.check_missing(c, job, &sorted.missing).await?;
        self.take(c, job, &sorted, now).await?;
        store::delete_some(c, tenant, unit.id, sorted.deleted, sorted.held).await?;
        let noted = Batch {
            after: entries.last().map(|entry| entry.id).or(after).unwrap_or_default(),
            last,
            recorded_at: sorted.going.iter().map(|key| key.0).collect(),
            entries: sorted.entries,
            kept: sorted.kept,
            gone: sorted.missing.len() as u64,
            holds: (now, holds.len() as u64),
            now,
        };
        store::cleanup::note_batch(c, tenant, &before, &noted).await?;
        reach(CrashPoint::BeforeDeleteCommit);
        transaction.commit().await?;
        reach(CrashPoint::AfterDeleteCommit);
        Ok(())
    }

    /// What the archive holds and PostgreSQL does not was deleted before, and left a tombstone.
    async fn check_missing(
        &self,
        c: &mut PgConnection,
        job: &Job<'_>,
        missing: &[Uuid],
    ) -> Result<(), Obstacle> {
        // An object of an earlier run: what went then may have gone longer ago than tombstones last.
        if missing.is_empty() || job.unit.work == Work::Again {
            return Ok(());
        }
        let buried = store::cleanup::tombstoned(c, job.tenant(), missing).await?;
        match missing.iter().find(|id| !buried.contains(id)) {
            None => Ok(()),
            Some(id) => Err(wrong(format!(
                "log {id} is in the archive, neither stored nor known as deleted: nothing of its batch is deleted"
            ))),
        }
    }

    async fn take(
        &self,
        c: &mut PgConnection,
        job: &Job<'_>,
        sorted: &Sorted,
        now: DateTime<Utc>,
    ) -> Result<(), Obstacle> {
        let (tenant, class) = (job.tenant(), job.unit.range.class);
        if !sorted.going.is_empty() {
            let reason = format!("retention run {}", job.run.new.id);
            let requester = &job.run.new.requester;
            let burial = Burial { class, unit: job.unit.id, reason: &reason, requester, now };
            store::cleanup::bury(c, tenant, &burial, &sorted.going).await?;
            let deleted = store::cleanup::delete_rows(c, tenant, class, &sorted.going).await?;
            if deleted != sorted.deleted.events {
                let expected = sorted.deleted.events;
                return Err(wrong(format!("{deleted} rows would go instead of {expected}")));
            }
            let ids: Vec<Uuid> = sorted.going.iter().map(|key| key.1).collect();
            store::cleanup::delete_revisions(c, tenant, &ids).await?;
            store::unmark_archived(c, tenant, &sorted.going).await?;
        }
        if job.manifest.is_some() {
            store::unmark_archived(c, tenant, &sorted.changed).await?;
        }
        // What an earlier unit archived is marked as that one's.
        if job.unit.work == Work::Archive {
            store::mark_archived(c, tenant, job.unit.id, &sorted.marked).await?;
        }
        Ok(())
    }
}

/// Reads the rows under their locks and sorts them.
async fn sort(
    c: &mut PgConnection,
    job: &Job<'_>,
    listing: &Listing,
    entries: &[Entry],
    keeper: &mut Keeper,
) -> Result<Sorted, Obstacle> {
    let mut selection = Selection::of(job.run).map_err(|error| wrong(error.to_string()))?;
    let keys: Vec<_> = entries.iter().map(|entry| (entry.recorded_at, entry.id)).collect();
    let rows = store::cleanup::rows_of(c, job.tenant(), job.unit.range.class, &keys).await?;
    let changed = match job.manifest {
        Some(_) => changed(c, job, listing, &rows).await?,
        None => Vec::new(),
    };
    let rows: HashMap<Uuid, ExportRow> = rows.into_iter().map(|row| (row.id, row)).collect();
    let mut sorted = Sorted::default();
    for entry in entries {
        let key = (entry.recorded_at, entry.id);
        let Some(row) = rows.get(&entry.id) else {
            sorted.missing.push(entry.id);
            continue;
        };
        if leaf(row).map_err(wrong)? != entry.leaf {
            return Err(wrong(format!(
                "log {} in PostgreSQL is not what was read before: nothing of its batch is deleted",
                entry.id
            )));
        }
        let tally = Tally { events: 1, bytes: entry.bytes.into() };
        let ours = selection.takes(row).map_err(wrong)?;
        if ours && changed.contains(&entry.id) {
            sorted.held = sorted.held.and(tally);
            sorted.kept += 1;
            sorted.changed.push(key);
        } else if !ours || keeper.keeps(row).map_err(wrong)? {
            sorted.held = if ours { sorted.held.and(tally) } else { sorted.held };
            sorted.kept += 1;
            sorted.marked.push(key);
        } else {
            sorted.deleted = sorted.deleted.and(tally);
            sorted.entries.extend_from_slice(entry.id.as_bytes());
            sorted.entries.extend_from_slice(&entry.leaf.0);
            sorted.going.push(key);
        }
    }
    Ok(sorted)
}

/// Logs about which more was said, or something else, than the object holds.
async fn changed(
    c: &mut PgConnection,
    job: &Job<'_>,
    listing: &Listing,
    rows: &[ExportRow],
) -> Result<Vec<Uuid>, Obstacle> {
    let held = |row: &&ExportRow| row.revision > 0 || listing.revisions.contains_key(&row.id);
    let revised: Vec<&ExportRow> = rows.iter().filter(held).collect();
    let (mut changed, mut left) = (Vec::new(), revised.as_slice());
    while !left.is_empty() {
        let (now, later) = left.split_at(store::revised_together(left.iter().copied()));
        left = later;
        let ids: Vec<Uuid> = now.iter().map(|row| row.id).collect();
        let found = store::export_revisions(c, job.tenant(), &ids).await?;
        for row in now {
            let leaves = leaves(job, row, found.get(&row.id).map_or(&[], Vec::as_slice))?;
            if leaves != listing.revisions.get(&row.id).map_or(&[][..], Vec::as_slice) {
                changed.push(row.id);
            }
        }
    }
    Ok(changed)
}

fn leaves(
    job: &Job<'_>,
    row: &ExportRow,
    revisions: &[store::ExportRevision],
) -> Result<Vec<evidence::Hash>, Obstacle> {
    let leaf = |revision| {
        let line = lines::revision(job.tenant(), row, revision).map_err(wrong)?;
        Ok(evidence::merkle::salted_leaf(&line.salt, &line.bytes))
    };
    revisions.iter().map(leaf).collect()
}

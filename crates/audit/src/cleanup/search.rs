//! Search forgets what was deleted, and is then counted to none of it. While it is away, the receipt is
//! pending: the rows are gone, and nothing says so yet.

use std::time::Duration;

use chrono::{DateTime, Utc};
use contracts::LogId;
use evidence::document::DELETED_ID_BYTES;
use sinks::SinkError;
use sinks::search::{DocumentRef, REMAINING_MAX, SinkErrorKind};
use uuid::Uuid;

use super::events::StillFound;
use super::{Cleaner, Job, Obstacle};
use crate::crash::{CrashPoint, reach};
use crate::store;
use crate::store::Cleanup;

/// Documents of one call.
const FORGOTTEN_AT_ONCE: usize = 1_000;
/// Search that still finds some is asked again after this.
const STILL_FOUND: Duration = Duration::from_secs(15);

/// The ids of entries, in their order.
pub(super) fn ids_of(entries: &[u8]) -> impl Iterator<Item = Uuid> {
    let (entries, _) = entries.as_chunks::<DELETED_ID_BYTES>();
    entries.iter().map(|entry| {
        let mut id = [0; 16];
        id.copy_from_slice(&entry[..16]);
        Uuid::from_bytes(id)
    })
}

impl Cleaner {
    /// Until search finds none of them; when that was so.
    pub(super) async fn forget(
        &self,
        job: &Job<'_>,
        cleanup: &Cleanup,
    ) -> Result<DateTime<Utc>, Obstacle> {
        if let Some(at) = cleanup.search_empty_at {
            return Ok(at);
        }
        for number in 1..=cleanup.batches {
            let (entries, recorded_at) = self.batch_of(job, number).await?;
            let documents: Vec<DocumentRef> = ids_of(&entries)
                .zip(recorded_at)
                .map(|(id, recorded_at)| DocumentRef {
                    tenant: job.tenant().clone(),
                    id: LogId(id),
                    class: job.unit.range.class,
                    recorded_at,
                })
                .collect();
            for documents in documents.chunks(FORGOTTEN_AT_ONCE) {
                for outcome in self.search.erase(documents).await? {
                    outcome.map_err(|error| unforgotten(&error.to_string()))?;
                }
                (job.progress)();
            }
        }
        reach(CrashPoint::AfterSearchForgot);
        self.search.refresh().await?;
        self.counted_to_none(job, cleanup).await?;
        let at = self.now().max(cleanup.deleted_at.unwrap_or_default());
        let mut connection = self.database.pool().acquire().await?;
        let (tenant, unit) = (job.tenant(), job.unit.id);
        store::cleanup::note_search_empty(&mut connection, tenant, unit, at).await?;
        reach(CrashPoint::AfterSearchEmpty);
        Ok(at)
    }

    async fn counted_to_none(&self, job: &Job<'_>, cleanup: &Cleanup) -> Result<(), Obstacle> {
        for number in 1..=cleanup.batches {
            let (entries, _) = self.batch_of(job, number).await?;
            let ids: Vec<LogId> = ids_of(&entries).map(LogId).collect();
            for ids in ids.chunks(REMAINING_MAX) {
                let found = self.search.remaining(job.tenant(), ids).await?;
                if found > 0 {
                    StillFound { unit: job.unit.id, found }.emit();
                    return Err(Obstacle::NotYet(STILL_FOUND));
                }
                (job.progress)();
            }
        }
        Ok(())
    }

    pub(super) async fn batch_of(
        &self,
        job: &Job<'_>,
        number: u32,
    ) -> Result<(Vec<u8>, Vec<DateTime<Utc>>), Obstacle> {
        let mut connection = self.database.pool().acquire().await?;
        let (tenant, unit) = (job.tenant(), job.unit.id);
        let batch = store::cleanup::batch_of(&mut connection, tenant, unit, number).await?;
        // Another attempt has ended it meanwhile.
        batch.ok_or(Obstacle::NotYet(Duration::from_secs(1)))
    }
}

/// Waited out like an engine that is away: the receipt stays pending until it is gone.
fn unforgotten(why: &str) -> Obstacle {
    let text = format!("a deleted log is not forgotten: {why}");
    Obstacle::Sink(SinkError::new("search", SinkErrorKind::Unavailable, text))
}

//! Which logs a unit's deletion is about: those that its object holds by its own bytes, or, without an
//! archive, the rows that its policy says. It is made anew by every attempt and believed by none: each
//! row is compared with it again in the transaction that deletes it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use evidence::Document;
use evidence::Hash;
use evidence::document::{Body, Manifest, ManifestRef};
use evidence::merkle::{Salt, salted_leaf};
use evidence::object::Entry as Line;
use sinks::objects::ObjectKey;
use uuid::Uuid;

use super::{Cleaner, Job, Obstacle, UNSEALED, wrong};
use crate::archive::proof::Reading;
use crate::archive::rows::UnitRows;
use crate::archive::selection::Selection;
use crate::crash::{CrashPoint, reach};
use crate::store::cleanup::{BATCH_ROWS_MAX, Kept, kept_document};
use crate::store::{ExportRow, Wanted};

/// Bytes of records that one transaction reads at most, unless one record alone is larger.
const BATCH_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: Uuid,
    pub(super) recorded_at: DateTime<Utc>,
    /// Of its salt and record.
    pub(super) leaf: Hash,
    /// Of its record.
    pub(super) bytes: u32,
}

/// The logs, by ascending id.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) entries: Vec<Entry>,
    /// Leaves of the revisions that the object holds, each log's in their order.
    pub(super) revisions: BTreeMap<Uuid, Vec<Hash>>,
}

impl Listing {
    fn see(&mut self, line: &Line<'_>) {
        let id = line.line.key.id;
        if line.line.key.revision > 0 {
            self.revisions.entry(id).or_default().push(line.leaf);
            return;
        }
        let bytes = u32::try_from(line.line.bytes.len()).unwrap_or(u32::MAX);
        let recorded_at = line.line.recorded_at;
        self.entries.push(Entry { id, recorded_at, leaf: line.leaf, bytes });
    }
}

/// How many of these one transaction takes.
pub(super) fn batch(entries: &[Entry]) -> usize {
    let mut bytes = 0;
    let fits = |entry: &Entry| {
        let first = bytes == 0;
        bytes += u64::from(entry.bytes);
        first || bytes <= BATCH_BYTES_MAX
    };
    entries.iter().take(BATCH_ROWS_MAX).map(fits).take_while(|fits| *fits).count()
}

/// The leaf of a row.
pub(super) fn leaf(row: &ExportRow) -> Result<Hash, String> {
    let salt: Salt = row
        .salt
        .as_slice()
        .try_into()
        .map_err(|_| format!("log {}: a salt of {} bytes", row.id, row.salt.len()))?;
    Ok(salted_leaf(&salt, &row.record))
}

impl Cleaner {
    pub(super) async fn list(&self, job: &Job<'_>) -> Result<Listing, Obstacle> {
        match job.manifest {
            Some(manifest) => self.decode(job, manifest).await,
            None => self.look(job).await,
        }
    }

    /// The unit's manifest, once it is sealed and in the store.
    pub(super) async fn manifest(
        &self,
        job: &Job<'_>,
        manifest: ManifestRef,
    ) -> Result<Box<Manifest>, Obstacle> {
        let mut connection = self.database.pool().acquire().await?;
        let document = match kept_document(&mut connection, job.tenant(), manifest).await? {
            Kept::Stored(document) => document,
            Kept::Waiting => return Err(Obstacle::NotYet(UNSEALED)),
            Kept::Missing => {
                let text = format!("the chain has no manifest {} of that hash", manifest.sequence);
                return Err(wrong(text));
            }
        };
        match serde_json::from_slice::<Document>(&document).map(|document| document.body) {
            Ok(Body::Manifest(found)) if Some(&found.object) == job.unit.object.as_ref() => {
                Ok(found)
            }
            _ => Err(wrong(format!(
                "document {} is no manifest of the unit's object",
                manifest.sequence
            ))),
        }
    }

    /// Reads the object whole and holds it against its manifest: hashes, root, counts, blocks.
    async fn decode(&self, job: &Job<'_>, reference: ManifestRef) -> Result<Listing, Obstacle> {
        let manifest = self.manifest(job, reference).await?;
        let name = &manifest.object;
        let key: ObjectKey = name.parse().map_err(|error| wrong(format!("{name}: {error}")))?;
        let (codec, listing) = (manifest.contents.codec, Listing::default());
        let reading = Reading::begin(&self.objects, &key, codec, listing, Listing::see).await?;
        let Some(mut reading) = reading else {
            return Err(wrong(format!("{name} is not in the archive: nothing is deleted")));
        };
        while reading.step().await? {
            (job.progress)();
        }
        let (observed, listing) =
            reading.end().await.map_err(|error| wrong(format!("reading {name}: {error}")))?;
        let tenant = job.tenant().as_str();
        let foreign = observed.tenants.other.is_some()
            || observed.tenants.first.as_deref().is_some_and(|first| first != tenant);
        match observed.contents {
            Ok(contents) if contents == manifest.contents && !foreign => {}
            Ok(_) => {
                let text = format!("{name} is not what its manifest says: nothing is deleted");
                return Err(wrong(text));
            }
            Err(damage) => return Err(wrong(format!("{name}: {damage}: nothing is deleted"))),
        }
        reach(CrashPoint::AfterDecoded);
        Ok(listing)
    }

    /// The rows that go without an archive.
    async fn look(&self, job: &Job<'_>) -> Result<Listing, Obstacle> {
        let run = job.run;
        let mut selection = Selection::of(run).map_err(|error| wrong(error.to_string()))?;
        let snapshot_xmin = run
            .snapshot_xmin
            .ok_or_else(|| wrong(format!("run {} has units and no plan", run.new.id)))?;
        let wanted = Wanted { tenant: job.tenant().clone(), range: job.unit.range, snapshot_xmin };
        let mut rows = UnitRows::open(&self.database, wanted).await?;
        let mut listing = Listing::default();
        while let Some(chunk) = rows.next().await? {
            for row in chunk {
                if selection.takes(&row).map_err(wrong)? {
                    listing.entries.push(Entry {
                        id: row.id,
                        recorded_at: row.recorded_at,
                        leaf: leaf(&row).map_err(wrong)?,
                        bytes: u32::try_from(row.record.len()).unwrap_or(u32::MAX),
                    });
                }
            }
            (job.progress)();
        }
        Ok(listing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(bytes: u32) -> Entry {
        let recorded_at = DateTime::UNIX_EPOCH;
        Entry { id: Uuid::nil(), recorded_at, leaf: Hash([0; 32]), bytes }
    }

    #[test]
    fn a_batch_is_bounded_by_rows_and_bytes_and_takes_one_at_least() {
        assert_eq!(batch(&[]), 0);
        assert_eq!(batch(&vec![entry(1); 12_000]), BATCH_ROWS_MAX);
        assert_eq!(batch(&[entry(u32::MAX), entry(1)]), 1);
        let eight = entry(8 << 20);
        assert_eq!(batch(&[eight, eight, entry(1)]), 2);
    }
}

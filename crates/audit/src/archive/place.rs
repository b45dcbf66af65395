//! Where an object lies and what it is stored with: name, metadata, tags, class, encryption, lock. What
//! stands beside an object helps who looks at a bucket; what is proved stands in the manifest.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use evidence::moment;
use sinks::objects::{ObjectKey, ObjectOptions, PAGE_MAX, SharedObjects, StorageClass};

use super::pack::Packed;
use super::unit::{Archivist, Obstacle};
use crate::lifecycle::{Basis, Run, Unit};
use crate::retention::policy::ArchiveSpec;

/// Name of the metadata that says which unit wrote an object.
pub(super) const UNIT: &str = "unit";
/// Pages of an hour's names that are looked at for a free one.
const PAGES_MAX: usize = 100;

/// The unit's object.
pub(super) fn key(unit: &Unit) -> Result<ObjectKey, Obstacle> {
    let name = unit.object.as_deref().unwrap_or_default();
    name.parse().map_err(|error: sinks::objects::InvalidKey| Obstacle::Poison(error.to_string()))
}

/// How the run wants its objects.
fn wanted(run: &Run) -> Result<ArchiveSpec, Obstacle> {
    let Some(archive) = &run.new.archive else { return Ok(ArchiveSpec::default()) };
    serde_json::from_value(archive.clone())
        .map_err(|error| Obstacle::Poison(format!("run {}: archive: {error}", run.new.id)))
}

/// When the term of an object that is archived then is over.
pub(super) fn expires_at(
    run: &Run,
    archived_at: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, Obstacle> {
    Ok(wanted(run)?.keep.map(|keep| keep.after(archived_at)))
}

/// What the object is stored with.
pub(super) fn options(
    archivist: &Archivist,
    run: &Run,
    unit: &Unit,
    packed: &Packed,
) -> Result<ObjectOptions, Obstacle> {
    let storage_class: StorageClass = wanted(run)?
        .storage_class
        .parse()
        .map_err(|error| Obstacle::Poison(format!("run {}: {error}", run.new.id)))?;
    Ok(ObjectOptions {
        metadata: metadata(run, unit, packed),
        tags: tags(run, unit),
        storage_class,
        ..archivist.stored_as.options(archivist.clock.now())
    })
}

fn basis(run: &Run) -> [(&'static str, String); 2] {
    match &run.new.basis {
        Basis::Policy { id, version, .. } => {
            [("policy", id.to_string()), ("policy-version", version.to_string())]
        }
        Basis::Request(_) => [("policy", "request".into()), ("policy-version", "0".into())],
    }
}

fn metadata(run: &Run, unit: &Unit, packed: &Packed) -> BTreeMap<String, String> {
    let contents = &packed.contents;
    let range = contents.range.map(|range| (moment::text(range.from), moment::text(range.to)));
    let (from, to) = range.unwrap_or_default();
    let pairs = [
        ("tenant", unit.tenant.to_string()),
        ("retention-class", unit.range.class.to_string()),
        ("run", run.new.id.to_string()),
        (UNIT, unit.id.to_string()),
        ("correlation-id", printable(&run.new.correlation_id)),
        ("codec", contents.codec.extension().to_owned()),
        ("events", packed.events.events.to_string()),
        ("revisions", contents.revisions.to_string()),
        ("plain-bytes", contents.plain.bytes.to_string()),
        ("plain-sha256", contents.plain.sha256.to_string()),
        ("packed-sha256", contents.packed.sha256.to_string()),
        ("merkle-root", contents.root.to_string()),
        ("recorded-from", from),
        ("recorded-to", to),
    ];
    pairs.into_iter().chain(basis(run)).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Tags are what rules of a bucket and of its bills can ask for.
fn tags(run: &Run, unit: &Unit) -> BTreeMap<String, String> {
    let pairs = [
        ("tenant", unit.tenant.to_string()),
        ("retention-class", unit.range.class.to_string()),
        ("kind", "audit-archive".to_owned()),
    ];
    pairs.into_iter().chain(basis(run)).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A client chose it: what a header cannot hold is left out.
fn printable(text: &str) -> String {
    let text: String = text.chars().filter(|c| matches!(c, ' '..='~')).take(200).collect();
    text.trim().to_owned()
}

/// The largest part number among the names of the unit's hour.
pub(super) async fn last_part(objects: &SharedObjects, unit: &Unit) -> Result<u32, Obstacle> {
    let name = unit.object.as_deref().unwrap_or_default();
    let Some((hour, _)) = name.rsplit_once("part-") else { return Ok(0) };
    let (mut last, mut after) = (0, None);
    for _ in 0..PAGES_MAX {
        let page = objects.list(hour, after.as_ref(), PAGE_MAX).await?;
        last = page
            .objects
            .iter()
            .filter_map(|object| part_of(object.key.as_str()))
            .fold(last, u32::max);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok(last)
}

/// The number in `…/part-00012.ndjson.zst`.
fn part_of(name: &str) -> Option<u32> {
    let (_, rest) = name.rsplit_once("/part-")?;
    rest.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_read_from_its_name() {
        assert_eq!(part_of("archive/acme/year=2026/hour=23/part-00012.ndjson.zst"), Some(12));
        assert_eq!(part_of("archive/acme/part-100000.ndjson.gz"), Some(100_000));
        assert_eq!(part_of("archive/acme/hour=23/other.ndjson"), None);
        assert_eq!(printable(" a\u{e9}\nb "), "ab");
    }
}

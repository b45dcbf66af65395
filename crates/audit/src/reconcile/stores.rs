//! Three stores by hour: how many logs PostgreSQL has, how many search finds, how many the archive's objects
//! hold and how many are marked as archived; and the archive's index against the names in its store. The
//! objects' bytes are `fleetctl verify`'s.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use contracts::Tenant;
use evidence::document::objects_prefix;
use serde::Serialize;
use sinks::objects::{ObjectMeta, PAGE_MAX};

use super::search::{hour_of, query};
use super::{EXAMPLES_MAX, FindingKind, Findings, ReconcileError, Reconciler};
use crate::store;
use crate::store::reconcile::{HourCounts, StoreName};

/// Rows of the index on one page.
const NAMES: i64 = 1_000;
/// An object that is younger than this may be one of a unit that has not noted it.
const YOUNG: TimeDelta = TimeDelta::days(1);

/// Hours to look at: from the one that `from` is in, to the one before the hour of `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first hour.
    pub from: DateTime<Utc>,
    /// The first hour that is not looked at.
    pub to: DateTime<Utc>,
    /// How closely.
    pub detail: Detail,
}

/// How closely two stores are compared: counts do not see one log too many beside one too few.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// By counts; by those of each hour only on days whose totals differ.
    Totals,
    /// By the counts of each hour, and by ids where those differ.
    Hours,
    /// By ids, every hour.
    Ids,
}

/// What one hour holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Hour {
    /// Its beginning.
    pub hour: DateTime<Utc>,
    /// Logs in PostgreSQL, without those that a tombstone calls deleted.
    pub stored: u64,
    /// Logs that search finds.
    pub searchable: u64,
    /// Events in objects of the archive, deleted ones among them.
    pub archived: u64,
    /// Stored logs that are marked as archived.
    pub marked: u64,
    /// Stored logs that a tombstone calls deleted.
    pub deleted: u64,
}

impl Window {
    /// Whole hours, cut at both ends.
    pub fn new(from: DateTime<Utc>, to: DateTime<Utc>, detail: Detail) -> Self {
        let whole = |at: DateTime<Utc>| at.duration_trunc(TimeDelta::hours(1)).unwrap_or(at);
        Self { from: whole(from), to: whole(to), detail }
    }

    /// Its days (UTC), each cut to the window.
    pub fn days(self) -> impl Iterator<Item = Self> {
        let mut from = self.from;
        std::iter::from_fn(move || {
            let midnight = from.duration_trunc(TimeDelta::days(1)).ok()? + TimeDelta::days(1);
            let (begin, end) = (from, midnight.min(self.to));
            from = end;
            (begin < end).then_some(Self { from: begin, to: end, ..self })
        })
    }
}

impl Reconciler {
    /// Compares the window hour by hour. With `repair`, rows that search lacks are indexed: only for a
    /// tenant whose chain was found whole or mended, since a restore may have brought deleted rows back.
    pub async fn hours(
        &self,
        tenant: &Tenant,
        window: Window,
        repair: bool,
        findings: &mut Findings,
    ) -> Result<Vec<Hour>, ReconcileError> {
        let mut hours = Vec::new();
        for day in window.days() {
            hours.extend(self.day(tenant, day, repair, findings).await?);
        }
        Ok(hours)
    }

    async fn day(
        &self,
        tenant: &Tenant,
        Window { from, to, detail }: Window,
        repair: bool,
        findings: &mut Findings,
    ) -> Result<Vec<Hour>, ReconcileError> {
        let day = (from, to);
        let mut connection = self.database.pool().acquire().await?;
        let stored = store::reconcile::hours(&mut connection, tenant, day).await?;
        let marked = store::reconcile::marks(&mut connection, tenant, day).await?;
        drop(connection);
        let archived = self.archived(tenant, day, findings).await?;
        self.unbacked(tenant, day, findings).await?;
        let total = self.search.count(tenant, &query(day)).await?;
        let rows: u64 = stored.values().map(|counts| counts.stored).sum();
        let mut hours = Vec::new();
        let mut hour = day.0;
        while hour < day.1 {
            let counts = stored.get(&hour).copied().unwrap_or_default();
            let searchable = match (total, detail != Detail::Totals || total != rows) {
                (0, _) => 0,
                (_, true) => self.search.count(tenant, &query(hour_of(hour))).await?,
                (_, false) => counts.stored,
            };
            let of = |map: &BTreeMap<DateTime<Utc>, u64>| map.get(&hour).copied().unwrap_or(0);
            let HourCounts { stored, buried: deleted } = counts;
            let (archived, marked) = (of(&archived), of(&marked));
            let found = Hour { hour, stored, searchable, archived, marked, deleted };
            self.judge(tenant, &found, (detail, repair), findings).await?;
            if stored + searchable + archived + marked + deleted > 0 {
                hours.push(found);
            }
            hour += TimeDelta::hours(1);
        }
        Ok(hours)
    }

    async fn judge(
        &self,
        tenant: &Tenant,
        found: &Hour,
        (detail, repair): (Detail, bool),
        findings: &mut Findings,
    ) -> Result<(), ReconcileError> {
        let hour = found.hour;
        if found.deleted > 0 {
            let kind = FindingKind::StoredAndDeleted;
            let text = format!("{} logs of the hour", found.deleted);
            findings.add_at(kind, hour, &hour.to_rfc3339(), &text);
            findings.add_uncounted(kind, found.deleted - 1);
        }
        let any = found.stored + found.searchable > 0;
        if found.stored != found.searchable || (detail == Detail::Ids && any) {
            self.by_ids(tenant, hour, repair, findings).await?;
        }
        Ok(())
    }

    async fn unbacked(
        &self,
        tenant: &Tenant,
        day: (DateTime<Utc>, DateTime<Utc>),
        findings: &mut Findings,
    ) -> Result<(), ReconcileError> {
        let limit = i64::try_from(EXAMPLES_MAX).unwrap_or(i64::MAX);
        let mut connection = self.database.pool().acquire().await?;
        let (found, marks) =
            store::reconcile::unbacked_marks(&mut connection, tenant, day, limit).await?;
        for (id, unit) in &marks {
            let detail = format!("unit {unit}");
            findings.add(FindingKind::MarkWithoutObject, id, &detail);
        }
        let shown = marks.len() as u64;
        findings.add_uncounted(FindingKind::MarkWithoutObject, found.saturating_sub(shown));
        Ok(())
    }

    /// Events of the day's objects by hour, and what the index and the store's names say of each other.
    async fn archived(
        &self,
        tenant: &Tenant,
        day: (DateTime<Utc>, DateTime<Utc>),
        findings: &mut Findings,
    ) -> Result<BTreeMap<DateTime<Utc>, u64>, ReconcileError> {
        let names = self.indexed(tenant, day).await?;
        let mut events = BTreeMap::new();
        for name in names.iter().filter(|name| !name.superseded && !name.removed) {
            *events.entry(name.hour).or_default() += name.events;
        }
        if self.objects.is_some() {
            let objects = self.in_store(tenant, day).await?;
            self.match_names(tenant, &names, objects, findings).await?;
        }
        Ok(events)
    }

    async fn indexed(
        &self,
        tenant: &Tenant,
        day: (DateTime<Utc>, DateTime<Utc>),
    ) -> Result<Vec<StoreName>, ReconcileError> {
        let mut names: Vec<StoreName> = Vec::new();
        loop {
            let after = names.last().map_or("", |name| name.object.as_str());
            let mut connection = self.database.pool().acquire().await?;
            let page =
                store::reconcile::names_of(&mut connection, tenant, day, after, NAMES).await?;
            let full = i64::try_from(page.len()).unwrap_or(0) == NAMES;
            names.extend(page);
            if !full {
                return Ok(names);
            }
        }
    }

    /// What the store has under the day's names.
    async fn in_store(
        &self,
        tenant: &Tenant,
        (from, to): (DateTime<Utc>, DateTime<Utc>),
    ) -> Result<Vec<ObjectMeta>, ReconcileError> {
        let day = from.format("year=%Y/month=%m/day=%d/");
        let prefix = format!("{}{day}", objects_prefix(tenant));
        let hours: BTreeSet<String> = std::iter::successors(Some(from), |hour| {
            Some(*hour + TimeDelta::hours(1)).filter(|hour| *hour < to)
        })
        .map(|hour| format!("{prefix}{}", hour.format("hour=%H/")))
        .collect();
        let (mut objects, mut after) = (Vec::new(), None);
        loop {
            let page = self.store()?.list(&prefix, after.as_ref(), PAGE_MAX).await?;
            let ours = page.objects.into_iter().filter(|object| {
                let name = object.key.as_str();
                name.rsplit_once('/').is_some_and(|(hour, _)| hours.contains(&format!("{hour}/")))
            });
            objects.extend(ours);
            after = page.next;
            if after.is_none() {
                return Ok(objects);
            }
        }
    }

    async fn match_names(
        &self,
        tenant: &Tenant,
        names: &[StoreName],
        objects: Vec<ObjectMeta>,
        findings: &mut Findings,
    ) -> Result<(), ReconcileError> {
        let mut there: BTreeMap<String, ObjectMeta> =
            objects.into_iter().map(|object| (object.key.to_string(), object)).collect();
        for name in names {
            let object = there.remove(&name.object);
            let (kind, detail) = match object {
                None if name.removed => continue,
                None => (FindingKind::ObjectMissing, format!("manifest {}", name.manifest)),
                Some(_) if name.removed => {
                    (FindingKind::ObjectUnknown, "a receipt says that it was removed".to_owned())
                }
                Some(object) if object.size != name.packed_bytes => (
                    FindingKind::ObjectDiffers,
                    format!("{} bytes, its manifest says {}", object.size, name.packed_bytes),
                ),
                Some(_) => continue,
            };
            findings.add_at(kind, name.hour, &name.object, &detail);
        }
        let old = self.now() - YOUNG;
        let unknown = there.into_values().filter(|object| object.modified < old);
        let unknown: Vec<String> = unknown.map(|object| object.key.to_string()).collect();
        for names in unknown.chunks(PAGE_MAX) {
            let mut connection = self.database.pool().acquire().await?;
            let used = store::reconcile::names_in_use(&mut connection, tenant, names).await?;
            let used: BTreeSet<&String> = used.iter().collect();
            for name in names.iter().filter(|name| !used.contains(name)) {
                let detail = "no manifest of PostgreSQL's chain names it";
                findings.add(FindingKind::ObjectUnknown, name, detail);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_cut_into_whole_hours_and_days() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let window =
            Window::new(at("2026-01-30T22:59:59Z"), at("2026-02-01T01:30:00Z"), Detail::Hours);
        let days: Vec<_> = window.days().map(|day| (day.to - day.from).num_hours()).collect();
        assert_eq!(days, [2, 24, 1]);
        let none =
            Window::new(at("2026-01-30T22:00:00Z"), at("2026-01-30T22:59:00Z"), Detail::Hours);
        assert_eq!(none.days().count(), 0);
    }
}

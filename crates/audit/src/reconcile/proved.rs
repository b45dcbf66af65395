//! What a document proves about the rest of PostgreSQL: a manifest, that its object is in the archive and
//! which stored logs it holds; a receipt, that a unit is over or that an object is gone.

use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use contracts::audit::lifecycle::UnitId;
use contracts::{RetentionClass, Tenant};
use evidence::document::{Basis, Body, Manifest, ManifestRef, Receipt, Scope, Unit};
use evidence::object::Entry;
use evidence::{Hash, Sealed};
use serde::Deserialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::mend::Taken;
use super::published::object_key;
use super::{FindingKind, Findings, ReconcileError, Reconciler};
use crate::archive::proof::Reading;
use crate::store;
use crate::store::reconcile::Indexed;

/// Logs that are marked by one statement.
const MARKED_AT_ONCE: usize = 5_000;

/// What an object turned out to be.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Looked {
    pub(super) there: bool,
    pub(super) class: Option<RetentionClass>,
    pub(super) marked: u64,
}

/// What is read of an object's lines.
#[derive(Default)]
struct Seen {
    events: Vec<(DateTime<Utc>, Uuid)>,
    class: Option<RetentionClass>,
}

/// The one member of a record that is needed.
#[derive(Deserialize)]
struct Classed {
    class: RetentionClass,
}

impl Seen {
    fn see(&mut self, entry: &Entry<'_>) {
        if entry.line.key.revision > 0 {
            return;
        }
        self.events.push((entry.line.recorded_at, entry.line.key.id));
        if self.class.is_none() {
            let record: Option<Classed> = serde_json::from_slice(entry.line.bytes).ok();
            self.class = record.map(|record| record.class);
        }
    }
}

/// A unit's id, as its documents name it. Units of other makers get one of their name.
pub(super) fn unit_id(unit: &Unit) -> UnitId {
    let name = String::from(unit.clone());
    name.parse().unwrap_or_else(|_| {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&Hash::of(&name).0[..16]);
        Uuid::from_bytes(bytes)
    })
}

impl Reconciler {
    /// Reads a manifest's object whole. Of the logs that it holds, the stored ones are marked as archived.
    pub(super) async fn look_into(
        &self,
        tenant: &Tenant,
        manifest: &Manifest,
        findings: &mut Findings,
    ) -> Result<Looked, ReconcileError> {
        let unit = unit_id(&manifest.unit);
        let mut connection = self.database.pool().acquire().await?;
        let known = store::reconcile::class_of_unit(&mut connection, tenant, unit).await?;
        drop(connection);
        let (key, codec) = (object_key(&manifest.object)?, manifest.contents.codec);
        let reading =
            Reading::begin(self.store()?, &key, codec, Seen::default(), Seen::see).await?;
        let Some(mut reading) = reading else {
            return Ok(Looked { there: false, class: known, marked: 0 });
        };
        while reading.step().await? {}
        let (observed, seen) = reading.end().await.map_err(|error| {
            ReconcileError::Wrong(format!("reading {} broke off: {error}", manifest.object))
        })?;
        let class = known.or(seen.class);
        let foreign = observed.tenants.other.is_some()
            || observed.tenants.first.as_deref().is_some_and(|first| first != tenant.as_str());
        if foreign || !observed.contents.is_ok_and(|contents| contents == manifest.contents) {
            let detail = "it is not what its manifest says: run `fleetctl verify`";
            findings.add(FindingKind::ObjectDiffers, &manifest.object, detail);
            return Ok(Looked { there: true, class, marked: 0 });
        }
        let mut marked = 0;
        for events in seen.events.chunks(MARKED_AT_ONCE) {
            let mut connection = self.database.pool().acquire().await?;
            marked += store::reconcile::mark_stored(&mut connection, tenant, unit, events).await?;
        }
        Ok(Looked { there: true, class, marked })
    }

    /// Takes the lock of a deletion that the receipt ends, before that of the chain: the order of the
    /// cleanup worker.
    pub(super) async fn lock_cleanup(
        &self,
        c: &mut PgConnection,
        taken: &Taken<'_>,
    ) -> Result<(), ReconcileError> {
        if let Body::Receipt(receipt) = &taken.sealed.document.body {
            let unit = unit_id(&receipt.unit);
            store::reconcile::lock_cleanup(c, taken.tenant, unit).await?;
        }
        Ok(())
    }

    /// What belongs to the document in PostgreSQL, in its transaction; objects that are in the index anew.
    pub(super) async fn apply(
        &self,
        c: &mut PgConnection,
        taken: &Taken<'_>,
    ) -> Result<u64, ReconcileError> {
        match &taken.sealed.document.body {
            Body::Key(_) => Ok(0),
            Body::Manifest(manifest) => self.index(c, taken, manifest).await,
            Body::Receipt(receipt) => self.end(c, taken, receipt).await.map(|()| 0),
        }
    }

    async fn index(
        &self,
        c: &mut PgConnection,
        taken: &Taken<'_>,
        manifest: &Manifest,
    ) -> Result<u64, ReconcileError> {
        let Taken { tenant, sealed, class } = taken;
        let Sealed { document, hash, .. } = sealed;
        let (sequence, issued_at) = (document.header.sequence, document.header.issued_at);
        let unit = unit_id(&manifest.unit);
        let mut indexed = 0;
        if let (Some(class), Some(range)) = (class, manifest.contents.range) {
            let hour = range.from.duration_trunc(TimeDelta::hours(1)).unwrap_or(range.from);
            let row = Indexed {
                object: &manifest.object,
                unit,
                manifest: ManifestRef { sequence, sha256: *hash },
                class: *class,
                hour,
                contents: &manifest.contents,
                archived_at: issued_at,
                expires_at: expires_at(c, tenant, manifest, issued_at).await?,
                locked_until: manifest.locked_until,
            };
            indexed = u64::from(store::reconcile::index_object(c, tenant, &row).await?);
        }
        if let Some(supersedes) = &manifest.supersedes {
            store::reconcile::supersede(c, tenant, supersedes.replaces, sequence).await?;
        }
        give_up(c, tenant, unit, sequence).await?;
        Ok(indexed)
    }

    /// A receipt ends what a restored unit is in the middle of, and says which object is gone.
    async fn end(
        &self,
        c: &mut PgConnection,
        taken: &Taken<'_>,
        receipt: &Receipt,
    ) -> Result<(), ReconcileError> {
        let (tenant, header) = (taken.tenant, &taken.sealed.document.header);
        let unit = unit_id(&receipt.unit);
        let mut ended = vec![String::new()];
        if let (Scope::Object, Some(of)) = (receipt.scope, receipt.manifest) {
            ended = store::reconcile::objects_of_manifest(c, tenant, of.sequence).await?;
            for name in &ended {
                if let Some(object) = store::archived_object(c, tenant, name).await? {
                    let at = receipt.deleted_at;
                    store::cleanup::forget_object(c, tenant, &object, at).await?;
                }
            }
        } else {
            give_up(c, tenant, unit, header.sequence).await?;
            if store::unit(c, tenant, unit).await?.is_some() {
                store::note_receipt(c, tenant, unit, header.sequence).await?;
            }
        }
        let number = Some(header.sequence);
        for object in &ended {
            let key = (unit, receipt.scope, object.as_str());
            if store::cleanup(c, tenant, key).await?.is_some() {
                store::cleanup::end_cleanup(c, tenant, key, number, header.issued_at).await?;
            }
        }
        Ok(())
    }
}

/// A unit that the restore put back into the middle of its work is over: the published documents say what
/// it did. Its run counts what is not accounted for as failed, and the next run sees the rows anew.
async fn give_up(
    c: &mut PgConnection,
    tenant: &Tenant,
    unit: UnitId,
    sequence: u64,
) -> Result<(), ReconcileError> {
    let Some(unit) = store::unit(c, tenant, unit).await? else { return Ok(()) };
    if !unit.state.ended() {
        let why = format!(
            "PostgreSQL was restored to a point before document {sequence} of the chain, which says what became of it"
        );
        store::fail_unit(c, tenant, unit.id, &why).await?;
    }
    Ok(())
}

/// When the term of an object that was archived then is over: that of the object whose place it takes, or
/// as the policy's version says where that is still known; else it is kept.
async fn expires_at(
    c: &mut PgConnection,
    tenant: &Tenant,
    manifest: &Manifest,
    archived_at: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, ReconcileError> {
    if let Some(supersedes) = &manifest.supersedes
        && let Some(term) = store::reconcile::term_of(c, tenant, supersedes.replaces).await?
    {
        return Ok(term);
    }
    let Basis::Policy { id, version } = &manifest.basis else { return Ok(None) };
    let Ok(id) = id.parse::<Uuid>() else { return Ok(None) };
    let policy = store::policies::version(c, tenant, id, *version).await?;
    let keep = policy.and_then(|policy| policy.spec.archive).and_then(|archive| archive.keep);
    Ok(keep.map(|keep| keep.after(archived_at)))
}

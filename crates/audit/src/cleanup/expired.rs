//! Objects of the archive that are past their own term, or whose place another has taken. Before the
//! first version goes it is noted that holds were asked while the object was there, and with what answer;
//! so an object that is gone afterwards is gone by us, and one that somebody else removed gets no receipt.
//!
//! | Step | A death after it |
//! |---|---|
//! | the object is read, and no hold keeps an event of it; with holds locked out, that is noted | it is asked again |
//! | with holds locked out, the same ones in force: all versions removed; noted | versions that are left go at the next attempt |
//! | one transaction: receipt into the chain, the object off the index | all of it or none |

use chrono::{DateTime, Utc};
use contracts::Tenant;
use contracts::audit::lifecycle::CleanupExpired;
use evidence::document::{Body, HoldsChecked, Receipt, Scope};
use evidence::moment;
use evidence::object::Entry;
use sinks::objects::{Deletion, ObjectKey};
use sqlx::PgConnection;
use uuid::Uuid;

use super::end::{requester, unit_name};
use super::events::ObjectExpired;
use super::{Cleaner, Done, Obstacle, UNSEALED, refused, wrong};
use crate::archive::chain;
use crate::archive::proof::Reading;
use crate::archive::selection::{Keeper, row_of};
use crate::crash::{CrashPoint, reach};
use crate::lifecycle::{Basis, Run};
use crate::retention::Hold;
use crate::store::cleanup::{self as table, Kept, kept_document};
use crate::store::{self, ArchivedObject};

/// What reading an object for holds finds.
struct Asked {
    keeper: Keeper,
    held: u64,
    /// A line that cannot be asked about.
    unreadable: Option<String>,
}

impl Asked {
    fn ask(&mut self, entry: &Entry<'_>) {
        if entry.line.key.revision > 0 {
            return;
        }
        match row_of(entry).and_then(|row| self.keeper.keeps(&row)) {
            Ok(keeps) => self.held += u64::from(keeps),
            Err(why) => self.unreadable = Some(why),
        }
    }
}

/// The object was asked about.
struct Asking {
    /// By an earlier attempt, too: versions of it may be gone by us.
    earlier: bool,
    /// The holds that were in force.
    holds: Vec<Uuid>,
}

/// Why an object may go; an error says why not, and until when.
fn due(object: &ArchivedObject, now: DateTime<Utc>) -> Result<&'static str, String> {
    match (object.superseded_by, object.expires_at) {
        (Some(_), _) => Ok("superseded"),
        (None, Some(at)) if at <= now => Ok("expired"),
        (None, Some(at)) => Err(format!("its term is over at {}", moment::text(at))),
        (None, None) => Err("its policy keeps it for ever".to_owned()),
    }
}

impl Cleaner {
    /// Removes an object whose term is over, with every version, unless a lock or a hold keeps it.
    pub(crate) async fn expired(
        &self,
        run: &Run,
        message: &CleanupExpired,
        progress: &(dyn Fn() + Sync),
    ) -> Result<Done, Obstacle> {
        let (tenant, name) = (&run.new.tenant, &message.object);
        let object = {
            let mut connection = self.database.pool().acquire().await?;
            store::archived_object(&mut connection, tenant, name).await?
        };
        let object = object.ok_or_else(|| refused(format!("the archive has no object {name}")))?;
        if object.removed_at.is_some() {
            return Ok(Done::Over);
        }
        named(run, message, &object)?;
        let why = due(&object, self.now()).map_err(|why| refused(format!("{name}: {why}")))?;
        let key: ObjectKey = name.parse().map_err(|error| wrong(format!("{name}: {error}")))?;
        self.stored_manifest(&object, &key).await?;
        let Some(asked) = self.ask(run, &object, &key, progress).await? else {
            return Ok(Done::Spared);
        };
        reach(CrashPoint::AfterRemovalNoted);
        if !self.remove(run, &object, &key, &asked).await? {
            return Ok(Done::Spared);
        }
        ObjectExpired { object: name, outcome: "removed", why }.emit();
        self.append_removal(run, &object).await
    }

    /// Nothing goes whose manifest is not signed and in the store.
    async fn stored_manifest(
        &self,
        object: &ArchivedObject,
        key: &ObjectKey,
    ) -> Result<(), Obstacle> {
        let mut connection = self.database.pool().acquire().await?;
        match kept_document(&mut connection, &object.tenant, object.manifest).await? {
            Kept::Stored(_) => Ok(()),
            Kept::Waiting => Err(Obstacle::NotYet(UNSEALED)),
            Kept::Missing => Err(wrong(format!("{key}: its manifest is not in the chain"))),
        }
    }

    /// Notes that no hold keeps an event of the object; none where one does: it stays. Where that was
    /// noted by an earlier attempt, the object may be gone, and by us.
    async fn ask(
        &self,
        run: &Run,
        object: &ArchivedObject,
        key: &ObjectKey,
        progress: &(dyn Fn() + Sync),
    ) -> Result<Option<Asking>, Obstacle> {
        let tenant = &object.tenant;
        let of = (object.unit_id, Scope::Object, object.object.as_str());
        let (before, known) = {
            let mut connection = self.database.pool().acquire().await?;
            let before = store::holds::in_force(&mut connection, tenant).await?;
            (before, store::cleanup(&mut connection, tenant, of).await?)
        };
        let earlier = known.is_some_and(|known| known.holds.is_some());
        let holds = ids(&before);
        let held = match self.held(object, key, &before, progress).await? {
            Some(held) => held,
            None if earlier => return Ok(Some(Asking { earlier, holds })),
            None => {
                let text = format!("{key} is not in the store, and was not removed by us");
                return Err(wrong(text));
            }
        };
        let mut transaction = self.database.pool().begin().await?;
        let c = &mut *transaction;
        self.same_holds(c, tenant, &holds).await?;
        table::begin_cleanup(c, tenant, of, run.new.id).await?;
        if held > 0 {
            let why = format!("holds keep {held} of its events");
            ObjectExpired { object: key.as_str(), outcome: "held", why: &why }.emit();
            table::take_back(c, tenant, (of.0, of.2)).await?;
        } else {
            table::note_asked(c, tenant, (of.0, of.2), (self.now(), holds.len() as u64)).await?;
        }
        transaction.commit().await?;
        Ok((held == 0).then_some(Asking { earlier, holds }))
    }

    /// Locks holds out until the transaction ends; they are still those that the object was asked for.
    async fn same_holds(
        &self,
        c: &mut PgConnection,
        tenant: &Tenant,
        asked: &[Uuid],
    ) -> Result<u64, Obstacle> {
        store::holds::lock_shared(c, tenant).await?;
        let now = store::holds::in_force(c, tenant).await?;
        if ids(&now) == asked {
            return Ok(now.len() as u64);
        }
        Err(Obstacle::NotYet(std::time::Duration::from_secs(1)))
    }

    /// Whether it is gone; else it stays, and what was noted is taken back.
    async fn remove(
        &self,
        run: &Run,
        object: &ArchivedObject,
        key: &ObjectKey,
        asked: &Asking,
    ) -> Result<bool, Obstacle> {
        let tenant = &object.tenant;
        let mut transaction = self.database.pool().begin().await?;
        let c = &mut *transaction;
        let in_force = self.same_holds(c, tenant, &asked.holds).await?;
        let of = (object.unit_id, Scope::Object, object.object.as_str());
        let known = table::begin_cleanup(c, tenant, of, run.new.id).await?;
        if known.deleted_at.is_some() {
            return Ok(true);
        }
        if known.holds.is_none() {
            // Another attempt has taken it back meanwhile.
            return Err(Obstacle::NotYet(std::time::Duration::from_secs(1)));
        }
        let kept = match self.objects.delete_all_versions(key).await? {
            Deletion::Deleted => None,
            Deletion::AlreadyGone if asked.earlier => None,
            Deletion::AlreadyGone => {
                table::take_back(c, tenant, (of.0, of.2)).await?;
                transaction.commit().await?;
                let text = format!("{key} is not in the store, and was not removed by us");
                return Err(wrong(text));
            }
            Deletion::Locked(lock) => Some(lock.to_string()),
        };
        if let Some(why) = kept {
            ObjectExpired { object: key.as_str(), outcome: "locked", why: &why }.emit();
            table::take_back(c, tenant, (of.0, of.2)).await?;
            transaction.commit().await?;
            return Ok(false);
        }
        reach(CrashPoint::AfterObjectRemoved);
        let asked = (self.now(), in_force);
        table::note_removed(c, tenant, (of.0, of.2), asked, object.events).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Events of the object that holds keep; none where there is no object. Of a superseded one, the
    /// other holds them all.
    async fn held(
        &self,
        object: &ArchivedObject,
        key: &ObjectKey,
        holds: &[Hold],
        progress: &(dyn Fn() + Sync),
    ) -> Result<Option<u64>, Obstacle> {
        if holds.is_empty() || object.superseded_by.is_some() {
            return Ok(self.objects.head(key).await?.map(|_| 0));
        }
        let asked = Asked { keeper: Keeper::by(holds), held: 0, unreadable: None };
        let codec = object.contents.codec;
        let reading = Reading::begin(&self.objects, key, codec, asked, Asked::ask).await?;
        let Some(mut reading) = reading else { return Ok(None) };
        while reading.step().await? {
            progress();
        }
        let ended = reading.end().await;
        let (observed, asked) = ended.map_err(|error| wrong(format!("reading {key}: {error}")))?;
        match (observed.contents, asked.unreadable) {
            (Ok(contents), None) if contents == object.contents => Ok(Some(asked.held)),
            (Err(damage), _) => {
                Err(wrong(format!("{key}: {damage}: it stays while holds are in force")))
            }
            (Ok(_), why) => {
                let why = why.unwrap_or_else(|| "it is not what its manifest says".to_owned());
                Err(wrong(format!("{key}: {why}: it stays while holds are in force")))
            }
        }
    }

    async fn append_removal(&self, run: &Run, object: &ArchivedObject) -> Result<Done, Obstacle> {
        let tenant = &object.tenant;
        let of = (object.unit_id, Scope::Object, object.object.as_str());
        let mut transaction = self.database.pool().begin().await?;
        let c = &mut *transaction;
        let known = table::begin_cleanup(c, tenant, of, run.new.id).await?;
        if known.ended_at.is_some() {
            return Ok(Done::Over);
        }
        let (Some((at, in_force)), Some(deleted_at)) = (known.holds, known.deleted_at) else {
            return Err(wrong(format!("{}: when it was removed is not known", object.object)));
        };
        let receipt = Receipt {
            scope: Scope::Object,
            unit: unit_name(object.unit_id)?,
            basis: run.grounds(),
            requester: requester(run),
            manifest: Some(object.manifest),
            deleted: object.events,
            already_gone: 0,
            held: 0,
            ids: None,
            holds: HoldsChecked { at, in_force },
            deleted_at,
            search_empty_at: None,
            survives: self.survivors.after(deleted_at),
        };
        let now = self.now().max(deleted_at);
        let end = chain::append(c, tenant, Body::Receipt(Box::new(receipt)), now).await?;
        table::forget_object(c, tenant, object, deleted_at).await?;
        table::end_cleanup(c, tenant, of, Some(end.sequence), now).await?;
        reach(CrashPoint::BeforeReceiptCommit);
        transaction.commit().await?;
        reach(CrashPoint::AfterReceiptCommit);
        Ok(Done::Deleted)
    }
}

/// Message, run and object speak of the same.
fn named(run: &Run, message: &CleanupExpired, object: &ArchivedObject) -> Result<(), Obstacle> {
    let name = &message.object;
    if object.manifest.sequence != message.manifest_sequence {
        let text = format!("{name} is not the object of manifest {}", message.manifest_sequence);
        return Err(refused(text));
    }
    match run.new.basis {
        Basis::Policy { id, version, .. }
            if (id, version) != (message.policy_id, message.policy_version) =>
        {
            Err(refused(format!("run {} is by another policy than the message names", run.new.id)))
        }
        _ => Ok(()),
    }
}

fn ids(holds: &[Hold]) -> Vec<Uuid> {
    holds.iter().map(|hold| hold.id).collect()
}

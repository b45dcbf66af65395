//! Erasures reach the archive: an object that holds an erased log is written again without it, and the
//! new object's manifest names the one that it replaces and the salted leaves that are gone, so that a
//! verifier sees that nothing else is. The old object is then past its term, and goes with a receipt.
//!
//! | Step | A death after it |
//! |---|---|
//! | the erasure is noted with the log's tombstone | it is found and done |
//! | the new object's name is lent for a day | what lies there is discarded then; the next attempt takes another name |
//! | the new object is written and read back whole | the same |
//! | one transaction: manifest, index, the old object superseded, the erasure done | all of it or none |
//!
//! It waits while a unit deletes rows by the object, while the store has the object locked, and while a
//! hold keeps the log; [`crate::store::erasures`] says until when, and why. It changes no object.

mod rewrite;

use std::collections::BTreeSet;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use contracts::Tenant;
use contracts::audit::lifecycle::Then;
use evidence::Document;
use evidence::document::{Body, Manifest, ManifestRef, Supersedes};
use evidence::moment;
use uuid::Uuid;

use self::rewrite::Rewritten;
use super::unit::{Archivist, Obstacle};
use super::{chain, place};
use crate::lifecycle::{Run, Unit};
use crate::retention::Hold;
use crate::store::cleanup::{Kept, kept_document};
use crate::store::{self, ArchivedObject, Large, Sealing, erasures};

/// Objects of one round.
const ROUND_MAX: i64 = 20;
/// Logs that are erased from an object at once.
const LOGS_MAX: i64 = 500;
/// Who takes an object has it so long.
const TAKEN: TimeDelta = TimeDelta::hours(1);
/// A new object's name is lent so long, and must be taken by half of it.
const LENT: TimeDelta = TimeDelta::days(1);
/// An object that something is in the way of is looked at again after this.
const SOON: TimeDelta = TimeDelta::minutes(10);
/// And one that a hold or its own size is in the way of.
const LATER: TimeDelta = TimeDelta::days(1);

/// An object that is to be written again.
struct Task {
    object: ArchivedObject,
    unit: Unit,
    run: Run,
    /// What it has replaced itself.
    before: Option<Supersedes>,
    logs: BTreeSet<Uuid>,
    holds: Vec<Hold>,
}

impl Task {
    fn original(&self) -> u64 {
        let before = self.before.as_ref();
        before.map_or(self.object.manifest.sequence, |before| before.original)
    }
}

impl Archivist {
    /// One round over what is due; how many objects were written again. One that fails keeps no other:
    /// the first failure is the answer.
    pub(crate) async fn supersede(&self) -> Result<u64, Obstacle> {
        let now = self.clock.now();
        let due = {
            let mut connection = self.database.pool().acquire().await?;
            erasures::take_objects(&mut connection, (now, now + TAKEN), ROUND_MAX).await?
        };
        let (mut written, mut first) = (0, None);
        for (tenant, object) in due {
            match self.supersede_one(&tenant, &object).await {
                Ok(done) => written += u64::from(done),
                Err(obstacle) => {
                    let pause = if obstacle.is_final() { LATER } else { SOON };
                    tracing::warn!(%tenant, object, error = %obstacle, "an erasure waits to reach the archive");
                    self.wait(&tenant, &object, pause, &obstacle.to_string()).await?;
                    first = first.or(Some(obstacle));
                }
            }
        }
        first.map_or(Ok(written), Err)
    }

    async fn supersede_one(&self, tenant: &Tenant, object: &str) -> Result<bool, Obstacle> {
        let Some(task) = self.task(tenant, object).await? else { return Ok(false) };
        let Some(rewritten) = self.rewrite(&task).await? else { return Ok(false) };
        self.replace(&task, rewritten).await
    }

    async fn wait(
        &self,
        tenant: &Tenant,
        object: &str,
        pause: TimeDelta,
        why: &str,
    ) -> Result<(), Obstacle> {
        let at = self.clock.now() + pause;
        let mut connection = self.database.pool().acquire().await?;
        Ok(erasures::look_again(&mut connection, tenant, object, (at, why)).await?)
    }

    /// What is to be done about the object; none where that is nothing, or not now.
    async fn task(&self, tenant: &Tenant, name: &str) -> Result<Option<Task>, Obstacle> {
        let now = self.clock.now();
        let mut connection = self.database.pool().acquire().await?;
        let c = &mut *connection;
        let object = store::archived_object(c, tenant, name).await?;
        let Some(object) = object.filter(|object| object.removed_at.is_none()) else {
            erasures::object_gone(c, tenant, name).await?;
            return Ok(None);
        };
        if let Some(by) = object.superseded_by {
            if let Some(successor) = erasures::object_of_manifest(c, tenant, by).await? {
                erasures::pass_on(c, tenant, name, &successor).await?;
            }
            return Ok(None);
        }
        if let Some(until) = object.locked_until.filter(|until| *until > now) {
            let why = format!("the store has it locked until {}", moment::text(until));
            erasures::look_again(c, tenant, name, (until, &why)).await?;
            return Ok(None);
        }
        if erasures::is_in_use(c, tenant, name).await? {
            let why = "a unit that has not ended goes by it";
            erasures::look_again(c, tenant, name, (now + SOON, why)).await?;
            return Ok(None);
        }
        let logs = erasures::logs_of(c, tenant, name, LOGS_MAX).await?;
        let may_hold = |id: &Uuid| object.contents.blocks_of(*id).next().is_some();
        let (logs, others): (BTreeSet<Uuid>, Vec<Uuid>) = {
            let (some, none): (Vec<_>, Vec<_>) = logs.into_iter().partition(may_hold);
            (some.into_iter().collect(), none)
        };
        erasures::done(c, tenant, name, &others).await?;
        if logs.is_empty() {
            return Ok(None);
        }
        let unknown = || Obstacle::Poison(format!("{name}: the unit that made it is not known"));
        let unit = store::unit(c, tenant, object.unit_id).await?.ok_or_else(unknown)?;
        let run = store::run_with(c, tenant, unit.run_id, Large::Neither).await?;
        let run = run.ok_or_else(unknown)?;
        let holds = store::holds::in_force(c, tenant).await?;
        let before = match kept_document(c, tenant, object.manifest).await? {
            Kept::Stored(document) => supersedes(name, &document)?,
            Kept::Waiting => {
                let why = "its manifest is not in the store yet";
                erasures::look_again(c, tenant, name, (now + TimeDelta::minutes(1), why)).await?;
                return Ok(None);
            }
            Kept::Missing => {
                return Err(Obstacle::Poison(format!("{name}: its manifest is not in the chain")));
            }
        };
        Ok(Some(Task { object, unit, run, before, logs, holds }))
    }

    /// The new object counts from now on, and the old one no more.
    async fn replace(&self, task: &Task, rewritten: Rewritten) -> Result<bool, Obstacle> {
        let Task { object, unit, run, .. } = task;
        let (tenant, now) = (&object.tenant, self.clock.now().trunc_subsecs(6));
        let mut transaction = self.database.pool().begin().await?;
        let c = &mut *transaction;
        store::holds::lock_shared(c, tenant).await?;
        let holds = store::holds::in_force(c, tenant).await?;
        if !holds.iter().map(|hold| hold.id).eq(task.holds.iter().map(|hold| hold.id)) {
            return Err(Obstacle::Spool("holds were placed or released meanwhile".to_owned()));
        }
        // One that comes later finds the new object.
        erasures::hold_off(c, tenant).await?;
        let name = rewritten.name.as_str();
        if !erasures::take_name(c, tenant, name, now + LENT / 2).await? {
            return Err(Obstacle::Spool(format!("{name} took too long to write")));
        }
        let body = Body::Manifest(Box::new(Manifest {
            object: rewritten.name.clone(),
            unit: unit
                .id
                .to_string()
                .try_into()
                .map_err(|error| Obstacle::Poison(format!("{error}")))?,
            basis: run.grounds(),
            contents: rewritten.contents.clone(),
            locked_until: rewritten.locked_until,
            supersedes: Some(Supersedes {
                replaces: object.manifest.sequence,
                original: task.original(),
                erased: rewritten.erased,
            }),
        }));
        let end = chain::append(c, tenant, body, now).await?;
        if !erasures::supersede(c, tenant, &object.object, end.sequence).await? {
            return Ok(false);
        }
        let sealing = Sealing {
            manifest: ManifestRef { sequence: end.sequence, sha256: end.hash },
            then: Then::Archive,
            archived_at: end.issued_at,
            expires_at: object.expires_at,
            locked_until: rewritten.locked_until,
        };
        store::index_object(c, unit, (name, &rewritten.contents), &sealing).await?;
        erasures::done(c, tenant, &object.object, &rewritten.gone).await?;
        erasures::pass_on(c, tenant, &object.object, name).await?;
        if !rewritten.held.is_empty() {
            let why = "a legal hold keeps a log of it";
            erasures::look_again(c, tenant, name, (now + LATER, why)).await?;
        }
        transaction.commit().await?;
        let (replaced, erased) = (&object.object, rewritten.gone.len());
        tracing::info!(%tenant, object = name, replaced, erased, "an object was written again without erased logs");
        Ok(true)
    }

    /// A further part of the object's hour, which nobody else is given.
    async fn lend(&self, task: &Task) -> Result<Unit, Obstacle> {
        let (tenant, unit) = (&task.object.tenant, &task.unit);
        let codec = task.object.contents.codec;
        let until: DateTime<Utc> = self.clock.now() + LENT;
        let last = {
            let unit = Unit { object: Some(task.object.object.clone()), ..unit.clone() };
            place::last_part(&self.objects, &unit).await?
        };
        let mut transaction = self.database.pool().begin().await?;
        let c = &mut *transaction;
        let part = store::next_part(c, tenant, unit.hour, last + 1).await?;
        let name = evidence::document::object_name(tenant, unit.hour, part, codec);
        erasures::lend_name(c, tenant, (&name, unit.id), until).await?;
        transaction.commit().await?;
        Ok(Unit { part: Some(part), object: Some(name), codec: Some(codec), ..unit.clone() })
    }
}

/// What the object of that manifest has replaced.
fn supersedes(name: &str, document: &[u8]) -> Result<Option<Supersedes>, Obstacle> {
    match serde_json::from_slice::<Document>(document).map(|document| document.body) {
        Ok(Body::Manifest(manifest)) if manifest.object == name => Ok(manifest.supersedes),
        _ => Err(Obstacle::Poison(format!("{name}: its document is no manifest of it"))),
    }
}

//! From a complete object to the chain: read back whole, then everything that follows in one
//! transaction.

use chrono::{DateTime, Utc};
use contracts::audit::lifecycle::Then;
use evidence::document::{Body, Manifest, ManifestRef};
use evidence::object::Contents;
use uuid::Uuid;

use super::events::Sealed;
use super::{Archivist, Hand, Obstacle};
use crate::archive::proof::read_back;
use crate::archive::{chain, outgoing, place};
use crate::crash::{CrashPoint, reach};
use crate::lifecycle::{Run, Unit};
use crate::store::{self, Sealing, erasures};

/// An object that is what was written.
struct Proved<'a> {
    unit: &'a Unit,
    object: &'a str,
    contents: &'a Contents,
    events: Vec<(DateTime<Utc>, Uuid)>,
    locked_until: Option<DateTime<Utc>>,
}

impl Archivist {
    /// Proves the unit's object and appends its manifest; nothing is returned. Else why the unit has to
    /// be written again: its object is not what was written, or holds what was erased meanwhile. The
    /// object itself stays as it is: who gives its name up discards it.
    pub(super) async fn seal(
        &self,
        hand: &Hand<'_>,
        run: &Run,
        unit: &Unit,
    ) -> Result<Option<String>, Obstacle> {
        let (Some(contents), Some(object)) = (&unit.contents, &unit.object) else {
            return Ok(Some("what it was written with is not known".to_owned()));
        };
        let key = place::key(unit)?;
        let Some(seen) = read_back(hand, &key, contents.codec).await? else {
            return Ok(Some(format!("{object} is not there")));
        };
        let wrong = match &seen.contents {
            Ok(found) if found == contents => None,
            Ok(_) => Some(format!("{object} holds other bytes than were written")),
            Err(damage) => Some(format!("{object}: {damage}")),
        };
        if wrong.is_some() {
            return Ok(wrong);
        }
        reach(CrashPoint::AfterVerify);
        let head = hand.objects.head(&key).await?;
        let locked_until = head.and_then(|head| head.lock).map(|lock| lock.until);
        let proved = Proved { unit, object, contents, events: seen.events, locked_until };
        let erased = self.append(hand, run, &proved, true).await?;
        if erased == 0 {
            return Ok(None);
        }
        if locked_until.is_none_or(|until| until <= hand.clock.now()) {
            return Ok(Some(format!("{erased} of its events were erased meanwhile")));
        }
        // The store keeps it whatever we do: better in the chain, where the erasure finds it.
        self.append(hand, run, &proved, false).await.map(|_| None)
    }

    /// Everything that makes the object count, or nothing: marks, manifest, unit, counters, messages.
    /// Answers how many of its events were erased meanwhile; with any, where that is heeded, nothing
    /// was done.
    async fn append(
        &self,
        hand: &Hand<'_>,
        run: &Run,
        proved: &Proved<'_>,
        heed: bool,
    ) -> Result<usize, Obstacle> {
        let Proved { unit, events, .. } = proved;
        let (tenant, now) = (&unit.tenant, hand.clock.now());
        let mut transaction = self.database.pool().begin().await?;
        if run.new.then == Then::Archive {
            store::mark_archived(&mut transaction, tenant, unit.id, events).await?;
            (hand.progress)();
        }
        let ids: Vec<Uuid> = events.iter().map(|event| event.1).collect();
        // Late: it holds erasures off until the end.
        let erased = store::erased_of(&mut transaction, tenant, &ids).await?;
        if heed && !erased.is_empty() {
            return Ok(erased.len());
        }
        erasures::note_of(&mut transaction, tenant, proved.object, &erased).await?;
        let body = Body::Manifest(Box::new(manifest(run, proved)?));
        let end = chain::append(&mut transaction, tenant, body, now).await?;
        let manifest = ManifestRef { sequence: end.sequence, sha256: end.hash };
        let sealing = Sealing {
            manifest,
            then: run.new.then,
            archived_at: end.issued_at,
            expires_at: place::expires_at(run, end.issued_at)?,
            locked_until: proved.locked_until,
        };
        let moved = store::seal_unit(&mut transaction, hand.claim, &sealing).await?;
        if run.new.then == Then::ArchiveAndDelete {
            outgoing::clean_up(&mut transaction, hand.cause, unit, manifest, now).await?;
        }
        outgoing::tell(&mut transaction, hand.cause, moved.run.as_ref(), now).await?;
        reach(CrashPoint::BeforeSealCommit);
        transaction.commit().await?;
        reach(CrashPoint::AfterSealCommit);
        let packed = proved.contents.packed.bytes;
        let (object, events) = (proved.object, unit.counters.archived);
        Sealed { object, sequence: manifest.sequence, events, packed }.emit();
        Ok(0)
    }
}

fn manifest(run: &Run, proved: &Proved<'_>) -> Result<Manifest, Obstacle> {
    let unit = proved.unit.id.to_string();
    Ok(Manifest {
        object: proved.object.to_owned(),
        unit: unit.try_into().map_err(|error| Obstacle::Poison(format!("{error}")))?,
        basis: run.grounds(),
        contents: proved.contents.clone(),
        locked_until: proved.locked_until,
        supersedes: None,
    })
}

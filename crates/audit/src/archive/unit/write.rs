//! From rows to an object that is complete in the store.

use std::collections::HashMap;

use evidence::Codec;
use sinks::objects::{ObjectKey, Written};
use uuid::Uuid;

use super::events::NameTaken;
use super::{Archivist, Hand, Obstacle};
use crate::archive::discard;
use crate::archive::lines::{self, Line};
use crate::archive::outgoing;
use crate::archive::pack::{Packed, Packer};
use crate::archive::place::{self, UNIT};
use crate::archive::proof::read_back;
use crate::archive::put::put;
use crate::archive::rows::UnitRows;
use crate::archive::selection::Selection;
use crate::crash::{CrashPoint, reach};
use crate::lifecycle::{Run, Unit};
use crate::store::{self, ExportRevision, ExportRow, REVISIONS_EXPORTED_MAX, Wanted};

/// Names that are taken by others, in a row.
const NAMES_MAX: u32 = 16;
/// Lines that are handed to the codec at once, in bytes.
const BATCH_BYTES: usize = 1024 * 1024;

/// What to do about a name that is taken.
enum Taken {
    /// The object is this very one: an earlier attempt wrote it.
    Adopt,
    /// What was there is gone by itself.
    Free,
    /// Something else is there: the unit takes a name after this one.
    After(u32),
}

impl Archivist {
    /// Writes the unit's object; nothing where none of its rows is left.
    pub(super) async fn write(
        &self,
        hand: &Hand<'_>,
        run: &Run,
        unit: &Unit,
    ) -> Result<Option<Unit>, Obstacle> {
        let mut packed = self.pack(hand, run, unit).await?;
        if packed.contents.lines == 0 {
            self.end_empty(hand).await?;
            return Ok(None);
        }
        reach(CrashPoint::AfterPack);
        let mut unit = self.allot(hand, 0).await?;
        for _ in 0..NAMES_MAX {
            let key = place::key(&unit)?;
            let options = place::options(self, run, &unit, &packed)?;
            let written = put(hand, &unit, &key, &mut packed, &options).await?;
            reach(CrashPoint::AfterObject);
            if written == Written::New {
                return self.note_written(hand, &packed).await.map(Some);
            }
            match self.judge(hand, &unit, &key, &packed).await? {
                Taken::Adopt => return self.note_written(hand, &packed).await.map(Some),
                Taken::Free => {}
                Taken::After(last) => {
                    unit = self.allot(hand, last + 1).await?;
                    self.discard(hand).await;
                }
            }
        }
        let text = format!("{NAMES_MAX} names of the hour in a row are taken by others");
        Err(Obstacle::Store(sinks::SinkError::new(
            sinks::objects::NAME,
            sinks::SinkErrorKind::Unavailable,
            text,
        )))
    }

    async fn pack(&self, hand: &Hand<'_>, run: &Run, unit: &Unit) -> Result<Packed, Obstacle> {
        let mut selection =
            Selection::of(run).map_err(|error| Obstacle::Poison(error.to_string()))?;
        let snapshot_xmin = run
            .snapshot_xmin
            .ok_or_else(|| Obstacle::Poison(format!("run {} has units and no plan", run.new.id)))?;
        let wanted = Wanted { tenant: unit.tenant.clone(), range: unit.range, snapshot_xmin };
        let mut rows = UnitRows::open(&self.database, wanted).await?;
        let codec = unit.codec.unwrap_or(Codec::Zstd);
        let packer = Packer::start(&unit.tenant, codec, &self.spool);
        while let Some(chunk) = rows.next().await? {
            let mut ours = Vec::with_capacity(chunk.len());
            for row in chunk {
                if selection.takes(&row).map_err(Obstacle::Poison)? {
                    ours.push(row);
                }
            }
            if !self.hand_over(&packer, unit, ours).await? {
                break;
            }
            hand.beat().await?;
        }
        Ok(packer.finish().await?)
    }

    /// `false`: the codec has ended, and says why when it is asked.
    async fn hand_over(
        &self,
        packer: &Packer,
        unit: &Unit,
        mut rows: Vec<ExportRow>,
    ) -> Result<bool, Obstacle> {
        while !rows.is_empty() {
            let later = rows.split_off(store::revised_together(&rows));
            if !self.hand_over_portion(packer, unit, rows).await? {
                return Ok(false);
            }
            rows = later;
        }
        Ok(true)
    }

    async fn hand_over_portion(
        &self,
        packer: &Packer,
        unit: &Unit,
        rows: Vec<ExportRow>,
    ) -> Result<bool, Obstacle> {
        let mut revisions = self.revisions(unit, &rows).await?;
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for mut row in rows {
            let changes = revisions.remove(&row.id).unwrap_or_default();
            if changes.len() as u64 != row.revision.unsigned_abs() {
                // Changed between the two reads; the next attempt sees both.
                let text = format!("log {} was changed while it was read", row.id);
                return Err(Obstacle::Spool(text));
            }
            let event = lines::event(&mut row).map_err(Obstacle::Poison)?;
            bytes += event.bytes.len();
            batch.push(event);
            for change in changes {
                let line: Line =
                    lines::revision(&unit.tenant, &row, &change).map_err(Obstacle::Poison)?;
                bytes += line.bytes.len();
                batch.push(line);
            }
            if bytes >= BATCH_BYTES {
                bytes = 0;
                if !packer.push(std::mem::take(&mut batch)).await {
                    return Ok(false);
                }
            }
        }
        Ok(batch.is_empty() || packer.push(batch).await)
    }

    async fn revisions(
        &self,
        unit: &Unit,
        rows: &[ExportRow],
    ) -> Result<HashMap<Uuid, Vec<ExportRevision>>, Obstacle> {
        let most = REVISIONS_EXPORTED_MAX;
        if let Some(row) = rows.iter().find(|row| row.revision > most) {
            let (id, revisions) = (row.id, row.revision);
            let text = format!("log {id} has {revisions} revisions; an object takes {most} of one");
            return Err(Obstacle::Poison(text));
        }
        let revised: Vec<Uuid> =
            rows.iter().filter(|row| row.revision > 0).map(|row| row.id).collect();
        if revised.is_empty() {
            return Ok(HashMap::new());
        }
        let mut connection = self.database.pool().acquire().await?;
        Ok(store::export_revisions(&mut connection, &unit.tenant, &revised).await?)
    }

    async fn end_empty(&self, hand: &Hand<'_>) -> Result<(), Obstacle> {
        let mut transaction = self.database.pool().begin().await?;
        let moved = store::empty_unit(&mut transaction, hand.claim).await?;
        outgoing::tell(&mut transaction, hand.cause, moved.run.as_ref(), hand.clock.now()).await?;
        transaction.commit().await?;
        self.discard(hand).await;
        Ok(())
    }

    async fn allot(&self, hand: &Hand<'_>, at_least: u32) -> Result<Unit, Obstacle> {
        let mut transaction = self.database.pool().begin().await?;
        let unit = store::allot_part(&mut transaction, hand.claim, at_least).await?;
        transaction.commit().await?;
        Ok(unit)
    }

    async fn note_written(&self, hand: &Hand<'_>, packed: &Packed) -> Result<Unit, Obstacle> {
        let mut transaction = self.database.pool().begin().await?;
        let (contents, events) = (&packed.contents, packed.events);
        store::write_unit(&mut transaction, hand.claim, contents, events).await?;
        let (tenant, id) = (&hand.claim.tenant, hand.claim.unit);
        let unit = store::unit(&mut transaction, tenant, id).await?;
        transaction.commit().await?;
        reach(CrashPoint::AfterWritten);
        unit.ok_or(Obstacle::Lost)
    }

    /// The name is taken: by this very object, by what an earlier attempt of this unit left, or by
    /// others. Nothing is removed here: the claim may have ended meanwhile, and another worker may rely
    /// on what is there. A name is given up first, and by whoever has the claim.
    async fn judge(
        &self,
        hand: &Hand<'_>,
        unit: &Unit,
        key: &ObjectKey,
        packed: &Packed,
    ) -> Result<Taken, Obstacle> {
        let codec = packed.contents.codec;
        let Some(seen) = read_back(hand, key, codec).await? else { return Ok(Taken::Free) };
        if seen.contents.as_ref().is_ok_and(|contents| *contents == packed.contents) {
            return Ok(Taken::Adopt);
        }
        let head = hand.objects.head(key).await?;
        let ours = head.is_some_and(|head| {
            head.metadata.get(UNIT).is_some_and(|of| *of == unit.id.to_string())
        });
        let part = unit.part.unwrap_or(0);
        if ours {
            return Ok(Taken::After(part));
        }
        NameTaken { object: key.as_str() }.emit();
        let last = place::last_part(hand.objects, unit).await?;
        Ok(Taken::After(last.max(part)))
    }

    /// Removes what the unit has written and does without, now rather than within the hour. Where it
    /// fails, the sweep does it.
    pub(super) async fn discard(&self, hand: &Hand<'_>) {
        let of = Some((&hand.claim.tenant, hand.claim.unit));
        let swept = discard::sweep(hand.database, hand.objects, of, hand.clock.now()).await;
        if let Err(error) = swept {
            tracing::warn!(unit = %hand.claim.unit, %error, "an object that nobody needs is left to the sweep");
        }
    }
}

//! The same object without the lines of some logs: read whole, held against its manifest, packed again,
//! stored under a new name and read back.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use evidence::document::{ERASED_MAX, Erased};
use evidence::object::{Contents, Entry};
use sinks::objects::{ObjectKey, Written};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{LATER, Task};
use crate::archive::lines::Line;
use crate::archive::pack::{Packed, Packer};
use crate::archive::place;
use crate::archive::proof::{self, Reading};
use crate::archive::put;
use crate::archive::selection::{Keeper, row_of};
use crate::archive::unit::{Archivist, Obstacle};
use crate::store::erasures;

/// Lines that are handed to the codec at once, in bytes.
const BATCH_BYTES: usize = 1024 * 1024;

/// A new object, complete and proved.
pub(super) struct Rewritten {
    pub(super) name: String,
    pub(super) contents: Contents,
    pub(super) locked_until: Option<DateTime<Utc>>,
    /// All lines of the original that are gone by now.
    pub(super) erased: Vec<Erased>,
    /// The logs that it holds no more.
    pub(super) gone: Vec<Uuid>,
    /// Those that holds keep.
    pub(super) held: BTreeSet<Uuid>,
}

/// Lets lines through but for those of some logs.
struct Sieve {
    through: mpsc::Sender<Vec<Line>>,
    batch: Vec<Line>,
    bytes: usize,
    logs: BTreeSet<Uuid>,
    keeper: Keeper,
    held: BTreeSet<Uuid>,
    /// Erased by earlier objects of the line, then by this one too; in the original's order.
    before: std::vec::IntoIter<Erased>,
    waiting: Option<Erased>,
    erased: Vec<Erased>,
    /// Lines taken out by this one.
    taken: u64,
    /// The next line's place in the original.
    next: u64,
}

impl Sieve {
    fn new(task: &Task, through: mpsc::Sender<Vec<Line>>) -> Self {
        let erased = task.before.as_ref().map(|before| before.erased.clone()).unwrap_or_default();
        let mut before = erased.into_iter();
        Self {
            through,
            batch: Vec::new(),
            bytes: 0,
            logs: task.logs.clone(),
            keeper: Keeper::by(&task.holds),
            held: BTreeSet::new(),
            waiting: before.next(),
            before,
            erased: Vec::new(),
            taken: 0,
            next: 0,
        }
    }

    /// The erased lines of the original that lie before the next one that is left.
    fn skip(&mut self) {
        while let Some(erased) = self.waiting.take_if(|erased| erased.index == self.next) {
            self.erased.push(erased);
            self.waiting = self.before.next();
            self.next += 1;
        }
    }

    fn see(&mut self, entry: &Entry<'_>) {
        self.skip();
        let (index, key) = (self.next, entry.line.key);
        self.next += 1;
        if self.logs.contains(&key.id) {
            // What cannot be asked about is kept.
            if key.revision == 0
                && row_of(entry).and_then(|row| self.keeper.keeps(&row)).unwrap_or(true)
            {
                self.held.insert(key.id);
            }
            if !self.held.contains(&key.id) {
                self.erased.push(Erased { index, leaf: entry.leaf });
                self.taken += 1;
                return;
            }
        }
        let bytes = entry.line.bytes.to_vec();
        self.bytes += bytes.len();
        self.batch.push(Line { salt: entry.salt, bytes, event: key.revision == 0 });
        if self.bytes >= BATCH_BYTES {
            self.bytes = 0;
            // Where the codec has ended, it says why when it is asked.
            let _ = self.through.blocking_send(std::mem::take(&mut self.batch));
        }
    }
}

impl Archivist {
    /// The object without the task's logs; none where it holds none of them that may go, or where
    /// nothing of it would be left: then its term is over.
    pub(super) async fn rewrite(&self, task: &Task) -> Result<Option<Rewritten>, Obstacle> {
        let object = &task.object;
        let (tenant, name) = (&object.tenant, object.object.as_str());
        let (packed, sieve) = self.sift(task).await?;
        let Sieve { erased, held, taken, .. } = sieve;
        let gone: Vec<Uuid> = task.logs.difference(&held).copied().collect();
        if taken == 0 || packed.contents.lines == 0 {
            let now = self.clock.now();
            let mut connection = self.database.pool().acquire().await?;
            let why = if taken == 0 {
                erasures::done(&mut connection, tenant, name, &gone).await?;
                "a legal hold keeps a log of it"
            } else {
                erasures::expire(&mut connection, tenant, name, now).await?;
                "all of it is erased: it is to be removed"
            };
            erasures::look_again(&mut connection, tenant, name, (now + LATER, why)).await?;
            return Ok(None);
        }
        if erased.len() > ERASED_MAX {
            let lines = erased.len();
            return Err(Obstacle::Poison(format!(
                "{name}: {lines} of its lines are to be erased; a manifest names {ERASED_MAX}"
            )));
        }
        let (name, locked_until, contents) = self.write_again(task, packed).await?;
        Ok(Some(Rewritten { name, contents, locked_until, erased, gone, held }))
    }

    /// Reads the object and packs what is left of it.
    async fn sift(&self, task: &Task) -> Result<(Packed, Sieve), Obstacle> {
        let object = &task.object;
        let name = &object.object;
        let key = key_of(name)?;
        let codec = object.contents.codec;
        let packer = Packer::start(&object.tenant, codec, &self.spool);
        let sieve = Sieve::new(task, packer.sender());
        let reading = Reading::begin(&self.objects, &key, codec, sieve, Sieve::see).await?;
        let Some(mut reading) = reading else {
            return Err(Obstacle::Poison(format!("{name} is not in the store")));
        };
        while reading.step().await? {}
        let ended = reading.end().await;
        let (observed, mut sieve) =
            ended.map_err(|error| Obstacle::Poison(format!("reading {name}: {error}")))?;
        if observed.contents.as_ref().ok() != Some(&object.contents) {
            return Err(Obstacle::Poison(format!(
                "{name} is not what its manifest says; run `fleetctl verify`"
            )));
        }
        sieve.skip();
        packer.push(std::mem::take(&mut sieve.batch)).await;
        let (closed, _) = mpsc::channel(1);
        sieve.through = closed;
        Ok((packer.finish().await?, sieve))
    }

    /// Under a name of its own: which, until when it is locked, and what it holds by its own bytes.
    async fn write_again(
        &self,
        task: &Task,
        mut packed: Packed,
    ) -> Result<(String, Option<DateTime<Utc>>, Contents), Obstacle> {
        let unit = self.lend(task).await?;
        let (key, tenant) = (place::key(&unit)?, task.object.tenant.as_str());
        let options = place::options(self, &task.run, &unit, &packed)?;
        if put::put_whole(&self.objects, &key, &mut packed, &options).await? != Written::New {
            return Err(Obstacle::Spool(format!("{key} is taken by another")));
        }
        let seen = proof::read_whole(&self.objects, &key, packed.contents.codec, tenant).await?;
        if seen.and_then(|seen| seen.contents.ok()).as_ref() != Some(&packed.contents) {
            return Err(Obstacle::Spool(format!("{key} holds other bytes than were written")));
        }
        let head = self.objects.head(&key).await?;
        let locked_until = head.and_then(|head| head.lock).map(|lock| lock.until);
        Ok((key.as_str().to_owned(), locked_until, packed.contents))
    }
}

fn key_of(name: &str) -> Result<ObjectKey, Obstacle> {
    name.parse().map_err(|error: sinks::objects::InvalidKey| Obstacle::Poison(error.to_string()))
}

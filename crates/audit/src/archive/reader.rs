//! Reads events back out of the archive by range: the index says which blocks may hold them, only those
//! are fetched, and each is the block that was signed or an error. It holds one block at a time, and
//! reads no more than it was told.

use chrono::{DateTime, Utc};
use contracts::Tenant;
use database::Database;
use evidence::object::{Block, read_block};
use serde::{Deserialize, Serialize};
use sinks::SinkError;
use sinks::objects::SharedObjects;
use uuid::Uuid;

use crate::record::Record;
use crate::store::{self, ArchivedObject, OBJECTS_PAGE_MAX};

/// Blocks that one page of a search fetches at most, about 1 MiB of lines each.
pub const BLOCKS_MAX: usize = 64;
/// Blocks that one [`Reader::find`] fetches at most.
pub const FIND_BLOCKS_MAX: usize = 1_000;
/// Bytes of lines on one page at most.
pub const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Lines on one page at most.
pub const PAGE_LINES_MAX: usize = 1_000;

/// Why the archive does not answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The object store.
    #[error(transparent)]
    Store(#[from] SinkError),
    /// PostgreSQL.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// Too many blocks may hold the log: its id carries no time.
    #[error(
        "log {0} may be in more than {FIND_BLOCKS_MAX} blocks; search the archive by the time when it was recorded"
    )]
    TooWide(Uuid),
    /// What the store holds is not what was archived.
    #[error("{object}: {why}; run `fleetctl verify`")]
    Damaged {
        /// Which object.
        object: String,
        /// What is wrong.
        why: String,
    },
}

/// A line of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedLine {
    /// The object that holds it.
    pub object: String,
    /// Number of that object's manifest.
    pub manifest: u64,
    /// The log.
    pub id: Uuid,
    /// 0 for the event, else the number of the revision.
    pub revision: u64,
    /// The record, byte for byte, or the revision.
    pub bytes: Vec<u8>,
}

/// Which events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Recorded at this time or later.
    pub from: DateTime<Utc>,
    /// Recorded before this time.
    pub to: DateTime<Utc>,
    /// Of this action; a `*` at the end stands for any rest.
    pub action: Option<String>,
    /// By the actor of this id.
    pub actor: Option<String>,
}

/// Where a search stands: behind so many lines of that block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The object; empty before the first.
    pub object: String,
    /// Its block.
    pub block: usize,
    /// Lines of it that are behind.
    pub lines: u64,
    /// The log that was found last, where its revisions may follow.
    #[serde(default)]
    pub found: Option<Uuid>,
}

/// Events in the order of objects and ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// What was found, revisions behind their events.
    pub lines: Vec<ArchivedLine>,
    /// Where to go on; none at the end. A page may be empty and still have one.
    pub next: Option<Position>,
    /// Blocks that were fetched.
    pub blocks: usize,
}

/// An archive to read from.
#[derive(Clone, Debug)]
pub struct Reader {
    database: Database,
    objects: SharedObjects,
}

impl Reader {
    /// Under the API's or the worker's role.
    pub fn new(database: &Database, objects: SharedObjects) -> Self {
        Self { database: database.clone(), objects }
    }

    /// A log's event and revisions; nothing where no object of the tenant holds it.
    pub async fn find(&self, tenant: &Tenant, id: Uuid) -> Result<Vec<ArchivedLine>, ReadError> {
        let (mut after, mut fetched) = (String::new(), 0);
        loop {
            let mut transaction = self.database.tenant(tenant).await?;
            let objects = store::objects_holding(&mut transaction, tenant, id, &after).await?;
            transaction.rollback().await?;
            let Some(last) = objects.last() else { return Ok(Vec::new()) };
            after = last.object.clone();
            for object in &objects {
                let lines = self.lines_of(object, id, &mut fetched).await?;
                if !lines.is_empty() {
                    return Ok(lines);
                }
            }
        }
    }

    /// What an object holds of the log.
    async fn lines_of(
        &self,
        object: &ArchivedObject,
        id: Uuid,
        fetched: &mut usize,
    ) -> Result<Vec<ArchivedLine>, ReadError> {
        let mut lines = Vec::new();
        let blocks: Vec<(u64, Block)> =
            object.contents.blocks_of(id).map(|(begin, block)| (begin, *block)).collect();
        for (begin, block) in blocks {
            if *fetched == FIND_BLOCKS_MAX {
                return Err(ReadError::TooWide(id));
            }
            *fetched += 1;
            let found = self.block(object, begin, &block).await?;
            lines.extend(found.into_iter().filter(|line| line.id == id));
        }
        Ok(lines)
    }

    /// A page of at most `limit` lines, from `after` on. Revisions follow their log, if need be on the
    /// next page.
    pub async fn search(
        &self,
        tenant: &Tenant,
        wanted: &Wanted,
        after: &Position,
        limit: usize,
    ) -> Result<Page, ReadError> {
        let mut page = Page::default();
        let (mut bytes, limit) = (0, limit.clamp(1, PAGE_LINES_MAX));
        let mut at = after.clone();
        loop {
            let objects = self.objects_from(tenant, wanted, &at.object).await?;
            let full = i64::try_from(objects.len()).unwrap_or(0) >= OBJECTS_PAGE_MAX;
            for object in &objects {
                if object.object != at.object {
                    at = Position { object: object.object.clone(), ..Position::default() };
                }
                for (begin, number, block) in blocks(object, wanted, at.block) {
                    if number != at.block {
                        (at.block, at.lines) = (number, 0);
                    }
                    if page.blocks == BLOCKS_MAX {
                        page.next = Some(at);
                        return Ok(page);
                    }
                    page.blocks += 1;
                    for line in
                        self.block(object, begin, &block).await?.split_off(behind(&at, &block))
                    {
                        if page.lines.len() >= limit || bytes >= PAGE_BYTES_MAX {
                            page.next = Some(at);
                            return Ok(page);
                        }
                        at.lines += 1;
                        if wanted.takes(&line, at.found) {
                            at.found = Some(line.id);
                            bytes += line.bytes.len();
                            page.lines.push(line);
                        } else {
                            at.found = None;
                        }
                    }
                }
                (at.block, at.lines) = (usize::MAX, 0);
            }
            if !full {
                return Ok(page);
            }
        }
    }

    /// Objects of the time from that name on, itself included.
    async fn objects_from(
        &self,
        tenant: &Tenant,
        wanted: &Wanted,
        name: &str,
    ) -> Result<Vec<ArchivedObject>, ReadError> {
        let mut transaction = self.database.tenant(tenant).await?;
        let span = (wanted.from, wanted.to);
        let mut objects = Vec::new();
        if !name.is_empty()
            && let Some(object) = store::archived_object(&mut transaction, tenant, name).await?
            && object.removed_at.is_none()
            && object.superseded_by.is_none()
        {
            objects.push(object);
        }
        let rest =
            store::objects_between(&mut transaction, tenant, span, name, OBJECTS_PAGE_MAX).await?;
        transaction.rollback().await?;
        objects.extend(rest);
        Ok(objects)
    }

    /// The lines of one block.
    async fn block(
        &self,
        object: &ArchivedObject,
        begin: u64,
        block: &Block,
    ) -> Result<Vec<ArchivedLine>, ReadError> {
        let damaged = |why: String| ReadError::Damaged { object: object.object.clone(), why };
        let key = object.object.parse().map_err(|error| damaged(format!("{error}")))?;
        let packed = self.objects.get_range(&key, begin, block.packed).await?;
        let packed = packed.ok_or_else(|| damaged("it is not there".to_owned()))?;
        let (codec, expected) = (object.contents.codec, *block);
        let (name, manifest) = (object.object.clone(), object.manifest.sequence);
        let read = tokio::task::spawn_blocking(move || {
            let mut lines = Vec::new();
            read_block(&packed, codec, &expected, |entry| {
                lines.push(ArchivedLine {
                    object: name.clone(),
                    manifest,
                    id: entry.line.key.id,
                    revision: entry.line.key.revision,
                    bytes: entry.line.bytes.to_vec(),
                });
            })
            .map(|()| lines)
        });
        read.await.map_err(|error| damaged(error.to_string()))?.map_err(damaged)
    }
}

fn behind(at: &Position, block: &Block) -> usize {
    usize::try_from(at.lines.min(block.lines)).unwrap_or(usize::MAX)
}

/// The blocks of the time from that number on: where each begins, its number, itself.
fn blocks(object: &ArchivedObject, wanted: &Wanted, from: usize) -> Vec<(u64, usize, Block)> {
    let mut begin = 0;
    let placed = object.contents.blocks.iter().enumerate().map(|(number, block)| {
        let placed = (begin, number, *block);
        begin += block.packed;
        placed
    });
    let range = |block: &Block| block.range.from < wanted.to && block.range.to >= wanted.from;
    placed.filter(|(_, number, block)| *number >= from && range(block)).collect()
}

impl Wanted {
    /// Whether a line is one of those; a revision is where its event is.
    fn takes(&self, line: &ArchivedLine, found: Option<Uuid>) -> bool {
        if line.revision > 0 {
            return found == Some(line.id);
        }
        let Ok(record) = Record::parse(&line.bytes) else { return false };
        let action = |wanted: &String| match wanted.strip_suffix('*') {
            Some(start) => record.event.action.as_str().starts_with(start),
            None => record.event.action.as_str() == wanted,
        };
        (self.from..self.to).contains(&record.recorded_at)
            && self.action.as_ref().is_none_or(action)
            && self.actor.as_ref().is_none_or(|actor| record.event.actor.id.as_str() == actor)
    }
}

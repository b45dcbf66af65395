//! The rows of a unit in the order of their ids, which is not that of the keys: within a millisecond
//! `recorded_at` and id may disagree, and ids of the legacy queue carry no time at all. It holds a chunk
//! of rows, and the keys of the latter.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use database::Database;
use uuid::Uuid;

use crate::lifecycle::unit::UNIT_EVENTS_MAX;
use crate::store::{self, ExportRow, Wanted};

/// Bytes of records that a chunk aims at.
const CHUNK_BYTES: usize = 4 * 1024 * 1024;
/// Rows of the first chunk; the following ones go by the size of those seen.
const FIRST_ROWS: usize = 500;
/// Rows of a chunk at least and at most.
const CHUNK_ROWS: (usize, usize) = (50, 5_000);
/// Rows of other ids that are read at once.
const OTHER_ROWS: usize = 500;

/// A unit's rows.
#[derive(Debug)]
pub(crate) struct UnitRows<'a> {
    database: &'a Database,
    wanted: Wanted,
    others: Others,
    /// Rows of the last millisecond seen, which may have more.
    pending: Vec<ExportRow>,
    after: Option<(DateTime<Utc>, Uuid)>,
    rows: usize,
    over: bool,
}

/// Rows whose ids carry no time.
#[derive(Debug, Default)]
struct Others {
    keys: VecDeque<(Uuid, DateTime<Utc>)>,
    loaded: VecDeque<ExportRow>,
}

impl<'a> UnitRows<'a> {
    pub(crate) async fn open(database: &'a Database, wanted: Wanted) -> Result<Self, sqlx::Error> {
        let limit = i64::try_from(UNIT_EVENTS_MAX).unwrap_or(i64::MAX);
        let mut connection = database.pool().acquire().await?;
        let keys = store::other_keys(&mut connection, &wanted, limit).await?.into();
        let others = Others { keys, loaded: VecDeque::new() };
        let (pending, after) = (Vec::new(), None);
        Ok(Self { database, wanted, others, pending, after, rows: FIRST_ROWS, over: false })
    }

    /// The next rows in the order of their ids; `None` when there are no more.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<ExportRow>>, sqlx::Error> {
        while !self.over {
            let rows = self.read().await?;
            if !rows.is_empty() {
                return self.merged(rows).await.map(Some);
            }
        }
        self.rest().await
    }

    /// The complete milliseconds of the next chunk, in order.
    async fn read(&mut self) -> Result<Vec<ExportRow>, sqlx::Error> {
        let limit = i64::try_from(self.rows).unwrap_or(i64::MAX);
        let mut connection = self.database.pool().acquire().await?;
        let chunk = store::export_rows(&mut connection, &self.wanted, self.after, limit).await?;
        drop(connection);
        self.over = chunk.len() < self.rows;
        if let Some(last) = chunk.last() {
            self.after = Some((last.recorded_at, last.id));
            let bytes: usize = chunk.iter().map(|row| row.record.len()).sum();
            let each = (bytes / chunk.len()).max(1);
            self.rows = (CHUNK_BYTES / each).clamp(CHUNK_ROWS.0, CHUNK_ROWS.1);
        }
        self.pending.extend(chunk);
        let complete = if self.over { self.pending.len() } else { complete(&self.pending) };
        let mut rows: Vec<ExportRow> = self.pending.drain(..complete).collect();
        rows.sort_unstable_by_key(|row| row.id);
        Ok(rows)
    }

    /// The same with the rows of other ids that belong between them.
    async fn merged(&mut self, rows: Vec<ExportRow>) -> Result<Vec<ExportRow>, sqlx::Error> {
        if self.others.is_empty() {
            return Ok(rows);
        }
        let mut merged = Vec::with_capacity(rows.len());
        for row in rows {
            while self.others.before(row.id) {
                merged.extend(self.other().await?);
            }
            merged.push(row);
        }
        Ok(merged)
    }

    async fn rest(&mut self) -> Result<Option<Vec<ExportRow>>, sqlx::Error> {
        let mut rows = Vec::new();
        while !self.others.is_empty() && rows.len() < OTHER_ROWS {
            rows.extend(self.other().await?);
        }
        Ok((!rows.is_empty()).then_some(rows))
    }

    /// The next row of another id; nothing where those that were next are erased meanwhile.
    async fn other(&mut self) -> Result<Option<ExportRow>, sqlx::Error> {
        if self.others.loaded.is_empty() {
            let next = OTHER_ROWS.min(self.others.keys.len());
            let keys: Vec<_> = self.others.keys.drain(..next).collect();
            let mut connection = self.database.pool().acquire().await?;
            self.others.loaded =
                store::export_by_key(&mut connection, &self.wanted, &keys).await?.into();
        }
        Ok(self.others.loaded.pop_front())
    }
}

impl Others {
    fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.loaded.is_empty()
    }

    fn before(&self, id: Uuid) -> bool {
        let next = self.loaded.front().map(|row| row.id);
        next.or_else(|| self.keys.front().map(|key| key.0)).is_some_and(|next| next < id)
    }
}

/// How many of the rows, which are in the order of time, are of milliseconds before the last one's.
fn complete(rows: &[ExportRow]) -> usize {
    let Some(last) = rows.last().map(|row| row.recorded_at.timestamp_millis()) else { return 0 };
    rows.partition_point(|row| row.recorded_at.timestamp_millis() < last)
}

//! Deletions under way, and the SQL that deletes. Rows go by their exact keys, inside a transaction that
//! has the tenant's locks: [`super::holds::lock_shared`] first, then [`alone`]. Nothing here decides what
//! may go.

mod documents;
mod objects;
mod rows;

use chrono::{DateTime, Utc};
use contracts::Tenant;
use contracts::audit::lifecycle::{RunId, UnitId};
use evidence::document::{DELETED_ID_BYTES, Scope};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use crate::lifecycle::bounded;

pub(crate) use documents::{Kept, kept_document};
pub(crate) use objects::{forget_object, note_asked, note_removed, take_back};
pub(crate) use rows::{Burial, alone, bury, delete_revisions, delete_rows, rows_of, tombstoned};

/// Rows of one transaction at most.
pub const BATCH_ROWS_MAX: usize = 5_000;

/// Which deletion: the unit's rows, with an empty name, or that object of the unit.
pub(crate) type Key<'a> = (UnitId, Scope, &'a str);

/// A deletion: how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleanup {
    /// The unit whose rows go, or that wrote the object.
    pub unit: UnitId,
    /// Rows or an object.
    pub scope: Scope,
    /// By which run.
    pub run: RunId,
    /// Every log up to this id was looked at.
    pub after: Option<Uuid>,
    /// Every log was looked at, or it stopped.
    pub rows_done: bool,
    /// Transactions that deleted something.
    pub batches: u32,
    /// Events that were deleted.
    pub deleted: u64,
    /// Events that stay.
    pub kept: u64,
    /// Events that were not there.
    pub gone: u64,
    /// When holds were looked at, and how many there were.
    pub holds: Option<(DateTime<Utc>, u64)>,
    /// When the last row, or the object, was deleted.
    pub deleted_at: Option<DateTime<Utc>>,
    /// When search was counted to none of them.
    pub search_empty_at: Option<DateTime<Utc>>,
    /// Why it stopped before the last row.
    pub failure: Option<String>,
    /// The receipt's number.
    pub receipt: Option<u64>,
    /// It is over.
    pub ended_at: Option<DateTime<Utc>>,
}

/// What one transaction did.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    /// Every log up to this id was looked at.
    pub(crate) after: Uuid,
    /// Whether there are no others.
    pub(crate) last: bool,
    /// Entries of the list of deleted ids.
    pub(crate) entries: Vec<u8>,
    /// When each was recorded.
    pub(crate) recorded_at: Vec<DateTime<Utc>>,
    pub(crate) kept: u64,
    pub(crate) gone: u64,
    /// When holds were looked at, and how many there were.
    pub(crate) holds: (DateTime<Utc>, u64),
    pub(crate) now: DateTime<Utc>,
}

const fn word(scope: Scope) -> &'static str {
    match scope {
        Scope::Rows => "rows",
        Scope::Object => "object",
    }
}

/// Begins a deletion, or finds it; locked until the transaction ends.
pub(crate) async fn begin_cleanup(
    connection: &mut PgConnection,
    tenant: &Tenant,
    (unit, scope, object): Key<'_>,
    run: RunId,
) -> Result<Cleanup, sqlx::Error> {
    sqlx::query(
        "INSERT INTO cleanups (tenant, unit_id, scope, run_id, object) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT DO NOTHING",
    )
    .bind(tenant.as_str())
    .bind(unit)
    .bind(word(scope))
    .bind(run)
    .bind(object)
    .execute(&mut *connection)
    .await?;
    let row = sqlx::query(
        "SELECT * FROM cleanups
          WHERE tenant = $1 AND unit_id = $2 AND scope = $3 AND object = $4 FOR UPDATE",
    )
    .bind(tenant.as_str())
    .bind(unit)
    .bind(word(scope))
    .bind(object)
    .fetch_one(connection)
    .await?;
    read(&row, scope)
}

/// A deletion, where it was begun.
pub async fn cleanup(
    connection: &mut PgConnection,
    tenant: &Tenant,
    (unit, scope, object): Key<'_>,
) -> Result<Option<Cleanup>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT * FROM cleanups
          WHERE tenant = $1 AND unit_id = $2 AND scope = $3 AND object = $4",
    )
    .bind(tenant.as_str())
    .bind(unit)
    .bind(word(scope))
    .bind(object)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(|row| read(row, scope)).transpose()
}

fn read(row: &PgRow, scope: Scope) -> Result<Cleanup, sqlx::Error> {
    let count = |column: &str| row.try_get::<i64, _>(column).map(i64::cast_unsigned);
    let holds_at: Option<DateTime<Utc>> = row.try_get("holds_at")?;
    let in_force: Option<i64> = row.try_get("holds_in_force")?;
    let receipt: Option<i64> = row.try_get("receipt_sequence")?;
    Ok(Cleanup {
        unit: row.try_get("unit_id")?,
        scope,
        run: row.try_get("run_id")?,
        after: row.try_get("after_id")?,
        rows_done: row.try_get("rows_done")?,
        batches: row.try_get::<i32, _>("batches")?.cast_unsigned(),
        deleted: count("deleted_events")?,
        kept: count("kept_events")?,
        gone: count("gone_events")?,
        holds: holds_at.zip(in_force.map(i64::cast_unsigned)),
        deleted_at: row.try_get("deleted_at")?,
        search_empty_at: row.try_get("search_empty_at")?,
        failure: row.try_get("failure")?,
        receipt: receipt.map(i64::cast_unsigned),
        ended_at: row.try_get("ended_at")?,
    })
}

/// Notes what this transaction did, which goes on from `before`.
pub(crate) async fn note_batch(
    connection: &mut PgConnection,
    tenant: &Tenant,
    before: &Cleanup,
    batch: &Batch,
) -> Result<(), sqlx::Error> {
    let deleted = batch.recorded_at.len();
    let number = before.batches + u32::from(deleted > 0);
    if deleted > 0 {
        debug_assert_eq!(batch.entries.len(), deleted * DELETED_ID_BYTES);
        sqlx::query(
            "INSERT INTO cleanup_batches (tenant, unit_id, number, entries, recorded_at)
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(tenant.as_str())
        .bind(before.unit)
        .bind(number.cast_signed())
        .bind(&batch.entries)
        .bind(&batch.recorded_at)
        .execute(&mut *connection)
        .await?;
    }
    sqlx::query(
        "UPDATE cleanups
            SET after_id = $3, rows_done = $4, batches = $5,
                deleted_events = deleted_events + $6, kept_events = kept_events + $7,
                gone_events = gone_events + $8, holds_at = $9, holds_in_force = $10,
                deleted_at = $11
          WHERE tenant = $1 AND unit_id = $2 AND scope = 'rows'",
    )
    .bind(tenant.as_str())
    .bind(before.unit)
    .bind(batch.after)
    .bind(batch.last)
    .bind(number.cast_signed())
    .bind(i64::try_from(deleted).unwrap_or(i64::MAX))
    .bind(batch.kept.cast_signed())
    .bind(batch.gone.cast_signed())
    .bind(batch.holds.0)
    .bind(batch.holds.1.cast_signed())
    .bind(batch.now)
    .execute(connection)
    .await
    .map(|_| ())
}

/// No further row goes; with why, where that is not as it should be.
pub(crate) async fn stop_rows(
    connection: &mut PgConnection,
    tenant: &Tenant,
    unit: UnitId,
    failure: Option<&str>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE cleanups SET rows_done = true, failure = coalesce(failure, $3)
          WHERE tenant = $1 AND unit_id = $2 AND scope = 'rows'",
    )
    .bind(tenant.as_str())
    .bind(unit)
    .bind(failure.map(bounded))
    .execute(connection)
    .await
    .map(|_| ())
}

/// Search was counted to none; the first time stands.
pub(crate) async fn note_search_empty(
    connection: &mut PgConnection,
    tenant: &Tenant,
    unit: UnitId,
    at: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE cleanups SET search_empty_at = coalesce(search_empty_at, $3)
          WHERE tenant = $1 AND unit_id = $2 AND scope = 'rows'",
    )
    .bind(tenant.as_str())
    .bind(unit)
    .bind(at)
    .execute(connection)
    .await
    .map(|_| ())
}

/// What an earlier transaction deleted: entries, and when each was recorded. Nothing when there is no
/// such batch.
pub(crate) async fn batch_of(
    connection: &mut PgConnection,
    tenant: &Tenant,
    unit: UnitId,
    number: u32,
) -> Result<Option<(Vec<u8>, Vec<DateTime<Utc>>)>, sqlx::Error> {
    sqlx::query_as(
        "SELECT entries, recorded_at FROM cleanup_batches
          WHERE tenant = $1 AND unit_id = $2 AND number = $3",
    )
    .bind(tenant.as_str())
    .bind(unit)
    .bind(number.cast_signed())
    .fetch_optional(connection)
    .await
}

/// The end, with the receipt's number where something was deleted: what was kept for it goes.
pub(crate) async fn end_cleanup(
    connection: &mut PgConnection,
    tenant: &Tenant,
    (unit, scope, object): Key<'_>,
    receipt: Option<u64>,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    if scope == Scope::Rows {
        sqlx::query("DELETE FROM cleanup_batches WHERE tenant = $1 AND unit_id = $2")
            .bind(tenant.as_str())
            .bind(unit)
            .execute(&mut *connection)
            .await?;
    }
    sqlx::query(
        "UPDATE cleanups SET receipt_sequence = $4, ended_at = $5
          WHERE tenant = $1 AND unit_id = $2 AND scope = $3 AND object = $6",
    )
    .bind(tenant.as_str())
    .bind(unit)
    .bind(word(scope))
    .bind(receipt.map(u64::cast_signed))
    .bind(now)
    .bind(object)
    .execute(connection)
    .await
    .map(|_| ())
}

//! Which stored logs the archive holds as well, and which objects it consists of.

use chrono::{DateTime, Utc};
use contracts::Tenant;
use contracts::audit::lifecycle::UnitId;
use evidence::document::ManifestRef;
use evidence::object::Contents;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row};
use uuid::Uuid;

use super::units::{decoded, json, manifest};
use contracts::RetentionClass;

/// Marks that one [`mark_archived`] or [`unmark_archived`] takes; callers with more call again.
pub const MARKS_MAX: usize = 5_000;
/// Objects on a page of [`objects_between`] and [`objects_holding`] at most.
pub const OBJECTS_PAGE_MAX: i64 = 200;

const OBJECT_COLUMNS: &str = "\
tenant, object, unit_id, manifest_sequence, manifest_sha256, retention_class, hour, events,
packed_bytes, contents, archived_at, expires_at, locked_until, superseded_by, removed_at";

/// An object of the archive.
#[derive(Clone, Debug, PartialEq)]
pub struct ArchivedObject {
    /// Whose.
    pub tenant: Tenant,
    /// Its name.
    pub object: String,
    /// The unit that made it.
    pub unit_id: UnitId,
    /// Its manifest.
    pub manifest: ManifestRef,
    /// Of all its events.
    pub class: RetentionClass,
    /// Of all its events.
    pub hour: DateTime<Utc>,
    /// Its events; revisions are not counted.
    pub events: u64,
    /// Its size in the store.
    pub packed_bytes: u64,
    /// What it holds, with the index of its blocks.
    pub contents: Contents,
    /// When its manifest was issued.
    pub archived_at: DateTime<Utc>,
    /// When its own term is over.
    pub expires_at: Option<DateTime<Utc>>,
    /// The store refuses to delete it until then.
    pub locked_until: Option<DateTime<Utc>>,
    /// Number of the manifest of the object that took its place.
    pub superseded_by: Option<u64>,
    /// When the store lost it, by a deletion with a receipt.
    pub removed_at: Option<DateTime<Utc>>,
}

/// Notes that an object of the unit holds these logs, which stay: `(recorded_at, id)`. The first object
/// that holds a log is the one that is noted.
pub async fn mark_archived(
    connection: &mut PgConnection,
    tenant: &Tenant,
    unit: UnitId,
    logs: &[(DateTime<Utc>, Uuid)],
) -> Result<u64, sqlx::Error> {
    let mut marked = 0;
    for logs in logs.chunks(MARKS_MAX) {
        let (times, ids): (Vec<_>, Vec<_>) = logs.iter().copied().unzip();
        let done = sqlx::query(
            "INSERT INTO archived_logs (tenant, recorded_at, id, unit_id)
             SELECT $1, n.at, n.id, $2 FROM unnest($3::timestamptz[], $4::uuid[]) AS n (at, id)
             ON CONFLICT DO NOTHING",
        )
        .bind(tenant.as_str())
        .bind(unit)
        .bind(times)
        .bind(ids)
        .execute(&mut *connection)
        .await?;
        marked += done.rows_affected();
    }
    Ok(marked)
}

/// Takes the notes of these logs back: they are deleted from PostgreSQL by the same transaction.
pub async fn unmark_archived(
    connection: &mut PgConnection,
    tenant: &Tenant,
    logs: &[(DateTime<Utc>, Uuid)],
) -> Result<u64, sqlx::Error> {
    let mut unmarked = 0;
    for logs in logs.chunks(MARKS_MAX) {
        let (times, ids): (Vec<_>, Vec<_>) = logs.iter().copied().unzip();
        let done = sqlx::query(
            "DELETE FROM archived_logs a
              USING unnest($2::timestamptz[], $3::uuid[]) AS n (at, id)
              WHERE a.tenant = $1 AND a.recorded_at = n.at AND a.id = n.id",
        )
        .bind(tenant.as_str())
        .bind(times)
        .bind(ids)
        .execute(&mut *connection)
        .await?;
        unmarked += done.rows_affected();
    }
    Ok(unmarked)
}

/// Those of these logs that the archive holds, each with the unit whose object holds it.
pub async fn archived_among(
    connection: &mut PgConnection,
    tenant: &Tenant,
    logs: &[(DateTime<Utc>, Uuid)],
) -> Result<Vec<(Uuid, UnitId)>, sqlx::Error> {
    let (times, ids): (Vec<_>, Vec<_>) = logs.iter().copied().unzip();
    let rows = sqlx::query(
        "SELECT a.id, a.unit_id FROM archived_logs a
           JOIN unnest($2::timestamptz[], $3::uuid[]) AS n (at, id)
             ON a.recorded_at = n.at AND a.id = n.id
          WHERE a.tenant = $1",
    )
    .bind(tenant.as_str())
    .bind(times)
    .bind(ids)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// An object by its name.
pub async fn archived_object(
    connection: &mut PgConnection,
    tenant: &Tenant,
    object: &str,
) -> Result<Option<ArchivedObject>, sqlx::Error> {
    let sql =
        format!("SELECT {OBJECT_COLUMNS} FROM archive_objects WHERE tenant = $1 AND object = $2");
    let row = sqlx::query(AssertSqlSafe(sql)).bind(tenant.as_str()).bind(object);
    row.fetch_optional(connection).await?.as_ref().map(read).transpose()
}

/// Objects that are there and in force whose events were recorded between `from` and before `to`, in
/// the order of their names after `after`; at most [`OBJECTS_PAGE_MAX`].
pub async fn objects_between(
    connection: &mut PgConnection,
    tenant: &Tenant,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
    after: &str,
    limit: i64,
) -> Result<Vec<ArchivedObject>, sqlx::Error> {
    let sql = format!(
        "SELECT {OBJECT_COLUMNS} FROM archive_objects
          WHERE tenant = $1 AND last_at >= $2 AND first_at < $3 AND object > $4
            AND removed_at IS NULL AND superseded_by IS NULL
          ORDER BY object LIMIT $5"
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(tenant.as_str())
        .bind(from)
        .bind(to)
        .bind(after)
        .bind(limit.clamp(0, OBJECTS_PAGE_MAX))
        .fetch_all(connection)
        .await?
        .iter()
        .map(read)
        .collect()
}

/// Objects that are there and in force whose ids enclose this one: those that may hold the log; in the
/// order of their names after `after`, at most [`OBJECTS_PAGE_MAX`].
pub async fn objects_holding(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: Uuid,
    after: &str,
) -> Result<Vec<ArchivedObject>, sqlx::Error> {
    let sql = format!(
        "SELECT {OBJECT_COLUMNS} FROM archive_objects
          WHERE tenant = $1 AND first_id <= $2 AND last_id >= $2 AND object > $4
            AND removed_at IS NULL AND superseded_by IS NULL
          ORDER BY object LIMIT $3"
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(tenant.as_str())
        .bind(id)
        .bind(OBJECTS_PAGE_MAX)
        .bind(after)
        .fetch_all(connection)
        .await?
        .iter()
        .map(read)
        .collect()
}

fn read(row: &PgRow) -> Result<ArchivedObject, sqlx::Error> {
    let missing = |column: &str| sqlx::Error::ColumnNotFound(column.to_owned());
    let superseded_by: Option<i64> = row.try_get("superseded_by")?;
    Ok(ArchivedObject {
        tenant: decoded(row, "tenant")?,
        object: row.try_get("object")?,
        unit_id: row.try_get("unit_id")?,
        manifest: manifest(row)?.ok_or_else(|| missing("manifest_sha256"))?,
        class: decoded(row, "retention_class")?,
        hour: row.try_get("hour")?,
        events: row.try_get::<i64, _>("events")?.cast_unsigned(),
        packed_bytes: row.try_get::<i64, _>("packed_bytes")?.cast_unsigned(),
        contents: json(row, "contents")?.ok_or_else(|| missing("contents"))?,
        archived_at: row.try_get("archived_at")?,
        expires_at: row.try_get("expires_at")?,
        locked_until: row.try_get("locked_until")?,
        superseded_by: superseded_by.map(i64::cast_unsigned),
        removed_at: row.try_get("removed_at")?,
    })
}

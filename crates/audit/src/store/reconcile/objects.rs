//! The archive's index beside the archive: rows that manifests prove, names that the store should have,
//! marks that no object backs.

use chrono::{DateTime, Utc};
use contracts::audit::lifecycle::UnitId;
use contracts::{RetentionClass, Tenant};
use evidence::document::ManifestRef;
use evidence::object::Contents;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use crate::store::units::decoded;

/// A row of the index, as a manifest proves it.
#[derive(Clone, Debug)]
pub(crate) struct Indexed<'a> {
    pub(crate) object: &'a str,
    pub(crate) unit: UnitId,
    pub(crate) manifest: ManifestRef,
    pub(crate) class: RetentionClass,
    pub(crate) hour: DateTime<Utc>,
    pub(crate) contents: &'a Contents,
    pub(crate) archived_at: DateTime<Utc>,
    pub(crate) expires_at: Option<DateTime<Utc>>,
    pub(crate) locked_until: Option<DateTime<Utc>>,
}

/// Adds the object to the index, unless it is there; nothing for one without lines.
pub(crate) async fn index_object(
    connection: &mut PgConnection,
    tenant: &Tenant,
    indexed: &Indexed<'_>,
) -> Result<bool, sqlx::Error> {
    let contents = indexed.contents;
    let Some(range) = contents.range else { return Ok(false) };
    let json =
        serde_json::to_value(contents).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
    let done = sqlx::query(
        "INSERT INTO archive_objects
                (tenant, object, unit_id, manifest_sequence, manifest_sha256, retention_class, hour,
                 first_id, last_id, first_at, last_at, events, packed_bytes, contents, archived_at,
                 expires_at, locked_until)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
         ON CONFLICT (tenant, object) DO NOTHING",
    )
    .bind(tenant.as_str())
    .bind(indexed.object)
    .bind(indexed.unit)
    .bind(indexed.manifest.sequence.cast_signed())
    .bind(&indexed.manifest.sha256.0[..])
    .bind(indexed.class.as_str())
    .bind(indexed.hour)
    .bind(range.first_id)
    .bind(range.last_id)
    .bind(range.from)
    .bind(range.to)
    .bind(contents.lines.saturating_sub(contents.revisions).cast_signed())
    .bind(contents.packed.bytes.cast_signed())
    .bind(json)
    .bind(indexed.archived_at)
    .bind(indexed.expires_at)
    .bind(indexed.locked_until)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// The object of one manifest gave its place to that of another.
pub(crate) async fn supersede(
    connection: &mut PgConnection,
    tenant: &Tenant,
    replaced: u64,
    by: u64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE archive_objects SET superseded_by = $3
          WHERE tenant = $1 AND manifest_sequence = $2 AND superseded_by IS NULL",
    )
    .bind(tenant.as_str())
    .bind(replaced.cast_signed())
    .bind(by.cast_signed())
    .execute(connection)
    .await
    .map(|_| ())
}

/// When the term of a manifest's object is over: an object that takes its place is kept as long. Nothing
/// where the index does not know the object.
pub(crate) async fn term_of(
    connection: &mut PgConnection,
    tenant: &Tenant,
    sequence: u64,
) -> Result<Option<Option<DateTime<Utc>>>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT expires_at FROM archive_objects WHERE tenant = $1 AND manifest_sequence = $2",
    )
    .bind(tenant.as_str())
    .bind(sequence.cast_signed())
    .fetch_optional(connection)
    .await
}

/// Names of the objects of a manifest that the index still has.
pub(crate) async fn objects_of_manifest(
    connection: &mut PgConnection,
    tenant: &Tenant,
    sequence: u64,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT object FROM archive_objects
          WHERE tenant = $1 AND manifest_sequence = $2 AND removed_at IS NULL ORDER BY object",
    )
    .bind(tenant.as_str())
    .bind(sequence.cast_signed())
    .fetch_all(connection)
    .await
}

/// The class of a unit's logs, where the unit is known.
pub(crate) async fn class_of_unit(
    connection: &mut PgConnection,
    tenant: &Tenant,
    unit: UnitId,
) -> Result<Option<RetentionClass>, sqlx::Error> {
    let row =
        sqlx::query("SELECT retention_class FROM archive_units WHERE tenant = $1 AND id = $2")
            .bind(tenant.as_str())
            .bind(unit)
            .fetch_optional(connection)
            .await?;
    row.map(|row| decoded(&row, "retention_class")).transpose()
}

/// Notes of those of these logs that are stored that an object of the unit holds them.
pub(crate) async fn mark_stored(
    connection: &mut PgConnection,
    tenant: &Tenant,
    unit: UnitId,
    logs: &[(DateTime<Utc>, Uuid)],
) -> Result<u64, sqlx::Error> {
    let (times, ids): (Vec<_>, Vec<_>) = logs.iter().copied().unzip();
    let done = sqlx::query(
        "INSERT INTO archived_logs (tenant, recorded_at, id, unit_id)
         SELECT $1, n.at, n.id, $2 FROM unnest($3::timestamptz[], $4::uuid[]) AS n (at, id)
          WHERE EXISTS (SELECT FROM logs l WHERE l.tenant = $1 AND l.recorded_at = n.at
                           AND l.id = n.id AND l.recorded_at >= $5 AND l.recorded_at <= $6)
         ON CONFLICT DO NOTHING",
    )
    .bind(tenant.as_str())
    .bind(unit)
    .bind(&times)
    .bind(ids)
    // Only their partitions.
    .bind(times.iter().min())
    .bind(times.iter().max())
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// An object as the index has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoreName {
    pub(crate) object: String,
    pub(crate) hour: DateTime<Utc>,
    pub(crate) manifest: u64,
    pub(crate) packed_bytes: u64,
    pub(crate) events: u64,
    /// Another object took its place: its events are counted there.
    pub(crate) superseded: bool,
    /// The store has it no more, by a deletion with a receipt.
    pub(crate) removed: bool,
}

/// Objects of these hours after that name, in the order of their names.
pub(crate) async fn names_of(
    connection: &mut PgConnection,
    tenant: &Tenant,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
    after: &str,
    limit: i64,
) -> Result<Vec<StoreName>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT object, hour, manifest_sequence, packed_bytes, events,
                superseded_by IS NOT NULL AS superseded, removed_at IS NOT NULL AS removed
           FROM archive_objects
          WHERE tenant = $1 AND last_at >= $2 AND first_at < $3 AND hour >= $2 AND hour < $3
            AND object > $4
          ORDER BY object LIMIT $5",
    )
    .bind(tenant.as_str())
    .bind(from)
    .bind(to)
    .bind(after)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let count = |column: &str| row.try_get::<i64, _>(column).map(i64::cast_unsigned);
            Ok(StoreName {
                object: row.try_get("object")?,
                hour: row.try_get("hour")?,
                manifest: count("manifest_sequence")?,
                packed_bytes: count("packed_bytes")?,
                events: count("events")?,
                superseded: row.try_get("superseded")?,
                removed: row.try_get("removed")?,
            })
        })
        .collect()
}

/// Those of these names that units are at, or have given up: objects that nobody has to know yet, or that
/// are known and on their way out.
pub(crate) async fn names_in_use(
    connection: &mut PgConnection,
    tenant: &Tenant,
    names: &[String],
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT object FROM archive_units
          WHERE tenant = $1 AND object = ANY ($2)
            AND state IN ('planned', 'written', 'sealed', 'deleting')
         UNION
         SELECT object FROM archive_discards WHERE tenant = $1 AND object = ANY ($2)",
    )
    .bind(tenant.as_str())
    .bind(names)
    .fetch_all(connection)
    .await
}

/// Marks of that time whose unit has no object in the archive: how many, and some of the logs.
pub(crate) async fn unbacked_marks(
    connection: &mut PgConnection,
    tenant: &Tenant,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
    limit: i64,
) -> Result<(u64, Vec<(Uuid, UnitId)>), sqlx::Error> {
    let rows = sqlx::query(
        "SELECT a.id, a.unit_id, count(*) OVER () AS found FROM archived_logs a
          WHERE a.tenant = $1 AND a.recorded_at >= $2 AND a.recorded_at < $3
            AND NOT EXISTS (SELECT FROM archive_objects o WHERE o.tenant = a.tenant
                               AND o.unit_id = a.unit_id AND o.removed_at IS NULL)
          ORDER BY a.recorded_at, a.id LIMIT $4",
    )
    .bind(tenant.as_str())
    .bind(from)
    .bind(to)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    let found = match rows.first() {
        Some(row) => row.try_get::<i64, _>("found")?.cast_unsigned(),
        None => 0,
    };
    let marks = rows.iter().map(|row| Ok((row.try_get("id")?, row.try_get("unit_id")?)));
    Ok((found, marks.collect::<Result<_, sqlx::Error>>()?))
}

//! Erasures that have to reach the archive: which logs are to go from which of its objects. They are
//! noted by the transaction that erases a log, for every object that may hold it, and stay until the
//! object holds it no more. What is done about them is decided elsewhere.

use chrono::{DateTime, Utc};
use contracts::Tenant;
use contracts::audit::lifecycle::UnitId;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::locks;
use super::units::decoded;

/// Holds off erasures of the tenant until the transaction ends.
pub(crate) async fn hold_off(
    connection: &mut PgConnection,
    tenant: &Tenant,
) -> Result<(), sqlx::Error> {
    locks::share(connection, std::iter::once(tenant)).await
}

/// The log is to go from every object in force that may hold it.
pub(super) async fn note(
    connection: &mut PgConnection,
    tenant: &Tenant,
    log: Uuid,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO archive_erasures (tenant, object, log_id)
         SELECT tenant, object, $2 FROM archive_objects
          WHERE tenant = $1 AND first_id <= $2 AND last_id >= $2
            AND removed_at IS NULL AND superseded_by IS NULL
         ON CONFLICT DO NOTHING",
    )
    .bind(tenant.as_str())
    .bind(log)
    .execute(connection)
    .await
    .map(|_| ())
}

/// These logs are to go from this object.
pub(crate) async fn note_of(
    connection: &mut PgConnection,
    tenant: &Tenant,
    object: &str,
    logs: &[Uuid],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO archive_erasures (tenant, object, log_id)
         SELECT $1, $2, id FROM unnest($3::uuid[]) AS id ON CONFLICT DO NOTHING",
    )
    .bind(tenant.as_str())
    .bind(object)
    .bind(logs)
    .execute(connection)
    .await
    .map(|_| ())
}

/// Takes up to `limit` objects whose turn it is, until `until`: whoever dies over them leaves them to
/// the next one.
pub(crate) async fn take_objects(
    connection: &mut PgConnection,
    (now, until): (DateTime<Utc>, DateTime<Utc>),
    limit: i64,
) -> Result<Vec<(Tenant, String)>, sqlx::Error> {
    sqlx::query(
        "WITH due AS (
           SELECT tenant, object FROM archive_erasures WHERE look_at <= $1
            GROUP BY tenant, object ORDER BY min(look_at) LIMIT $3),
         taken AS (
           UPDATE archive_erasures e SET look_at = $2 FROM due
            WHERE e.tenant = due.tenant AND e.object = due.object AND e.look_at <= $1
           RETURNING e.tenant, e.object)
         SELECT DISTINCT tenant, object FROM taken",
    )
    .bind(now)
    .bind(until)
    .bind(limit)
    .fetch_all(connection)
    .await?
    .iter()
    .map(|row| Ok((decoded(row, "tenant")?, row.try_get("object")?)))
    .collect()
}

/// Up to `limit` logs that are to go from the object.
pub(crate) async fn logs_of(
    connection: &mut PgConnection,
    tenant: &Tenant,
    object: &str,
    limit: i64,
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT log_id FROM archive_erasures WHERE tenant = $1 AND object = $2
          ORDER BY since, log_id LIMIT $3",
    )
    .bind(tenant.as_str())
    .bind(object)
    .bind(limit)
    .fetch_all(connection)
    .await
}

/// The object does not hold these logs, or no more.
pub(crate) async fn done(
    connection: &mut PgConnection,
    tenant: &Tenant,
    object: &str,
    logs: &[Uuid],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM archive_erasures WHERE tenant = $1 AND object = $2 AND log_id = ANY ($3)",
    )
    .bind(tenant.as_str())
    .bind(object)
    .bind(logs)
    .execute(connection)
    .await
    .map(|_| ())
}

/// There is no such object any more.
pub(crate) async fn object_gone(
    connection: &mut PgConnection,
    tenant: &Tenant,
    object: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM archive_erasures WHERE tenant = $1 AND object = $2")
        .bind(tenant.as_str())
        .bind(object)
        .execute(connection)
        .await
        .map(|_| ())
}

/// What is left to go from the object is to go from the one that took its place.
pub(crate) async fn pass_on(
    connection: &mut PgConnection,
    tenant: &Tenant,
    object: &str,
    successor: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "WITH left_over AS (
           DELETE FROM archive_erasures WHERE tenant = $1 AND object = $2
           RETURNING log_id, since)
         INSERT INTO archive_erasures (tenant, object, log_id, since)
         SELECT $1, $3, log_id, since FROM left_over ON CONFLICT DO NOTHING",
    )
    .bind(tenant.as_str())
    .bind(object)
    .bind(successor)
    .execute(connection)
    .await
    .map(|_| ())
}

/// Name of the object whose manifest has that number.
pub(crate) async fn object_of_manifest(
    connection: &mut PgConnection,
    tenant: &Tenant,
    manifest: u64,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT object FROM archive_objects WHERE tenant = $1 AND manifest_sequence = $2",
    )
    .bind(tenant.as_str())
    .bind(manifest.cast_signed())
    .fetch_optional(connection)
    .await
}

/// The object is looked at again at that time, and why not now.
pub(crate) async fn look_again(
    connection: &mut PgConnection,
    tenant: &Tenant,
    object: &str,
    (at, why): (DateTime<Utc>, &str),
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE archive_erasures SET look_at = $3, why = $4 WHERE tenant = $1 AND object = $2",
    )
    .bind(tenant.as_str())
    .bind(object)
    .bind(at)
    .bind(crate::lifecycle::bounded(why))
    .execute(connection)
    .await
    .map(|_| ())
}

/// Whether a unit that has not ended goes by this object, or by its manifest.
pub(crate) async fn is_in_use(
    connection: &mut PgConnection,
    tenant: &Tenant,
    object: &str,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM archive_units WHERE tenant = $1 AND object = $2
                           AND state IN ('planned', 'written', 'sealed', 'deleting'))",
    )
    .bind(tenant.as_str())
    .bind(object)
    .fetch_one(connection)
    .await
}

/// Nothing of the object is left that anybody may have: its term is over.
pub(crate) async fn expire(
    connection: &mut PgConnection,
    tenant: &Tenant,
    object: &str,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE archive_objects SET expires_at = least(expires_at, $3)
          WHERE tenant = $1 AND object = $2 AND removed_at IS NULL",
    )
    .bind(tenant.as_str())
    .bind(object)
    .bind(now)
    .execute(connection)
    .await
    .map(|_| ())
}

/// Another object takes its place, by the manifest of that number; `false` where one did already, or
/// where it is gone. Locked until the transaction ends.
pub(crate) async fn supersede(
    connection: &mut PgConnection,
    tenant: &Tenant,
    object: &str,
    manifest: u64,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE archive_objects SET superseded_by = $3
          WHERE tenant = $1 AND object = $2 AND removed_at IS NULL AND superseded_by IS NULL",
    )
    .bind(tenant.as_str())
    .bind(object)
    .bind(manifest.cast_signed())
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// A name that is about to be written: discarded at that time unless [`take_name`] comes before.
pub(crate) async fn lend_name(
    connection: &mut PgConnection,
    tenant: &Tenant,
    (object, unit): (&str, UnitId),
    until: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO archive_discards (tenant, object, unit_id, look_at) VALUES ($1, $2, $3, $4)",
    )
    .bind(tenant.as_str())
    .bind(object)
    .bind(unit)
    .bind(until)
    .execute(connection)
    .await
    .map(|_| ())
}

/// What was written under the name counts from now on; `false` where it may be discarded meanwhile.
pub(crate) async fn take_name(
    connection: &mut PgConnection,
    tenant: &Tenant,
    object: &str,
    lent_after: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let taken = sqlx::query(
        "DELETE FROM archive_discards WHERE tenant = $1 AND object = $2 AND look_at > $3",
    )
    .bind(tenant.as_str())
    .bind(object)
    .bind(lent_after)
    .execute(connection)
    .await?;
    Ok(taken.rows_affected() > 0)
}

//! What a removed object of the archive leaves behind in PostgreSQL.

use chrono::{DateTime, Utc};
use contracts::Tenant;
use contracts::audit::lifecycle::UnitId;
use sqlx::PgConnection;

use crate::store::ArchivedObject;

/// Holds were asked about the unit's object, and none keeps an event of it: when, and how many there were.
pub(crate) async fn note_asked(
    connection: &mut PgConnection,
    tenant: &Tenant,
    (unit, object): (UnitId, &str),
    (at, holds): (DateTime<Utc>, u64),
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE cleanups SET holds_at = $3, holds_in_force = $4
          WHERE tenant = $1 AND unit_id = $2 AND scope = 'object' AND object = $5
            AND deleted_at IS NULL",
    )
    .bind(tenant.as_str())
    .bind(unit)
    .bind(at)
    .bind(holds.cast_signed())
    .bind(object)
    .execute(connection)
    .await
    .map(|_| ())
}

/// All versions of the unit's object are removed: when, with how many holds in force, and its events.
pub(crate) async fn note_removed(
    connection: &mut PgConnection,
    tenant: &Tenant,
    (unit, object): (UnitId, &str),
    (at, holds): (DateTime<Utc>, u64),
    events: u64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE cleanups
            SET holds_at = $3, holds_in_force = $4, deleted_at = $3, deleted_events = $5,
                rows_done = true
          WHERE tenant = $1 AND unit_id = $2 AND scope = 'object' AND object = $6",
    )
    .bind(tenant.as_str())
    .bind(unit)
    .bind(at)
    .bind(holds.cast_signed())
    .bind(events.cast_signed())
    .bind(object)
    .execute(connection)
    .await
    .map(|_| ())
}

/// The object stays: nothing of it was removed, and no receipt is pending.
pub(crate) async fn take_back(
    connection: &mut PgConnection,
    tenant: &Tenant,
    (unit, object): (UnitId, &str),
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM cleanups
          WHERE tenant = $1 AND unit_id = $2 AND scope = 'object' AND object = $3
            AND deleted_at IS NULL",
    )
    .bind(tenant.as_str())
    .bind(unit)
    .bind(object)
    .execute(connection)
    .await
    .map(|_| ())
}

/// Takes the object off the index. Rows that it held and that are still stored are archived no more,
/// unless another object took its place.
pub(crate) async fn forget_object(
    connection: &mut PgConnection,
    tenant: &Tenant,
    object: &ArchivedObject,
    removed_at: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE archive_objects SET removed_at = $3 WHERE tenant = $1 AND object = $2")
        .bind(tenant.as_str())
        .bind(&object.object)
        .bind(removed_at)
        .execute(&mut *connection)
        .await?;
    if object.superseded_by.is_none() {
        sqlx::query("DELETE FROM archived_logs WHERE tenant = $1 AND unit_id = $2")
            .bind(tenant.as_str())
            .bind(object.unit_id)
            .execute(connection)
            .await?;
    }
    Ok(())
}

//! Erasing a log: tombstone, deletion and the fleet's own audit entries in one transaction, so that
//! none of the three is ever seen without the others. Never a log that a legal hold keeps: holds are
//! read by the same transaction, under the lock that placing one waits for.

use contracts::{LogId, Tenant};
use sqlx::{Connection, PgConnection, Row};
use uuid::Uuid;

use super::{cleanup, erasures, holds, insert, locks, read, revise};
use crate::archive::Keeper;
use crate::model::{Erased, Erasure, LogKey, NewErasure, NewLog};
use crate::retention::Hold;

/// Days a tombstone is kept: longer than anything can be redelivered (7 days on the queue, then 14
/// on the dead-letter queue, redriven and dead-lettered once more).
pub const TOMBSTONE_DAYS: i32 = 60;

/// Erases a log in a transaction of its own: leaves a tombstone also for a log that is not stored
/// yet, removes the row and its revisions, and stores `self_audit` (sorted by key). Every effect is
/// keyed, so a redelivery adds nothing. Where a hold keeps the log, or may keep it, nothing is done.
pub async fn erase(
    connection: &mut PgConnection,
    erasure: &NewErasure,
    self_audit: &[NewLog],
) -> Result<Erasure, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    holds::lock_shared(&mut transaction, &erasure.tenant).await?;
    locks::alone(&mut transaction, &erasure.tenant).await?;
    let others =
        self_audit.iter().map(|log| &log.key.tenant).filter(|tenant| **tenant != erasure.tenant);
    locks::share(&mut transaction, others).await?;

    let found = revise::lock_row(&mut transaction, &erasure.tenant, erasure.id).await?;
    let in_force = holds::in_force(&mut transaction, &erasure.tenant).await?;
    if !in_force.is_empty() {
        let (tenant, id) = (&erasure.tenant, erasure.id);
        match &found {
            Some(key) if held(&mut transaction, key, &in_force).await? => return Ok(Erasure::Held),
            None if !is_buried(&mut transaction, tenant, id).await? => return Ok(Erasure::Unseen),
            Some(_) | None => {}
        }
    }
    bury(&mut transaction, erasure, found.as_ref()).await?;
    if let Some(key) = &found {
        remove(&mut transaction, key).await?;
    }
    erasures::note(&mut transaction, &erasure.tenant, erasure.id.0).await?;
    let inserted = insert::insert_rows(&mut transaction, self_audit).await?;
    let key = match found {
        Some(key) => Some(key),
        None => remembered(&mut transaction, &erasure.tenant, erasure.id).await?,
    };
    crate::crash::reach(crate::crash::CrashPoint::BeforeEraseCommit);
    transaction.commit().await?;
    Ok(Erasure::Done(Erased { key, ingest_xid: inserted.ingest_xid }))
}

/// Whether one of the holds keeps the log. A record that cannot be read is kept by any.
async fn held(
    connection: &mut PgConnection,
    key: &LogKey,
    holds: &[Hold],
) -> Result<bool, sqlx::Error> {
    let place = [(key.recorded_at, key.id.0)];
    let rows = cleanup::rows_of(connection, &key.tenant, key.class, &place).await?;
    let mut keeper = Keeper::by(holds);
    Ok(rows.iter().any(|row| keeper.keeps(row).unwrap_or(true)))
}

async fn is_buried(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: LogId,
) -> Result<bool, sqlx::Error> {
    Ok(!erased_among(connection, &[(tenant, id)]).await?.is_empty())
}

/// The first erasure of a log is the one its tombstone names.
async fn bury(
    connection: &mut PgConnection,
    erasure: &NewErasure,
    found: Option<&LogKey>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO tombstones (tenant, id, reason, requester, operation_id, recorded_at,
                                 expires_at, erased_class, erased_recorded_at)
         VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(days => $7), $8, $9)
         ON CONFLICT (tenant, id) DO NOTHING",
    )
    .bind(erasure.tenant.as_str())
    .bind(erasure.id.0)
    .bind(&erasure.reason)
    .bind(&erasure.requester)
    .bind(erasure.operation_id.0)
    .bind(erasure.recorded_at)
    .bind(TOMBSTONE_DAYS)
    .bind(found.map(|key| key.class.as_str()))
    .bind(found.map(|key| key.recorded_at))
    .execute(connection)
    .await
    .map(|_| ())
}

async fn remove(connection: &mut PgConnection, key: &LogKey) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM logs
          WHERE tenant = $1 AND retention_class = $2 AND recorded_at = $3 AND id = $4",
    )
    .bind(key.tenant.as_str())
    .bind(key.class.as_str())
    .bind(key.recorded_at)
    .bind(key.id.0)
    .execute(&mut *connection)
    .await?;
    // An annotation can say as much about a person as the log did.
    sqlx::query("DELETE FROM log_revisions WHERE tenant = $1 AND log_id = $2")
        .bind(key.tenant.as_str())
        .bind(key.id.0)
        .execute(connection)
        .await
        .map(|_| ())
}

/// Where the log stood when an earlier delivery erased it.
async fn remembered(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: LogId,
) -> Result<Option<LogKey>, sqlx::Error> {
    sqlx::query(
        "SELECT tenant, erased_class AS retention_class, erased_recorded_at AS recorded_at, id
           FROM tombstones WHERE tenant = $1 AND id = $2 AND erased_class IS NOT NULL",
    )
    .bind(tenant.as_str())
    .bind(id.0)
    .fetch_optional(connection)
    .await?
    .as_ref()
    .map(read::key)
    .transpose()
}

/// Which of these logs are erased, as positions in `keys`.
pub async fn erased_among(
    connection: &mut PgConnection,
    keys: &[(&Tenant, LogId)],
) -> Result<Vec<usize>, sqlx::Error> {
    sqlx::query(
        "SELECT k.place FROM unnest($1::text[], $2::uuid[]) WITH ORDINALITY AS k (tenant, id, place)
           JOIN tombstones t ON t.tenant = k.tenant AND t.id = k.id",
    )
    .bind(keys.iter().map(|(tenant, _)| tenant.as_str()).collect::<Vec<_>>())
    .bind(keys.iter().map(|(_, id)| id.0).collect::<Vec<Uuid>>())
    .fetch_all(connection)
    .await?
    .iter()
    .map(|row| Ok(usize::try_from(row.try_get::<i64, _>(0)? - 1).unwrap_or(usize::MAX)))
    .collect()
}

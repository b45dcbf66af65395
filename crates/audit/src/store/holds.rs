//! Legal holds. A deletion takes [`lock_shared`] and then asks [`in_force`], in the transaction that
//! deletes; placing one waits for such transactions, so a hold that was answered as placed is seen by
//! every deletion that commits after it. A hold is never removed: a release is written beside it.

use chrono::{DateTime, Utc};
use contracts::Tenant;
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, Row};

use super::locks;
use crate::retention::{HOLDS_MAX, Hold, HoldDraft, HoldId, Release};

/// Holds of one listing at most, the newest.
pub const LISTED_MAX: i64 = 1_000;

/// What became of a hold that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placed {
    /// It is in force from now on.
    Done(Hold),
    /// There is one of that id, from an earlier request.
    Exists(Hold),
    /// The tenant has as many in force as it may.
    TooMany,
}

/// Holds off the placing of holds until the transaction ends.
pub async fn lock_shared(
    connection: &mut PgConnection,
    tenant: &Tenant,
) -> Result<(), sqlx::Error> {
    locks::share_holds(connection, tenant).await
}

/// Places a hold, in the caller's transaction; waits for deletions of the tenant that are under way.
pub async fn place(
    connection: &mut PgConnection,
    tenant: &Tenant,
    hold: Hold,
) -> Result<Placed, sqlx::Error> {
    locks::holds_alone(connection, tenant).await?;
    if let Some(known) = get(connection, tenant, hold.id).await? {
        return Ok(Placed::Exists(known));
    }
    let in_force: i64 =
        sqlx::query_scalar("SELECT count(*) FROM holds WHERE tenant = $1 AND released_at IS NULL")
            .bind(tenant.as_str())
            .fetch_one(&mut *connection)
            .await?;
    if in_force >= i64::try_from(HOLDS_MAX).unwrap_or(i64::MAX) {
        return Ok(Placed::TooMany);
    }
    sqlx::query(
        "INSERT INTO holds (tenant, id, spec, placed_by, placed_at) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(tenant.as_str())
    .bind(hold.id)
    .bind(Json(&hold.draft))
    .bind(&hold.placed_by)
    .bind(hold.placed_at)
    .execute(connection)
    .await?;
    Ok(Placed::Done(hold))
}

/// Releases a hold, in the caller's transaction: the hold as it is then, and whether this released it.
/// The first release is the one that stands.
pub async fn release(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: HoldId,
    release: &Release,
) -> Result<Option<(Hold, bool)>, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE holds SET released_by = $3, released_at = $4, release_reason = $5
          WHERE tenant = $1 AND id = $2 AND released_at IS NULL",
    )
    .bind(tenant.as_str())
    .bind(id)
    .bind(&release.by)
    .bind(release.at)
    .bind(&release.reason)
    .execute(&mut *connection)
    .await?;
    let hold = get(connection, tenant, id).await?;
    Ok(hold.map(|hold| (hold, done.rows_affected() == 1)))
}

/// The hold of that id.
pub async fn get(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: HoldId,
) -> Result<Option<Hold>, sqlx::Error> {
    sqlx::query("SELECT * FROM holds WHERE tenant = $1 AND id = $2")
        .bind(tenant.as_str())
        .bind(id)
        .fetch_optional(connection)
        .await?
        .as_ref()
        .map(hold)
        .transpose()
}

/// The holds in force, by id.
pub async fn in_force(
    connection: &mut PgConnection,
    tenant: &Tenant,
) -> Result<Vec<Hold>, sqlx::Error> {
    sqlx::query("SELECT * FROM holds WHERE tenant = $1 AND released_at IS NULL ORDER BY id")
        .bind(tenant.as_str())
        .fetch_all(connection)
        .await?
        .iter()
        .map(hold)
        .collect()
}

/// Holds, newest first, at most [`LISTED_MAX`]; those that were released too, where asked for, and only
/// those placed before a time.
pub async fn list(
    connection: &mut PgConnection,
    tenant: &Tenant,
    released: bool,
    before: Option<DateTime<Utc>>,
) -> Result<Vec<Hold>, sqlx::Error> {
    sqlx::query(
        "SELECT * FROM holds WHERE tenant = $1 AND ($2 OR released_at IS NULL)
            AND ($4::timestamptz IS NULL OR placed_at < $4)
          ORDER BY placed_at DESC, id LIMIT $3",
    )
    .bind(tenant.as_str())
    .bind(released)
    .bind(LISTED_MAX)
    .bind(before)
    .fetch_all(connection)
    .await?
    .iter()
    .map(hold)
    .collect()
}

fn hold(row: &PgRow) -> Result<Hold, sqlx::Error> {
    let released_at: Option<DateTime<Utc>> = row.try_get("released_at")?;
    let released = match released_at {
        Some(at) => Some(Release {
            by: row.try_get::<Value, _>("released_by")?,
            at,
            reason: row.try_get("release_reason")?,
        }),
        None => None,
    };
    Ok(Hold {
        id: row.try_get("id")?,
        draft: row.try_get::<Json<HoldDraft>, _>("spec")?.0,
        placed_by: row.try_get("placed_by")?,
        placed_at: row.try_get("placed_at")?,
        released,
    })
}

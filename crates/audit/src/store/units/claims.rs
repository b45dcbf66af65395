//! Who works on a unit: one worker at a time, for a term that it renews. Every step of the archive
//! checks the claim, so that a worker which slept through its term changes nothing.

use contracts::Tenant;
use contracts::audit::lifecycle::UnitId;
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::rows::{COLUMNS, read};
use super::{UnitError, unit};
use crate::lifecycle::{Unit, UnitState};

/// A worker's hold on a unit. Every step of the archive checks it, so that one that slept too long
/// changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Whose.
    pub tenant: Tenant,
    /// The unit.
    pub unit: UnitId,
    /// Chosen anew by each attempt.
    pub token: Uuid,
}

/// What claiming a unit came to.
#[derive(Debug)]
pub enum Claimed {
    /// It is the caller's, until the term ends or is renewed.
    Ours(Box<Unit>),
    /// Another worker has it, for that many seconds more unless it renews.
    Busy(f64),
    /// It has ended, or the archive has done its part.
    Over(Box<Unit>),
    /// The tenant has no such unit.
    Missing,
}

/// Takes a unit that is planned or written for `secs` seconds.
pub async fn claim_unit(
    connection: &mut PgConnection,
    claim: &Claim,
    secs: f64,
) -> Result<Claimed, sqlx::Error> {
    let sql = format!(
        "UPDATE archive_units
            SET claimed_by = $3, claimed_until = clock_timestamp() + make_interval(secs => $4),
                updated_at = now()
          WHERE tenant = $1 AND id = $2 AND state IN ('planned', 'written')
            AND (claimed_by IS NULL OR claimed_by = $3 OR claimed_until <= clock_timestamp())
         RETURNING {COLUMNS}"
    );
    let ours = sqlx::query(AssertSqlSafe(sql))
        .bind(claim.tenant.as_str())
        .bind(claim.unit)
        .bind(claim.token)
        .bind(secs)
        .fetch_optional(&mut *connection)
        .await?;
    if let Some(row) = ours {
        return Ok(Claimed::Ours(Box::new(read(&row)?)));
    }
    let Some(found) = unit(connection, &claim.tenant, claim.unit).await? else {
        return Ok(Claimed::Missing);
    };
    if !matches!(found.state, UnitState::Planned | UnitState::Written) {
        return Ok(Claimed::Over(Box::new(found)));
    }
    let left: Option<f64> = sqlx::query_scalar(
        "SELECT extract(epoch FROM claimed_until - clock_timestamp())::float8
           FROM archive_units WHERE tenant = $1 AND id = $2",
    )
    .bind(claim.tenant.as_str())
    .bind(claim.unit)
    .fetch_one(connection)
    .await?;
    Ok(Claimed::Busy(left.unwrap_or(0.0).max(0.0)))
}

/// Extends a claim; an error when it is another's by now.
pub async fn renew_claim(
    connection: &mut PgConnection,
    claim: &Claim,
    secs: f64,
) -> Result<(), UnitError> {
    let renewed = sqlx::query(
        "UPDATE archive_units SET claimed_until = clock_timestamp() + make_interval(secs => $4)
          WHERE tenant = $1 AND id = $2 AND claimed_by = $3",
    )
    .bind(claim.tenant.as_str())
    .bind(claim.unit)
    .bind(claim.token)
    .bind(secs)
    .execute(connection)
    .await?;
    if renewed.rows_affected() > 0 { Ok(()) } else { Err(UnitError::Lost(claim.unit)) }
}

/// Gives a unit back before its claim ends, so that the next attempt need not wait.
pub async fn release_claim(
    connection: &mut PgConnection,
    claim: &Claim,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE archive_units SET claimed_by = NULL, claimed_until = NULL
          WHERE tenant = $1 AND id = $2 AND claimed_by = $3",
    )
    .bind(claim.tenant.as_str())
    .bind(claim.unit)
    .bind(claim.token)
    .execute(connection)
    .await
    .map(|_| ())
}

/// The unit under its row lock, where it is the claim's.
pub(super) async fn ours(connection: &mut PgConnection, claim: &Claim) -> Result<Unit, UnitError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM archive_units
          WHERE tenant = $1 AND id = $2 AND claimed_by = $3 FOR UPDATE"
    );
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(claim.tenant.as_str())
        .bind(claim.unit)
        .bind(claim.token)
        .fetch_optional(connection)
        .await?;
    Ok(read(&row.ok_or(UnitError::Lost(claim.unit))?)?)
}

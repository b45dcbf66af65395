//! Tickets for the live tail: stored as a hash, taken once by deleting them.

use chrono::{DateTime, Utc};
use contracts::Tenant;
use sqlx::PgConnection;

/// Tickets of one tenant that wait to be used at most.
pub const TICKETS_MAX: i64 = 1_000;

/// Stores a ticket; `false` when the tenant has [`TICKETS_MAX`] of them. Old ones go on the way.
pub async fn put_ticket(
    connection: &mut PgConnection,
    tenant: &Tenant,
    ticket_sha256: &[u8; 32],
    key_id: &str,
    (now, expires_at): (DateTime<Utc>, DateTime<Utc>),
) -> Result<bool, sqlx::Error> {
    sqlx::query("DELETE FROM live_tickets WHERE tenant = $1 AND expires_at <= $2")
        .bind(tenant.as_str())
        .bind(now)
        .execute(&mut *connection)
        .await?;
    let stored = sqlx::query(
        "INSERT INTO live_tickets (tenant, ticket_sha256, key_id, expires_at)
         SELECT $1, $2, $3, $4
          WHERE (SELECT count(*) FROM live_tickets WHERE tenant = $1) < $5",
    )
    .bind(tenant.as_str())
    .bind(&ticket_sha256[..])
    .bind(key_id)
    .bind(expires_at)
    .bind(TICKETS_MAX)
    .execute(connection)
    .await?;
    Ok(stored.rows_affected() > 0)
}

/// Takes a ticket: the id of the key it was made with, once and before it expires.
pub async fn take_ticket(
    connection: &mut PgConnection,
    tenant: &Tenant,
    ticket_sha256: &[u8; 32],
    now: DateTime<Utc>,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "DELETE FROM live_tickets WHERE tenant = $1 AND ticket_sha256 = $2 AND expires_at > $3
         RETURNING key_id",
    )
    .bind(tenant.as_str())
    .bind(&ticket_sha256[..])
    .bind(now)
    .fetch_optional(connection)
    .await
}

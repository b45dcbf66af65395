//! Idempotency keys, reserved before anything is published: whoever comes second with the same key
//! gets the first one's ids, also when the first died before it published.

use chrono::{DateTime, Utc};
use contracts::{LogId, RetentionClass, Tenant};
use sqlx::{PgConnection, Row};
use uuid::Uuid;

/// Hours for which a key gives the same ids.
pub const INGEST_KEY_HOURS: i32 = 24;

/// What a key stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// SHA-256 of the request's body.
    pub body_sha256: [u8; 32],
    /// One id per event of the request, in order.
    pub ids: Vec<LogId>,
    /// When the first request was accepted; every log of the key has it.
    pub recorded_at: DateTime<Utc>,
    /// The class at that time.
    pub class: RetentionClass,
    /// One leaf salt per event, in order.
    pub salts: Vec<[u8; 16]>,
}

/// What became of a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reservation {
    /// The key is new (or older than [`INGEST_KEY_HOURS`]): publish what was offered.
    New,
    /// The same body was offered before: publish it again with these ids unless `published`.
    Repeat {
        /// What the first request reserved.
        first: Reserved,
        /// Whether SQS had accepted it.
        published: bool,
    },
    /// The key belongs to another body.
    Mismatch,
}

/// Reserves a key, or finds who has. The caller commits before it publishes.
pub async fn reserve_ingest_key(
    connection: &mut PgConnection,
    tenant: &Tenant,
    key_hash: &[u8; 32],
    offer: &Reserved,
) -> Result<Reservation, sqlx::Error> {
    let reserved = sqlx::query(
        "INSERT INTO ingest_keys AS k (tenant, key_hash, body_sha256, ids, recorded_at,
                                       retention_class, salts, state)
         VALUES ($1, $2, $3, $4, $5, $6, $7, 'reserved')
         ON CONFLICT (tenant, key_hash) DO UPDATE
            SET body_sha256 = excluded.body_sha256, ids = excluded.ids,
                recorded_at = excluded.recorded_at, retention_class = excluded.retention_class,
                salts = excluded.salts, state = 'reserved', created_at = now()
          WHERE k.created_at < now() - make_interval(hours => $8)",
    )
    .bind(tenant.as_str())
    .bind(&key_hash[..])
    .bind(&offer.body_sha256[..])
    .bind(offer.ids.iter().map(|id| id.0).collect::<Vec<Uuid>>())
    .bind(offer.recorded_at)
    .bind(offer.class.as_str())
    .bind(offer.salts.iter().map(|salt| &salt[..]).collect::<Vec<&[u8]>>())
    .bind(INGEST_KEY_HOURS)
    .execute(&mut *connection)
    .await?
    .rows_affected();
    if reserved > 0 {
        return Ok(Reservation::New);
    }
    let row = sqlx::query(
        "SELECT body_sha256, ids, recorded_at, retention_class, salts, state
           FROM ingest_keys WHERE tenant = $1 AND key_hash = $2",
    )
    .bind(tenant.as_str())
    .bind(&key_hash[..])
    .fetch_one(connection)
    .await?;
    let first = Reserved {
        body_sha256: bytes(row.try_get("body_sha256")?, "body_sha256")?,
        ids: row.try_get::<Vec<Uuid>, _>("ids")?.into_iter().map(LogId).collect(),
        recorded_at: row.try_get("recorded_at")?,
        class: row
            .try_get::<&str, _>("retention_class")?
            .parse()
            .map_err(|error| undecodable("retention_class", error))?,
        salts: row
            .try_get::<Vec<Vec<u8>>, _>("salts")?
            .into_iter()
            .map(|salt| bytes(salt, "salts"))
            .collect::<Result<_, _>>()?,
    };
    if first.body_sha256 != offer.body_sha256 {
        return Ok(Reservation::Mismatch);
    }
    let published = row.try_get::<&str, _>("state")? == "published";
    Ok(Reservation::Repeat { first, published })
}

/// Notes that SQS has accepted everything under the key.
pub async fn mark_published(
    connection: &mut PgConnection,
    tenant: &Tenant,
    key_hash: &[u8; 32],
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE ingest_keys SET state = 'published' WHERE tenant = $1 AND key_hash = $2")
        .bind(tenant.as_str())
        .bind(&key_hash[..])
        .execute(connection)
        .await
        .map(|_| ())
}

fn bytes<const N: usize>(value: Vec<u8>, column: &str) -> Result<[u8; N], sqlx::Error> {
    let length = value.len();
    value.try_into().map_err(|_| undecodable(column, WrongLength { length, expected: N }))
}

fn undecodable(column: &str, error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: Box::new(error) }
}

#[derive(Debug, thiserror::Error)]
#[error("{length} bytes where {expected} belong")]
struct WrongLength {
    length: usize,
    expected: usize,
}

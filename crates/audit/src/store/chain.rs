//! The chain's SQL: the keys, and a locked end to append to. Whatever is written once is never changed:
//! each statement that could says so in its predicate.

mod heads;
mod sealing;

use chrono::{DateTime, Utc};
use contracts::Tenant;
use evidence::document::ChainEnd;
use evidence::merkle;
use evidence::{Document, Hash};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Row};

pub(crate) use heads::{Checkpoint, keep_checkpoint, mark_published, tree, unpublished};
pub(crate) use sealing::{
    Standing, Unstored, keep_seal, mark_stored, standing_of, standings, try_lock_sealing, unstored,
};

/// The key that signs what comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    /// Name and hash.
    pub key_id: String,
    /// As signed notes write it.
    pub public_key: String,
    /// Why it signs.
    pub reason: String,
}

fn hash(row: &PgRow, column: &str) -> Result<Hash, sqlx::Error> {
    let bytes: Vec<u8> = row.try_get(column)?;
    let bytes = bytes.try_into().map_err(|_| wrong(column, "is no SHA-256"))?;
    Ok(Hash(bytes))
}

fn wrong(column: &str, what: &'static str) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: what.into() }
}

/// The key that signs what comes next.
pub async fn newest_key(connection: &mut PgConnection) -> Result<Option<SigningKey>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT key_id, public_key, reason FROM signing_keys ORDER BY number DESC LIMIT 1",
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(SigningKey {
            key_id: row.try_get("key_id")?,
            public_key: row.try_get("public_key")?,
            reason: row.try_get("reason")?,
        })
    })
    .transpose()
}

/// A key, and what still needs it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct KeyOverview {
    /// Name and hash.
    pub key_id: String,
    /// As signed notes, and `fleetctl verify --key`, write it.
    pub public_key: String,
    /// Why it signs.
    pub reason: String,
    /// Who set it up.
    pub created_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// Documents that it has to sign and has not, and chains that have not followed a rotation: as long
    /// as there are any, its private half must stay at hand.
    pub waiting: i64,
}

/// Every key, the newest first; 1,000 at most.
pub async fn overview(pool: &PgPool) -> Result<Vec<KeyOverview>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT k.key_id, k.public_key, k.reason, k.created_by, k.created_at,
                (SELECT count(*) FROM chain_documents d WHERE d.stored_at IS NULL
                    AND k.key_id IN (d.key_id, d.cosigner))
              + (SELECT count(*) FROM chain_heads h WHERE h.key_id = k.key_id
                    AND k.number < (SELECT max(number) FROM signing_keys)) AS waiting
           FROM signing_keys k ORDER BY k.number DESC LIMIT 1000",
    )
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(KeyOverview {
                key_id: row.try_get("key_id")?,
                public_key: row.try_get("public_key")?,
                reason: row.try_get("reason")?,
                created_by: row.try_get("created_by")?,
                created_at: row.try_get("created_at")?,
                waiting: row.try_get("waiting")?,
            })
        })
        .collect()
}

/// Sets up a key that signs from now on; `false` when it is there already. Needs
/// [`database::Role::Owner`].
pub async fn put_key(
    connection: &mut PgConnection,
    key_id: &str,
    public_key: &str,
    reason: &str,
    created_by: &str,
) -> Result<bool, sqlx::Error> {
    let put = sqlx::query(
        "INSERT INTO signing_keys (key_id, public_key, reason, created_by) VALUES ($1, $2, $3, $4)
         ON CONFLICT (key_id) DO NOTHING",
    )
    .bind(key_id)
    .bind(public_key)
    .bind(reason)
    .bind(created_by)
    .execute(connection)
    .await?;
    Ok(put.rows_affected() == 1)
}

/// Locks the tenant's chain until the transaction ends: its last document, and the key that signs the
/// next; nothing of either in an empty chain.
pub(crate) async fn lock_end(
    transaction: &mut PgConnection,
    tenant: &Tenant,
) -> Result<(Option<ChainEnd>, Option<String>), sqlx::Error> {
    sqlx::query("INSERT INTO chain_heads (tenant) VALUES ($1) ON CONFLICT DO NOTHING")
        .bind(tenant.as_str())
        .execute(&mut *transaction)
        .await?;
    let row = sqlx::query(
        "SELECT sequence, sha256, issued_at, key_id FROM chain_heads WHERE tenant = $1 FOR UPDATE",
    )
    .bind(tenant.as_str())
    .fetch_one(transaction)
    .await?;
    let sequence = row.try_get::<i64, _>("sequence")?.unsigned_abs();
    if sequence == 0 {
        return Ok((None, None));
    }
    let end =
        ChainEnd { sequence, hash: hash(&row, "sha256")?, issued_at: row.try_get("issued_at")? };
    Ok((Some(end), row.try_get("key_id")?))
}

/// Stores a document as the chain's next.
pub(crate) async fn put(
    transaction: &mut PgConnection,
    document: &Document,
    cosigner: Option<&str>,
) -> Result<(), sqlx::Error> {
    let (header, bytes) = (&document.header, document.bytes());
    sqlx::query(
        "INSERT INTO chain_documents
           (tenant, sequence, kind, document, sha256, leaf, key_id, cosigner, issued_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(header.tenant.as_str())
    .bind(header.sequence.cast_signed())
    .bind(document.body.kind().as_str())
    .bind(&bytes)
    .bind(Hash::of(&bytes).0)
    .bind(merkle::leaf(&bytes).0)
    .bind(&header.key_id)
    .bind(cosigner)
    .bind(header.issued_at)
    .execute(transaction)
    .await
    .map(|_| ())
}

/// Moves the locked end.
pub(crate) async fn move_end(
    transaction: &mut PgConnection,
    tenant: &Tenant,
    end: &ChainEnd,
    key_id: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE chain_heads SET sequence = $2, sha256 = $3, issued_at = $4, key_id = $5
          WHERE tenant = $1 AND sequence < $2",
    )
    .bind(tenant.as_str())
    .bind(end.sequence.cast_signed())
    .bind(end.hash.0)
    .bind(end.issued_at)
    .bind(key_id)
    .execute(transaction)
    .await
    .map(|_| ())
}

/// Tenants that have a chain, after one.
pub(crate) async fn tenants_with_chain(
    connection: &mut PgConnection,
    after: &str,
    limit: i64,
) -> Result<Vec<Tenant>, sqlx::Error> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT tenant FROM chain_heads WHERE tenant > $1 AND sequence > 0 ORDER BY tenant LIMIT $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    names
        .iter()
        .map(|name| name.parse().map_err(|_| wrong("tenant", "is no tenant's name")))
        .collect()
}

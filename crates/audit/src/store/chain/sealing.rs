//! Documents that wait to be sealed and stored. A seal is kept once; marks only go forward.

use chrono::{DateTime, Utc};
use contracts::Tenant;
use evidence::Hash;
use evidence::document::Kind;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Row};

use super::{hash, wrong};

/// Takes the right to seal the tenant's chain until the transaction ends, unless another has it. It
/// saves work; that two seal at once is harmless.
pub(crate) async fn try_lock_sealing(
    transaction: &mut PgConnection,
    tenant: &Tenant,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT pg_try_advisory_xact_lock(hashtextextended('flotilla.seal/' || $1, 0))",
    )
    .bind(tenant.as_str())
    .fetch_one(transaction)
    .await
}

macro_rules! standing_sql {
    () => {
        "SELECT h.tenant, h.sequence, h.stored, h.stored_at, c.size, c.signed_at,
                EXISTS (SELECT FROM chain_checkpoints p WHERE p.tenant = h.tenant
                   AND (p.stored_at IS NULL OR ($2 AND p.copied_at IS NULL))) AS unpublished
           FROM chain_heads h
           LEFT JOIN LATERAL (SELECT size, signed_at FROM chain_checkpoints c
              WHERE c.tenant = h.tenant ORDER BY signed_at DESC LIMIT 1) c ON true"
    };
}

/// What there is to do for a tenant.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) tenant: Tenant,
    /// Documents in the chain.
    pub(crate) sequence: u64,
    /// Documents in the store.
    pub(crate) stored: u64,
    pub(crate) stored_at: Option<DateTime<Utc>>,
    /// The last head: over how many documents, and of when.
    pub(crate) head: Option<(u64, DateTime<Utc>)>,
    /// Some head is signed and not in every store.
    pub(crate) unpublished: bool,
}

/// Chains in the order of their tenants, after one; all of them, since each gets its head every hour.
pub(crate) async fn standings(
    pool: &PgPool,
    after: &str,
    second_store: bool,
    limit: i64,
) -> Result<Vec<Standing>, sqlx::Error> {
    let rows = sqlx::query(concat!(
        standing_sql!(),
        " WHERE h.tenant > $1 AND h.sequence > 0 ORDER BY h.tenant LIMIT $3"
    ))
    .bind(after)
    .bind(second_store)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    rows.iter().map(standing).collect()
}

/// One tenant's chain; none before its first document.
pub(crate) async fn standing_of(
    pool: &PgPool,
    tenant: &Tenant,
    second_store: bool,
) -> Result<Option<Standing>, sqlx::Error> {
    sqlx::query(concat!(standing_sql!(), " WHERE h.tenant = $1 AND h.sequence > 0"))
        .bind(tenant.as_str())
        .bind(second_store)
        .fetch_optional(pool)
        .await?
        .as_ref()
        .map(standing)
        .transpose()
}

fn standing(row: &PgRow) -> Result<Standing, sqlx::Error> {
    let tenant: String = row.try_get("tenant")?;
    let size: Option<i64> = row.try_get("size")?;
    let signed_at: Option<DateTime<Utc>> = row.try_get("signed_at")?;
    Ok(Standing {
        tenant: tenant.parse().map_err(|_| wrong("tenant", "is no tenant's name"))?,
        sequence: row.try_get::<i64, _>("sequence")?.unsigned_abs(),
        stored: row.try_get::<i64, _>("stored")?.unsigned_abs(),
        stored_at: row.try_get("stored_at")?,
        head: size.map(i64::unsigned_abs).zip(signed_at),
        unpublished: row.try_get("unpublished")?,
    })
}

/// A document that is not known to be in the store.
#[derive(Clone, Debug)]
pub(crate) struct Unstored {
    pub(crate) sequence: u64,
    pub(crate) kind: Kind,
    pub(crate) document: Vec<u8>,
    pub(crate) sha256: Hash,
    pub(crate) key_id: String,
    pub(crate) cosigner: Option<String>,
    pub(crate) seal: Option<Vec<u8>>,
}

/// The first of them, in order.
pub(crate) async fn unstored(
    pool: &PgPool,
    tenant: &Tenant,
    limit: i64,
) -> Result<Vec<Unstored>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT sequence, kind, document, sha256, key_id, cosigner, seal FROM chain_documents
          WHERE tenant = $1 AND stored_at IS NULL ORDER BY sequence LIMIT $2",
    )
    .bind(tenant.as_str())
    .bind(limit)
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Unstored {
                sequence: row.try_get::<i64, _>("sequence")?.unsigned_abs(),
                kind: kind(row.try_get("kind")?)?,
                document: row.try_get("document")?,
                sha256: hash(row, "sha256")?,
                key_id: row.try_get("key_id")?,
                cosigner: row.try_get("cosigner")?,
                seal: row.try_get("seal")?,
            })
        })
        .collect()
}

fn kind(text: &str) -> Result<Kind, sqlx::Error> {
    [Kind::Key, Kind::Manifest, Kind::Receipt]
        .into_iter()
        .find(|kind| kind.as_str() == text)
        .ok_or_else(|| wrong("kind", "is no kind of document"))
}

/// Keeps a document's seal, and returns the one that counts: the first.
pub(crate) async fn keep_seal(
    pool: &PgPool,
    tenant: &Tenant,
    sequence: u64,
    seal: &[u8],
) -> Result<Vec<u8>, sqlx::Error> {
    sqlx::query_scalar(
        "UPDATE chain_documents SET seal = coalesce(seal, $3),
                sealed_at = coalesce(sealed_at, clock_timestamp())
          WHERE tenant = $1 AND sequence = $2 RETURNING seal",
    )
    .bind(tenant.as_str())
    .bind(sequence.cast_signed())
    .bind(seal)
    .fetch_one(pool)
    .await
}

/// The document is in the store, and every one before it.
pub(crate) async fn mark_stored(
    pool: &PgPool,
    tenant: &Tenant,
    sequence: u64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "WITH marked AS (
           UPDATE chain_documents SET stored_at = clock_timestamp()
            WHERE tenant = $1 AND sequence = $2 AND stored_at IS NULL RETURNING sequence)
         UPDATE chain_heads h SET stored = m.sequence, stored_at = clock_timestamp()
           FROM marked m WHERE h.tenant = $1 AND h.stored = m.sequence - 1",
    )
    .bind(tenant.as_str())
    .bind(sequence.cast_signed())
    .execute(pool)
    .await
    .map(|_| ())
}

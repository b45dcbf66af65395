//! Signed heads: the tree that they are over, and where each of them has got to.

use chrono::{DateTime, Utc};
use contracts::Tenant;
use evidence::Hash;
use evidence::merkle::Tree;
use sqlx::{PgPool, Row};

use super::{hash, wrong};

/// Leaves that are read at once.
const LEAVES: i64 = 10_000;

/// The tree over the first `size` documents, the key that signs after the last of them, and when that
/// one was issued. What was computed of the tree is kept for the next head.
pub(crate) async fn tree(
    pool: &PgPool,
    tenant: &Tenant,
    size: u64,
) -> Result<(Tree, String, DateTime<Utc>), sqlx::Error> {
    let row = sqlx::query("SELECT tree_size, tree FROM chain_heads WHERE tenant = $1")
        .bind(tenant.as_str())
        .fetch_one(pool)
        .await?;
    let known = row.try_get::<i64, _>("tree_size")?.unsigned_abs();
    let bytes: Vec<u8> = row.try_get("tree")?;
    let subtrees: Vec<Hash> =
        bytes.chunks_exact(32).filter_map(|chunk| chunk.try_into().ok().map(Hash)).collect();
    let kept = Tree::resume(known, subtrees).filter(|tree| tree.size() <= size);
    let mut tree = kept.unwrap_or_default();
    while tree.size() < size {
        let leaves = sqlx::query(
            "SELECT leaf FROM chain_documents
              WHERE tenant = $1 AND sequence > $2 AND sequence <= $3 ORDER BY sequence LIMIT $4",
        )
        .bind(tenant.as_str())
        .bind(tree.size().cast_signed())
        .bind(size.cast_signed())
        .bind(LEAVES)
        .fetch_all(pool)
        .await?;
        if leaves.is_empty() {
            return Err(wrong("leaf", "is missing: the chain has a gap"));
        }
        for leaf in &leaves {
            tree.push(hash(leaf, "leaf")?);
        }
    }
    sqlx::query(
        "UPDATE chain_heads SET tree_size = $2, tree = $3 WHERE tenant = $1 AND tree_size < $2",
    )
    .bind(tenant.as_str())
    .bind(size.cast_signed())
    .bind(tree.subtrees().iter().flat_map(|hash| hash.0).collect::<Vec<u8>>())
    .execute(pool)
    .await?;
    let last = sqlx::query(
        "SELECT coalesce(cosigner, key_id) AS key_id, issued_at FROM chain_documents
          WHERE tenant = $1 AND sequence = $2",
    )
    .bind(tenant.as_str())
    .bind(size.cast_signed())
    .fetch_one(pool)
    .await?;
    Ok((tree, last.try_get("key_id")?, last.try_get("issued_at")?))
}

/// A signed head on its way.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoint {
    pub(crate) size: u64,
    pub(crate) signed_at: DateTime<Utc>,
    pub(crate) file: Vec<u8>,
    pub(crate) stored: bool,
    pub(crate) copied: bool,
}

/// Keeps a signed head.
pub(crate) async fn keep_checkpoint(
    pool: &PgPool,
    tenant: &Tenant,
    size: u64,
    signed_at: DateTime<Utc>,
    file: &[u8],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO chain_checkpoints (tenant, size, signed_at, file) VALUES ($1, $2, $3, $4)
         ON CONFLICT DO NOTHING",
    )
    .bind(tenant.as_str())
    .bind(size.cast_signed())
    .bind(signed_at)
    .bind(file)
    .execute(pool)
    .await
    .map(|_| ())
}

/// Heads that are not in every store, the oldest first.
pub(crate) async fn unpublished(
    pool: &PgPool,
    tenant: &Tenant,
    second_store: bool,
    limit: i64,
) -> Result<Vec<Checkpoint>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT size, signed_at, file, stored_at IS NOT NULL AS stored,
                copied_at IS NOT NULL AS copied
           FROM chain_checkpoints
          WHERE tenant = $1 AND (stored_at IS NULL OR ($2 AND copied_at IS NULL))
          ORDER BY signed_at LIMIT $3",
    )
    .bind(tenant.as_str())
    .bind(second_store)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Checkpoint {
                size: row.try_get::<i64, _>("size")?.unsigned_abs(),
                signed_at: row.try_get("signed_at")?,
                file: row.try_get("file")?,
                stored: row.try_get("stored")?,
                copied: row.try_get("copied")?,
            })
        })
        .collect()
}

/// The head is in the store, or in the second one.
pub(crate) async fn mark_published(
    pool: &PgPool,
    tenant: &Tenant,
    signed_at: DateTime<Utc>,
    second: bool,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE chain_checkpoints
            SET stored_at = CASE WHEN $3 THEN stored_at ELSE clock_timestamp() END,
                copied_at = CASE WHEN $3 THEN clock_timestamp() ELSE copied_at END
          WHERE tenant = $1 AND signed_at = $2",
    )
    .bind(tenant.as_str())
    .bind(signed_at)
    .bind(second)
    .execute(pool)
    .await
    .map(|_| ())
}

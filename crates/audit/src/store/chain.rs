//! The chain's SQL: a locked end to append to, documents that wait to be sealed and stored, and heads.
//! Whatever is written once is never changed: each statement that could says so in its predicate.

use chrono::{DateTime, Utc};
use contracts::Tenant;
use evidence::document::{ChainEnd, Kind};
use evidence::merkle::{self, Tree};
use evidence::{Document, Hash};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Row};

/// Leaves that are read at once.
const LEAVES: i64 = 10_000;

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

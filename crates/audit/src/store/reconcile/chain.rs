//! The chain as the reconciler reads it, and the seals of documents that it takes back.

use chrono::{DateTime, Utc};
use contracts::Tenant;
use evidence::Hash;
use evidence::document::{ChainEnd, Kind};
use sqlx::{PgConnection, Row};

use crate::store::chain::Unstored;

/// Where a tenant's chain stands in PostgreSQL.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// The last document; none in an empty chain.
    pub(crate) end: Option<ChainEnd>,
    /// The key that signs the next one.
    pub(crate) signer: Option<String>,
    /// Documents up to here are known to be in the archive's store.
    pub(crate) stored: u64,
}

impl Known {
    /// Documents in it.
    pub(crate) fn sequence(&self) -> u64 {
        self.end.map_or(0, |end| end.sequence)
    }
}

/// Reads it, without a lock.
pub(crate) async fn known_chain(
    connection: &mut PgConnection,
    tenant: &Tenant,
) -> Result<Known, sqlx::Error> {
    let row = sqlx::query(
        "SELECT sequence, sha256, issued_at, key_id, stored FROM chain_heads
          WHERE tenant = $1 AND sequence > 0",
    )
    .bind(tenant.as_str())
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(Known::default()) };
    let end = ChainEnd {
        sequence: row.try_get::<i64, _>("sequence")?.unsigned_abs(),
        hash: sha256(row.try_get("sha256")?)?,
        issued_at: row.try_get::<DateTime<Utc>, _>("issued_at")?,
    };
    let stored = row.try_get::<i64, _>("stored")?.unsigned_abs();
    Ok(Known { end: Some(end), signer: row.try_get("key_id")?, stored })
}

fn sha256(bytes: Vec<u8>) -> Result<Hash, sqlx::Error> {
    let wrong = |_| sqlx::Error::Decode("a hash of the chain is no SHA-256".into());
    bytes.try_into().map(Hash).map_err(wrong)
}

/// The hash of a document; nothing where there is none of that number.
pub(crate) async fn hash_of(
    connection: &mut PgConnection,
    tenant: &Tenant,
    sequence: u64,
) -> Result<Option<Hash>, sqlx::Error> {
    let bytes: Option<Vec<u8>> = sqlx::query_scalar(
        "SELECT sha256 FROM chain_documents WHERE tenant = $1 AND sequence = $2",
    )
    .bind(tenant.as_str())
    .bind(sequence.cast_signed())
    .fetch_optional(connection)
    .await?;
    bytes.map(sha256).transpose()
}

/// Leaves of the documents after that number, in order.
pub(crate) async fn leaves(
    connection: &mut PgConnection,
    tenant: &Tenant,
    after: u64,
    limit: i64,
) -> Result<Vec<Hash>, sqlx::Error> {
    let leaves: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT leaf FROM chain_documents WHERE tenant = $1 AND sequence > $2
          ORDER BY sequence LIMIT $3",
    )
    .bind(tenant.as_str())
    .bind(after.cast_signed())
    .bind(limit)
    .fetch_all(connection)
    .await?;
    leaves.into_iter().map(sha256).collect()
}

/// The public halves of all signing keys, as signed notes write them.
pub(crate) async fn public_keys(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT public_key FROM signing_keys ORDER BY number LIMIT 1000")
        .fetch_all(connection)
        .await
}

/// Whether a key of that id was set up.
pub(crate) async fn has_key(
    connection: &mut PgConnection,
    key_id: &str,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM signing_keys WHERE key_id = $1)")
        .bind(key_id)
        .fetch_one(connection)
        .await
}

/// Keeps the published seal of a document that was taken back by this transaction.
pub(crate) async fn set_seal(
    connection: &mut PgConnection,
    tenant: &Tenant,
    sequence: u64,
    seal: &[u8],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE chain_documents SET seal = $3, sealed_at = clock_timestamp()
          WHERE tenant = $1 AND sequence = $2 AND seal IS NULL",
    )
    .bind(tenant.as_str())
    .bind(sequence.cast_signed())
    .bind(seal)
    .execute(connection)
    .await
    .map(|_| ())
}

/// A document as the sealer takes it, whatever its marks say.
pub(crate) async fn seal_again(
    connection: &mut PgConnection,
    tenant: &Tenant,
    sequence: u64,
) -> Result<Option<Unstored>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT kind, document, sha256, key_id, cosigner, seal FROM chain_documents
          WHERE tenant = $1 AND sequence = $2",
    )
    .bind(tenant.as_str())
    .bind(sequence.cast_signed())
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let word: String = row.try_get("kind")?;
    let kind = [Kind::Key, Kind::Manifest, Kind::Receipt]
        .into_iter()
        .find(|kind| kind.as_str() == word)
        .ok_or_else(|| sqlx::Error::Decode(format!("{word} is no kind of document").into()))?;
    Ok(Some(Unstored {
        sequence,
        kind,
        document: row.try_get("document")?,
        sha256: sha256(row.try_get("sha256")?)?,
        key_id: row.try_get("key_id")?,
        cosigner: row.try_get("cosigner")?,
        seal: row.try_get("seal")?,
    }))
}

/// The line of a receipt of the chain.
pub(crate) async fn receipt(
    connection: &mut PgConnection,
    tenant: &Tenant,
    sequence: u64,
) -> Result<Option<Vec<u8>>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT document FROM chain_documents
          WHERE tenant = $1 AND sequence = $2 AND kind = 'receipt'",
    )
    .bind(tenant.as_str())
    .bind(sequence.cast_signed())
    .fetch_optional(connection)
    .await
}

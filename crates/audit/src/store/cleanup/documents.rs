//! Documents of the chain as a cleanup asks for them: whether the manifest is sealed and in the archive's
//! store, where nobody who has only the database can change it.

use contracts::Tenant;
use evidence::Hash;
use evidence::document::ManifestRef;
use sqlx::{PgConnection, Row};

/// Where a document stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It is sealed and stored: its line.
    Stored(Vec<u8>),
    /// It is in the chain, and not in the store yet.
    Waiting,
    /// The chain has no such document.
    Missing,
}

/// The document of that number and hash.
pub(crate) async fn kept_document(
    connection: &mut PgConnection,
    tenant: &Tenant,
    manifest: ManifestRef,
) -> Result<Kept, sqlx::Error> {
    let row = sqlx::query(
        "SELECT document, stored_at IS NOT NULL AND sealed_at IS NOT NULL AS stored
           FROM chain_documents WHERE tenant = $1 AND sequence = $2 AND kind = 'manifest'",
    )
    .bind(tenant.as_str())
    .bind(manifest.sequence.cast_signed())
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(Kept::Missing) };
    let document: Vec<u8> = row.try_get("document")?;
    if Hash::of(&document) != manifest.sha256 {
        return Ok(Kept::Missing);
    }
    Ok(if row.try_get("stored")? { Kept::Stored(document) } else { Kept::Waiting })
}

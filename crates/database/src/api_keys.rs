//! API keys as stored: the SHA-256 of the secret, never the secret. Checking one is the edge's work.

use chrono::{DateTime, Utc};
use contracts::{RetentionClass, Tenant};
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};

use crate::tenants::{TenantState, parsed};

/// Keys per tenant that a listing returns at most.
pub const LIST_MAX: i64 = 1_000;

/// A key to be made.
#[derive(Clone, Debug)]
pub struct NewKey<'a> {
    /// Public part, 8 to 40 of `A-Za-z0-9`.
    pub key_id: &'a str,
    /// Whose it is.
    pub tenant: &'a Tenant,
    /// `live`, `test`, …: 1 to 16 of `a-z0-9`.
    pub env: &'a str,
    /// SHA-256 of the secret part.
    pub secret_sha256: [u8; 32],
    /// Scopes, 1 to 32.
    pub scopes: &'a [String],
    /// What an operator calls it, 1 to 200 characters.
    pub name: &'a str,
    /// When it stops working; never when `None`.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A key as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ApiKey {
    /// Public part.
    pub key_id: String,
    /// Whose it is.
    pub tenant: Tenant,
    /// The environment in its text.
    pub env: String,
    /// SHA-256 of the secret part.
    #[serde(skip)]
    pub secret_sha256: [u8; 32],
    /// What it may do.
    pub scopes: Vec<String>,
    /// What an operator calls it.
    pub name: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it stops working.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// Last use seen, a minute or so behind.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// A key with what a request needs to know of its tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundKey {
    /// The key.
    pub key: ApiKey,
    /// Class of the tenant's new logs.
    pub default_class: RetentionClass,
    /// Whether the tenant is a sandbox.
    pub sandbox: bool,
    /// Whether the tenant may use the API.
    pub tenant_state: TenantState,
}

/// Stores a key. The tenant must exist (SQLSTATE 23503 otherwise) and the id be new (23505).
/// Needs the owner's role.
pub async fn create(pool: &PgPool, key: NewKey<'_>) -> Result<ApiKey, sqlx::Error> {
    let row = sqlx::query(
        "INSERT INTO api_keys (key_id, tenant, env, secret_sha256, scopes, name, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING *",
    )
    .bind(key.key_id)
    .bind(key.tenant.as_str())
    .bind(key.env)
    .bind(key.secret_sha256.as_slice())
    .bind(key.scopes)
    .bind(key.name)
    .bind(key.expires_at)
    .fetch_one(pool)
    .await?;
    key_of(&row)
}

/// The key of that id, revoked and expired ones too: the caller says why it refuses. Works under
/// [`crate::Role::Api`] without a tenant, since the key is what tells the tenant.
pub async fn find(pool: &PgPool, key_id: &str) -> Result<Option<FoundKey>, sqlx::Error> {
    let row = sqlx::query("SELECT * FROM flotilla_find_api_key($1)")
        .bind(key_id)
        .fetch_optional(pool)
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(FoundKey {
        key: key_of(&row)?,
        default_class: parsed(&row, "default_class")?,
        sandbox: row.try_get("sandbox")?,
        tenant_state: TenantState::from_column(row.try_get("state")?),
    }))
}

/// Revokes a key and returns it; `None` when there is none. The first revocation's time stays.
/// Needs the owner's role; other processes learn of it through the feed or their cache's end.
pub async fn revoke(
    pool: &PgPool,
    key_id: &str,
    at: DateTime<Utc>,
) -> Result<Option<ApiKey>, sqlx::Error> {
    let row = sqlx::query(
        "UPDATE api_keys SET revoked_at = coalesce(revoked_at, $2) WHERE key_id = $1 RETURNING *",
    )
    .bind(key_id)
    .bind(at)
    .fetch_optional(pool)
    .await?;
    row.as_ref().map(key_of).transpose()
}

/// Notes that these keys were used. Call it now and then with many, not for every request.
pub async fn touch(
    pool: &PgPool,
    key_ids: &[String],
    at: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT flotilla_touch_api_keys($1, $2)")
        .bind(key_ids)
        .bind(at)
        .execute(pool)
        .await?;
    Ok(())
}

/// The keys of a tenant, or of all, newest first, at most [`LIST_MAX`]. Needs the owner's role.
pub async fn list(pool: &PgPool, tenant: Option<&Tenant>) -> Result<Vec<ApiKey>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT * FROM api_keys WHERE $1::text IS NULL OR tenant = $1
         ORDER BY created_at DESC, key_id LIMIT $2",
    )
    .bind(tenant.map(Tenant::as_str))
    .bind(LIST_MAX)
    .fetch_all(pool)
    .await?;
    rows.iter().map(key_of).collect()
}

fn key_of(row: &PgRow) -> Result<ApiKey, sqlx::Error> {
    let secret: &[u8] = row.try_get("secret_sha256")?;
    Ok(ApiKey {
        key_id: row.try_get("key_id")?,
        tenant: parsed(row, "tenant")?,
        env: row.try_get("env")?,
        secret_sha256: secret.try_into().map_err(|error| sqlx::Error::ColumnDecode {
            index: "secret_sha256".to_owned(),
            source: Box::<dyn std::error::Error + Send + Sync>::from(format!("{error}")),
        })?,
        scopes: row.try_get("scopes")?,
        name: row.try_get("name")?,
        created_at: row.try_get("created_at")?,
        expires_at: row.try_get("expires_at")?,
        revoked_at: row.try_get("revoked_at")?,
        last_used_at: row.try_get("last_used_at")?,
    })
}

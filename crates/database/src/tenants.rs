//! Tenants: made by an operator, read by the API for the class that new logs get.

use chrono::{DateTime, Utc};
use contracts::{RetentionClass, Tenant};
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};

/// A tenant as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TenantRow {
    /// Its name.
    pub id: Tenant,
    /// The retention class of its new logs.
    pub default_class: RetentionClass,
    /// Whether its policies may keep for no time at all; for demos and drills.
    pub sandbox: bool,
    /// Whether it may use the API.
    pub state: TenantState,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// Whether a tenant may use the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TenantState {
    /// As usual.
    Active,
    /// Its keys are refused; its logs are kept.
    Suspended,
}

impl TenantState {
    pub(crate) fn from_column(text: &str) -> Self {
        if text == "active" { Self::Active } else { Self::Suspended }
    }
}

/// Makes a tenant. `None` when the name is taken.
pub async fn create(
    pool: &PgPool,
    id: &Tenant,
    default_class: RetentionClass,
    sandbox: bool,
) -> Result<Option<TenantRow>, sqlx::Error> {
    let row = sqlx::query(
        "INSERT INTO tenants (id, default_class, sandbox) VALUES ($1, $2, $3)
         ON CONFLICT DO NOTHING RETURNING *",
    )
    .bind(id.as_str())
    .bind(default_class.as_str())
    .bind(sandbox)
    .fetch_optional(pool)
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// The tenant of that name.
pub async fn get(pool: &PgPool, id: &Tenant) -> Result<Option<TenantRow>, sqlx::Error> {
    let row = sqlx::query("SELECT * FROM tenants WHERE id = $1")
        .bind(id.as_str())
        .fetch_optional(pool)
        .await?;
    row.as_ref().map(from_row).transpose()
}

/// Every tenant, by name. Installations have thousands at most.
pub async fn list(pool: &PgPool) -> Result<Vec<TenantRow>, sqlx::Error> {
    let rows = sqlx::query("SELECT * FROM tenants ORDER BY id").fetch_all(pool).await?;
    rows.iter().map(from_row).collect()
}

fn from_row(row: &PgRow) -> Result<TenantRow, sqlx::Error> {
    Ok(TenantRow {
        id: parsed(row, "id")?,
        default_class: parsed(row, "default_class")?,
        sandbox: row.try_get("sandbox")?,
        state: TenantState::from_column(row.try_get("state")?),
        created_at: row.try_get("created_at")?,
    })
}

/// A text column as the type it stands for.
pub(crate) fn parsed<T>(row: &PgRow, column: &'static str) -> Result<T, sqlx::Error>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: &str = row.try_get(column)?;
    text.parse().map_err(|error| sqlx::Error::ColumnDecode {
        index: column.to_owned(),
        source: Box::new(error),
    })
}

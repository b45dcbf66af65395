//! The revisions of one log, as a person reads them.

use chrono::{DateTime, Utc};
use contracts::{EnvelopeId, LogId, Tenant};
use sqlx::{PgConnection, Row};
use uuid::Uuid;

/// Revisions of a log that are read at most; the newest ones.
pub const REVISIONS_READ_MAX: i64 = 200;

/// One stored revision.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRevision {
    /// Its number, from 1.
    pub revision: i64,
    /// The operation that made it.
    pub operation_id: EnvelopeId,
    /// The tags it set; `None` kept them.
    pub tags: Option<Vec<String>>,
    /// The annotation it set; `None` kept it.
    pub annotation: Option<String>,
    /// Who asked, as JSON.
    pub actor: serde_json::Value,
    /// When the API accepted it.
    pub recorded_at: DateTime<Utc>,
}

/// The newest [`REVISIONS_READ_MAX`] revisions of a log, newest first.
pub async fn revisions(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: LogId,
) -> Result<Vec<StoredRevision>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT revision, envelope_id, tags, annotation, actor, recorded_at FROM log_revisions
          WHERE tenant = $1 AND log_id = $2 ORDER BY revision DESC LIMIT $3",
    )
    .bind(tenant.as_str())
    .bind(id.0)
    .bind(REVISIONS_READ_MAX)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(StoredRevision {
                revision: row.try_get("revision")?,
                operation_id: EnvelopeId(row.try_get::<Uuid, _>("envelope_id")?),
                tags: row.try_get("tags")?,
                annotation: row.try_get("annotation")?,
                actor: row.try_get("actor")?,
                recorded_at: row.try_get("recorded_at")?,
            })
        })
        .collect()
}

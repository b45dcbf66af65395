//! The API's own audit entries, stored in the transaction of what they tell about, so that neither is
//! ever seen without the other. The API's role may write no other log.

use sinks::search::Entity;
use sqlx::PgConnection;

use super::locks;
use crate::model::NewLog;

/// Stores entries of the session's tenant and of `system`; the caller has sorted them by key. An entry
/// that is stored already stays as it is.
pub async fn record_self_audit(
    connection: &mut PgConnection,
    entries: &[NewLog],
) -> Result<(), sqlx::Error> {
    locks::share(connection, entries.iter().map(|entry| &entry.key.tenant)).await?;
    for entry in entries {
        let targets = |take: fn(&Entity) -> &String| {
            entry.document.targets.iter().map(take).cloned().collect::<Vec<String>>()
        };
        sqlx::query(
            "SELECT flotilla_self_audit($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        )
        .bind(entry.key.tenant.as_str())
        .bind(entry.key.id.0)
        .bind(entry.key.class.as_str())
        .bind(entry.key.recorded_at)
        .bind(&entry.record[..])
        .bind(&entry.sha256[..])
        .bind(&entry.salt[..])
        .bind(&entry.document.actor.kind)
        .bind(&entry.document.actor.id)
        .bind(&entry.document.action)
        .bind(targets(|target| &target.kind))
        .bind(targets(|target| &target.id))
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

//! Objects of the archive that are due to be removed, each taken once a while.

use chrono::{DateTime, Utc};
use contracts::Tenant;
use contracts::audit::lifecycle::{PolicyId, RunId};
use sqlx::{PgConnection, Row};

use super::units::decoded;

/// An object that is due, with the run that made it.
#[derive(Clone, Debug)]
pub(crate) struct Due {
    pub(crate) tenant: Tenant,
    pub(crate) object: String,
    /// Number of its manifest.
    pub(crate) manifest: u64,
    pub(crate) run_id: RunId,
    /// With its version; none where somebody asked for the run.
    pub(crate) policy: Option<(PolicyId, u64)>,
    pub(crate) correlation_id: String,
}

/// Takes up to `limit` objects whose term is over or whose place another has taken, that the store has
/// not locked, and that were not taken since `again`; tenants take turns, and of each at most
/// `per_tenant` are taken. They are taken when the transaction commits.
pub(crate) async fn take_due(
    connection: &mut PgConnection,
    (now, again): (DateTime<Utc>, DateTime<Utc>),
    per_tenant: i64,
    limit: i64,
) -> Result<Vec<Due>, sqlx::Error> {
    sqlx::query(
        "WITH over AS (
           SELECT tenant, object, expires_at FROM archive_objects
            WHERE removed_at IS NULL AND expires_at <= $1
              AND (locked_until IS NULL OR locked_until <= $1)
              AND (expiry_told_at IS NULL OR expiry_told_at <= $2)
           UNION
           SELECT tenant, object, expires_at FROM archive_objects
            WHERE removed_at IS NULL AND superseded_by IS NOT NULL
              AND (locked_until IS NULL OR locked_until <= $1)
              AND (expiry_told_at IS NULL OR expiry_told_at <= $2)),
         placed AS (
           SELECT tenant, object, row_number() OVER (
                    PARTITION BY tenant ORDER BY expires_at NULLS FIRST, object) AS turn FROM over),
         due AS (
           SELECT tenant, object FROM placed WHERE turn <= $3 ORDER BY turn, tenant LIMIT $4)
         UPDATE archive_objects o SET expiry_told_at = $1
           FROM due, archive_units u, retention_runs r
          WHERE o.tenant = due.tenant AND o.object = due.object
            AND u.tenant = o.tenant AND u.id = o.unit_id AND r.tenant = o.tenant AND r.id = u.run_id
         RETURNING o.tenant, o.object, o.manifest_sequence, r.id AS run_id, r.policy_id,
                   r.policy_version, r.correlation_id",
    )
    .bind(now)
    .bind(again)
    .bind(per_tenant)
    .bind(limit)
    .fetch_all(connection)
    .await?
    .iter()
    .map(|row| {
        let version: Option<i64> = row.try_get("policy_version")?;
        let policy: Option<PolicyId> = row.try_get("policy_id")?;
        Ok(Due {
            tenant: decoded(row, "tenant")?,
            object: row.try_get("object")?,
            manifest: row.try_get::<i64, _>("manifest_sequence")?.cast_unsigned(),
            run_id: row.try_get("run_id")?,
            policy: policy.zip(version.map(i64::cast_unsigned)),
            correlation_id: row.try_get("correlation_id")?,
        })
    })
    .collect()
}

//! Alerts of policies' runs: a run that failed is told in the very transaction that ends it, and that it is
//! over in the one that ends a later run of the policy well. A request's run rings by its dead letters.

use chrono::{DateTime, Utc};
use contracts::Tenant;
use contracts::audit::lifecycle::{PolicyId, RunId};
use database::alerts::{self, AlertKey, Raised, Severity};
use sqlx::{PgConnection, Row};

use super::units::decoded;
use crate::lifecycle::RunState;

/// Tells how a policy's run has ended. Needs the worker's role.
pub(super) async fn run_ended(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: RunId,
) -> Result<(), sqlx::Error> {
    let ended = sqlx::query(
        "SELECT policy_id, state, units, units_failed, failure, ended_at FROM retention_runs
          WHERE tenant = $1 AND id = $2 AND policy_id IS NOT NULL AND ended_at IS NOT NULL
            AND state IN ('done', 'failed')",
    )
    .bind(tenant.as_str())
    .bind(id)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = ended else { return Ok(()) };
    let (policy, at): (PolicyId, DateTime<Utc>) =
        (row.try_get("policy_id")?, row.try_get("ended_at")?);
    let key = AlertKey::run_failed(tenant.clone(), &policy.to_string());
    if decoded::<RunState>(&row, "state")? == RunState::Done {
        alerts::resolve(connection, &key, at).await?;
        return Ok(());
    }
    let (units, failed): (i64, i64) = (row.try_get("units")?, row.try_get("units_failed")?);
    let why: Option<String> = row.try_get("failure")?;
    let title = format!("Retention of {tenant} failed");
    let text = format!(
        "Run {id} of policy {policy} has failed, {failed} of its {units} units: {}. Their logs stay, and the \
         policy's next run takes them again. `fleetctl policies run {policy} {id}` shows it.",
        why.as_deref().unwrap_or("no reason is kept")
    );
    raise(connection, &key, [&title, &text], at).await
}

/// Nobody waits any more for a run of a policy that is not applied: such alerts are over. Of all tenants,
/// for whoever keeps the alerts.
pub(crate) async fn forget_policies(
    connection: &mut PgConnection,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE alerts a SET quiet_since = $1 FROM policies p
          WHERE a.closed_at IS NULL AND a.quiet_since IS NULL AND p.tenant = a.tenant
            AND a.name = 'run-failed/' || p.id AND p.state <> 'active'",
    )
    .bind(now)
    .execute(connection)
    .await
    .map(drop)
}

/// Something needs a person now.
pub(crate) async fn raise(
    connection: &mut PgConnection,
    key: &AlertKey,
    words: [&str; 2],
    at: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let (tenant, alert, title) = (key.tenant(), key.name(), words[0]);
    match alerts::raise(connection, key, Severity::Critical, words, at).await? {
        Raised::Opened => tracing::error!(%tenant, alert, title, "alert opened"),
        Raised::Counted(times) => tracing::debug!(%tenant, alert, times, "alert found again"),
    }
    Ok(())
}

//! The figures of plans, a day's newest each: what the next plans are compared with.

use chrono::{DateTime, NaiveDate, Utc};
use contracts::Tenant;
use contracts::audit::lifecycle::PolicyId;
use sqlx::{PgConnection, Row};

use crate::retention::Plan;

/// Days for which a plan's figures are kept.
const FIGURES_DAYS: i32 = 90;

/// What an earlier plan came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Figures {
    /// When it was made.
    pub made_at: DateTime<Utc>,
    /// Logs that would have gone.
    pub events: i64,
    /// Bytes of their records.
    pub bytes: i64,
}

/// The figures of the newest plan of an earlier day.
pub async fn figures_before(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: PolicyId,
    day: NaiveDate,
) -> Result<Option<Figures>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT made_at, events, bytes FROM plan_figures
          WHERE tenant = $1 AND policy_id = $2 AND day < $3 ORDER BY day DESC LIMIT 1",
    )
    .bind(tenant.as_str())
    .bind(id)
    .bind(day)
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(Figures {
            made_at: row.try_get("made_at")?,
            events: row.try_get("events")?,
            bytes: row.try_get("bytes")?,
        })
    })
    .transpose()
}

/// Keeps a complete plan's figures as those of its day, and forgets what is long past.
pub async fn keep_figures(connection: &mut PgConnection, plan: &Plan) -> Result<(), sqlx::Error> {
    let day = plan.as_of.date_naive();
    sqlx::query(
        "INSERT INTO plan_figures (tenant, policy_id, day, made_at, events, bytes)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (tenant, policy_id, day) DO UPDATE
            SET made_at = excluded.made_at, events = excluded.events, bytes = excluded.bytes",
    )
    .bind(plan.tenant.as_str())
    .bind(plan.policy_id)
    .bind(day)
    .bind(plan.as_of)
    .bind(plan.events.cast_signed())
    .bind(plan.bytes.cast_signed())
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "DELETE FROM plan_figures WHERE tenant = $1 AND policy_id = $2 AND day < $3::date - $4",
    )
    .bind(plan.tenant.as_str())
    .bind(plan.policy_id)
    .bind(day)
    .bind(FIGURES_DAYS)
    .execute(connection)
    .await
    .map(|_| ())
}

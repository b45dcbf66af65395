//! What a plan is made from: the rules of its time, the snapshot that it ends at, and what other runs are
//! at. A simulation and a run ask here, so that both make the same plan.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use contracts::Tenant;
use sqlx::PgConnection;

use super::export::snapshot_xmin;
use super::units::open_ranges;
use super::{policies, runs};
use crate::retention::{Planner, Policy, RuleSet};

/// A planner for this version of a policy, as if it was active and in effect, and the rules that it goes
/// by: the other policies in effect at `as_of`, and the holds in force now.
pub async fn planner(
    connection: &mut PgConnection,
    tenant: &Tenant,
    policy: &Policy,
    as_of: DateTime<Utc>,
) -> Result<(Planner, Arc<RuleSet>), sqlx::Error> {
    let rules = policies::rules(connection, tenant, as_of).await?;
    let rules = Arc::new(rules.with_policy(policy.rule()));
    // The ranges first: a unit that ends in between leaves its rest to the next plan.
    let open = open_ranges(connection, tenant, policy.id).await?;
    let xmin = snapshot_xmin(connection).await?;
    let planner = Planner::new(tenant, Arc::clone(&rules), policy.id, as_of, xmin)
        .ok_or_else(|| sqlx::Error::Protocol("the rules lack the policy".into()))?;
    Ok((planner.leaving_out(open), rules))
}

/// Logs of a tenant recorded from a time on and before another, counted up to a limit.
pub async fn count_between(
    connection: &mut PgConnection,
    tenant: &Tenant,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
    limit: u64,
) -> Result<u64, sqlx::Error> {
    let count: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM (SELECT FROM logs WHERE tenant = $1 AND recorded_at >= $2
                                  AND recorded_at < $3 LIMIT $4) counted",
    )
    .bind(tenant.as_str())
    .bind(from)
    .bind(to)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_one(connection)
    .await?;
    Ok(count.cast_unsigned())
}

pub use runs::evaluation::{
    Telling, active_before, come_again, last_deleted, object_of_unit, tell_up_to, telling,
};

//! Retention policies with all their versions, the rules of a time, and the figures that plans are
//! compared with. A version is only ever added; the newest one's number guards against two people
//! changing the same policy unseen.

mod figures;

use chrono::{DateTime, Utc};
use contracts::Tenant;
use contracts::audit::lifecycle::PolicyId;
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, Row};

use super::{holds, locks};
use crate::retention::{POLICIES_MAX, Policy, PolicySpec, PolicyState, RuleHold, RuleSet};

pub use figures::{Figures, figures_before, keep_figures};

/// Versions of a policy at most.
pub const VERSIONS_MAX: u64 = 10_000;
/// Versions of one listing at most, the newest.
pub const VERSIONS_LISTED_MAX: i64 = 200;

/// A version that is asked for.
#[derive(Clone, Debug)]
pub struct NewVersion {
    /// The policy.
    pub id: PolicyId,
    /// What it is to say.
    pub spec: PolicySpec,
    /// From when on.
    pub effective_from: DateTime<Utc>,
    /// Who asks: key id and address.
    pub created_by: Value,
    /// When.
    pub created_at: DateTime<Utc>,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Written {
    /// It stands.
    Done(Policy),
    /// There is a policy of that id, from an earlier request; this is its first version.
    Exists(Policy),
    /// No such policy, or it was deleted.
    Missing,
    /// The change was made from another version than the newest, which is this one.
    Outdated(Policy),
    /// Another policy has the name.
    NameTaken(PolicyId),
    /// The tenant, or the policy, has as many as it may.
    TooMany(&'static str),
    /// A legal maximum lies before a legal minimum of these policies, or the other way round.
    Contradicts(Vec<Policy>),
}

/// A policy's columns, of a version `v`.
macro_rules! version {
    () => {
        "v.policy_id, v.version, v.spec, v.effective_from, v.created_by, v.created_at"
    };
}

/// Makes a policy, in the caller's transaction.
pub async fn create(
    connection: &mut PgConnection,
    tenant: &Tenant,
    new: NewVersion,
) -> Result<Written, sqlx::Error> {
    locks::rules_alone(connection, tenant).await?;
    if let Some(first) = version(connection, tenant, new.id, 1).await? {
        return Ok(Written::Exists(first));
    }
    let count: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM policies WHERE tenant = $1 AND state <> 'deleted'",
    )
    .bind(tenant.as_str())
    .fetch_one(&mut *connection)
    .await?;
    if count >= i64::try_from(POLICIES_MAX).unwrap_or(i64::MAX) {
        return Ok(Written::TooMany("policies"));
    }
    write(connection, tenant, new, 1).await
}

/// Adds a version to a policy whose newest one is `from`, in the caller's transaction.
pub async fn change(
    connection: &mut PgConnection,
    tenant: &Tenant,
    new: NewVersion,
    from: u64,
) -> Result<Written, sqlx::Error> {
    locks::rules_alone(connection, tenant).await?;
    let Some(newest) = get(connection, tenant, new.id).await? else { return Ok(Written::Missing) };
    if newest.spec.state == PolicyState::Deleted {
        return Ok(Written::Missing);
    }
    if newest.version != from {
        return Ok(Written::Outdated(newest));
    }
    // A policy that cannot be changed any more can still be deleted.
    if from >= VERSIONS_MAX && new.spec.state != PolicyState::Deleted {
        return Ok(Written::TooMany("versions of this policy"));
    }
    write(connection, tenant, new, from + 1).await
}

async fn write(
    connection: &mut PgConnection,
    tenant: &Tenant,
    new: NewVersion,
    number: u64,
) -> Result<Written, sqlx::Error> {
    let policy = Policy {
        id: new.id,
        version: number,
        spec: new.spec,
        effective_from: new.effective_from,
        created_by: new.created_by,
        created_at: new.created_at,
    };
    if policy.spec.state != PolicyState::Deleted {
        if let Some(other) = named(connection, tenant, &policy).await? {
            return Ok(Written::NameTaken(other));
        }
        let contradicting = contradicting(connection, tenant, &policy).await?;
        if !contradicting.is_empty() {
            return Ok(Written::Contradicts(contradicting));
        }
    }
    sqlx::query(
        "INSERT INTO policies (tenant, id, name, version, state) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (tenant, id) DO UPDATE
            SET name = excluded.name, version = excluded.version, state = excluded.state",
    )
    .bind(tenant.as_str())
    .bind(policy.id)
    .bind(&policy.spec.name)
    .bind(policy.version.cast_signed())
    .bind(policy.spec.state.as_str())
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO policy_versions
                (tenant, policy_id, version, spec, effective_from, created_by, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(tenant.as_str())
    .bind(policy.id)
    .bind(policy.version.cast_signed())
    .bind(Json(&policy.spec))
    .bind(policy.effective_from)
    .bind(&policy.created_by)
    .bind(policy.created_at)
    .execute(connection)
    .await?;
    Ok(Written::Done(policy))
}

/// Another policy of that name.
async fn named(
    connection: &mut PgConnection,
    tenant: &Tenant,
    policy: &Policy,
) -> Result<Option<PolicyId>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT id FROM policies
          WHERE tenant = $1 AND name = $2 AND id <> $3 AND state <> 'deleted'",
    )
    .bind(tenant.as_str())
    .bind(&policy.spec.name)
    .bind(policy.id)
    .fetch_optional(connection)
    .await
}

/// Versions of other policies, newest or in effect, that say the contrary.
async fn contradicting(
    connection: &mut PgConnection,
    tenant: &Tenant,
    policy: &Policy,
) -> Result<Vec<Policy>, sqlx::Error> {
    if policy.spec.state != PolicyState::Active {
        return Ok(Vec::new());
    }
    let mut others = list(connection, tenant).await?;
    others.extend(in_effect(connection, tenant, policy.created_at).await?);
    others.retain(|other| {
        other.id != policy.id
            && other.spec.state == PolicyState::Active
            && (policy.forbids(other) || other.forbids(policy))
    });
    others.sort_by_key(|other| (other.id, other.version));
    others.dedup_by_key(|other| (other.id, other.version));
    Ok(others)
}

/// The newest version of a policy, also of one that was deleted.
pub async fn get(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: PolicyId,
) -> Result<Option<Policy>, sqlx::Error> {
    const SQL: &str = concat!(
        "SELECT ", version!(), " FROM policies p
           JOIN policy_versions v ON v.tenant = p.tenant AND v.policy_id = p.id AND v.version = p.version
          WHERE p.tenant = $1 AND p.id = $2"
    );
    let row = sqlx::query(SQL).bind(tenant.as_str()).bind(id).fetch_optional(connection).await?;
    row.as_ref().map(policy).transpose()
}

/// One version of a policy.
pub async fn version(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: PolicyId,
    number: u64,
) -> Result<Option<Policy>, sqlx::Error> {
    const SQL: &str = concat!(
        "SELECT ",
        version!(),
        " FROM policy_versions v
          WHERE v.tenant = $1 AND v.policy_id = $2 AND v.version = $3"
    );
    let row = sqlx::query(SQL).bind(tenant.as_str()).bind(id).bind(number.cast_signed());
    row.fetch_optional(connection).await?.as_ref().map(policy).transpose()
}

/// The newest version of a policy, up to that one, which was written with that key.
pub async fn version_by(
    connection: &mut PgConnection,
    tenant: &Tenant,
    (id, up_to): (PolicyId, u64),
    key_id: &str,
) -> Result<Option<u64>, sqlx::Error> {
    let newest: Option<i64> = sqlx::query_scalar(
        "SELECT max(version) FROM policy_versions
          WHERE tenant = $1 AND policy_id = $2 AND version <= $3 AND created_by ->> 'key_id' = $4",
    )
    .bind(tenant.as_str())
    .bind(id)
    .bind(up_to.cast_signed())
    .bind(key_id)
    .fetch_one(connection)
    .await?;
    Ok(newest.map(i64::cast_unsigned))
}

/// The newest versions of all policies that are not deleted, by name, at most [`POLICIES_MAX`].
pub async fn list(
    connection: &mut PgConnection,
    tenant: &Tenant,
) -> Result<Vec<Policy>, sqlx::Error> {
    const SQL: &str = concat!(
        "SELECT ", version!(), " FROM policies p
           JOIN policy_versions v ON v.tenant = p.tenant AND v.policy_id = p.id AND v.version = p.version
          WHERE p.tenant = $1 AND p.state <> 'deleted' ORDER BY p.name, p.id LIMIT $2"
    );
    let most = i64::try_from(POLICIES_MAX).unwrap_or(i64::MAX);
    let rows = sqlx::query(SQL).bind(tenant.as_str()).bind(most).fetch_all(connection).await?;
    rows.iter().map(policy).collect()
}

/// The newest versions of a policy, newest first, at most [`VERSIONS_LISTED_MAX`]; below a number, where one
/// is given.
pub async fn versions(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: PolicyId,
    before: Option<u32>,
) -> Result<Vec<Policy>, sqlx::Error> {
    const SQL: &str = concat!(
        "SELECT ",
        version!(),
        " FROM policy_versions v
          WHERE v.tenant = $1 AND v.policy_id = $2 AND v.version < $4
          ORDER BY v.version DESC LIMIT $3"
    );
    let rows = sqlx::query(SQL).bind(tenant.as_str()).bind(id).bind(VERSIONS_LISTED_MAX);
    let rows = rows.bind(before.map_or(i64::MAX, i64::from));
    rows.fetch_all(connection).await?.iter().map(policy).collect()
}

/// The version of each policy that is in effect at that time, whatever its state.
pub async fn in_effect(
    connection: &mut PgConnection,
    tenant: &Tenant,
    at: DateTime<Utc>,
) -> Result<Vec<Policy>, sqlx::Error> {
    const SQL: &str = concat!(
        "SELECT DISTINCT ON (v.policy_id) ",
        version!(),
        " FROM policy_versions v
          WHERE v.tenant = $1 AND v.effective_from <= $2 ORDER BY v.policy_id, v.version DESC"
    );
    let rows = sqlx::query(SQL).bind(tenant.as_str()).bind(at).fetch_all(connection).await?;
    rows.iter().map(policy).collect()
}

/// The version of a policy that is in effect at that time, whatever its state.
pub async fn in_effect_of(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: PolicyId,
    at: DateTime<Utc>,
) -> Result<Option<Policy>, sqlx::Error> {
    const SQL: &str = concat!(
        "SELECT ",
        version!(),
        " FROM policy_versions v
          WHERE v.tenant = $1 AND v.policy_id = $2 AND v.effective_from <= $3
          ORDER BY v.version DESC LIMIT 1"
    );
    let row = sqlx::query(SQL).bind(tenant.as_str()).bind(id).bind(at);
    row.fetch_optional(connection).await?.as_ref().map(policy).transpose()
}

/// The rules of a time: the policies in effect then that are active, and the holds in force now.
pub async fn rules(
    connection: &mut PgConnection,
    tenant: &Tenant,
    at: DateTime<Utc>,
) -> Result<RuleSet, sqlx::Error> {
    let policies = in_effect(connection, tenant, at).await?;
    let active = policies.iter().filter(|policy| policy.spec.state == PolicyState::Active);
    let policies = active.map(Policy::rule).collect();
    let holds = holds::in_force(connection, tenant).await?;
    Ok(RuleSet::new(policies, holds.iter().map(RuleHold::from).collect()))
}

/// Whether the tenant may keep for no time at all.
pub async fn is_sandbox(
    connection: &mut PgConnection,
    tenant: &Tenant,
) -> Result<bool, sqlx::Error> {
    let sandbox: Option<bool> = sqlx::query_scalar("SELECT sandbox FROM tenants WHERE id = $1")
        .bind(tenant.as_str())
        .fetch_optional(connection)
        .await?;
    Ok(sandbox.unwrap_or(false))
}

fn policy(row: &PgRow) -> Result<Policy, sqlx::Error> {
    Ok(Policy {
        id: row.try_get("policy_id")?,
        version: row.try_get::<i64, _>("version")?.cast_unsigned(),
        spec: row.try_get::<Json<PolicySpec>, _>("spec")?.0,
        effective_from: row.try_get("effective_from")?,
        created_by: row.try_get("created_by")?,
        created_at: row.try_get("created_at")?,
    })
}

//! Setting up and rotating the signing key. The new key, its record of who and why, and the fleet's own
//! audit entry commit together; each chain then gets its rotation record, now or with its next document.
//!
//! It sees public halves alone: no private key reaches PostgreSQL.

use bytes::Bytes;
use chrono::{DateTime, SubsecRound, Utc};
use contracts::{LogId, Tenant};
use database::Database;
use evidence::VerifyKey;

use super::chain::{self, AppendError};
use crate::event::{self, EventLimits, Origin, Rules, Stamp};
use crate::model::NewLog;
use crate::rules::{Refusal, admit};
use crate::self_audit::SELF_AUDIT_CLASS;
use crate::store::chain as store;

/// The action of the fleet's own audit entry.
pub const KEY_ACTION: &str = "flotilla.signing-key.set";
/// Tenants that are read at once.
const TENANTS: i64 = 500;

/// What a new key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// There is none yet.
    First,
    /// It takes over from the one before.
    Rotation,
}

/// Why no key was set up.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// [`Purpose::First`] where there is a key.
    #[error("{0} signs already: `fleetctl signing rotate` replaces it")]
    ThereIsOne(String),
    /// [`Purpose::Rotation`] where there is none.
    #[error("there is no signing key to replace: run `fleetctl signing init`")]
    ThereIsNone,
    /// It was a key of this archive before: what it signed later could not be told from a theft.
    #[error("{0} was a key of this archive before; a rotation needs a new one")]
    Used(String),
    /// The fleet's own entry could not be made.
    #[error("self-audit: {}", .0.0)]
    Audit(Refusal),
    /// A chain.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// PostgreSQL.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Makes `key` the one that signs from now on. Needs [`database::Role::Owner`].
pub async fn set_up(
    database: &Database,
    key: &VerifyKey,
    purpose: Purpose,
    reason: &str,
    by: &str,
    now: DateTime<Utc>,
) -> Result<(), KeyError> {
    let mut transaction = database.pool().begin().await?;
    // One at a time: two first keys would both be it.
    sqlx::query("LOCK TABLE signing_keys IN SHARE ROW EXCLUSIVE MODE")
        .execute(&mut *transaction)
        .await?;
    let before = store::newest_key(&mut transaction).await?;
    match (&before, purpose) {
        (Some(there), Purpose::First) => return Err(KeyError::ThereIsOne(there.key_id.clone())),
        (None, Purpose::Rotation) => return Err(KeyError::ThereIsNone),
        _ => {}
    }
    let (id, text) = (key.id(), key.to_string());
    if !store::put_key(&mut transaction, &id, &text, reason, by).await? {
        return Err(KeyError::Used(id));
    }
    let replaces = before.map(|before| before.key_id);
    let entry = entry(&id, replaces.as_deref(), reason, by, now.trunc_subsecs(6));
    let entry = entry.map_err(KeyError::Audit)?;
    crate::store::insert_batch(&mut transaction, &[entry]).await?;
    transaction.commit().await?;
    Ok(())
}

/// Appends the rotation's record to every chain whose key is not the newest; how many there were. Each
/// is a transaction: run again, it goes on. Without it each chain follows with its next document.
pub async fn rotate_chains(database: &Database, now: DateTime<Utc>) -> Result<u64, KeyError> {
    let (mut rotated, mut after) = (0, String::new());
    loop {
        let mut connection = database.pool().acquire().await?;
        let tenants = store::tenants_with_chain(&mut connection, &after, TENANTS).await?;
        let Some(last) = tenants.last() else { return Ok(rotated) };
        last.as_str().clone_into(&mut after);
        drop(connection);
        for tenant in &tenants {
            let mut transaction = database.pool().begin().await?;
            if chain::rotate(&mut transaction, tenant, now).await? {
                rotated += 1;
            }
            transaction.commit().await?;
        }
    }
}

/// What the fleet says about itself, to `system`.
fn entry(
    key_id: &str,
    replaces: Option<&str>,
    reason: &str,
    by: &str,
    now: DateTime<Utc>,
) -> Result<NewLog, Refusal> {
    let json = serde_json::json!({
        "actor": {"type": "operator", "id": by},
        "action": KEY_ACTION,
        "targets": [{"type": "signing_key", "id": key_id}],
        "outcome": "success",
        "metadata": {"replaces": replaces.unwrap_or(""), "reason": reason},
    });
    let rules = Rules::at(now, EventLimits::default(), false);
    let event = event::validate_text(&json.to_string(), &rules)
        .map_err(|error| Refusal(format!("event: {error}")))?;
    let tenant = Tenant::system();
    let id = LogId(contracts::ids::uuid_v7_at(now, rand::random()));
    let stamp = Stamp { id, tenant: tenant.clone(), recorded_at: now, class: SELF_AUDIT_CLASS };
    let source = Origin { key_id: "fleetctl".into(), ip: None, user_agent: None };
    let record = event::record_bytes(&stamp, &source, &event)
        .map_err(|error| Refusal(format!("record: {error}")))?;
    let record = Bytes::from(Box::<str>::from(record).into_string());
    admit(&tenant, record, &hex::encode(rand::random::<[u8; 16]>()))
}

//! The fleet's own audit entries: what was done to a tenant's logs, keys, policies or holds, by whom.
//! Each is written twice, for the acting tenant and for `system`, and is a log like any other. Ids and
//! times follow from what is told, so telling it twice makes one entry.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use contracts::audit::Requester;
use contracts::{LogId, RetentionClass, Tenant};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::event::{self, EventLimits, Origin, Rules, Stamp};
use crate::model::NewLog;
use crate::rules::{Refusal, admit};

/// What the fleet writes about itself is kept longest: it has to outlive whatever it speaks of.
pub const SELF_AUDIT_CLASS: RetentionClass = RetentionClass::Years7;

/// Something that was done.
#[derive(Clone, Debug)]
pub struct Deed<'a> {
    /// Whose data it was done to.
    pub tenant: &'a Tenant,
    /// What, e.g. `flotilla.policy.created`.
    pub action: &'static str,
    /// To which thing: its type and its id.
    pub target: (&'static str, Uuid),
    /// What belongs to it, a JSON object.
    pub metadata: Value,
    /// Who asked.
    pub requester: &'a Requester,
    /// When.
    pub at: DateTime<Utc>,
    /// Names the deed; with the action it makes the entries' ids.
    pub operation: Uuid,
}

/// The entries of a deed, sorted by key.
pub fn entries(deed: &Deed<'_>, salt: impl Fn() -> [u8; 16]) -> Result<Vec<NewLog>, Refusal> {
    let mut tenants = vec![deed.tenant.clone()];
    if *deed.tenant != Tenant::system() {
        tenants.push(Tenant::system());
    }
    tenants.sort();
    let event = validated(deed)?;
    // PostgreSQL keeps microseconds, the key must say what it will say.
    let recorded_at =
        DateTime::from_timestamp_micros(deed.at.timestamp_micros()).unwrap_or(deed.at);
    tenants
        .into_iter()
        .map(|tenant| {
            let id = entry_id(deed, &tenant, recorded_at);
            let stamp = Stamp { id, tenant: tenant.clone(), recorded_at, class: SELF_AUDIT_CLASS };
            let source = Origin {
                key_id: deed.requester.key_id.clone(),
                ip: deed.requester.ip.clone(),
                user_agent: None,
            };
            let record = event::record_bytes(&stamp, &source, &event)
                .map_err(|error| Refusal(format!("self-audit record: {error}")))?;
            let record = Bytes::from(Box::<str>::from(record).into_string());
            admit(&tenant, record, &hex::encode(salt()))
        })
        .collect()
}

fn entry_id(deed: &Deed<'_>, tenant: &Tenant, recorded_at: DateTime<Utc>) -> LogId {
    let mut hash = Sha256::new();
    hash.update(deed.action);
    hash.update(b"\0");
    hash.update(deed.operation.as_bytes());
    hash.update(tenant.as_str());
    let digest = hash.finalize();
    let mut tail = [0; 10];
    tail.copy_from_slice(&digest[..10]);
    LogId(contracts::ids::uuid_v7_at(recorded_at, tail))
}

fn validated(deed: &Deed<'_>) -> Result<event::Validated, Refusal> {
    let (kind, id) = deed.target;
    let mut json = json!({
        "actor": {"type": "api_key", "id": deed.requester.key_id},
        "action": deed.action,
        "targets": [{"type": kind, "id": id}],
        "outcome": "success",
        "metadata": deed.metadata,
    });
    if let Some(ip) = &deed.requester.ip {
        json["context"] = json!({ "ip": ip });
    }
    // The event carries no time of its own, so the clock that the rules ask for does not matter.
    let rules = Rules::at(deed.at, EventLimits::default(), false);
    event::validate_text(&json.to_string(), &rules)
        .map_err(|error| Refusal(format!("self-audit event: {error}")))
}

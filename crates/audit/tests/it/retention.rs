//! Policies, holds and plans on a real database: versions and what is in effect, limits, two writers,
//! two tenants, a hold against a deletion, and a plan of what is stored.

mod holds;
pub(crate) mod plans;
mod policies;

use audit::retention::{Hold, HoldDraft, PolicyDraft};
use audit::store::policies::NewVersion;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

pub(crate) fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

pub(crate) fn now() -> DateTime<Utc> {
    at("2026-03-01T12:00:00Z")
}

/// A policy of that name with these members besides.
pub(crate) fn new(id: u128, name: &str, members: &Value) -> NewVersion {
    let mut body = json!({"name": name, "keep": "P30D", "then": "archive_and_delete"});
    let members = members.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(members);
    let draft = PolicyDraft::read(&body, false, now()).unwrap();
    NewVersion {
        id: Uuid::from_u128(id),
        spec: draft.spec,
        effective_from: draft.effective_at.unwrap_or(now()),
        created_by: json!({"key_id": "k1"}),
        created_at: now(),
    }
}

pub(crate) fn hold(id: u128, filter: &Value) -> Hold {
    let body = json!({"matter": "case", "reason": "letter", "filter": filter});
    Hold {
        id: Uuid::from_u128(id),
        draft: HoldDraft::read(&body).unwrap(),
        placed_by: json!({"key_id": "k1"}),
        placed_at: now(),
        released: None,
    }
}

//! The policy and the runs of a scene.

use audit::lifecycle::{Basis, NewRun};
use audit::retention::rules::RulePolicy;
use audit::retention::{Filter, Term};
use chrono::{DateTime, Utc};
use contracts::audit::lifecycle::{PolicyId, RunId, Then};
use serde_json::json;

use crate::scene::acme;

/// Whatever is over 30 days old and of these actions goes.
pub(crate) fn rule(id: PolicyId, then: Then) -> RulePolicy {
    RulePolicy {
        id,
        version: 1,
        name: "old ones".into(),
        filter: Filter { actions: vec!["a.*".into()], ..Filter::default() },
        keep: Term::of_days(30),
        then,
        priority: 0,
        legal_minimum: None,
        legal_maximum: None,
    }
}

/// A run that is begun.
pub(crate) fn new_run(id: RunId, basis: Basis, as_of: DateTime<Utc>) -> NewRun {
    NewRun {
        id,
        tenant: acme(),
        basis,
        requester: json!({"key_id": "system"}),
        then: Then::ArchiveAndDelete,
        archive: None,
        rules: None,
        as_of,
        notify: 0,
        correlation_id: "test".into(),
    }
}

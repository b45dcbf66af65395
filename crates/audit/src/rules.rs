//! The index worker's decisions, pure: may this record be stored, how long does a change wait for
//! its log, what does a time without a partition mean, what does an erasure write about itself.
//! They take what they need and return a verdict; no clock, no store.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use contracts::{LogId, RetentionClass, Tenant};
use sha2::{Digest, Sha256};

use crate::event;
use crate::model::{LogKey, NewErasure, NewLog};
use crate::projection;
use crate::record::Record;
use crate::self_audit::{self, Deed};

/// Why a record cannot be stored, for the dead letter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

fn refuse<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(why.into()))
}

/// Targets of one event at most; the API's limit, checked again because a queue has other producers.
const TARGETS_MAX: usize = event::TARGETS_MAX;

/// Checks a record against the envelope that carried it, and reads it: once, for row and document.
pub fn admit(tenant: &Tenant, record: Bytes, salt: &str) -> Result<NewLog, Refusal> {
    let view = Record::parse(&record).map_err(|error| Refusal(format!("record: {error}")))?;
    if view.tenant != *tenant {
        return refuse(format!("record of tenant {}, envelope of tenant {tenant}", view.tenant));
    }
    check_time(view.id, view.recorded_at)?;
    check_columns(&view)?;
    let salt = salt_bytes(salt)?;
    let key = LogKey {
        tenant: view.tenant.clone(),
        class: view.class,
        recorded_at: view.recorded_at,
        id: view.id,
    };
    let document = projection::document(view, projection::Revisions::default());
    let sha256 = Sha256::digest(&record).into();
    Ok(NewLog { key, record, sha256, salt, document })
}

/// A read by id looks into the millisecond that the id carries, and PostgreSQL keeps microseconds:
/// a record that says otherwise could never be found again.
fn check_time(id: LogId, recorded_at: DateTime<Utc>) -> Result<(), Refusal> {
    if !recorded_at.timestamp_subsec_nanos().is_multiple_of(1_000) {
        return refuse("recorded_at is finer than microseconds");
    }
    match id.recorded_millis() {
        Some(at) if at.timestamp_millis() != recorded_at.timestamp_millis() => {
            refuse(format!("id {id} is of {at}, recorded_at says {recorded_at}"))
        }
        _ => Ok(()),
    }
}

fn salt_bytes(text: &str) -> Result<[u8; 16], Refusal> {
    let mut salt = [0; 16];
    hex::decode_to_slice(text, &mut salt)
        .map_err(|error| Refusal(format!("salt is not 16 bytes of hex: {error}")))?;
    Ok(salt)
}

/// PostgreSQL's text cannot hold U+0000, and one such row would fail its whole batch.
fn check_columns(view: &Record<'_>) -> Result<(), Refusal> {
    let event = &view.event;
    if event.targets.len() > TARGETS_MAX {
        return refuse(format!("{} targets, at most {TARGETS_MAX}", event.targets.len()));
    }
    let parties = std::iter::once(&event.actor).chain(&event.targets);
    let nul = parties
        .flat_map(|party| [Some(&party.kind), Some(&party.id), party.name.as_ref()])
        .chain([Some(&event.action)])
        .flatten()
        .any(|text| text.as_str().contains('\0'));
    if nul { refuse("U+0000 in actor, action or target") } else { Ok(()) }
}

/// What to do with a log that no partition takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unplaced {
    /// A partition belongs there: the scheduler is behind. Wait for it.
    Wait,
    /// Its time is over or lies in the future: no partition will come.
    Reject,
}

/// Partitions are made this far ahead; nothing honest is recorded beyond.
const PARTITIONS_AHEAD: TimeDelta = TimeDelta::days(14);

/// Judges a log that no partition takes.
pub fn unplaced(class: RetentionClass, recorded_at: DateTime<Utc>, now: DateTime<Utc>) -> Unplaced {
    let kept = match class {
        RetentionClass::Days7 => TimeDelta::days(7),
        RetentionClass::Days30 => TimeDelta::days(30),
        RetentionClass::Days90 => TimeDelta::days(90),
        RetentionClass::Year1 => TimeDelta::days(366),
        // Custom policies are bounded by the longest class.
        RetentionClass::Years7 | RetentionClass::Custom => TimeDelta::days(7 * 366),
    };
    if recorded_at < now - kept || recorded_at > now + PARTITIONS_AHEAD {
        Unplaced::Reject
    } else {
        Unplaced::Wait
    }
}

/// Receives after which a change to a log that never came is rejected; well below the queue's own
/// net of 25.
pub const MISSING_RECEIVES_MAX: u32 = 16;
/// Longest pause between two looks.
const MISSING_PAUSE_MAX: Duration = Duration::from_secs(900);

/// How long a change waits for its log before it looks again: 1 s doubling to 15 minutes, about
/// 105 minutes in all; `None` when it has waited long enough.
pub fn wait_for_log(receives: u32) -> Option<Duration> {
    if receives >= MISSING_RECEIVES_MAX {
        return None;
    }
    let doublings = receives.saturating_sub(1).min(10);
    Some(Duration::from_secs(1 << doublings).min(MISSING_PAUSE_MAX))
}

/// The action of an erasure's own audit entry.
pub const ERASED_ACTION: &str = "flotilla.log.erased";

/// The audit entries of an erasure, one for the acting tenant and one for `system`, sorted by key.
/// Ids and times follow from the request, so a redelivery writes the same rows.
pub fn erasure_entries(
    erasure: &NewErasure,
    requester: &contracts::audit::Requester,
    salt: impl Fn() -> [u8; 16],
) -> Result<Vec<NewLog>, Refusal> {
    let deed = Deed {
        tenant: &erasure.tenant,
        action: ERASED_ACTION,
        target: ("log", erasure.id.0),
        metadata: serde_json::json!({
            "tenant": erasure.tenant,
            "operation_id": erasure.operation_id,
            "reason": erasure.reason,
        }),
        requester,
        at: erasure.recorded_at,
        operation: erasure.operation_id.0,
    };
    self_audit::entries(&deed, salt)
}

#[cfg(test)]
mod tests;

//! What archive and retention tell others, put into the outbox by the transaction that it is about: the cleanup
//! that a sealed unit is due, whom a policy wants told of its run's end, the fleet's own entry about it, and
//! what such an end left for a further run.

use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use contracts::audit::lifecycle::{
    CleanupArchived, CleanupMessage, PolicyId, PolicyNotification, RetentionMessage, RunEvent,
    RunId, ScheduleRetention,
};
use contracts::audit::{IndexMessage, LogItem, Requester};
use contracts::{EnvelopeId, Header, Message, Tenant};
use database::outbox::{self, Draft};
use evidence::document::ManifestRef;
use rand::Rng;
use serde_json::json;
use serde_json::value::RawValue;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::lifecycle::{Basis, Run, RunState, Unit};
use crate::self_audit::{self, Deed};
use crate::store::{self, Large, RunEnd};

pub(crate) use database::outbox::PutError;

/// What caused a message: the run, and the message that is in hand.
#[derive(Clone, Debug)]
pub(crate) struct Cause {
    header: Header,
}

impl Cause {
    /// Follows the run from request to receipt.
    pub(crate) fn of(run: &Run, cause: &Header) -> Self {
        Self {
            header: Header {
                v: 1,
                kind: String::new(),
                id: cause.id,
                tenant: run.new.tenant.clone(),
                recorded_at: cause.recorded_at,
                correlation_id: run.new.correlation_id.clone(),
                causation_id: Some(cause.id.to_string()),
                hops: cause.hops.saturating_add(1),
                key: None,
                revision: None,
            },
        }
    }

    fn next(&self, now: DateTime<Utc>) -> Header {
        let id = contracts::ids::uuid_v7_at(now, rand::rng().random());
        Header { id: EnvelopeId(id), recorded_at: now, ..self.header.clone() }
    }
}

/// What no message led to: somebody's request, or the time.
pub(crate) fn begin(tenant: &Tenant, correlation_id: &str, now: DateTime<Utc>) -> Cause {
    Cause {
        header: Header {
            v: 1,
            kind: String::new(),
            id: EnvelopeId(Uuid::nil()),
            tenant: tenant.clone(),
            recorded_at: now,
            correlation_id: correlation_id.to_owned(),
            causation_id: None,
            hops: 0,
            key: None,
            revision: None,
        },
    }
}

/// A message that a message of the same tenant leads to, before there is a run to speak of.
pub(crate) async fn follow<M: Message>(
    transaction: &mut PgConnection,
    cause: &Header,
    message: &M,
    now: DateTime<Utc>,
) -> Result<(), PutError> {
    let causation_id = Some(cause.id.to_string());
    let hops = cause.hops.saturating_add(1);
    let header = Header { causation_id, hops, key: None, revision: None, ..cause.clone() };
    put(transaction, &Cause { header }, message, now).await
}

/// The same message later, as a new one: given back again and again it would use up the receives of its
/// queue.
pub(crate) async fn again<M: Message>(
    transaction: &mut PgConnection,
    header: &Header,
    (message, delay): (&M, Duration),
    now: DateTime<Utc>,
) -> Result<(), PutError> {
    let causation_id = Some(header.id.to_string());
    let cause = Cause { header: Header { causation_id, ..header.clone() } };
    outbox::put(transaction, &draft(&cause, message, now)?.delayed(delay)).await
}

/// A message of a run.
pub(crate) async fn put<M: Message>(
    transaction: &mut PgConnection,
    cause: &Cause,
    message: &M,
    now: DateTime<Utc>,
) -> Result<(), PutError> {
    outbox::put(transaction, &draft(cause, message, now)?).await
}

fn draft<M: Message>(cause: &Cause, message: &M, now: DateTime<Utc>) -> Result<Draft, PutError> {
    Draft::new(cause.next(now), message)
        .map_err(|error| PutError::Database(sqlx::Error::Encode(Box::new(error))))
}

/// The unit's rows are to be deleted: what holds them is in the chain.
pub(crate) async fn clean_up(
    transaction: &mut PgConnection,
    cause: &Cause,
    unit: &Unit,
    manifest: ManifestRef,
    now: DateTime<Utc>,
) -> Result<(), PutError> {
    let message = CleanupMessage::Archived(CleanupArchived {
        run_id: unit.run_id,
        unit_id: unit.id,
        manifest_sequence: manifest.sequence,
        manifest_sha256: manifest.sha256.to_string(),
    });
    put(transaction, cause, &message, now).await
}

/// A run has ended: one message for each that its policy wants told. One that did what its plan said, where
/// more was due than a plan may hold, leaves the rest to a slot of this moment: by the version that is in
/// effect when its turn comes, and to none where the policy is not applied any more.
pub(crate) async fn tell(
    transaction: &mut PgConnection,
    cause: &Cause,
    end: Option<&RunEnd>,
    now: DateTime<Utc>,
) -> Result<(), PutError> {
    let Some(end) = end else { return Ok(()) };
    own_entry(transaction, cause, end.id, now).await?;
    let RunEnd { id, policy: Some(policy), state, notify, more } = end else { return Ok(()) };
    let event = match state {
        RunState::Done => RunEvent::Done,
        _ => RunEvent::Failed,
    };
    if *more && event == RunEvent::Done {
        // A beginning of its own: parts follow on parts, but not in a loop.
        let part = Cause { header: Header { hops: 0, ..cause.header.clone() } };
        let slot = now.trunc_subsecs(6);
        let message = ScheduleRetention { policy_id: *policy, slot };
        put(transaction, &part, &RetentionMessage::Schedule(message), now).await?;
    }
    tell_targets(transaction, cause, (*policy, *id, event), *notify, now).await
}

/// One audit entry per run that deleted, however it ended, never one per log. It goes the way of any other
/// log, so that search has it, too.
async fn own_entry(
    transaction: &mut PgConnection,
    cause: &Cause,
    run: RunId,
    now: DateTime<Utc>,
) -> Result<(), PutError> {
    let tenant = &cause.header.tenant;
    let Some(run) = store::run_with(transaction, tenant, run, Large::Neither).await? else {
        return Ok(());
    };
    let counters = run.counters;
    if counters.deleted.events == 0 {
        return Ok(());
    }
    let policy = match run.new.basis {
        Basis::Policy { id, .. } => Some(id),
        Basis::Request(_) => None,
    };
    let requester = serde_json::from_value(run.new.requester.clone())
        .unwrap_or_else(|_| Requester { key_id: "scheduler".to_owned(), ip: None });
    let deed = Deed {
        tenant,
        action: "flotilla.logs.deleted",
        target: ("run", run.new.id),
        metadata: json!({
            "state": run.state,
            "policy_id": policy,
            "deleted": counters.deleted.events,
            "held": counters.held.events,
            "failed": counters.failed.events,
            "correlation_id": run.new.correlation_id,
        }),
        requester: &requester,
        at: now,
        operation: run.new.id,
    };
    let unwritable = |why: String| PutError::Database(sqlx::Error::Encode(why.into()));
    let entries = self_audit::entries(&deed, || rand::rng().random());
    for entry in entries.map_err(|refusal| unwritable(refusal.0))? {
        let text = String::from_utf8_lossy(&entry.record).into_owned();
        let item = LogItem { salt: hex::encode(entry.salt), record: RawValue::from_string(text)? };
        let header = Header {
            id: EnvelopeId(entry.key.id.0),
            tenant: entry.key.tenant,
            recorded_at: entry.key.recorded_at,
            hops: 0,
            ..cause.header.clone()
        };
        outbox::put(transaction, &Draft::new(header, &IndexMessage::Index(item))?).await?;
    }
    Ok(())
}

/// Something else has become of a policy's run: as above.
pub(crate) async fn tell_of(
    transaction: &mut PgConnection,
    cause: &Cause,
    run: &Run,
    event: RunEvent,
    now: DateTime<Utc>,
) -> Result<(), PutError> {
    let Basis::Policy { id: policy, .. } = run.new.basis else { return Ok(()) };
    tell_targets(transaction, cause, (policy, run.new.id, event), run.new.notify, now).await
}

async fn tell_targets(
    transaction: &mut PgConnection,
    cause: &Cause,
    (policy_id, run_id, event): (PolicyId, RunId, RunEvent),
    notify: u32,
    now: DateTime<Utc>,
) -> Result<(), PutError> {
    for target in 0..notify {
        let message =
            RetentionMessage::Notify(PolicyNotification { policy_id, run_id, event, target });
        put(transaction, cause, &message, now).await?;
    }
    Ok(())
}

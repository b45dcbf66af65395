//! What archive and retention tell others, put into the outbox by the transaction that it is about: the cleanup
//! that a sealed unit is due, whom a policy wants told of its run's end, and what such an end left for a
//! further run.

use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use contracts::audit::lifecycle::{
    CleanupArchived, CleanupMessage, PolicyId, PolicyNotification, RetentionMessage, RunEvent,
    RunId, ScheduleRetention,
};
use contracts::{EnvelopeId, Header, Message};
use database::outbox::{self, Draft};
use evidence::document::ManifestRef;
use rand::Rng;
use sqlx::PgConnection;

use crate::lifecycle::{Basis, Run, RunState, Unit};
use crate::store::RunEnd;

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

/// A message that nothing led to but what its header says.
pub(crate) async fn begin<M: Message>(
    transaction: &mut PgConnection,
    header: &Header,
    message: &M,
    now: DateTime<Utc>,
) -> Result<(), PutError> {
    put(transaction, &Cause { header: header.clone() }, message, now).await
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
    let Some(RunEnd { id, policy: Some(policy), state, notify, more }) = end else {
        return Ok(());
    };
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

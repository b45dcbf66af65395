//! What the archive tells others, put into the outbox by the transaction that it is about: the cleanup
//! that a sealed unit is due, and whom a policy wants told of its run's end.

use chrono::{DateTime, Utc};
use contracts::audit::lifecycle::{
    CleanupArchived, CleanupMessage, PolicyNotification, RetentionMessage, RunEvent,
};
use contracts::{EnvelopeId, Header, Message};
use database::outbox::{self, Draft};
use evidence::document::ManifestRef;
use rand::Rng;
use sqlx::PgConnection;

use crate::lifecycle::{Run, RunState, Unit};
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

async fn put<M: Message>(
    transaction: &mut PgConnection,
    cause: &Cause,
    message: &M,
    now: DateTime<Utc>,
) -> Result<(), PutError> {
    let draft = Draft::new(cause.next(now), message)
        .map_err(|error| PutError::Database(sqlx::Error::Encode(Box::new(error))))?;
    outbox::put(transaction, &draft).await
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

/// A run has ended: one message for each that its policy wants told.
pub(crate) async fn tell(
    transaction: &mut PgConnection,
    cause: &Cause,
    end: Option<&RunEnd>,
    now: DateTime<Utc>,
) -> Result<(), PutError> {
    let Some(RunEnd { id, policy: Some(policy), state, notify }) = end else { return Ok(()) };
    let event = match state {
        RunState::Done => RunEvent::Done,
        _ => RunEvent::Failed,
    };
    for target in 0..*notify {
        let message = RetentionMessage::Notify(PolicyNotification {
            policy_id: *policy,
            run_id: *id,
            event,
            target,
        });
        put(transaction, cause, &message, now).await?;
    }
    Ok(())
}

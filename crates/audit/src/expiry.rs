//! The scheduler's duty towards the archive's own term: objects that are past it, or whose place another
//! has taken, become `CLEANUP_EXPIRED` messages, in one transaction with the note that they did. One that
//! a hold keeps comes again a day later; one that the store has locked, when the lock is over.
//!
//! It removes nothing: who handles the message looks at term, holds and lock once more.

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use contracts::audit::lifecycle::{CleanupExpired, CleanupMessage};
use database::Database;
use uuid::Uuid;

use crate::archive::outgoing;
use crate::store::expiring;

/// Objects of one round at most.
pub const ROUND_MAX: i64 = 200;
/// Of them, of one tenant at most.
pub const TENANT_MAX: i64 = 50;
/// An object that is still there comes again after this.
pub const AGAIN: TimeDelta = TimeDelta::days(1);

/// One round: how many objects are due now. As many as [`ROUND_MAX`]: there may be more at once.
pub async fn follow(database: &Database, now: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    let now = now.trunc_subsecs(6);
    let mut transaction = database.pool().begin().await?;
    let due =
        expiring::take_due(&mut transaction, (now, now - AGAIN), TENANT_MAX, ROUND_MAX).await?;
    let count = due.len() as u64;
    for expiring::Due { tenant, object, manifest, run_id, policy, correlation_id } in due {
        // A request's run has no policy, and nobody asks for one.
        let (policy_id, policy_version) = policy.unwrap_or((Uuid::nil(), 0));
        let message = CleanupMessage::Expired(CleanupExpired {
            run_id,
            policy_id,
            policy_version,
            manifest_sequence: manifest,
            object,
        });
        let cause = outgoing::begin(&tenant, &correlation_id, now);
        outgoing::put(&mut transaction, &cause, &message, now).await?;
    }
    transaction.commit().await?;
    Ok(count)
}

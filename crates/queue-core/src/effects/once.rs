//! Running one effect outside our transactions: begun in the ledger, kept for as long as the
//! delivery's lease, completed or given back. What an interrupted one means is the sink's promise.

use std::future::Future;
use std::time::Duration;

use contracts::errors;
use tokio::time::Instant;

use super::{Begun, EffectKey, Effects, EffectsError, Entry, Outcome};
use crate::lease::Lease;
use crate::worker::{Delivery, Error, Failure, Reason};

/// What a sink can promise when an effect was begun and nobody knows how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Doing it twice is doing it once (a deterministic id, a conditional write): it is run again.
    Idempotent,
    /// The other side keeps no account (mail, a phone call): it is not run again, and the doubt goes
    /// to a person as [`Failure::Unknown`].
    Unknown,
}

/// A hold shorter than this is not worth a call.
const HOLD_MIN: Duration = Duration::from_secs(1);
/// Tries to complete an entry before the message is given back.
const COMPLETE_TRIES: u32 = 3;
/// Pause between them, doubled each time.
const COMPLETE_PAUSE: Duration = Duration::from_millis(100);

/// Runs `effect` unless `key` is done already, and answers what it came to.
///
/// Another delivery at the same effect is a [`Failure::Snooze`], which uses up no attempt. When
/// `effect` fails, it must not have happened, or `promise` is [`Promise::Idempotent`], or its answer
/// is [`Failure::Unknown`]: any other failure gives the entry back, so that the next try is a fresh one.
pub async fn once<M>(
    effects: &dyn Effects,
    delivery: &Delivery<M>,
    key: &EffectKey,
    promise: Promise,
    effect: impl Future<Output = Result<Outcome, Failure>>,
) -> Result<Outcome, Failure> {
    let lease = &*delivery.lease;
    let holder = format!("message {}, receive {}", delivery.header.id, delivery.attempt.receives);
    let begun = effects.begin(key, &holder, remaining(lease)).await;
    let entry = match begun.map_err(|error| ledger(&error))? {
        Begun::Fresh(entry) => entry,
        Begun::Done(outcome) => return Ok(outcome),
        Begun::Busy(left) => return Err(Failure::Snooze(left.max(HOLD_MIN))),
        Begun::Abandoned { entry, .. } if promise == Promise::Idempotent => entry,
        Begun::Abandoned { entry, since, by } => {
            // Nobody is at it: a person may settle it at once. Not heard, our hold ends by itself.
            let _ = effects.extend(&entry, Duration::ZERO).await;
            return Err(unknown(key, &format!("was begun at {since} by {by} and not completed")));
        }
    };
    let done = tokio::select! {
        biased;
        done = effect => done,
        error = keep(effects, &entry, lease) => return Err(match promise {
            Promise::Idempotent => ledger(&error),
            Promise::Unknown => unknown(key, &format!("was under way ({error})")),
        }),
    };
    match done {
        Ok(outcome) => complete(effects, &entry, outcome).await,
        Err(failure @ Failure::Unknown(_)) => Err(failure),
        Err(failure) => {
            // Unreleased it only expires: what is tried again then is told as abandoned.
            let _ = effects.release(&entry).await;
            Err(failure)
        }
    }
}

/// What is left of the delivery's lease.
fn remaining(lease: &Lease) -> Duration {
    lease.ends().saturating_duration_since(Instant::now()).max(HOLD_MIN)
}

/// Keeps the entry while the lease is kept. Returns only when the entry is lost: a call that fails
/// is tried again, and the entry may end with the lease.
async fn keep(effects: &dyn Effects, entry: &Entry, lease: &Lease) -> EffectsError {
    loop {
        tokio::time::sleep(remaining(lease) / 3).await;
        if let Err(error @ EffectsError::Lost(_)) = effects.extend(entry, remaining(lease)).await {
            return error;
        }
    }
}

/// Notes that the effect happened. Where that cannot be noted, the message comes again and finds an
/// abandoned entry: an idempotent effect is repeated, an unknown one is told.
async fn complete(
    effects: &dyn Effects,
    entry: &Entry,
    outcome: Outcome,
) -> Result<Outcome, Failure> {
    let mut pause = COMPLETE_PAUSE;
    for left in (0..COMPLETE_TRIES).rev() {
        match effects.complete(entry, &outcome).await {
            // Lost: it happened all the same, and who has the entry now judges it by the promise.
            Ok(()) | Err(EffectsError::Lost(_)) => return Ok(outcome),
            Err(error) if left == 0 => return Err(ledger(&error)),
            Err(_) => tokio::time::sleep(pause).await,
        }
        pause *= 2;
    }
    Ok(outcome)
}

fn ledger(error: &EffectsError) -> Failure {
    Failure::Retry(match error {
        EffectsError::Misused(_) => Error::handling(errors::INTERNAL, error.to_string()),
        _ => Error::infrastructure(errors::DATABASE_UNAVAILABLE, error.to_string()),
    })
}

/// A doubt, with the command that ends it: until then every redelivery ends in the same doubt.
fn unknown(key: &EffectKey, what: &str) -> Failure {
    let quoted = key.to_string().replace('\'', r"'\''");
    let message = format!(
        "{key} {what}. Did it happen? `fleetctl effects settle '{quoted}' --done --reason WHY` (or \
         --not-done), then redrive"
    );
    Failure::Unknown(Reason { code: errors::EFFECT_UNKNOWN, message })
}

//! What a failure of a sink means for the message: each is a row of the engine's table.

use contracts::errors::INTERNAL;
use queue_core::{Failure, Full, Trouble};

use crate::rules::Refusal;
use crate::store::StoreError;

/// A store's failure that is not about one log of many.
pub(super) fn store(error: &StoreError) -> Failure {
    error.class.failure(error.to_string())
}

/// A batch did not take the item, or lost it: nothing of the message's doing.
pub(super) fn full(full: Full) -> Failure {
    Trouble::Unavailable.failure(INTERNAL, format!("batch: {full}"), None)
}

/// Something that we made ourselves cannot be stored.
pub(super) fn ours(refusal: &Refusal) -> Failure {
    Trouble::Poison.failure(INTERNAL, refusal.to_string(), None)
}

//! What a failure of a sink means for the message: infrastructure waits free of charge, a fault of
//! ours counts, refused data is rejected.

use contracts::errors::{DATABASE_UNAVAILABLE, INTERNAL, REJECTED_BY_STORE};
use database::DbErrorClass;
use queue_core::{Error, Failure, Full, Reason};

use crate::rules::Refusal;
use crate::store::StoreError;

/// A store's failure that is not about one log of many.
pub(super) fn store(error: &StoreError) -> Failure {
    match error.class {
        // No partition yet: it is the scheduler that is behind, not the message that is wrong.
        DbErrorClass::Retry | DbErrorClass::Unavailable | DbErrorClass::NoPartition => {
            Failure::Retry(Error::infrastructure(DATABASE_UNAVAILABLE, error.to_string()))
        }
        DbErrorClass::Data => {
            Failure::Reject(Reason { code: REJECTED_BY_STORE, message: error.to_string() })
        }
        DbErrorClass::Fault => Failure::Retry(Error::handling(INTERNAL, error.to_string())),
    }
}

/// A batch did not take the item, or lost it: nothing of the message's doing.
pub(super) fn full(full: Full) -> Failure {
    Failure::Retry(Error::infrastructure(INTERNAL, format!("batch: {full}")))
}

/// Something that we made ourselves cannot be stored.
pub(super) fn ours(refusal: &Refusal) -> Failure {
    Failure::Retry(Error::handling(INTERNAL, refusal.to_string()))
}

//! A body that waits in the object store, fetched and checked as a worker would. It only reads: an
//! object is neither changed nor removed by looking at its letter.

use contracts::packing::BODY_BYTES_MAX;
use contracts::{Claimed, Header};
use queue_core::claim::{CALL_MAX, ClaimError, verify};
use serde_json::value::RawValue;
use sinks::objects::{self, ClaimConfig};

use super::outlook::Doubt;
use crate::settings::Settings;

/// Why a body is not there to be shown.
pub(super) struct Unread {
    pub(super) why: String,
    /// Where a redrive would meet the same.
    pub(super) doubt: Option<Doubt>,
}

impl Unread {
    /// Not readable from here; a worker may be better off.
    fn here(why: String) -> Self {
        Self { why, doubt: None }
    }

    /// A worker would find the same.
    fn anywhere(why: String, fix: &str) -> Self {
        Self { doubt: Some(Doubt::likely(why.clone(), fix)), why }
    }
}

/// The claimed body, unpacked.
pub(super) async fn fetch(
    settings: &Settings,
    header: &Header,
    claimed: &Claimed,
) -> Result<Box<RawValue>, Unread> {
    let claim = &claimed.claim;
    let most = claim.size.max(claimed.bytes);
    if most > BODY_BYTES_MAX {
        return Err(Unread::here(format!("{most} bytes, the limit is {BODY_BYTES_MAX}")));
    }
    let config = settings.read::<ClaimConfig>();
    let config = config.map_err(|failure| Unread::here(failure.message))?;
    let Some(store) = objects::open(&config).await else {
        let why =
            "no object store is set here: set CLAIM_BUCKET or CLAIM_DIR as the workers have it";
        return Err(Unread::here(why.to_owned()));
    };
    let late = || ClaimError::unavailable(format!("no answer in {CALL_MAX:?}"));
    let object = tokio::time::timeout(CALL_MAX, store.get(&header.tenant, claim)).await;
    let object = object.unwrap_or_else(|_| Err(late())).map_err(unread)?;
    verify(claim, &object).map_err(|why| Unread::anywhere(why, PUT_BACK))?;
    claimed.unpack(&object).map_err(|error| Unread::here(error.to_string()))
}

/// What to do about a body that is gone or another.
const PUT_BACK: &str = "put the right one back (an older version in the bucket), then redrive";

fn unread(error: ClaimError) -> Unread {
    match error {
        ClaimError::Missing(_) => Unread::anywhere("its body is gone".to_owned(), PUT_BACK),
        ClaimError::Settled(message) => Unread::here(format!(
            "message {message} was settled since, and its body is gone: this is a late duplicate; a \
             redrive only deletes it"
        )),
        ClaimError::Foreign(why) => Unread::here(why),
        ClaimError::Unavailable { message, .. } => Unread::here(format!(
            "the object store does not answer: {message}; a bucket is reached by this process's own \
             AWS_* variables and profile"
        )),
    }
}

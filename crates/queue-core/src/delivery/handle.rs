//! One run of a handler: a panic is caught, and a lease that is cancelled stops it where it stands.
//! It reports what happened and decides nothing.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError};

use contracts::Message;
use futures_util::FutureExt;
use tokio::time::Instant;
use tracing::Instrument;

use super::decode::Decoded;
use crate::events::Meters;
use crate::lease::{Cause, Lease};
use crate::worker::{Attempt, Delivery, Failure, RejectedPart, Worker};

/// What a handler answered, or was stopped by.
pub(crate) enum Answer {
    /// Success, with the parts to be dead-lettered before the message is settled.
    Done(Vec<RejectedPart>),
    Failed(Failure),
    Panicked(String),
    Cancelled(Cause),
}

pub(crate) async fn handle<W: Worker>(
    worker: &W,
    decoded: Decoded<W::Message>,
    attempt: Attempt,
    lease: &Arc<Lease>,
    meters: &Meters,
) -> Answer {
    let Decoded { header, message } = decoded;
    let span = tracing::info_span!(
        "message",
        queue = W::Message::QUEUE.name,
        id = %header.id,
        kind = header.kind,
        tenant = %header.tenant,
        correlation_id = header.correlation_id,
    );
    let delivery = Delivery {
        header,
        message,
        attempt,
        cancelled: lease.cancelled().clone(),
        parts: Arc::default(),
        lease: Arc::clone(lease),
    };
    let parts = Arc::clone(&delivery.parts);
    lease.progress();
    let started = Instant::now();
    let run = AssertUnwindSafe(async { worker.handle(delivery).await }).catch_unwind();
    let answer = tokio::select! {
        biased;
        // What the handler has finished counts, also when it was cancelled at that moment.
        answer = run.instrument(span) => match answer {
            Ok(Ok(())) => {
                Answer::Done(std::mem::take(&mut *parts.lock().unwrap_or_else(PoisonError::into_inner)))
            }
            Ok(Err(failure)) => Answer::Failed(failure),
            Err(panic) => Answer::Panicked(panic_text(&*panic)),
        },
        () = lease.cancelled().cancelled() => {
            Answer::Cancelled(lease.cause().unwrap_or(Cause::Lost))
        }
    };
    meters.handled(started.elapsed());
    answer
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without text".to_owned())
}

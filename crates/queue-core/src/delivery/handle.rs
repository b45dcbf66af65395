//! One run of a handler: a panic is caught, and a lease that is cancelled stops it where it stands.
//! It reports what happened and decides nothing.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError};

use contracts::{Header, Message};
use futures_util::FutureExt;
use tokio::time::Instant;
use tracing::{Instrument, Span};

use super::decode::Decoded;
use crate::events::Meters;
use crate::lease::{Cause, Lease};
use crate::trace::{self, Remote};
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
    traceparent: Option<&str>,
    meters: &Meters,
) -> Answer {
    // While it waited for its past or its turn; a handler must not even begin then.
    if lease.cancelled().is_cancelled() {
        return Answer::Cancelled(lease.cause().unwrap_or(Cause::Lost));
    }
    let Decoded { header, message } = decoded;
    let span = span(W::Message::QUEUE.name, &header, traceparent);
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
    let mut run = std::pin::pin!(run.instrument(span));
    let answer = tokio::select! {
        biased;
        // What the handler has finished counts, also when it was cancelled at that moment.
        answer = run.as_mut() => match answer {
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
    tell(run.as_ref().get_ref().span(), &answer);
    answer
}

/// The span of one run: in every log line of it, and in the message's trace where that is sampled.
fn span(queue: &'static str, header: &Header, traceparent: Option<&str>) -> Span {
    macro_rules! message {
        ($target:expr $(, otel.kind = $kind:literal)?) => {
            tracing::info_span!(
                target: $target,
                parent: None,
                "message",
                $(otel.kind = $kind,)?
                queue,
                id = %header.id,
                kind = header.kind,
                tenant = %header.tenant,
                correlation_id = header.correlation_id,
            )
        };
    }
    match Remote::of(traceparent) {
        Some(remote) if remote.is_sampled() => {
            let span = message!(trace::TARGET, otel.kind = "consumer");
            remote.continue_in(&span);
            span
        }
        // Exported by nobody.
        Some(_) => message!(module_path!()),
        // Whether it begins a trace that is exported is the sampler's decision.
        None => message!(trace::TARGET),
    }
}

/// How a run ended, for its trace.
fn tell(span: &Span, answer: &Answer) {
    match answer {
        Answer::Done(_) | Answer::Failed(Failure::Snooze(_)) => {}
        Answer::Failed(Failure::Retry(error) | Failure::RetryAfter(error, _)) => {
            trace::failed(span, error);
        }
        Answer::Failed(
            Failure::Park(reason) | Failure::Reject(reason) | Failure::Unknown(reason),
        ) => trace::failed(span, format_args!("{}: {}", reason.code.code, reason.message)),
        Answer::Panicked(text) => trace::failed(span, text),
        Answer::Cancelled(cause) => trace::failed(span, format_args!("cancelled: {cause:?}")),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without text".to_owned())
}

//! Which faults one request meets, and how a header spells them.

use std::time::Duration;

use super::rules::{DELAY_MS_MAX, Fault};
use crate::errors::{ErrorKind, SqsError};
use crate::model::QueueArn;
use crate::operations::Request;

/// Faults in one header.
const IN_HEADER_MAX: usize = 4;

/// What is done to one call.
#[derive(Debug, Default)]
pub(super) struct Choice {
    /// Waited before the call.
    pub(super) latency: Duration,
    /// The answer instead of the call.
    pub(super) refusal: Option<SqsError>,
    /// The messages received stay visible.
    pub(super) duplicate: bool,
    /// The call takes effect, the reply does not arrive.
    pub(super) lost_reply: bool,
    /// The same, when messages were received.
    pub(super) ghost_receive: bool,
}

impl Choice {
    /// Adds a fault; latencies add up to the limit of one.
    pub(super) fn add(&mut self, fault: Fault, delay_ms: u64) {
        match fault {
            Fault::Latency => {
                let most = Duration::from_millis(DELAY_MS_MAX);
                self.latency = (self.latency + Duration::from_millis(delay_ms)).min(most);
            }
            Fault::Throttle => {
                self.refusal.get_or_insert_with(|| {
                    SqsError::new(ErrorKind::RequestThrottled, "Rate exceeded")
                });
            }
            Fault::Error => {
                self.refusal.get_or_insert_with(|| {
                    let text = "We encountered an internal error. Please try again.";
                    SqsError::new(ErrorKind::InternalFailure, text)
                });
            }
            Fault::Duplicate => self.duplicate = true,
            Fault::LostReply => self.lost_reply = true,
            Fault::GhostReceive => self.ghost_receive = true,
        }
    }
}

/// Reads `latency=250, lost-reply`.
pub(super) fn by_header(
    text: &str,
    request: &Request,
    choice: &mut Choice,
) -> Result<(), SqsError> {
    let wrong = |problem: String| SqsError::value(text, super::HEADER, &problem);
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    if parts.len() > IN_HEADER_MAX {
        return Err(wrong(format!("at most {IN_HEADER_MAX} faults, separated by commas.")));
    }
    for part in parts {
        let (name, value) = part.split_once('=').map_or((part, None), |(n, v)| (n, Some(v)));
        let fault = Fault::parse(name).ok_or_else(|| {
            wrong(format!("'{name}' is no fault; there are: {}.", Fault::names()))
        })?;
        let delay = match (fault, value) {
            (Fault::Latency, Some(value)) => value.parse().ok().filter(|ms| *ms <= DELAY_MS_MAX),
            (Fault::Latency, None) => None,
            (_, None) => Some(0),
            (_, Some(_)) => return Err(wrong(format!("only latency takes a value, not {name}."))),
        };
        let delay = delay.ok_or_else(|| {
            wrong(format!("latency takes milliseconds up to {DELAY_MS_MAX}: latency=250."))
        })?;
        if !fault.fits(request) {
            return Err(wrong(format!("{name} cannot happen to this call: {}", fault.needs())));
        }
        choice.add(fault, delay);
    }
    Ok(())
}

/// The queue a request is about.
pub(super) fn queue(request: &Request) -> Option<&QueueArn> {
    match request {
        Request::AddPermission { queue, .. }
        | Request::ChangeMessageVisibility { queue, .. }
        | Request::ChangeMessageVisibilityBatch { queue, .. }
        | Request::DeleteMessage { queue, .. }
        | Request::DeleteMessageBatch { queue, .. }
        | Request::DeleteQueue { queue }
        | Request::GetQueueAttributes { queue, .. }
        | Request::ListDeadLetterSourceQueues { queue, .. }
        | Request::ListQueueTags { queue }
        | Request::PurgeQueue { queue }
        | Request::RemovePermission { queue, .. }
        | Request::SendMessage { queue, .. }
        | Request::SendMessageBatch { queue, .. }
        | Request::SetQueueAttributes { queue, .. }
        | Request::TagQueue { queue, .. }
        | Request::UntagQueue { queue, .. } => queue.as_ref(),
        Request::ReceiveMessage(receive) => receive.queue.as_ref(),
        Request::CancelMessageMoveTask { .. }
        | Request::CreateQueue { .. }
        | Request::GetQueueUrl { .. }
        | Request::ListMessageMoveTasks { .. }
        | Request::ListQueues { .. }
        | Request::StartMessageMoveTask { .. } => None,
    }
}

/// The action's name.
pub(super) fn action(request: &Request) -> &'static str {
    match request {
        Request::AddPermission { .. } => "AddPermission",
        Request::CancelMessageMoveTask { .. } => "CancelMessageMoveTask",
        Request::ChangeMessageVisibility { .. } => "ChangeMessageVisibility",
        Request::ChangeMessageVisibilityBatch { .. } => "ChangeMessageVisibilityBatch",
        Request::CreateQueue { .. } => "CreateQueue",
        Request::DeleteMessage { .. } => "DeleteMessage",
        Request::DeleteMessageBatch { .. } => "DeleteMessageBatch",
        Request::DeleteQueue { .. } => "DeleteQueue",
        Request::GetQueueAttributes { .. } => "GetQueueAttributes",
        Request::GetQueueUrl { .. } => "GetQueueUrl",
        Request::ListDeadLetterSourceQueues { .. } => "ListDeadLetterSourceQueues",
        Request::ListMessageMoveTasks { .. } => "ListMessageMoveTasks",
        Request::ListQueueTags { .. } => "ListQueueTags",
        Request::ListQueues { .. } => "ListQueues",
        Request::PurgeQueue { .. } => "PurgeQueue",
        Request::ReceiveMessage(_) => "ReceiveMessage",
        Request::RemovePermission { .. } => "RemovePermission",
        Request::SendMessage { .. } => "SendMessage",
        Request::SendMessageBatch { .. } => "SendMessageBatch",
        Request::SetQueueAttributes { .. } => "SetQueueAttributes",
        Request::StartMessageMoveTask { .. } => "StartMessageMoveTask",
        Request::TagQueue { .. } => "TagQueue",
        Request::UntagQueue { .. } => "UntagQueue",
    }
}

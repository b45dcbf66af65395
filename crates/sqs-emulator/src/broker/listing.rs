//! Lists of queues, in pages.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Broker;
use crate::errors::SqsError;
use crate::limits::LIST_RESULTS;
use crate::model::{Caller, QueueArn};
use crate::operations::{QueuePage, QueueRef, Response};

impl Broker {
    pub(super) fn list(
        &self,
        caller: &Caller,
        prefix: Option<String>,
        next: Option<String>,
        max: Option<i64>,
    ) -> Result<Response, SqsError> {
        let prefix = caller.queue(&prefix.unwrap_or_default());
        let from = page_start(next)?.unwrap_or_else(|| prefix.clone());
        let names = self
            .names
            .range(from..)
            .map(|(arn, _)| arn)
            .skip_while(|arn| **arn < prefix)
            .take_while(|arn| arn.as_str().starts_with(prefix.as_str()));
        page(names, max).map(Response::Queues)
    }

    pub(super) fn list_sources(
        &self,
        queue: &QueueRef,
        next: Option<String>,
        max: Option<i64>,
    ) -> Result<Response, SqsError> {
        self.queue_id(queue)?;
        let target = queue.as_ref().ok_or_else(SqsError::no_such_queue)?;
        let from = page_start(next)?;
        let sources = self.sources.get(target).into_iter().flatten();
        let sources = sources.filter(|arn| from.as_ref().is_none_or(|from| *arn >= from));
        page(sources, max).map(Response::DeadLetterSources)
    }
}

/// A page's token is the ARN it starts with, in base64.
fn page_start(token: Option<String>) -> Result<Option<QueueArn>, SqsError> {
    let Some(token) = token else { return Ok(None) };
    STANDARD
        .decode(token)
        .ok()
        .and_then(|bytes| QueueArn::parse(&String::from_utf8(bytes).ok()?))
        .map(Some)
        .ok_or_else(|| SqsError::invalid("Invalid or expired next token."))
}

/// Without `max` everything up to the limit, and no token: recorded from AWS.
fn page<'a>(
    arns: impl Iterator<Item = &'a QueueArn>,
    max: Option<i64>,
) -> Result<QueuePage, SqsError> {
    if let Some(max) = max.filter(|max| !LIST_RESULTS.contains(max)) {
        let reason = "MaxResults must be an integer between 1 and 1000.";
        return Err(SqsError::value(max, "MaxResults", reason));
    }
    let limit = usize::try_from(max.unwrap_or(*LIST_RESULTS.end())).unwrap_or(usize::MAX);
    let mut queues: Vec<QueueArn> = arns.take(limit + 1).cloned().collect();
    let more = if queues.len() > limit { queues.pop() } else { None };
    let next = more.filter(|_| max.is_some()).map(|arn| STANDARD.encode(arn.as_str()));
    Ok(QueuePage { queues, next })
}

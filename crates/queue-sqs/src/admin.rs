//! What operators do to queues: make them from the catalogue, look at them, read dead letters
//! without consuming them, move them back, empty them. Workers never need any of it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::QueueAttributeName;
use contracts::QueueSpec;
use queue_core::driver::{BATCH_ENTRIES_MAX, Outgoing, QueueAttributes, ReceiveRequest};
use queue_core::{Driver, DriverError, EntryError, Received};
use serde::Serialize;

use crate::classify::call_error;
use crate::driver::Queue;

/// The longest long poll, set on the queue for readers that do not ask for their own.
const RECEIVE_WAIT_SECS: &str = "20";
/// How long a peek hides what it reads, so that the next receive finds others.
const PEEK_LEASE: Duration = Duration::from_secs(30);
/// A peek waits this long for one more message: a short poll asks only some of the servers.
const PEEK_WAIT: Duration = Duration::from_secs(1);
/// Names per page of a listing (SQS's own limit).
const PAGE: i32 = 1_000;

/// Which of the catalogue's retention figures a queue gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Deployment {
    /// A laptop or a test: the seed's short retention.
    Dev,
    /// Production.
    Prod,
}

/// An operator's call that failed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// SQS refused it or could not be asked.
    #[error(transparent)]
    Call(#[from] DriverError),
    /// SQS answered, but not with what the call needs.
    #[error("{0}")]
    Unexpected(String),
}

/// A queue and its dead-letter queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueueInfo {
    /// URL of the queue.
    pub url: String,
    /// URL of its dead-letter queue.
    pub dlq_url: String,
}

/// A server-side move from a dead-letter queue to its source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MoveTask {
    /// Names the task while it runs.
    pub handle: Option<String>,
    /// `RUNNING`, `COMPLETED`, `CANCELLING`, `CANCELLED` or `FAILED`.
    pub status: String,
    /// Messages moved, approximate.
    pub moved: i64,
    /// Messages to move when it started, approximate.
    pub to_move: Option<i64>,
    /// Why it failed.
    pub failure: Option<String>,
}

/// What a redrive by receive, send and delete did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// Sent to the target and deleted from the source.
    pub moved: usize,
    /// Sent, but the delete failed: it will be seen again in the source. Work keyed by our envelope
    /// id runs once all the same.
    pub sent_not_deleted: usize,
    /// Not sent: still in the source.
    pub failed: Vec<String>,
}

/// The operator's calls. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Admin {
    poll: Client,
    control: Client,
}

impl Admin {
    pub(crate) fn new(poll: Client, control: Client) -> Self {
        Self { poll, control }
    }

    fn driver(&self, url: &str) -> Queue {
        let name = url.rsplit('/').next().unwrap_or(url);
        Queue::new(name, url, self.poll.clone(), self.control.clone())
    }

    /// Makes the queue and its dead-letter queue with the catalogue's figures, or brings existing
    /// ones to them. Doing it twice is the same as once.
    pub async fn create(
        &self,
        spec: &QueueSpec,
        deployment: Deployment,
    ) -> Result<QueueInfo, AdminError> {
        let dlq_url = self.ensure(spec.dlq, dead_letter_figures(spec)).await?;
        let arn = self.arn(&dlq_url).await?;
        let url = self.ensure(spec.name, figures(spec, deployment, &arn)).await?;
        Ok(QueueInfo { url, dlq_url })
    }

    async fn ensure(
        &self,
        name: &str,
        attributes: HashMap<QueueAttributeName, String>,
    ) -> Result<String, AdminError> {
        let known = self.control.get_queue_url().queue_name(name).send().await;
        if let Some(url) = known.ok().and_then(|answer| answer.queue_url) {
            let fixed = [QueueAttributeName::FifoQueue];
            let settable =
                attributes.into_iter().filter(|(attribute, _)| !fixed.contains(attribute));
            let call = self.control.set_queue_attributes().queue_url(&url);
            let answer = call.set_attributes(Some(settable.collect())).send().await;
            answer.map_err(|error| call_error(&error, name))?;
            return Ok(url);
        }
        let call = self.control.create_queue().queue_name(name);
        let answer = call.set_attributes(Some(attributes)).send().await;
        let answer = answer.map_err(|error| call_error(&error, name))?;
        answer.queue_url.ok_or_else(|| AdminError::Unexpected(format!("no URL for {name}")))
    }

    /// URLs of the account's queues whose names start with `prefix`.
    pub async fn list(&self, prefix: &str) -> Result<Vec<String>, AdminError> {
        let mut urls = Vec::new();
        let mut page = None;
        loop {
            let call = self.control.list_queues().max_results(PAGE).set_next_token(page.take());
            let call = if prefix.is_empty() { call } else { call.queue_name_prefix(prefix) };
            let answer = call.send().await.map_err(|error| call_error(&error, "queues"))?;
            urls.extend(answer.queue_urls.unwrap_or_default());
            match answer.next_token {
                Some(token) => page = Some(token),
                None => return Ok(urls),
            }
        }
    }

    /// What a queue says about itself.
    pub async fn attributes(&self, url: &str) -> Result<QueueAttributes, AdminError> {
        Ok(self.driver(url).attributes().await?)
    }

    /// The queue's ARN, which redrive policies and move tasks use.
    pub async fn arn(&self, url: &str) -> Result<String, AdminError> {
        let call = self.control.get_queue_attributes().queue_url(url);
        let answer = call.attribute_names(QueueAttributeName::QueueArn).send().await;
        let answer = answer.map_err(|error| call_error(&error, url))?;
        let arn = answer.attributes.unwrap_or_default().remove(&QueueAttributeName::QueueArn);
        arn.ok_or_else(|| AdminError::Unexpected(format!("{url} does not tell its ARN")))
    }

    /// Reads up to `max` messages and gives them back. It is a receive all the same: each message's
    /// receive count goes up by one, and while the peek runs others do not get it. Meant for
    /// dead-letter queues, where both are harmless.
    pub async fn peek(&self, url: &str, max: usize) -> Result<Vec<Received>, AdminError> {
        let queue = self.driver(url);
        let mut seen = HashSet::new();
        let mut messages: Vec<Received> = Vec::new();
        let mut outcome = Ok(());
        while messages.len() < max {
            let request = ReceiveRequest {
                max: (max - messages.len()).min(BATCH_ENTRIES_MAX),
                wait: PEEK_WAIT,
                lease: PEEK_LEASE,
            };
            match queue.receive(request).await {
                Ok(batch) if batch.is_empty() => break,
                Ok(batch) => {
                    // One seen twice has outlived its lease: the queue is longer than the peek can
                    // hold, so it ends here.
                    let before = messages.len();
                    let fresh = batch.into_iter().filter(|m| seen.insert(m.message_id.clone()));
                    messages.extend(fresh);
                    if messages.len() == before {
                        break;
                    }
                }
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        self.release(&queue, &messages).await;
        outcome?;
        Ok(messages)
    }

    /// What cannot be given back now comes back when its lease ends.
    async fn release(&self, queue: &Queue, messages: &[Received]) {
        let entries: Vec<_> =
            messages.iter().map(|message| (message.receipt.clone(), Duration::ZERO)).collect();
        for batch in entries.chunks(BATCH_ENTRIES_MAX) {
            if let Err(error) = queue.extend(batch).await {
                tracing::debug!(queue = queue.queue(), %error, "peeked messages wait out their lease");
            }
        }
    }

    /// Sends `batch` (messages just received from `from`) to `to` and deletes what was sent. `edit`
    /// makes the message to send from the one received. Send comes first: a crash between the two
    /// leaves a duplicate, never a loss.
    pub async fn redrive(
        from: &dyn Driver,
        to: &dyn Driver,
        batch: &[Received],
        edit: impl Fn(&Received) -> Outgoing,
    ) -> Result<Moved, AdminError> {
        let mut moved = Moved::default();
        for messages in batch.chunks(BATCH_ENTRIES_MAX) {
            let outgoing: Vec<Outgoing> = messages.iter().map(&edit).collect();
            let sent = to.send(&outgoing).await?;
            let mut receipts = Vec::new();
            for (message, result) in messages.iter().zip(sent) {
                match result {
                    Ok(()) => receipts.push(message.receipt.clone()),
                    Err(
                        EntryError::LeaseLost(why)
                        | EntryError::Transient(why)
                        | EntryError::Refused(why),
                    ) => {
                        moved.failed.push(format!("{}: {why}", message.message_id));
                    }
                }
            }
            let deleted = match from.settle(&receipts).await {
                Ok(results) => results.iter().filter(|result| result.is_ok()).count(),
                Err(error) => {
                    tracing::warn!(queue = from.queue(), %error, "redriven messages were not deleted");
                    0
                }
            };
            moved.moved += deleted;
            moved.sent_not_deleted += receipts.len() - deleted;
        }
        Ok(moved)
    }

    /// Has SQS itself move everything from a dead-letter queue to where it came from, at most
    /// `per_second` (1 to 500) messages a second. Bodies stay as they are. One task per queue.
    pub async fn start_move(
        &self,
        dlq_url: &str,
        per_second: Option<u32>,
    ) -> Result<String, AdminError> {
        let arn = self.arn(dlq_url).await?;
        let rate = per_second.map(|rate| i32::try_from(rate).unwrap_or(i32::MAX));
        let call = self.control.start_message_move_task().source_arn(arn);
        let answer = call.set_max_number_of_messages_per_second(rate).send().await;
        let answer = answer.map_err(|error| call_error(&error, dlq_url))?;
        answer.task_handle.ok_or_else(|| AdminError::Unexpected("no task handle".to_owned()))
    }

    /// The latest move tasks of a dead-letter queue, newest first.
    pub async fn moves(&self, dlq_url: &str) -> Result<Vec<MoveTask>, AdminError> {
        let arn = self.arn(dlq_url).await?;
        let call = self.control.list_message_move_tasks().source_arn(arn).max_results(10);
        let answer = call.send().await.map_err(|error| call_error(&error, dlq_url))?;
        let tasks = answer.results.unwrap_or_default().into_iter();
        let tasks = tasks.map(|task| MoveTask {
            handle: task.task_handle,
            status: task.status.unwrap_or_default(),
            moved: task.approximate_number_of_messages_moved,
            to_move: task.approximate_number_of_messages_to_move,
            failure: task.failure_reason,
        });
        Ok(tasks.collect())
    }

    /// Stops a running move; what was moved stays moved.
    pub async fn cancel_move(&self, handle: &str) -> Result<(), AdminError> {
        let call = self.control.cancel_message_move_task().task_handle(handle).send().await;
        call.map(|_| ()).map_err(|error| call_error(&error, "move task").into())
    }

    /// Deletes every message. SQS takes up to 60 s and allows one purge per queue in that time.
    pub async fn purge(&self, url: &str) -> Result<(), AdminError> {
        let call = self.control.purge_queue().queue_url(url).send().await;
        call.map(|_| ()).map_err(|error| call_error(&error, url).into())
    }

    /// Deletes the queue and everything in it.
    pub async fn delete(&self, url: &str) -> Result<(), AdminError> {
        let call = self.control.delete_queue().queue_url(url).send().await;
        call.map(|_| ()).map_err(|error| call_error(&error, url).into())
    }
}

fn fifo(spec: &QueueSpec) -> impl Iterator<Item = (QueueAttributeName, String)> {
    let attributes = spec.kind.attributes().iter();
    attributes.map(|(name, value)| (QueueAttributeName::from(*name), (*value).to_owned()))
}

fn dead_letter_figures(spec: &QueueSpec) -> HashMap<QueueAttributeName, String> {
    let retention = spec.dlq_retention_secs.to_string();
    fifo(spec)
        .chain([
            (QueueAttributeName::MessageRetentionPeriod, retention),
            (QueueAttributeName::VisibilityTimeout, PEEK_LEASE.as_secs().to_string()),
        ])
        .collect()
}

fn figures(
    spec: &QueueSpec,
    deployment: Deployment,
    dlq_arn: &str,
) -> HashMap<QueueAttributeName, String> {
    let retention = match deployment {
        Deployment::Dev => spec.retention_dev_secs,
        Deployment::Prod => spec.retention_prod_secs,
    };
    let redrive = serde_json::json!({
        "deadLetterTargetArn": dlq_arn,
        "maxReceiveCount": spec.receives_max,
    });
    fifo(spec)
        .chain([
            (QueueAttributeName::VisibilityTimeout, spec.visibility_secs.to_string()),
            (QueueAttributeName::MessageRetentionPeriod, retention.to_string()),
            (QueueAttributeName::ReceiveMessageWaitTimeSeconds, RECEIVE_WAIT_SECS.to_owned()),
            (QueueAttributeName::RedrivePolicy, redrive.to_string()),
        ])
        .collect()
}

//! One queue of SQS as the engine's port. Entry ids are positions, never message ids: the same
//! message twice in a batch would make SQS refuse the whole batch. MD5 sums are not checked: TLS
//! guards the way, and a sum made by the same server guards nothing else.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry,
    DeleteMessageBatchRequestEntry, Message, MessageAttributeValue, MessageSystemAttributeName,
    QueueAttributeName, SendMessageBatchRequestEntry,
};
use queue_core::driver::{
    BATCH_ENTRIES_MAX, Depth, EntryResults, FifoAttributes, Outgoing, QueueAttributes,
    ReceiveRequest,
};
use queue_core::{Driver, DriverError, EntryError, Received};

use crate::broker::{WAIT_MARGIN, WAIT_MAX};
use crate::classify::{call_error, entry_error};

/// What a receive asks for beside the body. `MessageGroupId` is the tenant on fair standard queues.
const SYSTEM_ATTRIBUTES: [MessageSystemAttributeName; 4] = [
    MessageSystemAttributeName::ApproximateReceiveCount,
    MessageSystemAttributeName::SentTimestamp,
    MessageSystemAttributeName::MessageGroupId,
    MessageSystemAttributeName::SequenceNumber,
];

/// One queue.
#[derive(Debug)]
pub(crate) struct Queue {
    name: String,
    url: String,
    poll: Client,
    control: Client,
}

impl Queue {
    pub(crate) fn new(name: &str, url: &str, poll: Client, control: Client) -> Self {
        Self { name: name.to_owned(), url: url.to_owned(), poll, control }
    }

    fn fits(&self, entries: usize) -> Result<(), DriverError> {
        if entries <= BATCH_ENTRIES_MAX {
            return Ok(());
        }
        let text = format!("{}: a batch of {entries}, at most {BATCH_ENTRIES_MAX}", self.name);
        Err(DriverError::Refused(text))
    }

    /// For requests that cannot be made, e.g. a missing field: it will fail again.
    fn unmade(&self, error: impl std::fmt::Display) -> DriverError {
        DriverError::Refused(format!("{}: {error}", self.name))
    }
}

/// Whole seconds, rounded up: SQS knows no fractions, and a lease must not end before it was asked
/// to.
fn seconds(duration: Duration) -> i32 {
    let up = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    i32::try_from(up).unwrap_or(i32::MAX)
}

#[async_trait]
impl Driver for Queue {
    fn queue(&self) -> &str {
        &self.name
    }

    async fn receive(&self, request: ReceiveRequest) -> Result<Vec<Received>, DriverError> {
        let call = self
            .poll
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(i32::try_from(request.max).unwrap_or(i32::MAX))
            .wait_time_seconds(seconds(request.wait.min(WAIT_MAX)))
            .visibility_timeout(seconds(request.lease))
            .set_message_system_attribute_names(Some(SYSTEM_ATTRIBUTES.to_vec()))
            .message_attribute_names("All")
            .send();
        // The client's own limit is for the longest wait; a short poll need not hang that long.
        let limit = request.wait.min(WAIT_MAX) + WAIT_MARGIN;
        let answer = tokio::time::timeout(limit, call).await.map_err(|_| {
            DriverError::Timeout(format!("{}: receive took over {} s", self.name, limit.as_secs()))
        })?;
        let answer = answer.map_err(|error| call_error(&error, &self.name))?;
        Ok(answer.messages.unwrap_or_default().into_iter().map(received).collect())
    }

    async fn settle(&self, receipts: &[String]) -> Result<EntryResults, DriverError> {
        if receipts.is_empty() {
            return Ok(Vec::new());
        }
        self.fits(receipts.len())?;
        let entries = receipts.iter().enumerate().map(|(at, receipt)| {
            DeleteMessageBatchRequestEntry::builder()
                .id(at.to_string())
                .receipt_handle(receipt)
                .build()
                .map_err(|error| self.unmade(error))
        });
        let entries = entries.collect::<Result<Vec<_>, _>>()?;
        let call = self.control.delete_message_batch().queue_url(&self.url);
        let answer = call.set_entries(Some(entries)).send().await;
        let answer = answer.map_err(|error| call_error(&error, &self.name))?;
        let done =
            answer.successful.iter().map(aws_sdk_sqs::types::DeleteMessageBatchResultEntry::id);
        Ok(results(receipts.len(), done, &answer.failed))
    }

    async fn extend(&self, entries: &[(String, Duration)]) -> Result<EntryResults, DriverError> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        self.fits(entries.len())?;
        let requests = entries.iter().enumerate().map(|(at, (receipt, lease))| {
            ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(at.to_string())
                .receipt_handle(receipt)
                .visibility_timeout(seconds(*lease))
                .build()
                .map_err(|error| self.unmade(error))
        });
        let requests = requests.collect::<Result<Vec<_>, _>>()?;
        let call = self.control.change_message_visibility_batch().queue_url(&self.url);
        let answer = call.set_entries(Some(requests)).send().await;
        let answer = answer.map_err(|error| call_error(&error, &self.name))?;
        let done = answer.successful.iter();
        let done = done.map(aws_sdk_sqs::types::ChangeMessageVisibilityBatchResultEntry::id);
        Ok(results(entries.len(), done, &answer.failed))
    }

    async fn send(&self, entries: &[Outgoing]) -> Result<EntryResults, DriverError> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        self.fits(entries.len())?;
        let requests = entries.iter().enumerate().map(|(at, entry)| self.request(at, entry));
        let requests = requests.collect::<Result<Vec<_>, _>>()?;
        let call = self.control.send_message_batch().queue_url(&self.url);
        let answer = call.set_entries(Some(requests)).send().await;
        let answer = answer.map_err(|error| call_error(&error, &self.name))?;
        let done =
            answer.successful.iter().map(aws_sdk_sqs::types::SendMessageBatchResultEntry::id);
        Ok(results(entries.len(), done, &answer.failed))
    }

    async fn attributes(&self) -> Result<QueueAttributes, DriverError> {
        let call = self.control.get_queue_attributes().queue_url(&self.url);
        let answer = call.attribute_names(QueueAttributeName::All).send().await;
        let answer = answer.map_err(|error| call_error(&error, &self.name))?;
        let values = answer.attributes.unwrap_or_default();
        Ok(attributes(|name| values.get(&name).map(String::as_str)))
    }
}

impl Queue {
    fn request(
        &self,
        at: usize,
        entry: &Outgoing,
    ) -> Result<SendMessageBatchRequestEntry, DriverError> {
        let mut request = SendMessageBatchRequestEntry::builder()
            .id(at.to_string())
            .message_body(&entry.body)
            .set_message_group_id(entry.group.clone())
            .set_message_deduplication_id(entry.deduplication.clone())
            .set_delay_seconds(entry.delay.map(seconds));
        for (name, value) in &entry.attributes {
            let value = MessageAttributeValue::builder().data_type("String").string_value(value);
            let value = value.build().map_err(|error| self.unmade(error))?;
            request = request.message_attributes(name, value);
        }
        request.build().map_err(|error| self.unmade(error))
    }
}

/// One result per entry, in their order. What the answer does not mention may or may not have
/// happened: it is tried again.
fn results<'a>(
    entries: usize,
    done: impl Iterator<Item = &'a str>,
    failed: &[BatchResultErrorEntry],
) -> EntryResults {
    let unmentioned = || EntryError::Transient("the answer does not mention the entry".to_owned());
    let mut results: EntryResults = (0..entries).map(|_| Err(unmentioned())).collect();
    let mut set = |id: &str, result| {
        if let Some(slot) = id.parse::<usize>().ok().and_then(|at| results.get_mut(at)) {
            *slot = result;
        }
    };
    for id in done {
        set(id, Ok(()));
    }
    for entry in failed {
        set(entry.id(), Err(entry_error(entry)));
    }
    results
}

fn received(message: Message) -> Received {
    let mut system = message.attributes.unwrap_or_default();
    let mut text = |name| system.remove(&name);
    let number = |text: Option<String>| text.and_then(|value| value.parse::<i64>().ok());
    let receives = number(text(MessageSystemAttributeName::ApproximateReceiveCount)).unwrap_or(1);
    let attributes = message.message_attributes.unwrap_or_default().into_iter();
    let mut attributes: Vec<(String, String)> =
        attributes.filter_map(|(name, value)| Some((name, value.string_value?))).collect();
    attributes.sort();
    Received {
        message_id: message.message_id.unwrap_or_default(),
        receipt: message.receipt_handle.unwrap_or_default(),
        body: message.body.unwrap_or_default(),
        receives: u32::try_from(receives).unwrap_or(1),
        sent_at_ms: number(text(MessageSystemAttributeName::SentTimestamp)).unwrap_or(0),
        group: text(MessageSystemAttributeName::MessageGroupId),
        sequence: text(MessageSystemAttributeName::SequenceNumber),
        attributes,
    }
}

fn attributes<'a>(value: impl Fn(QueueAttributeName) -> Option<&'a str>) -> QueueAttributes {
    let number = |name| value(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let redrive: serde_json::Value = value(QueueAttributeName::RedrivePolicy)
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    // Written as a number or as a string, by whoever set it.
    let receives = redrive.get("maxReceiveCount");
    let receives = receives
        .and_then(|count| count.as_u64().or_else(|| count.as_str()?.parse().ok()))
        .and_then(|count| u32::try_from(count).ok());
    let dead_letter_arn = redrive.get("deadLetterTargetArn").and_then(serde_json::Value::as_str);
    QueueAttributes {
        visibility: Duration::from_secs(number(QueueAttributeName::VisibilityTimeout)),
        retention: Duration::from_secs(number(QueueAttributeName::MessageRetentionPeriod)),
        receives_max: receives,
        dead_letter_arn: dead_letter_arn.map(str::to_owned),
        fifo: (value(QueueAttributeName::FifoQueue) == Some("true")).then(|| FifoAttributes {
            deduplicates_per_group: value(QueueAttributeName::DeduplicationScope)
                == Some("messageGroup"),
            throughput_per_group: value(QueueAttributeName::FifoThroughputLimit)
                == Some("perMessageGroupId"),
        }),
        depth: Depth {
            visible: number(QueueAttributeName::ApproximateNumberOfMessages),
            in_flight: number(QueueAttributeName::ApproximateNumberOfMessagesNotVisible),
            delayed: number(QueueAttributeName::ApproximateNumberOfMessagesDelayed),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_the_order_whatever_the_answer_says() {
        let failed = BatchResultErrorEntry::builder().id("0").code("InternalError");
        let failed = failed.sender_fault(false).build().unwrap();
        let results = results(4, ["2", "9", "x", "1"].into_iter(), &[failed]);
        assert!(matches!(results[0], Err(EntryError::Transient(_))));
        assert_eq!((&results[1], &results[2]), (&Ok(()), &Ok(())));
        let Err(EntryError::Transient(text)) = &results[3] else { panic!("{:?}", results[3]) };
        assert!(text.contains("does not mention"));
    }

    #[test]
    fn seconds_are_rounded_up() {
        assert_eq!(seconds(Duration::ZERO), 0);
        assert_eq!(seconds(Duration::from_millis(1)), 1);
        assert_eq!(seconds(Duration::from_millis(2_000)), 2);
        assert_eq!(seconds(Duration::from_millis(2_001)), 3);
    }

    #[test]
    fn the_redrive_policy_is_read_with_a_number_or_a_string() {
        for count in ["25", "\"25\""] {
            let policy = format!(r#"{{"deadLetterTargetArn":"a:b","maxReceiveCount":{count}}}"#);
            let read = attributes(|name| {
                (name == QueueAttributeName::RedrivePolicy).then_some(policy.as_str())
            });
            assert_eq!(
                (read.receives_max, read.dead_letter_arn.as_deref()),
                (Some(25), Some("a:b"))
            );
        }
    }
}

//! A driver over the emulator in this process: the broker's calls without SDK, codec and sockets. What
//! differs between it and the emulator over HTTP lies on the wire.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use queue_core::driver::{
    BATCH_ENTRIES_MAX, Depth, EntryResults, FifoAttributes, Outgoing, QueueAttributes,
    ReceiveRequest,
};
use queue_core::{Driver, DriverError, EntryError, Received};
use sqs_emulator::model::{AttributeValue, Delivery, MessageAttribute};
use sqs_emulator::operations::{Entry, Receive, VisibilityChange};
use sqs_emulator::selection::Selection;
use sqs_emulator::{Caller, Draft, ErrorKind, Hub, QueueArn, Request, Response, SqsError};

/// One queue of a [`Hub`].
#[derive(Debug)]
pub struct InProcessQueue {
    hub: Hub,
    caller: Caller,
    name: String,
    arn: QueueArn,
}

impl InProcessQueue {
    pub(crate) fn new(hub: Hub, caller: Caller, name: &str) -> Self {
        let arn = caller.queue(name);
        Self { hub, caller, name: name.to_owned(), arn }
    }

    async fn call(&self, request: Request) -> Result<Response, DriverError> {
        self.hub.call(&self.caller, request).await.map_err(|error| self.whole(&error))
    }

    fn whole(&self, error: &SqsError) -> DriverError {
        let text = format!("{}: {error}", self.name);
        match error.kind {
            ErrorKind::ServiceUnavailable => DriverError::Unavailable(text),
            ErrorKind::OverLimit => DriverError::Throttled(text),
            _ => DriverError::Refused(text),
        }
    }

    async fn batch(
        &self,
        entries: usize,
        request: impl FnOnce(Option<QueueArn>) -> Request,
    ) -> Result<EntryResults, DriverError> {
        if entries == 0 {
            return Ok(Vec::new());
        }
        if entries > BATCH_ENTRIES_MAX {
            return Err(DriverError::Refused(format!("{entries} entries in one call")));
        }
        match self.call(request(Some(self.arn.clone()))).await? {
            Response::DoneBatch(done) => Ok(results(done)),
            Response::SentBatch(sent) => Ok(results(sent)),
            other => panic!("a batch was answered with {other:?}"),
        }
    }
}

#[async_trait]
impl Driver for InProcessQueue {
    fn queue(&self) -> &str {
        &self.name
    }

    async fn receive(&self, request: ReceiveRequest) -> Result<Vec<Received>, DriverError> {
        let all = || vec!["All".to_owned()];
        let receive = Receive {
            queue: Some(self.arn.clone()),
            max: Some(i64::try_from(request.max).unwrap_or(i64::MAX)),
            visibility_seconds: Some(seconds(request.lease)),
            wait_seconds: Some(seconds(request.wait)),
            selection: Arc::new(Selection { system: all(), attributes: all() }),
            ..Receive::default()
        };
        match self.call(Request::ReceiveMessage(receive)).await? {
            Response::Received(deliveries, _) => Ok(deliveries.iter().map(received).collect()),
            other => panic!("a receive was answered with {other:?}"),
        }
    }

    async fn settle(&self, receipts: &[String]) -> Result<EntryResults, DriverError> {
        let entries = receipts.iter().enumerate();
        let entries = entries.map(|(at, receipt)| (at.to_string(), Some(receipt.clone())));
        let entries = entries.collect();
        self.batch(receipts.len(), |queue| Request::DeleteMessageBatch { queue, entries }).await
    }

    async fn extend(&self, entries: &[(String, Duration)]) -> Result<EntryResults, DriverError> {
        let change = |(at, (receipt, lease)): (usize, &(String, Duration))| {
            let receipt = Some(receipt.clone());
            (at.to_string(), VisibilityChange { receipt, seconds: Some(seconds(*lease)) })
        };
        let changes = entries.iter().enumerate().map(change).collect();
        let request = |queue| Request::ChangeMessageVisibilityBatch { queue, entries: changes };
        self.batch(entries.len(), request).await
    }

    async fn send(&self, entries: &[Outgoing]) -> Result<EntryResults, DriverError> {
        let drafts = entries.iter().enumerate().map(|(at, entry)| (at.to_string(), draft(entry)));
        let drafts = drafts.collect();
        self.batch(entries.len(), |queue| Request::SendMessageBatch { queue, entries: drafts })
            .await
    }

    async fn attributes(&self) -> Result<QueueAttributes, DriverError> {
        let (queue, names) = (Some(self.arn.clone()), vec!["All".to_owned()]);
        let Response::Attributes(values) =
            self.call(Request::GetQueueAttributes { queue, names }).await?
        else {
            panic!("attributes were answered with something else");
        };
        let number = |name: &str| values.get(name).and_then(|text| text.parse().ok()).unwrap_or(0);
        let set = |name: &str, value: &str| values.get(name).is_some_and(|text| text == value);
        let redrive = values.get("RedrivePolicy").map_or("{}", String::as_str);
        let redrive: serde_json::Value = serde_json::from_str(redrive).expect("a canonical policy");
        Ok(QueueAttributes {
            visibility: Duration::from_secs(number("VisibilityTimeout")),
            retention: Duration::from_secs(number("MessageRetentionPeriod")),
            receives_max: redrive["maxReceiveCount"].as_u64().and_then(|n| u32::try_from(n).ok()),
            dead_letter_arn: redrive["deadLetterTargetArn"].as_str().map(str::to_owned),
            fifo: values.contains_key("FifoQueue").then(|| FifoAttributes {
                deduplicates_per_group: set("DeduplicationScope", "messageGroup"),
                throughput_per_group: set("FifoThroughputLimit", "perMessageGroupId"),
            }),
            depth: Depth {
                visible: number("ApproximateNumberOfMessages"),
                in_flight: number("ApproximateNumberOfMessagesNotVisible"),
                delayed: number("ApproximateNumberOfMessagesDelayed"),
            },
        })
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis().div_ceil(1_000)).unwrap_or(i64::MAX)
}

fn results<T>(entries: Vec<Entry<T>>) -> EntryResults {
    entries.into_iter().map(|(_, result)| result.map(drop).map_err(entry)).collect()
}

/// As the driver over the SDK tells a lease that is lost from an argument that is wrong.
fn entry(error: SqsError) -> EntryError {
    let lost = error.kind == ErrorKind::ReceiptHandleIsInvalid
        || error.message.contains("for parameter ReceiptHandle is invalid");
    if lost { EntryError::LeaseLost(error.message) } else { EntryError::Refused(error.message) }
}

fn draft(outgoing: &Outgoing) -> Draft {
    let attribute = |(name, value): &(String, String)| MessageAttribute {
        name: name.clone(),
        data_type: "String".to_owned(),
        value: Some(AttributeValue::Text(value.clone())),
    };
    Draft {
        attributes: outgoing.attributes.iter().map(attribute).collect(),
        delay_seconds: outgoing.delay.map(seconds),
        group: outgoing.group.clone(),
        deduplication: outgoing.deduplication.clone(),
        ..Draft::text(outgoing.body.clone())
    }
    .hashed()
}

fn received(delivery: &Delivery) -> Received {
    let message = &delivery.message;
    let text = |attribute: &MessageAttribute| match &attribute.value {
        Some(AttributeValue::Text(text)) => Some((attribute.name.clone(), text.clone())),
        _ => None,
    };
    Received {
        message_id: message.id.to_string(),
        receipt: delivery.receipt.clone(),
        body: message.body.clone(),
        receives: delivery.receives,
        sent_at_ms: delivery.sent_at_ms,
        group: message.group.as_deref().map(str::to_owned),
        sequence: delivery.sequence.map(|sequence| sequence.to_string()),
        attributes: message.attributes.iter().filter_map(text).collect(),
    }
}

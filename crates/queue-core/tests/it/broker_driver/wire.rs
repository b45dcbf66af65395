//! Between the engine's words and the broker's, as a real driver translates them.

use std::sync::Arc;

use queue_core::{DriverError, EntryError, Outgoing, Received};
use sqs_emulator::model::{AttributeValue, Delivery, MessageAttribute};
use sqs_emulator::selection::Selection;
use sqs_emulator::{Draft, ErrorKind, SqsError};

pub(crate) fn id(at: usize) -> String {
    at.to_string()
}

pub(crate) fn all() -> Arc<Selection> {
    Arc::new(Selection { system: vec!["All".into()], attributes: vec!["All".into()] })
}

pub(crate) fn draft(outgoing: &Outgoing) -> Draft {
    let attributes = outgoing.attributes.iter().map(|(name, value)| MessageAttribute {
        name: name.clone(),
        data_type: "String".into(),
        value: Some(AttributeValue::Text(value.clone())),
    });
    Draft {
        attributes: attributes.collect(),
        group: outgoing.group.clone(),
        deduplication: outgoing.deduplication.clone(),
        ..Draft::text(outgoing.body.clone())
    }
    .hashed()
}

pub(crate) fn received(delivery: &Delivery) -> Received {
    let text = |value: &Option<AttributeValue>| match value {
        Some(AttributeValue::Text(text)) => text.clone(),
        _ => String::new(),
    };
    let message = &delivery.message;
    Received {
        message_id: message.id.to_string(),
        receipt: delivery.receipt.clone(),
        body: message.body.clone(),
        receives: delivery.receives,
        sent_at_ms: delivery.sent_at_ms,
        group: message.group.as_deref().map(str::to_owned),
        sequence: delivery.sequence.map(|sequence| sequence.to_string()),
        attributes: message
            .attributes
            .iter()
            .map(|attribute| (attribute.name.clone(), text(&attribute.value)))
            .collect(),
    }
}

pub(crate) fn whole(error: SqsError) -> DriverError {
    match error.kind {
        ErrorKind::ServiceUnavailable => DriverError::Unavailable(error.message),
        ErrorKind::OverLimit => DriverError::Throttled(error.message),
        _ => DriverError::Refused(error.message),
    }
}

pub(crate) fn entry(error: SqsError) -> EntryError {
    match error.kind {
        ErrorKind::InvalidParameterValue | ErrorKind::ReceiptHandleIsInvalid => {
            EntryError::LeaseLost(error.message)
        }
        _ => EntryError::Refused(error.message),
    }
}

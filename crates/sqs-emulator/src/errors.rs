//! The errors SQS answers with: HTTP status, JSON shape, query code and the exact texts that
//! clients match on. Nothing here knows about a wire protocol.

use std::fmt;

/// Which modelled (or generic) error it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Asked for by a page of another origin in a browser.
    AccessDenied,
    /// Ids of a batch repeat.
    BatchEntryIdsNotDistinct,
    /// A batch is larger than a message may be.
    BatchRequestTooLong,
    /// A batch without entries.
    EmptyBatchRequest,
    /// A signature that does not say whose it is.
    IncompleteSignature,
    /// Not an attribute of this kind of queue.
    InvalidAttributeName,
    /// An attribute's value is out of range or not changeable.
    InvalidAttributeValue,
    /// A batch entry id has other characters than allowed.
    InvalidBatchEntryId,
    /// The service has failed: only as a fault that was asked for.
    InternalFailure,
    /// A body has characters that XML has no place for.
    InvalidMessageContents,
    /// A parameter's value is wrong.
    InvalidParameterValue,
    /// A message is not in flight.
    MessageNotInflight,
    /// A parameter is absent.
    MissingParameter,
    /// A quota is reached.
    OverLimit,
    /// Purged less than a minute ago.
    PurgeQueueInProgress,
    /// Deleted less than a minute ago.
    QueueDeletedRecently,
    /// No such queue.
    QueueDoesNotExist,
    /// A queue of that name has other attributes.
    QueueNameExists,
    /// A handle that no receive gave.
    ReceiptHandleIsInvalid,
    /// Too many requests: only as a fault that was asked for.
    RequestThrottled,
    /// A resource that a move task names does not exist.
    ResourceNotFound,
    /// The body is not the JSON that the operation takes.
    Serialization,
    /// The emulator cannot store: nothing took effect.
    ServiceUnavailable,
    /// More than ten entries.
    TooManyEntriesInBatchRequest,
    /// No such action.
    UnknownOperation,
    /// Something the service defines and never implemented.
    UnsupportedOperation,
}

impl ErrorKind {
    /// HTTP status code.
    pub fn status(self) -> u16 {
        match self {
            Self::ReceiptHandleIsInvalid | Self::ResourceNotFound => 404,
            Self::AccessDenied
            | Self::PurgeQueueInProgress
            | Self::OverLimit
            | Self::RequestThrottled => 403,
            Self::InternalFailure => 500,
            Self::ServiceUnavailable => 503,
            _ => 400,
        }
    }

    /// Namespace and shape, as `__type` carries them.
    pub fn shape(self) -> &'static str {
        match self {
            Self::AccessDenied => "com.amazon.coral.service#AccessDeniedException",
            Self::BatchEntryIdsNotDistinct => "com.amazonaws.sqs#BatchEntryIdsNotDistinct",
            Self::BatchRequestTooLong => "com.amazonaws.sqs#BatchRequestTooLong",
            Self::EmptyBatchRequest => "com.amazonaws.sqs#EmptyBatchRequest",
            Self::IncompleteSignature => "com.amazon.coral.service#IncompleteSignatureException",
            Self::InternalFailure => "com.amazon.coral.service#InternalFailure",
            Self::InvalidAttributeName => "com.amazonaws.sqs#InvalidAttributeName",
            Self::InvalidAttributeValue => "com.amazonaws.sqs#InvalidAttributeValue",
            Self::InvalidBatchEntryId => "com.amazonaws.sqs#InvalidBatchEntryId",
            Self::InvalidMessageContents => "com.amazonaws.sqs#InvalidMessageContents",
            Self::InvalidParameterValue => {
                "com.amazon.coral.service#InvalidParameterValueException"
            }
            Self::MessageNotInflight => "com.amazonaws.sqs#MessageNotInflight",
            Self::MissingParameter => "com.amazon.coral.service#MissingRequiredParameterException",
            Self::OverLimit => "com.amazonaws.sqs#OverLimit",
            Self::PurgeQueueInProgress => "com.amazonaws.sqs#PurgeQueueInProgress",
            Self::QueueDeletedRecently => "com.amazonaws.sqs#QueueDeletedRecently",
            Self::QueueDoesNotExist => "com.amazonaws.sqs#QueueDoesNotExist",
            Self::QueueNameExists => "com.amazonaws.sqs#QueueNameExists",
            Self::ReceiptHandleIsInvalid => "com.amazonaws.sqs#ReceiptHandleIsInvalid",
            Self::RequestThrottled => "com.amazonaws.sqs#RequestThrottled",
            Self::ResourceNotFound => "com.amazonaws.sqs#ResourceNotFoundException",
            Self::Serialization => "com.amazon.coral.service#SerializationException",
            Self::ServiceUnavailable => "com.amazon.coral.service#ServiceUnavailableException",
            Self::TooManyEntriesInBatchRequest => "com.amazonaws.sqs#TooManyEntriesInBatchRequest",
            Self::UnknownOperation => "com.amazon.coral.service#UnknownOperationException",
            Self::UnsupportedOperation => "com.amazonaws.sqs#UnsupportedOperation",
        }
    }

    /// The older code, which the query protocol and `x-amzn-query-error` carry.
    pub fn query_code(self) -> &'static str {
        match self {
            Self::AccessDenied => "AccessDenied",
            Self::BatchEntryIdsNotDistinct => "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
            Self::BatchRequestTooLong => "AWS.SimpleQueueService.BatchRequestTooLong",
            Self::EmptyBatchRequest => "AWS.SimpleQueueService.EmptyBatchRequest",
            Self::IncompleteSignature => "IncompleteSignature",
            Self::InternalFailure => "InternalFailure",
            Self::InvalidAttributeName => "InvalidAttributeName",
            Self::InvalidAttributeValue => "InvalidAttributeValue",
            Self::InvalidBatchEntryId => "AWS.SimpleQueueService.InvalidBatchEntryId",
            Self::InvalidMessageContents => "InvalidMessageContents",
            Self::InvalidParameterValue => "InvalidParameterValue",
            Self::MessageNotInflight => "AWS.SimpleQueueService.MessageNotInflight",
            Self::MissingParameter => "MissingParameter",
            Self::OverLimit => "OverLimit",
            Self::PurgeQueueInProgress => "AWS.SimpleQueueService.PurgeQueueInProgress",
            Self::QueueDeletedRecently => "AWS.SimpleQueueService.QueueDeletedRecently",
            Self::QueueDoesNotExist => "AWS.SimpleQueueService.NonExistentQueue",
            Self::QueueNameExists => "QueueAlreadyExists",
            Self::ReceiptHandleIsInvalid => "ReceiptHandleIsInvalid",
            Self::RequestThrottled => "RequestThrottled",
            Self::ResourceNotFound => "ResourceNotFoundException",
            Self::Serialization => "MalformedInput",
            Self::ServiceUnavailable => "ServiceUnavailable",
            Self::TooManyEntriesInBatchRequest => {
                "AWS.SimpleQueueService.TooManyEntriesInBatchRequest"
            }
            Self::UnknownOperation => "InvalidAction",
            Self::UnsupportedOperation => "AWS.SimpleQueueService.UnsupportedOperation",
        }
    }

    /// Whether the caller is at fault.
    pub fn is_sender_fault(self) -> bool {
        !matches!(self, Self::InternalFailure | Self::ServiceUnavailable)
    }
}

/// What SQS answers instead of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqsError {
    /// Which error.
    pub kind: ErrorKind,
    /// The text for people, as AWS words it where that is known.
    pub message: String,
}

impl fmt::Display for SqsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.query_code(), self.message)
    }
}

impl std::error::Error for SqsError {}

impl SqsError {
    /// An error of that kind with that text.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// `InvalidParameterValue` with a free text.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidParameterValue, message)
    }

    /// "Value V for parameter P is invalid. Reason: R"
    pub(crate) fn value(value: impl fmt::Display, parameter: &str, reason: &str) -> Self {
        Self::invalid(format!(
            "Value {value} for parameter {parameter} is invalid. Reason: {reason}"
        ))
    }

    /// "The request must contain the parameter P."
    pub(crate) fn missing(parameter: &str) -> Self {
        Self::new(
            ErrorKind::MissingParameter,
            format!("The request must contain the parameter {parameter}."),
        )
    }

    pub(crate) fn no_such_queue() -> Self {
        Self::new(ErrorKind::QueueDoesNotExist, "The specified queue does not exist.")
    }

    pub(crate) fn unknown_attribute(name: &str) -> Self {
        Self::new(ErrorKind::InvalidAttributeName, format!("Unknown Attribute {name}."))
    }

    pub(crate) fn attribute_value(name: &str) -> Self {
        Self::new(
            ErrorKind::InvalidAttributeValue,
            format!("Invalid value for the parameter {name}."),
        )
    }

    pub(crate) fn not_found(parameter: &str) -> Self {
        Self::new(
            ErrorKind::ResourceNotFound,
            format!("The resource that you specified for the {parameter} parameter doesn't exist."),
        )
    }

    pub(crate) fn bad_receipt(handle: &str) -> Self {
        Self::new(
            ErrorKind::ReceiptHandleIsInvalid,
            format!("The input receipt handle \"{handle}\" is not a valid receipt handle."),
        )
    }
}

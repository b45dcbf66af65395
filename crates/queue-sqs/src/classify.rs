//! Which of the engine's words an SQS error is. SQS says the same thing under several names (query code,
//! shape name, generic throttles), so names are read here and nowhere else; a status without a known name
//! is read by the table of every sink. What is done about a word is not decided here.

use std::fmt::Debug;

use aws_sdk_sqs::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::BatchResultErrorEntry;
use queue_core::{DriverError, EntryError, Trouble};

/// Fewer calls, please. From the SDK's own list of throttling codes, plus SQS's `OverLimit` (too
/// many messages in flight), which goes away as messages are settled.
const THROTTLED: [&str; 14] = [
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "BandwidthLimitExceeded",
    "LimitExceededException",
    "SlowDown",
    "PriorRequestNotComplete",
    "KmsThrottled",
    "KMS.ThrottlingException",
    "OverLimit",
];

/// A fault on its side, or credentials that will be refreshed.
const PASSING: [&str; 9] = [
    "InternalError",
    "InternalFailure",
    "InternalServerError",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "RequestTimeout",
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
];

/// The receipt is no longer ours.
const LOST: [&str; 2] = ["ReceiptHandleIsInvalid", "MessageNotInflight"];

/// SQS uses one code for every bad parameter; these texts mean that the receipt is no longer ours.
const LOST_TEXTS: [&str; 3] = [
    "receipt handle has expired",
    "does not exist or is not available for visibility timeout change",
    "is not a valid receipt handle",
];

/// `AWS.SimpleQueueService.NonExistentQueue` and `com.amazonaws.sqs#QueueDoesNotExist` by their
/// last part.
fn last_part(code: &str) -> &str {
    let shape = code.rsplit('#').next().unwrap_or(code);
    shape.strip_prefix("AWS.SimpleQueueService.").unwrap_or(shape)
}

/// A whole call's error. `what` is the queue or whatever the call was about.
pub(crate) fn call_error<E>(
    error: &SdkError<E, aws_sdk_sqs::config::http::HttpResponse>,
    what: &str,
) -> DriverError
where
    E: std::error::Error + ProvideErrorMetadata + Debug + 'static,
{
    match error {
        SdkError::TimeoutError(_) => DriverError::Timeout(format!("{what}: {}", chain(error))),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => {
            DriverError::Timeout(format!("{what}: {}", chain(error)))
        }
        // Credentials that cannot be had, an endpoint that cannot be made: found before sending.
        SdkError::DispatchFailure(failure) if failure.is_user() => {
            DriverError::Refused(format!("{what}: {}", chain(error)))
        }
        SdkError::ConstructionFailure(_) => {
            DriverError::Refused(format!("{what}: {}", chain(error)))
        }
        SdkError::ServiceError(service) => {
            let meta = service.err().meta();
            let (code, message) = (meta.code().unwrap_or(""), meta.message().unwrap_or(""));
            by_code(code, message, service.raw().status().as_u16(), what)
        }
        _ => DriverError::Unavailable(format!("{what}: {}", chain(error))),
    }
}

fn chain<E: std::error::Error>(error: E) -> String {
    DisplayErrorContext(error).to_string()
}

fn by_code(code: &str, message: &str, status: u16, what: &str) -> DriverError {
    let code = last_part(code);
    let text = match (code, message) {
        ("", "") => format!("{what}: HTTP status {status} with an answer that SQS never gives"),
        (code, "") => format!("{what}: {code}"),
        ("", message) => format!("{what}: {message}"),
        (code, message) => format!("{what}: {code}: {message}"),
    };
    if THROTTLED.contains(&code) {
        return DriverError::Throttled(text);
    }
    if PASSING.contains(&code) || unreadable(code, status) {
        return DriverError::Unavailable(text);
    }
    match Trouble::of_status(status) {
        Some(Trouble::Throttled) => DriverError::Throttled(text),
        Some(Trouble::Timeout) => DriverError::Timeout(text),
        // Its fault; 401 and 403 are about us, and stay so until somebody mends our rights.
        Some(Trouble::Unavailable) if status >= 500 => DriverError::Unavailable(text),
        _ => DriverError::Refused(text),
    }
}

/// An answer that was cut off or is not SQS's: the call may have taken effect.
fn unreadable(code: &str, status: u16) -> bool {
    code.is_empty() && status < 400
}

/// One entry of a batch.
pub(crate) fn entry_error(failed: &BatchResultErrorEntry) -> EntryError {
    let code = last_part(failed.code());
    let message = failed.message().unwrap_or_default();
    let text = if message.is_empty() { code.to_owned() } else { format!("{code}: {message}") };
    if LOST.contains(&code) || LOST_TEXTS.iter().any(|lost| message.contains(lost)) {
        EntryError::LeaseLost(text)
    } else if !failed.sender_fault() || THROTTLED.contains(&code) || PASSING.contains(&code) {
        EntryError::Transient(text)
    } else {
        EntryError::Refused(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(code: &str, message: &str, sender: bool) -> EntryError {
        let failed = BatchResultErrorEntry::builder().id("0").code(code).message(message);
        entry_error(&failed.sender_fault(sender).build().unwrap())
    }

    #[test]
    fn calls_are_classified_by_code_and_status() {
        let kind = |code, status| match by_code(code, "text", status, "q") {
            DriverError::Throttled(_) => "throttled",
            DriverError::Unavailable(_) => "unavailable",
            DriverError::Timeout(_) => "timeout",
            DriverError::Refused(_) => "refused",
        };
        for code in THROTTLED {
            assert_eq!(kind(code, 400), "throttled", "{code}");
        }
        for code in PASSING {
            assert_eq!(kind(code, 400), "unavailable", "{code}");
        }
        assert_eq!(kind("", 429), "throttled");
        assert_eq!(kind("", 500), "unavailable");
        assert_eq!(kind("", 200), "unavailable");
        assert_eq!(kind("", 404), "refused");
        assert_eq!(kind("Whatever", 503), "unavailable");
        assert_eq!(kind("AWS.SimpleQueueService.NonExistentQueue", 400), "refused");
        assert_eq!(kind("AccessDenied", 403), "refused");
        assert_eq!(kind("com.amazonaws.sqs#OverLimit", 403), "throttled");
    }

    /// One table: a status reads here as it does for every other sink, but that a call which is refused
    /// is no message's fault.
    #[test]
    fn a_status_without_a_name_reads_as_for_every_sink() {
        for status in 200..600 {
            let expected = match Trouble::of_status(status) {
                Some(trouble @ (Trouble::Throttled | Trouble::Timeout)) => trouble,
                _ => Trouble::Unavailable,
            };
            for code in ["", "SomethingNew"] {
                let found = by_code(code, "text", status, "q").trouble();
                assert_eq!(found, expected, "{code} {status}");
            }
        }
    }

    #[test]
    fn the_text_names_the_queue_the_code_and_the_reason() {
        let error =
            by_code("AWS.SimpleQueueService.NonExistentQueue", "No such queue.", 400, "orders");
        assert_eq!(error.to_string(), "refused: orders: NonExistentQueue: No such queue.");
    }

    #[test]
    fn entries_are_classified() {
        let lost = |error| matches!(error, EntryError::LeaseLost(_));
        let transient = |error| matches!(error, EntryError::Transient(_));
        let refused = |error| matches!(error, EntryError::Refused(_));
        assert!(lost(entry("ReceiptHandleIsInvalid", "", true)));
        assert!(lost(entry("AWS.SimpleQueueService.MessageNotInflight", "", true)));
        assert!(lost(entry(
            "InvalidParameterValue",
            "Value x for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired.",
            true
        )));
        assert!(transient(entry("RequestThrottled", "", true)));
        assert!(transient(entry("InternalError", "", false)));
        assert!(refused(entry(
            "InvalidParameterValue",
            "Total VisibilityTimeout for the message is beyond the limit [43200 seconds]",
            true
        )));
    }
}

//! What S3's refusals mean, by status and code, in the sink's closed vocabulary.

use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use queue_core::taxonomy::retry_after;
use queue_core::{Clock, SystemClock};

use super::S3;
use crate::error::{SinkError, SinkErrorKind};
use crate::objects::{NAME, ObjectKey, UploadError};

/// Characters of an error's text that are kept for people.
const ERROR_TEXT_MAX: usize = 500;
/// Fewer calls, please.
const THROTTLED: [&str; 5] =
    ["SlowDown", "ThrottlingException", "Throttling", "RequestLimitExceeded", "TooManyRequests"];
/// Damaged on the way, or S3's own trouble, whatever the status: an answer that began as 200 may end
/// in an error.
const UNAVAILABLE: [&str; 5] = [
    "InternalError",
    "ServiceUnavailable",
    "BadDigest",
    "XAmzContentSHA256Mismatch",
    "XAmzContentChecksumMismatch",
];

pub(super) fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error.raw_response().map(|raw| raw.status().as_u16())
}

/// Whether the answer says that there is no such object.
pub(super) fn absent<E>(error: &SdkError<E, HttpResponse>) -> bool
where
    E: ProvideErrorMetadata,
{
    // A delete marker answers 405 where its own version is asked for.
    matches!(status(error), Some(404)) && !matches!(error.code(), Some("NoSuchBucket"))
}

impl S3 {
    pub(super) fn failed<E>(&self, error: SdkError<E, HttpResponse>) -> SinkError
    where
        E: std::error::Error + ProvideErrorMetadata + std::fmt::Debug + 'static,
    {
        let (kind, wait) = match &error {
            SdkError::TimeoutError(_) => (SinkErrorKind::Timeout, None),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => {
                (SinkErrorKind::Timeout, None)
            }
            SdkError::ServiceError(service) => {
                let raw = service.raw();
                let code = service.err().meta().code().unwrap_or_default();
                (kind_of(raw.status().as_u16(), code), asked_to_wait(raw))
            }
            _ => (SinkErrorKind::Unavailable, None),
        };
        let text: String = DisplayErrorContext(error).to_string();
        let text: String = text.chars().take(ERROR_TEXT_MAX).collect();
        let advice = match kind {
            SinkErrorKind::NeedsRestore => {
                "the object lies in a class that is not read at once; restore it first (aws s3api restore-object), then try again: "
            }
            _ => "",
        };
        SinkError::new(NAME, kind, format!("{}: {advice}{text}", self.bucket)).retry_after(wait)
    }

    /// A failure of an upload, told from the upload's being gone for good.
    pub(super) fn upload_failed<E>(
        &self,
        key: &ObjectKey,
        error: SdkError<E, HttpResponse>,
    ) -> UploadError
    where
        E: std::error::Error + ProvideErrorMetadata + std::fmt::Debug + 'static,
    {
        match error.code() {
            Some("NoSuchUpload") => UploadError::lost(key, "the store knows no such upload"),
            Some("InvalidPart" | "InvalidPartOrder") => {
                UploadError::lost(key, "the store has other parts than those named")
            }
            // S3 asks for a new upload after a meeting with another writer.
            Some("ConditionalRequestConflict") => {
                UploadError::lost(key, "another writer was at the same name")
            }
            _ => self.failed(error).into(),
        }
    }

    pub(super) fn unreadable(&self, what: &str) -> SinkError {
        let text = format!("{}: the answer {what}", self.bucket);
        SinkError::new(NAME, SinkErrorKind::Unavailable, text)
    }

    pub(super) fn refused(&self, what: &str) -> SinkError {
        SinkError::new(NAME, SinkErrorKind::Refused, format!("{}: {what}", self.bucket))
    }
}

fn kind_of(status: u16, code: &str) -> SinkErrorKind {
    match status {
        _ if THROTTLED.contains(&code) => SinkErrorKind::Throttled,
        _ if UNAVAILABLE.contains(&code) => SinkErrorKind::Unavailable,
        _ if code == "InvalidObjectState" => SinkErrorKind::NeedsRestore,
        // With status 400: the bytes came too slowly.
        _ if code == "RequestTimeout" => SinkErrorKind::Timeout,
        429 => SinkErrorKind::Throttled,
        408 | 504 => SinkErrorKind::Timeout,
        // Two writers of one name at once: S3 asks to try again.
        409 | 500.. => SinkErrorKind::Unavailable,
        _ => SinkErrorKind::Refused,
    }
}

fn asked_to_wait(raw: &HttpResponse) -> Option<Duration> {
    let headers = raw.headers();
    retry_after(headers.get("retry-after")?, headers.get("date"), SystemClock.now())
}

//! Objects in Amazon S3, or what speaks its protocol. The SDK's own retries are off: the engine
//! decides what is tried again, and two deciders would multiply their attempts.

use std::time::Duration;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::Builder;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::{ByteStream, DateTime as SdkTime};
use chrono::{DateTime, Utc};
use queue_core::taxonomy::retry_after;
use queue_core::{Clock, Probe, SystemClock};

use super::{NAME, ObjectKey, ObjectMeta, ObjectPage, Objects, PAGE_MAX, Write, Written};
use crate::error::{SinkError, SinkErrorKind};

/// A connection that is not up by then will not be.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A call that takes longer has failed; 16 MiB take a second on a slow line of 128 Mbit/s.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// Characters of an error's text that are kept for people.
const ERROR_TEXT_MAX: usize = 500;
/// Fewer calls, please.
const THROTTLED: [&str; 5] =
    ["SlowDown", "ThrottlingException", "Throttling", "RequestLimitExceeded", "TooManyRequests"];

/// A bucket.
#[derive(Clone, Debug)]
pub struct S3 {
    client: Client,
    bucket: String,
}

impl S3 {
    /// A bucket under the SDK's configuration. Nothing is asked yet. With an endpoint of its own the
    /// bucket stands in the path, since nobody resolves `bucket.localhost`.
    pub fn new(shared: &SdkConfig, bucket: impl Into<String>) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(CALL_TIMEOUT)
            .build();
        let config = Builder::from(shared)
            .retry_config(RetryConfig::standard().with_max_attempts(1))
            .timeout_config(timeouts)
            .force_path_style(shared.endpoint_url().is_some())
            .build();
        Self { client: Client::from_conf(config), bucket: bucket.into() }
    }

    /// A bucket under the usual chain of credentials and `AWS_REGION`.
    pub async fn from_environment(bucket: impl Into<String>) -> Self {
        let behavior = aws_config::BehaviorVersion::v2026_01_12();
        Self::new(&aws_config::defaults(behavior).load().await, bucket)
    }

    fn failed<E>(&self, error: SdkError<E, HttpResponse>) -> SinkError
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
        SinkError::new(NAME, kind, format!("{}: {text}", self.bucket)).retry_after(wait)
    }

    fn unreadable(&self, what: &str) -> SinkError {
        let text = format!("{}: the answer {what}", self.bucket);
        SinkError::new(NAME, SinkErrorKind::Unavailable, text)
    }
}

fn kind_of(status: u16, code: &str) -> SinkErrorKind {
    match status {
        _ if THROTTLED.contains(&code) => SinkErrorKind::Throttled,
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

/// Whether the answer says that there is no such object.
fn absent<E>(error: &SdkError<E, HttpResponse>) -> bool
where
    E: ProvideErrorMetadata,
{
    error.raw_response().is_some_and(|raw| raw.status().as_u16() == 404)
        && !matches!(error.code(), Some("NoSuchBucket"))
}

fn time(time: Option<&SdkTime>) -> DateTime<Utc> {
    time.and_then(|time| DateTime::from_timestamp(time.secs(), time.subsec_nanos()))
        .unwrap_or_default()
}

fn size(size: Option<i64>) -> u64 {
    size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0)
}

#[async_trait]
impl Objects for S3 {
    fn bucket(&self) -> &str {
        &self.bucket
    }

    async fn put(&self, key: &ObjectKey, bytes: Vec<u8>, how: Write) -> Result<Written, SinkError> {
        let condition = (how == Write::IfAbsent).then(|| "*".to_owned());
        let call = self.client.put_object().bucket(&self.bucket).key(key.as_str());
        let call = call.set_if_none_match(condition).body(ByteStream::from(bytes));
        match call.send().await {
            Ok(_) => Ok(Written::New),
            Err(error) => match error.raw_response().map(|raw| raw.status().as_u16()) {
                Some(412) if how == Write::IfAbsent => Ok(Written::AlreadyThere),
                _ => Err(self.failed(error)),
            },
        }
    }

    async fn get(&self, key: &ObjectKey, bytes_max: u64) -> Result<Option<Vec<u8>>, SinkError> {
        let call = self.client.get_object().bucket(&self.bucket).key(key.as_str());
        let answer = match call.send().await {
            Ok(answer) => answer,
            Err(error) if absent(&error) => return Ok(None),
            Err(error) => return Err(self.failed(error)),
        };
        let expected = size(answer.content_length());
        let mut body = answer.body;
        let mut bytes = Vec::with_capacity(usize::try_from(expected.min(bytes_max)).unwrap_or(0));
        let read = async {
            while let Some(chunk) = body.next().await {
                let chunk =
                    chunk.map_err(|error| self.unreadable(&format!("broke off: {error}")))?;
                bytes.extend_from_slice(&chunk);
                if bytes.len() as u64 > bytes_max {
                    let text = format!("{key} has over {bytes_max} bytes");
                    return Err(SinkError::new(NAME, SinkErrorKind::Refused, text));
                }
            }
            Ok(())
        };
        if expected > bytes_max {
            let text = format!("{key} has {expected} bytes, expected are at most {bytes_max}");
            return Err(SinkError::new(NAME, SinkErrorKind::Refused, text));
        }
        // The SDK's own limit ends with the head of the answer.
        let late = || {
            let text = format!("{}: no whole answer within {CALL_TIMEOUT:?}", self.bucket);
            SinkError::new(NAME, SinkErrorKind::Timeout, text)
        };
        tokio::time::timeout(CALL_TIMEOUT, read).await.unwrap_or_else(|_| Err(late()))?;
        Ok(Some(bytes))
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>, SinkError> {
        let call = self.client.head_object().bucket(&self.bucket).key(key.as_str());
        match call.send().await {
            Ok(answer) => Ok(Some(ObjectMeta {
                key: key.clone(),
                size: size(answer.content_length()),
                modified: time(answer.last_modified()),
            })),
            Err(error) if absent(&error) => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), SinkError> {
        let call = self.client.delete_object().bucket(&self.bucket).key(key.as_str());
        match call.send().await {
            Ok(_) => Ok(()),
            Err(error) if absent(&error) => Ok(()),
            Err(error) => Err(self.failed(error)),
        }
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<ObjectPage, SinkError> {
        let limit = limit.clamp(1, PAGE_MAX);
        let call = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix);
        let call = call.max_keys(i32::try_from(limit).unwrap_or(i32::MAX));
        let call = call.set_start_after(after.map(ToString::to_string));
        let answer = call.send().await.map_err(|error| self.failed(error))?;
        let listed = answer.contents.as_deref().unwrap_or_default();
        // Names of others' making are none of ours.
        let objects: Vec<ObjectMeta> = listed
            .iter()
            .filter_map(|object| {
                let key = object.key()?.parse().ok()?;
                let modified = time(object.last_modified());
                Some(ObjectMeta { key, size: size(object.size()), modified })
            })
            .collect();
        let next = if answer.is_truncated() == Some(true) {
            let last = listed.last().and_then(|object| object.key()?.parse().ok());
            Some(last.ok_or_else(|| self.unreadable("ends a page with a name that is not ours"))?)
        } else {
            None
        };
        Ok(ObjectPage { objects, next })
    }
}

#[async_trait]
impl Probe for S3 {
    fn name(&self) -> &'static str {
        NAME
    }

    /// Whether the bucket answers.
    async fn probe(&self) -> Result<(), String> {
        let call = self.client.head_bucket().bucket(&self.bucket).send();
        call.await.map(drop).map_err(|error| self.failed(error).to_string())
    }
}

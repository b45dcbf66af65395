//! Objects in Amazon S3, or what speaks its protocol. The SDK's own retries are off: the engine
//! decides what is tried again, and two deciders would multiply their attempts.

mod delete;
mod errors;
mod list;
mod read;
mod store;
mod upload;

use std::time::Duration;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{Builder, ResponseChecksumValidation, StalledStreamProtectionConfig};
use aws_sdk_s3::primitives::DateTime as SdkTime;
use chrono::{DateTime, Utc};
use queue_core::Probe;

use super::{
    Deletion, NAME, ObjectBody, ObjectHead, ObjectKey, ObjectOptions, ObjectPage, Objects, Write,
    Written,
};
use crate::error::{ItemError, SinkError};

const MEBIBYTE: u64 = 1024 * 1024;

/// When a call is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// A connection that is not up by then will not be.
    pub connect: Duration,
    /// A call, or the head of an answer that streams.
    pub call: Duration,
    /// In addition for each MiB that a call carries: a second is a line of 8 Mbit/s.
    pub per_mebibyte: Duration,
    /// From one chunk of a stream to the next.
    pub idle: Duration,
    /// S3 puts the parts of a large object together, which may take minutes.
    pub complete: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            call: Duration::from_secs(15),
            per_mebibyte: Duration::from_secs(1),
            idle: Duration::from_secs(15),
            complete: Duration::from_secs(180),
        }
    }
}

/// A bucket.
#[derive(Clone, Debug)]
pub struct S3 {
    client: Client,
    bucket: String,
    timeouts: Timeouts,
}

impl S3 {
    /// A bucket under the SDK's configuration. Nothing is asked yet. With an endpoint of its own the
    /// bucket stands in the path, since nobody resolves `bucket.localhost`.
    pub fn new(shared: &SdkConfig, bucket: impl Into<String>) -> Self {
        Self::with_timeouts(shared, bucket, Timeouts::default())
    }

    /// The same with time limits of one's own.
    pub fn with_timeouts(
        shared: &SdkConfig,
        bucket: impl Into<String>,
        timeouts: Timeouts,
    ) -> Self {
        let limits = TimeoutConfig::builder()
            .connect_timeout(timeouts.connect)
            .operation_attempt_timeout(timeouts.call)
            .build();
        let config = Builder::from(shared)
            .retry_config(RetryConfig::standard().with_max_attempts(1))
            .timeout_config(limits)
            // Ours is per chunk; two of them would name one trouble twice.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            // What is read is held against a hash of our own, which proves more.
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .force_path_style(shared.endpoint_url().is_some())
            .build();
        Self { client: Client::from_conf(config), bucket: bucket.into(), timeouts }
    }

    /// A bucket under the usual chain of credentials and `AWS_REGION`.
    pub async fn from_environment(bucket: impl Into<String>) -> Self {
        let behavior = aws_config::BehaviorVersion::v2026_01_12();
        Self::new(&aws_config::defaults(behavior).load().await, bucket)
    }

    /// How long a call that carries so many bytes may take.
    fn limit(&self, bytes: u64) -> Duration {
        let mebibytes = u32::try_from(bytes.div_ceil(MEBIBYTE)).unwrap_or(u32::MAX);
        self.timeouts.call + self.timeouts.per_mebibyte.saturating_mul(mebibytes)
    }
}

/// The configuration of one call that may take longer than others.
fn within(limit: Duration) -> Builder {
    let limits = TimeoutConfig::builder().operation_attempt_timeout(limit).build();
    aws_sdk_s3::Config::builder().timeout_config(limits)
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

    async fn put_with(
        &self,
        key: &ObjectKey,
        bytes: Vec<u8>,
        how: Write,
        options: &ObjectOptions,
    ) -> Result<Written, SinkError> {
        self.store(key, bytes.into(), how, options).await
    }

    async fn get(&self, key: &ObjectKey, bytes_max: u64) -> Result<Option<Vec<u8>>, SinkError> {
        self.whole(key, bytes_max).await
    }

    async fn get_range(
        &self,
        key: &ObjectKey,
        from: u64,
        len: u64,
    ) -> Result<Option<Vec<u8>>, SinkError> {
        self.range(key, from, len).await
    }

    async fn read(&self, key: &ObjectKey, from: u64) -> Result<Option<ObjectBody>, SinkError> {
        self.stream(key, from).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectHead>, SinkError> {
        self.about(key, None).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<Deletion, SinkError> {
        self.delete_name(key).await
    }

    async fn delete_batch(
        &self,
        keys: &[ObjectKey],
    ) -> Result<Vec<Result<Deletion, ItemError>>, SinkError> {
        self.delete_names(keys).await
    }

    async fn delete_all_versions(&self, key: &ObjectKey) -> Result<Deletion, SinkError> {
        self.delete_versions(key).await
    }

    async fn set_legal_hold(&self, key: &ObjectKey, on: bool) -> Result<bool, SinkError> {
        self.hold(key, on).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<ObjectPage, SinkError> {
        self.page(prefix, after, limit).await
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, SinkError> {
        self.folders(prefix).await
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

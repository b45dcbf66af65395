//! Objects in one call, their options on the wire, and what a head says of them.

use aws_sdk_s3::primitives::{ByteStream, DateTime as SdkTime};
use aws_sdk_s3::types as sdk;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::errors::{absent, status};
use super::{S3, size, time, within};
use crate::error::SinkError;
use crate::objects::{
    Encryption, Lock, LockMode, ObjectHead, ObjectKey, ObjectOptions, StorageClass, Write, Written,
    admit, upload,
};

/// What a query string leaves as it is.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Options as headers of a call.
pub(super) struct Wire {
    pub(super) metadata: Option<std::collections::HashMap<String, String>>,
    pub(super) tagging: Option<String>,
    pub(super) storage_class: Option<sdk::StorageClass>,
    pub(super) encryption: Option<sdk::ServerSideEncryption>,
    pub(super) kms_key: Option<String>,
    /// One data key for many objects: fewer calls to KMS.
    pub(super) bucket_key: Option<bool>,
    pub(super) lock_mode: Option<sdk::ObjectLockMode>,
    pub(super) locked_until: Option<SdkTime>,
    pub(super) legal_hold: Option<sdk::ObjectLockLegalHoldStatus>,
}

impl Wire {
    pub(super) fn of(options: &ObjectOptions) -> Self {
        let escape = |text: &str| utf8_percent_encode(text, ESCAPED).to_string();
        let tags: Vec<String> = options
            .tags
            .iter()
            .map(|(name, value)| format!("{}={}", escape(name), escape(value)))
            .collect();
        let (encryption, kms_key) = match &options.encryption {
            Encryption::Bucket => (None, None),
            Encryption::S3 => (Some(sdk::ServerSideEncryption::Aes256), None),
            Encryption::Kms { key_id } => (Some(sdk::ServerSideEncryption::AwsKms), key_id.clone()),
        };
        let metadata = options.metadata.clone().into_iter().collect();
        let class = options.storage_class;
        Self {
            metadata: (!options.metadata.is_empty()).then_some(metadata),
            tagging: (!tags.is_empty()).then(|| tags.join("&")),
            storage_class: (class != StorageClass::Standard)
                .then(|| sdk::StorageClass::from(class.name())),
            bucket_key: matches!(options.encryption, Encryption::Kms { .. }).then_some(true),
            encryption,
            kms_key,
            lock_mode: options.lock.map(|lock| match lock.mode {
                LockMode::Governance => sdk::ObjectLockMode::Governance,
                LockMode::Compliance => sdk::ObjectLockMode::Compliance,
            }),
            locked_until: options.lock.map(|lock| sdk_time(lock.until)),
            legal_hold: options.legal_hold.then_some(sdk::ObjectLockLegalHoldStatus::On),
        }
    }
}

fn sdk_time(time: DateTime<Utc>) -> SdkTime {
    SdkTime::from_millis(time.timestamp_millis())
}

impl S3 {
    pub(super) async fn store(
        &self,
        key: &ObjectKey,
        bytes: Bytes,
        how: Write,
        options: &ObjectOptions,
    ) -> Result<Written, SinkError> {
        admit(&self.bucket, bytes.len(), options)?;
        let limit = self.limit(bytes.len() as u64);
        let condition = (how == Write::IfAbsent).then(|| "*".to_owned());
        let wire = Wire::of(options);
        let call = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key.as_str())
            .set_if_none_match(condition)
            .set_metadata(wire.metadata)
            .set_tagging(wire.tagging)
            .set_storage_class(wire.storage_class)
            .set_server_side_encryption(wire.encryption)
            .set_ssekms_key_id(wire.kms_key)
            .set_bucket_key_enabled(wire.bucket_key)
            .set_object_lock_mode(wire.lock_mode)
            .set_object_lock_retain_until_date(wire.locked_until)
            .set_object_lock_legal_hold_status(wire.legal_hold)
            .checksum_sha256(upload::sha256(bytes.clone()).await?)
            .body(ByteStream::from(bytes))
            .customize()
            .config_override(within(limit));
        match call.send().await {
            Ok(_) => Ok(Written::New),
            Err(error) => match status(&error) {
                Some(412) if how == Write::IfAbsent => Ok(Written::AlreadyThere),
                _ => Err(self.failed(error)),
            },
        }
    }

    /// What is known of an object, or of one version of it.
    pub(super) async fn about(
        &self,
        key: &ObjectKey,
        version: Option<&str>,
    ) -> Result<Option<ObjectHead>, SinkError> {
        let call = self.client.head_object().bucket(&self.bucket).key(key.as_str());
        let answer = match call.set_version_id(version.map(ToOwned::to_owned)).send().await {
            Ok(answer) => answer,
            Err(error) if absent(&error) => return Ok(None),
            Err(error) => return Err(self.failed(error)),
        };
        let mode = answer.object_lock_mode().map(|mode| match mode {
            sdk::ObjectLockMode::Governance => LockMode::Governance,
            // What is not known to be weaker is taken for the strongest.
            _ => LockMode::Compliance,
        });
        let until = answer.object_lock_retain_until_date();
        let hold = answer.object_lock_legal_hold_status();
        Ok(Some(ObjectHead {
            key: key.clone(),
            size: size(answer.content_length()),
            modified: time(answer.last_modified()),
            // Absent is STANDARD; a class without a name of ours is read at once.
            storage_class: answer
                .storage_class()
                .and_then(|class| class.as_str().parse().ok())
                .unwrap_or_default(),
            lock: mode.zip(until).map(|(mode, until)| Lock { mode, until: time(Some(until)) }),
            legal_hold: hold == Some(&sdk::ObjectLockLegalHoldStatus::On),
            metadata: answer.metadata.unwrap_or_default().into_iter().collect(),
        }))
    }

    pub(super) async fn hold(&self, key: &ObjectKey, on: bool) -> Result<bool, SinkError> {
        let status = if on {
            sdk::ObjectLockLegalHoldStatus::On
        } else {
            sdk::ObjectLockLegalHoldStatus::Off
        };
        let hold = sdk::ObjectLockLegalHold::builder().status(status).build();
        let call = self.client.put_object_legal_hold().bucket(&self.bucket).key(key.as_str());
        match call.legal_hold(hold).send().await {
            Ok(_) => Ok(true),
            Err(error) if absent(&error) => Ok(false),
            Err(error) => Err(self.failed(error)),
        }
    }
}

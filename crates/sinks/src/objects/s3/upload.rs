//! Multipart uploads on the wire.

use async_trait::async_trait;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::errors::status;
use super::store::Wire;
use super::{S3, size, time, within};
use crate::error::SinkError;
use crate::objects::{
    ObjectKey, ObjectOptions, PARTS_MAX, Part, UPLOADS_PAGE_MAX, Unfinished, UploadError, UploadId,
    Uploads, Written, admit, upload,
};

/// Parts on a page of S3's.
const PARTS_PAGE: usize = 1_000;
/// Between the two halves of a page's mark; no name of ours has it.
const MARK: char = '\n';

impl S3 {
    fn part_number(number: u16) -> i32 {
        i32::from(number)
    }

    async fn parts_page(
        &self,
        key: &ObjectKey,
        id: &UploadId,
        after: Option<String>,
    ) -> Result<(Vec<Part>, Option<String>), UploadError> {
        let call = self.client.list_parts().bucket(&self.bucket).key(key.as_str());
        let call = call.upload_id(&id.0).set_part_number_marker(after);
        let answer = call.send().await.map_err(|error| self.upload_failed(key, error))?;
        let parts = answer.parts().iter().filter_map(|part| {
            Some(Part {
                number: u16::try_from(part.part_number()?).ok()?,
                size: size(part.size()),
                etag: part.e_tag()?.to_owned(),
                sha256: part.checksum_sha256().unwrap_or_default().to_owned(),
            })
        });
        let parts: Vec<Part> = parts.collect();
        let next = answer.next_part_number_marker.filter(|_| answer.is_truncated == Some(true));
        Ok((parts, next))
    }
}

#[async_trait]
impl Uploads for S3 {
    async fn begin(&self, key: &ObjectKey, options: &ObjectOptions) -> Result<UploadId, SinkError> {
        admit(&self.bucket, 0, options)?;
        let wire = Wire::of(options);
        let call = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(key.as_str())
            .set_metadata(wire.metadata)
            .set_tagging(wire.tagging)
            .set_storage_class(wire.storage_class)
            .set_server_side_encryption(wire.encryption)
            .set_ssekms_key_id(wire.kms_key)
            .set_bucket_key_enabled(wire.bucket_key)
            .set_object_lock_mode(wire.lock_mode)
            .set_object_lock_retain_until_date(wire.locked_until)
            .set_object_lock_legal_hold_status(wire.legal_hold)
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .checksum_type(ChecksumType::Composite);
        let answer = call.send().await.map_err(|error| self.failed(error))?;
        let id = answer.upload_id.ok_or_else(|| self.unreadable("names no upload"))?;
        Ok(UploadId(id))
    }

    async fn put_part(
        &self,
        key: &ObjectKey,
        id: &UploadId,
        number: u16,
        bytes: Bytes,
    ) -> Result<Part, UploadError> {
        let size = bytes.len() as u64;
        let sha256 = upload::sha256(bytes.clone()).await?;
        let call = self
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(key.as_str())
            .upload_id(&id.0)
            .part_number(Self::part_number(number))
            .checksum_sha256(&sha256)
            .body(ByteStream::from(bytes))
            .customize()
            .config_override(within(self.limit(size)));
        let answer = call.send().await.map_err(|error| self.upload_failed(key, error))?;
        let etag = answer.e_tag.ok_or_else(|| self.unreadable("has no mark of the part"))?;
        Ok(Part { number, size, etag, sha256 })
    }

    async fn parts(&self, key: &ObjectKey, id: &UploadId) -> Result<Vec<Part>, UploadError> {
        let (mut parts, mut after) = (Vec::new(), None);
        for _ in 0..=PARTS_MAX.div_ceil(PARTS_PAGE) {
            let (page, next) = self.parts_page(key, id, after).await?;
            parts.extend(page);
            after = next;
            if after.is_none() {
                return Ok(parts);
            }
        }
        Err(self.unreadable("has more parts than an object may").into())
    }

    async fn complete(
        &self,
        key: &ObjectKey,
        id: &UploadId,
        parts: &[Part],
    ) -> Result<Written, UploadError> {
        let whole: u64 = parts.iter().map(|part| part.size).sum();
        let named = parts.iter().map(|part| {
            CompletedPart::builder()
                .part_number(Self::part_number(part.number))
                .e_tag(&part.etag)
                .checksum_sha256(&part.sha256)
                .build()
        });
        let named = CompletedMultipartUpload::builder().set_parts(Some(named.collect())).build();
        let call = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(key.as_str())
            .upload_id(&id.0)
            .if_none_match("*")
            .checksum_type(ChecksumType::Composite)
            .mpu_object_size(i64::try_from(whole).unwrap_or(i64::MAX))
            .multipart_upload(named)
            .customize()
            .config_override(within(self.timeouts.complete));
        match call.send().await {
            Ok(_) => Ok(Written::New),
            Err(error) if status(&error) == Some(412) => Ok(Written::AlreadyThere),
            Err(error) => Err(self.upload_failed(key, error)),
        }
    }

    async fn abort(&self, key: Option<&ObjectKey>, id: &UploadId) -> Result<(), SinkError> {
        let Some(key) = key else {
            return Err(self.refused(&format!("upload {id} is named without its object")));
        };
        let call = self.client.abort_multipart_upload().bucket(&self.bucket).key(key.as_str());
        match call.upload_id(&id.0).send().await.map_err(|error| self.upload_failed(key, error)) {
            Ok(_) | Err(UploadError::Lost { .. }) => Ok(()),
            Err(UploadError::Failed(error)) => Err(error),
        }
    }

    async fn list_uploads(
        &self,
        prefix: &str,
        begun_before: DateTime<Utc>,
        after: Option<&str>,
    ) -> Result<(Vec<Unfinished>, Option<String>), SinkError> {
        let call = self.client.list_multipart_uploads().bucket(&self.bucket).prefix(prefix);
        let (key, id) = after.and_then(|after| after.split_once(MARK)).unzip();
        let call = call
            .set_key_marker(key.map(ToOwned::to_owned))
            .set_upload_id_marker(id.map(ToOwned::to_owned))
            .max_uploads(i32::try_from(UPLOADS_PAGE_MAX).unwrap_or(i32::MAX));
        let answer = call.send().await.map_err(|error| self.failed(error))?;
        // Uploads under names of others' making are none of ours.
        let listed = answer.uploads().iter().filter_map(|upload| {
            Some(Unfinished {
                key: Some(upload.key()?.parse().ok()?),
                id: UploadId(upload.upload_id()?.to_owned()),
                begun: time(upload.initiated()),
            })
        });
        let old = listed.filter(|upload| upload.begun < begun_before).collect();
        let next = answer.next_key_marker().zip(answer.next_upload_id_marker());
        let next = next.filter(|_| answer.is_truncated() == Some(true));
        Ok((old, next.map(|(key, id)| format!("{key}{MARK}{id}"))))
    }
}

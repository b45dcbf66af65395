//! Listing a bucket: objects page by page, and the folders that their names make.

use super::{S3, size, time};
use crate::error::SinkError;
use crate::objects::{FOLDERS_MAX, ObjectKey, ObjectMeta, ObjectPage, PAGE_MAX, too_many_folders};

/// Pages in a row without a name of ours; a bucket with more of them is somebody else's.
const FOREIGN_PAGES_MAX: usize = 100;

impl S3 {
    pub(super) async fn page(
        &self,
        prefix: &str,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<ObjectPage, SinkError> {
        let limit = limit.clamp(1, PAGE_MAX);
        let mut after = after.map(ToString::to_string);
        for _ in 0..FOREIGN_PAGES_MAX {
            let call = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix);
            let call = call.max_keys(i32::try_from(limit).unwrap_or(i32::MAX));
            let answer = call.set_start_after(after).send().await;
            let answer = answer.map_err(|error| self.failed(error))?;
            let listed = answer.contents.as_deref().unwrap_or_default();
            let objects: Vec<ObjectMeta> = listed
                .iter()
                .filter_map(|object| {
                    let key = object.key()?.parse().ok()?;
                    let modified = time(object.last_modified());
                    Some(ObjectMeta { key, size: size(object.size()), modified })
                })
                .collect();
            if answer.is_truncated() != Some(true) {
                return Ok(ObjectPage { objects, next: None });
            }
            if let Some(last) = objects.last() {
                let next = Some(last.key.clone());
                return Ok(ObjectPage { objects, next });
            }
            let last = listed.last().and_then(|object| object.key());
            after = Some(last.ok_or_else(|| self.unreadable("is an empty page of many"))?.into());
        }
        let text = format!("{FOREIGN_PAGES_MAX} pages under {prefix:?} without a name of ours");
        Err(self.refused(&text))
    }

    pub(super) async fn folders(&self, prefix: &str) -> Result<Vec<String>, SinkError> {
        let (mut folders, mut token) = (Vec::new(), None);
        // Objects between the folders count for a page, too.
        for _ in 0..FOLDERS_MAX.div_ceil(PAGE_MAX) {
            let call = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix);
            let call = call.delimiter("/").set_continuation_token(token);
            let answer = call.send().await.map_err(|error| self.failed(error))?;
            let found = answer.common_prefixes().iter().filter_map(|common| {
                Some(common.prefix()?.strip_prefix(prefix)?.trim_end_matches('/').to_owned())
            });
            folders.extend(found);
            token = answer.next_continuation_token;
            if token.is_none() {
                return Ok(folders);
            }
        }
        Err(too_many_folders(&self.bucket, prefix))
    }
}

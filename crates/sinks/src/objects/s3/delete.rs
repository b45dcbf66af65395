//! Deleting from S3: a name, many names, or every version. Locks are looked for first, since a bucket
//! with versions answers a plain delete of a locked object with success and a marker; S3 itself then
//! still refuses to remove a locked version.

use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use futures_util::{StreamExt, stream};
use queue_core::{Clock, SystemClock};

use super::S3;
use super::errors::absent;
use crate::error::{ItemError, SinkError, SinkErrorKind};
use crate::objects::{DELETES_MAX, Deletion, Held, NAME, ObjectKey, VERSIONS_MAX};

/// Heads at the same time; S3 gives 5,500 of them a second and prefix.
const HEADS_MAX: usize = 16;

/// One version of an object, or one of its delete markers.
struct Version {
    id: String,
    /// A marker has no bytes and no lock.
    marker: bool,
}

/// What S3 refused of a batch.
struct NotDeleted {
    key: String,
    code: String,
    message: String,
}

impl NotDeleted {
    /// S3 has one code for a lock and for a missing permission; its text tells them apart.
    fn locked(&self) -> bool {
        self.code == "AccessDenied" && self.message.to_ascii_lowercase().contains("object lock")
    }
}

const UNKNOWN_LOCK: Held = Held { until: None, legal_hold: false };

impl S3 {
    /// What stands in the way of a deletion before it is tried.
    async fn look(
        &self,
        key: &ObjectKey,
        version: Option<&str>,
    ) -> Result<Option<Deletion>, SinkError> {
        let Some(head) = self.about(key, version).await? else {
            return Ok(Some(Deletion::AlreadyGone));
        };
        Ok(head.held(SystemClock.now()).map(Deletion::Locked))
    }

    pub(super) async fn delete_name(&self, key: &ObjectKey) -> Result<Deletion, SinkError> {
        if let Some(settled) = self.look(key, None).await? {
            return Ok(settled);
        }
        let call = self.client.delete_object().bucket(&self.bucket).key(key.as_str());
        match call.send().await {
            Ok(_) => Ok(Deletion::Deleted),
            Err(error) if absent(&error) => Ok(Deletion::AlreadyGone),
            Err(error) => Err(self.failed(error)),
        }
    }

    pub(super) async fn delete_names(
        &self,
        keys: &[ObjectKey],
    ) -> Result<Vec<Result<Deletion, ItemError>>, SinkError> {
        if keys.len() > DELETES_MAX {
            let text = format!("{}: {} deletes in one call", self.bucket, keys.len());
            let text = format!("{text}, {DELETES_MAX} fit");
            return Err(SinkError::new(NAME, SinkErrorKind::Full, text));
        }
        let looks: Vec<_> = keys.iter().map(|key| self.look(key, None)).collect();
        let looked: Vec<Result<Option<Deletion>, SinkError>> =
            stream::iter(looks).buffered(HEADS_MAX).collect().await;
        let mut outcomes = Vec::with_capacity(keys.len());
        let mut wanted = Vec::new();
        for (key, looked) in keys.iter().zip(looked) {
            outcomes.push(match looked {
                Ok(Some(settled)) => Ok(settled),
                Ok(None) => {
                    wanted.push(identifier(key, None)?);
                    Ok(Deletion::Deleted)
                }
                Err(error) => Err(ItemError::Retry(error.to_string())),
            });
        }
        if wanted.is_empty() {
            return Ok(outcomes);
        }
        for refused in self.delete_objects(wanted).await? {
            for (key, outcome) in keys.iter().zip(&mut outcomes) {
                if key.as_str() == refused.key && matches!(outcome, Ok(Deletion::Deleted)) {
                    *outcome = refused.outcome();
                }
            }
        }
        Ok(outcomes)
    }

    pub(super) async fn delete_versions(&self, key: &ObjectKey) -> Result<Deletion, SinkError> {
        let versions = self.versions(key).await?;
        if versions.is_empty() {
            return Ok(Deletion::AlreadyGone);
        }
        let with_bytes = versions.iter().filter(|version| !version.marker);
        let looks: Vec<_> = with_bytes.map(|version| self.look(key, Some(&version.id))).collect();
        let looked: Vec<Result<Option<Deletion>, SinkError>> =
            stream::iter(looks).buffered(HEADS_MAX).collect().await;
        let mut held: Option<Held> = None;
        for outcome in looked {
            if let Some(Deletion::Locked(this)) = outcome? {
                let known = held.unwrap_or(UNKNOWN_LOCK);
                held = Some(Held {
                    until: known.until.max(this.until),
                    legal_hold: known.legal_hold || this.legal_hold,
                });
            }
        }
        if let Some(held) = held {
            return Ok(Deletion::Locked(held));
        }
        let named = versions.iter().map(|version| identifier(key, Some(&version.id)));
        let named = named.collect::<Result<Vec<_>, _>>()?;
        let refused = self.delete_objects(named).await?;
        let worst = refused.iter().map(NotDeleted::outcome).max_by_key(weight);
        match worst.unwrap_or(Ok(Deletion::Deleted)) {
            Ok(outcome) => Ok(outcome),
            Err(error) => {
                let text = format!("{}: {key}: {error}", self.bucket);
                let kind = match error {
                    ItemError::Retry(_) => SinkErrorKind::Unavailable,
                    ItemError::Reject(_) => SinkErrorKind::Refused,
                };
                Err(SinkError::new(NAME, kind, text))
            }
        }
    }

    /// Every version and delete marker of an object, the bytes first.
    async fn versions(&self, key: &ObjectKey) -> Result<Vec<Version>, SinkError> {
        let call = self.client.list_object_versions().bucket(&self.bucket).prefix(key.as_str());
        let answer = call.send().await.map_err(|error| self.failed(error))?;
        let ours = |named: Option<&str>| named == Some(key.as_str());
        let bytes = answer.versions().iter().filter(|version| ours(version.key()));
        let bytes = bytes.filter_map(|version| version.version_id());
        let markers = answer.delete_markers().iter().filter(|marker| ours(marker.key()));
        let markers = markers.filter_map(|marker| marker.version_id());
        let bytes = bytes.map(|id| Version { id: id.to_owned(), marker: false });
        let markers = markers.map(|id| Version { id: id.to_owned(), marker: true });
        let versions: Vec<Version> = bytes.chain(markers).collect();
        // The name itself sorts before every longer one, so a cut page has the rest of its versions.
        if answer.is_truncated() == Some(true) && ours(answer.next_key_marker()) {
            let text = format!("{}: {key} has over {VERSIONS_MAX} versions", self.bucket);
            return Err(SinkError::new(NAME, SinkErrorKind::Full, text));
        }
        Ok(versions)
    }

    /// Deletes in one call; answers what was refused.
    async fn delete_objects(
        &self,
        objects: Vec<ObjectIdentifier>,
    ) -> Result<Vec<NotDeleted>, SinkError> {
        let delete = Delete::builder().set_objects(Some(objects)).quiet(true).build();
        let delete = delete.map_err(|error| self.refused(&error.to_string()))?;
        let call = self.client.delete_objects().bucket(&self.bucket).delete(delete);
        let answer = call.send().await.map_err(|error| self.failed(error))?;
        let refused = answer.errors().iter().map(|error| NotDeleted {
            key: error.key().unwrap_or_default().to_owned(),
            code: error.code().unwrap_or_default().to_owned(),
            message: error.message().unwrap_or_default().to_owned(),
        });
        Ok(refused.collect())
    }
}

impl NotDeleted {
    fn outcome(&self) -> Result<Deletion, ItemError> {
        let text = format!("{}: {}", self.code, self.message);
        match self.code.as_str() {
            "NoSuchKey" | "NoSuchVersion" => Ok(Deletion::AlreadyGone),
            _ if self.locked() => Ok(Deletion::Locked(UNKNOWN_LOCK)),
            "AccessDenied" | "MethodNotAllowed" | "InvalidArgument" | "MalformedXML" => {
                Err(ItemError::Reject(text))
            }
            _ => Err(ItemError::Retry(text)),
        }
    }
}

/// How bad an outcome is: of many versions the worst speaks for the object.
fn weight(outcome: &Result<Deletion, ItemError>) -> u8 {
    match outcome {
        Ok(Deletion::Deleted) => 0,
        Ok(Deletion::AlreadyGone) => 1,
        Ok(Deletion::Locked(_)) => 2,
        Err(ItemError::Retry(_)) => 3,
        Err(ItemError::Reject(_)) => 4,
    }
}

fn identifier(key: &ObjectKey, version: Option<&str>) -> Result<ObjectIdentifier, SinkError> {
    let named = ObjectIdentifier::builder().key(key.as_str());
    let named = named.set_version_id(version.map(ToOwned::to_owned)).build();
    named.map_err(|error| SinkError::new(NAME, SinkErrorKind::Refused, error.to_string()))
}

//! Where large bodies go: flags and environment, the same for who sends them and who reads them.
//! Nothing is connected at start.

use std::path::PathBuf;
use std::sync::Arc;

use queue_core::ClaimStore;

use super::{ClaimObjects, Files, S3, SharedObjects};

/// The store for bodies over the broker's limit.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Large bodies")]
pub struct ClaimConfig {
    /// S3 bucket for message bodies over 1 MiB; without one, such messages are refused
    ///
    /// Region, credentials and endpoint are those of the AWS SDK's usual chain.
    ///
    /// Example: flotilla-claims
    #[arg(long, env = "CLAIM_BUCKET", value_parser = bucket, conflicts_with = "claim_dir")]
    pub claim_bucket: Option<String>,
    /// Directory in the bucket's place, shared by who sends and who reads
    ///
    /// Example: /var/lib/flotilla/objects
    #[arg(long, env = "CLAIM_DIR")]
    pub claim_dir: Option<PathBuf>,
}

impl ClaimConfig {
    /// The directory as a store, where one is set.
    pub fn files(&self) -> Option<Files> {
        self.claim_dir.as_ref().map(Files::new)
    }

    /// The objects, where a store is set.
    pub async fn objects(&self) -> Option<SharedObjects> {
        match &self.claim_bucket {
            Some(bucket) => Some(Arc::new(S3::from_environment(bucket).await)),
            None => self.files().map(|files| Arc::new(files) as SharedObjects),
        }
    }
}

/// The store for claims, where one is set.
pub async fn open(config: &ClaimConfig) -> Option<Arc<dyn ClaimStore>> {
    let objects = config.objects().await?;
    Some(Arc::new(ClaimObjects::new(objects)))
}

fn bucket(text: &str) -> Result<String, String> {
    let bytes = text.as_bytes();
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    let outer = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let fits = (3..=63).contains(&bytes.len())
        && bytes.iter().all(inner)
        && outer(bytes.first())
        && outer(bytes.last());
    if fits {
        Ok(text.to_owned())
    } else {
        Err("not the name of a bucket: 3 to 63 of a-z, 0-9, - and ., e.g. flotilla-claims".into())
    }
}

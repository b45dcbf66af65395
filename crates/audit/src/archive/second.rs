//! Where signed heads are copied to, so that whoever can change the archive cannot also change what
//! shows it: a bucket of another account, or a directory for laptops. Nothing is connected at start.

use std::path::PathBuf;
use std::sync::Arc;

use sinks::objects::{Files, S3, SharedObjects};

/// The second store for signed heads.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Signed heads")]
pub struct HeadsConfig {
    /// S3 bucket that signed heads are copied to, best of another account and with Object Lock
    ///
    /// Region, credentials and endpoint are those of the AWS SDK's usual chain; the bucket's policy has
    /// to allow `s3:PutObject` and `s3:GetObject`.
    ///
    /// Example: flotilla-heads
    #[arg(long, env = "HEADS_BUCKET", conflicts_with = "heads_dir")]
    pub heads_bucket: Option<String>,
    /// Directory in the bucket's place
    ///
    /// Example: /mnt/elsewhere/heads
    #[arg(long, env = "HEADS_DIR")]
    pub heads_dir: Option<PathBuf>,
}

impl HeadsConfig {
    /// The store, where one is set.
    pub async fn objects(&self) -> Option<SharedObjects> {
        match (&self.heads_bucket, &self.heads_dir) {
            (Some(bucket), _) => Some(Arc::new(S3::from_environment(bucket).await)),
            (None, Some(dir)) => Some(Arc::new(Files::new(dir))),
            (None, None) => None,
        }
    }
}

//! Where large bodies and the archive go: flags and environment, the same for who writes them and who
//! reads them. Nothing is connected at start.

use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use queue_core::ClaimStore;

use super::{ClaimObjects, Encryption, Files, Lock, LockMode, ObjectOptions, S3, SharedObjects};

/// Days that an object may be locked for at most: a century.
pub const LOCK_DAYS_MAX: i64 = 36_500;

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

/// Server-side encryption, by S3's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ArchiveEncryption {
    /// What the bucket does by default
    #[default]
    #[value(name = "none")]
    Bucket,
    /// Keys of S3's own
    #[value(name = "AES256")]
    S3,
    /// A key of AWS KMS
    #[value(name = "aws:kms")]
    Kms,
}

/// The archive's store, and how objects lie in it.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Archive")]
pub struct ArchiveConfig {
    /// S3 bucket of the audit archive
    ///
    /// Region, credentials and endpoint are those of the AWS SDK's usual chain.
    ///
    /// Example: audit-log-archive
    #[arg(long, env = "ARCHIVE_BUCKET", value_parser = bucket, conflicts_with = "archive_dir")]
    pub archive_bucket: Option<String>,
    /// Directory in the bucket's place
    ///
    /// Example: /var/lib/flotilla/archive
    #[arg(long, env = "ARCHIVE_DIR")]
    pub archive_dir: Option<PathBuf>,
    /// Server-side encryption that objects are written with; `none` leaves it to the bucket
    ///
    /// Example: aws:kms
    #[arg(long, env = "ARCHIVE_SSE", value_enum, default_value = "none")]
    pub archive_sse: ArchiveEncryption,
    /// KMS key for `ARCHIVE_SSE=aws:kms`, by id, alias or ARN; without one, the account's default
    ///
    /// Example: alias/flotilla-archive
    #[arg(long, env = "ARCHIVE_SSE_KMS_KEY_ID", value_parser = kms_key)]
    pub archive_sse_kms_key_id: Option<String>,
    /// Object Lock that objects are written with; the bucket must have it on
    ///
    /// Under `COMPLIANCE` nobody deletes an object before its time, you neither.
    ///
    /// Example: GOVERNANCE
    #[arg(long, env = "ARCHIVE_LOCK_MODE", value_enum, requires = "archive_lock_days")]
    pub archive_lock_mode: Option<LockMode>,
    /// Days from its writing that an object is locked for, 1 to 36500
    ///
    /// Example: 365
    #[arg(long, env = "ARCHIVE_LOCK_DAYS", requires = "archive_lock_mode",
          value_parser = clap::value_parser!(i64).range(1..=LOCK_DAYS_MAX))]
    pub archive_lock_days: Option<i64>,
}

impl ArchiveConfig {
    /// What is wrong between these values: the variable, and why. `--check-config` tells it.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        if self.archive_sse_kms_key_id.is_some() && self.archive_sse != ArchiveEncryption::Kms {
            return Err((
                "ARCHIVE_SSE_KMS_KEY_ID",
                "a KMS key is used with ARCHIVE_SSE=aws:kms alone; set that, or leave the key out",
            ));
        }
        if self.archive_dir.is_some() && self.archive_sse != ArchiveEncryption::Bucket {
            return Err((
                "ARCHIVE_SSE",
                "a directory encrypts nothing; use an encrypted disk and ARCHIVE_SSE=none, or ARCHIVE_BUCKET",
            ));
        }
        Ok(())
    }

    /// The store, where one is set.
    pub async fn objects(&self) -> Option<SharedObjects> {
        match (&self.archive_bucket, &self.archive_dir) {
            (Some(bucket), _) => Some(Arc::new(S3::from_environment(bucket).await)),
            (None, Some(dir)) => Some(Arc::new(Files::new(dir))),
            (None, None) => None,
        }
    }

    /// How an object that is written at that time lies in it.
    pub fn options(&self, now: DateTime<Utc>) -> ObjectOptions {
        let encryption = match self.archive_sse {
            ArchiveEncryption::Bucket => Encryption::Bucket,
            ArchiveEncryption::S3 => Encryption::S3,
            ArchiveEncryption::Kms => {
                Encryption::Kms { key_id: self.archive_sse_kms_key_id.clone() }
            }
        };
        let lock = self.archive_lock_mode.zip(self.archive_lock_days);
        let lock = lock.map(|(mode, days)| Lock { mode, until: now + TimeDelta::days(days) });
        ObjectOptions { encryption, lock, ..ObjectOptions::default() }
    }
}

fn kms_key(text: &str) -> Result<String, String> {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'/' | b':');
    if (1..=2_048).contains(&text.len()) && text.bytes().all(known) {
        Ok(text.to_owned())
    } else {
        Err("not a KMS key: an id, an alias or an ARN, e.g. alias/flotilla-archive".into())
    }
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Process {
        #[command(flatten)]
        archive: ArchiveConfig,
    }

    fn parse(words: &[&str]) -> Result<ArchiveConfig, String> {
        let words = std::iter::once("process").chain(words.iter().copied());
        Process::try_parse_from(words).map(|it| it.archive).map_err(|error| error.to_string())
    }

    #[test]
    fn an_archive_is_encrypted_and_locked_as_configured() {
        let now = DateTime::UNIX_EPOCH;
        let plain = parse(&["--archive-bucket", "audit-log-archive"]).unwrap();
        assert_eq!(plain.options(now), ObjectOptions::default());
        let full = parse(&[
            "--archive-bucket=audit-log-archive",
            "--archive-sse=aws:kms",
            "--archive-sse-kms-key-id=alias/archive",
            "--archive-lock-mode=COMPLIANCE",
            "--archive-lock-days=365",
        ])
        .unwrap();
        full.check().unwrap();
        let options = full.options(now);
        assert_eq!(options.encryption, Encryption::Kms { key_id: Some("alias/archive".into()) });
        let until = now + TimeDelta::days(365);
        assert_eq!(options.lock, Some(Lock { mode: LockMode::Compliance, until }));
    }

    #[test]
    fn what_does_not_fit_together_is_refused_with_the_variable() {
        for (words, named) in [
            (&["--archive-bucket=a-b", "--archive-dir=/a"][..], "--archive-dir"),
            (&["--archive-bucket=A"], "3 to 63"),
            (&["--archive-sse=rot13"], "AES256"),
            (&["--archive-lock-mode=GOVERNANCE"], "--archive-lock-days"),
            (&["--archive-lock-days=7"], "--archive-lock-mode"),
            (&["--archive-lock-mode=GOVERNANCE", "--archive-lock-days=0"], "1..=36500"),
            (&["--archive-sse-kms-key-id=a b"], "alias/"),
        ] {
            let error = parse(words).unwrap_err();
            assert!(error.contains(named), "{words:?}: {error}");
        }
        for (words, variable) in [
            (&["--archive-sse=AES256", "--archive-sse-kms-key-id=k"][..], "ARCHIVE_SSE_KMS_KEY_ID"),
            (&["--archive-dir=/a", "--archive-sse=AES256"], "ARCHIVE_SSE"),
        ] {
            assert_eq!(parse(words).unwrap().check().unwrap_err().0, variable);
        }
    }
}

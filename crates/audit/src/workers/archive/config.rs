//! The archive worker's options, and how it is built from them: lazily, so that a store that is down at
//! start shows on `/readyz` instead of killing the process.

use std::path::PathBuf;
use std::sync::Arc;

use chassis::config::Problem;
use chassis::{BuildError, Context, Service};
use database::{Database, DatabaseConfig, Role};
use queue_core::AttemptStore;
use sinks::objects::ArchiveConfig;

use super::{ArchiveWorker, Parts};

/// Options of the archive worker.
#[derive(Clone, Debug, clap::Args)]
pub struct ArchiveWorkerConfig {
    /// PostgreSQL.
    #[command(flatten)]
    pub database: DatabaseConfig,
    /// The archive.
    #[command(flatten)]
    pub archive: ArchiveConfig,

    /// Directory where objects over 4 MiB wait until they are stored, packed, at most 8 at a time
    ///
    /// Nothing in it outlives the process. Example: /var/tmp
    #[arg(long, env = "ARCHIVE_SPOOL_DIR", default_value = "/tmp")]
    pub archive_spool_dir: PathBuf,

    /// The step at which a debug build kills itself, for crash tests
    #[cfg(debug_assertions)]
    #[arg(long, env = "CRASH_POINT", hide = true)]
    pub crash_point: Option<crate::crash::CrashPoint>,
}

impl Service for ArchiveWorker {
    type Config = ArchiveWorkerConfig;

    fn check(config: &ArchiveWorkerConfig) -> Vec<Problem> {
        let archive = &config.archive;
        let mut problems: Vec<Problem> = Vec::new();
        if let Err((option, reason)) = archive.check() {
            problems.push(problem(option, reason));
        }
        if archive.archive_bucket.is_none() && archive.archive_dir.is_none() {
            problems
                .push(problem("ARCHIVE_BUCKET", "an archive is needed; set it, or ARCHIVE_DIR"));
        }
        problems
    }

    async fn build(config: ArchiveWorkerConfig, context: &Context) -> Result<Self, BuildError> {
        #[cfg(debug_assertions)]
        if let Some(point) = config.crash_point {
            crate::crash::arm(point);
        }
        let database =
            Database::connect(&config.database, Role::Worker).map_err(BuildError::failed)?;
        let objects = config.archive.objects().await.ok_or_else(|| {
            BuildError::from(problem(
                "ARCHIVE_BUCKET",
                "an archive is needed; set it, or ARCHIVE_DIR",
            ))
        })?;
        Ok(Self::new(Parts {
            database,
            objects,
            clock: context.clock(),
            stored_as: config.archive,
            spool: config.archive_spool_dir,
        }))
    }

    fn attempts(&self) -> Arc<dyn AttemptStore> {
        self.attempt_store()
    }
}

fn problem(option: &str, reason: &str) -> Problem {
    Problem { option: option.to_owned(), value: None, reason: reason.to_owned(), example: None }
}

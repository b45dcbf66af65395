//! The archive worker's options, and how it is built from them: lazily, so that a store that is down at
//! start shows on `/readyz` instead of killing the process.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chassis::{BuildError, Context, Problem, Service};
use chrono::TimeDelta;
use database::{Database, DatabaseConfig, Role};
use queue_core::AttemptStore;
use sinks::objects::{ArchiveConfig, SharedObjects, sweep_uploads};

use super::{ArchiveWorker, Parts};
use crate::archive::{HeadsConfig, Keys, Sealer, SealerConfig, SigningConfig};

/// An upload that is older belongs to nobody.
const UPLOADS_TERM: TimeDelta = TimeDelta::days(1);
/// Between two sweeps of uploads.
const SWEEP_PAUSE: Duration = Duration::from_secs(3_600);
/// Between two looks for erasures that have to reach the archive.
const ERASURES_PAUSE: Duration = Duration::from_secs(30);
/// Between two tries to get the signing keys; a key service is away for minutes at most.
const KEYS_PAUSE: Duration = Duration::from_secs(15);

/// Options of the archive worker.
#[derive(Clone, Debug, clap::Args)]
pub struct ArchiveWorkerConfig {
    /// PostgreSQL.
    #[command(flatten)]
    pub database: DatabaseConfig,
    /// The archive.
    #[command(flatten)]
    pub archive: ArchiveConfig,

    /// What signs the chain's documents; without a key they wait for a process that has it.
    #[command(flatten)]
    pub signing: SigningConfig,
    /// Where signed heads are copied to.
    #[command(flatten)]
    pub heads: HeadsConfig,

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
        check(&config.archive)
    }

    async fn build(config: ArchiveWorkerConfig, context: &Context) -> Result<Self, BuildError> {
        #[cfg(debug_assertions)]
        if let Some(point) = config.crash_point {
            crate::crash::arm(point);
        }
        let database =
            Database::connect(&config.database, Role::Worker).map_err(BuildError::failed)?;
        let objects = open(&config.archive).await?;
        seal_beside((&config.signing, &config.heads), &database, &objects, context);
        let worker = Self::new(Parts {
            database,
            objects: SharedObjects::clone(&objects),
            clock: context.clock(),
            stored_as: config.archive,
            spool: config.archive_spool_dir,
        });
        supersede_beside(worker.clone(), context);
        sweep_beside(worker.clone(), objects, context);
        Ok(worker)
    }

    fn attempts(&self) -> Arc<dyn AttemptStore> {
        self.attempt_store()
    }
}

const NO_ARCHIVE: &str = "an archive is needed; set it, or ARCHIVE_DIR";

/// What is wrong with the archive's options, also that there are none.
pub(in crate::workers) fn check(archive: &ArchiveConfig) -> Vec<Problem> {
    let mut problems: Vec<Problem> = Vec::new();
    if let Err((option, reason)) = archive.check() {
        problems.push(problem(option, reason));
    }
    if archive.archive_bucket.is_none() && archive.archive_dir.is_none() {
        problems.push(problem("ARCHIVE_BUCKET", NO_ARCHIVE));
    }
    problems
}

/// The archive's store.
pub(in crate::workers) async fn open(archive: &ArchiveConfig) -> Result<SharedObjects, BuildError> {
    let objects = archive.objects().await;
    objects.ok_or_else(|| BuildError::from(problem("ARCHIVE_BUCKET", NO_ARCHIVE)))
}

fn problem(option: &str, reason: &str) -> Problem {
    Problem { option: option.to_owned(), value: None, reason: reason.to_owned(), example: None }
}

/// Seals what the chains hold, beside the work, for as long as the process lives. Any number may.
pub(in crate::workers) fn seal_beside(
    (signing, heads): (&SigningConfig, &HeadsConfig),
    database: &Database,
    objects: &SharedObjects,
    context: &Context,
) {
    let (signing, heads) = (signing.clone(), heads.clone());
    let (database, objects) = (database.clone(), SharedObjects::clone(objects));
    let (clock, ended) = (context.clock(), context.ended());
    context.spawn(async move {
        let keys = keys(&signing).await;
        if keys.is_empty() {
            tracing::warn!("no signing key here: what is archived waits to be sealed elsewhere");
            return;
        }
        let mut sealer = Sealer::new(&database, keys, objects, clock, SealerConfig::default());
        if let Some(second) = heads.objects().await {
            sealer = sealer.with_second_store(second);
        }
        sealer.run(ended).await;
    });
}

/// Writes objects again that hold erased logs, for as long as the process lives. Any number may.
fn supersede_beside(worker: ArchiveWorker, context: &Context) {
    context.spawn(async move {
        loop {
            if let Err(failure) = worker.supersede().await {
                tracing::warn!(?failure, "erasures wait to reach the archive; tried again");
            }
            tokio::time::sleep(ERASURES_PAUSE).await;
        }
    });
}

/// Aborts what a process that died had begun to upload and nobody goes on with. A unit goes on with its
/// own within minutes; what is left has no unit, or in a directory not even a name. And removes the
/// objects that units do without, where that was not done at once.
fn sweep_beside(worker: ArchiveWorker, objects: SharedObjects, context: &Context) {
    let clock = context.clock();
    context.spawn(async move {
        loop {
            match sweep_uploads(&*objects, "archive/", clock.now() - UPLOADS_TERM).await {
                Ok(0) => {}
                Ok(aborted) => tracing::info!(aborted, "uploads that nobody goes on with"),
                Err(error) => tracing::warn!(%error, "uploads were not swept; tried again"),
            }
            match worker.sweep().await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "objects that units do without"),
                Err(failure) => {
                    tracing::warn!(?failure, "an object was not discarded; tried again");
                }
            }
            tokio::time::sleep(SWEEP_PAUSE).await;
        }
    });
}

/// The keys, once they are to be had.
async fn keys(signing: &SigningConfig) -> Keys {
    loop {
        match signing.keys().await {
            Ok(keys) => return keys,
            Err(error) => {
                tracing::error!(%error, "the signing keys are not to be had; tried again");
                tokio::time::sleep(KEYS_PAUSE).await;
            }
        }
    }
}

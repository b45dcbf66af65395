//! The cleanup worker's options, and how it is built from them: lazily, so that a store that is down at
//! start shows on `/readyz` instead of killing the process.

use chassis::{BuildError, Context, Problem, Service};
use database::{Database, DatabaseConfig, Role};
use queue_core::AttemptStore;
use sinks::objects::ArchiveConfig;
use sinks::search::SearchConfig;
use std::sync::Arc;

use super::{CleanupWorker, Parts};
use crate::archive::{HeadsConfig, SigningConfig};
use crate::cleanup::Survivors;
use crate::workers::archive::config::{check, open, seal_beside};

/// Options of the cleanup worker.
#[derive(Clone, Debug, clap::Args)]
pub struct CleanupWorkerConfig {
    /// PostgreSQL.
    #[command(flatten)]
    pub database: DatabaseConfig,
    /// The archive.
    #[command(flatten)]
    pub archive: ArchiveConfig,
    /// The search engine.
    #[command(flatten)]
    pub search: SearchConfig,

    /// What signs the chain's documents; without a key they wait for a process that has it.
    #[command(flatten)]
    pub signing: SigningConfig,
    /// Where signed heads are copied to.
    #[command(flatten)]
    pub heads: HeadsConfig,

    /// Copies that no deletion reaches, as receipts name them: PLACE=TERM, separated by commas
    ///
    /// A term is as policies write it, or `unknown`. Example: RDS snapshots=P35D,tapes=unknown
    #[arg(long, env = "CLEANUP_SURVIVORS", value_delimiter = ',', value_name = "PLACES")]
    pub cleanup_survivors: Vec<String>,

    /// The step at which a debug build kills itself, for crash tests
    #[cfg(debug_assertions)]
    #[arg(long, env = "CRASH_POINT", hide = true)]
    pub crash_point: Option<crate::crash::CrashPoint>,
}

impl Service for CleanupWorker {
    type Config = CleanupWorkerConfig;

    fn check(config: &CleanupWorkerConfig) -> Vec<Problem> {
        let mut problems = check(&config.archive);
        if let Err(error) = Survivors::read(&config.cleanup_survivors) {
            problems.push(Problem {
                option: "CLEANUP_SURVIVORS".to_owned(),
                value: None,
                reason: error.to_string(),
                example: Some("CLEANUP_SURVIVORS=RDS snapshots=P35D".to_owned()),
            });
        }
        problems
    }

    async fn build(config: CleanupWorkerConfig, context: &Context) -> Result<Self, BuildError> {
        #[cfg(debug_assertions)]
        if let Some(point) = config.crash_point {
            crate::crash::arm(point);
        }
        let survivors = Survivors::read(&config.cleanup_survivors).map_err(BuildError::failed)?;
        let database =
            Database::connect(&config.database, Role::Worker).map_err(BuildError::failed)?;
        let search =
            sinks::search::open(&config.search, &database).await.map_err(BuildError::failed)?;
        let objects = open(&config.archive).await?;
        seal_beside((&config.signing, &config.heads), &database, &objects, context);
        let clock = context.clock();
        Ok(Self::new(Parts { database, objects, search, clock, survivors }))
    }

    fn attempts(&self) -> Arc<dyn AttemptStore> {
        self.attempt_store()
    }
}

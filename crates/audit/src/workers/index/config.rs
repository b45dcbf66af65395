//! The index worker's options, and how it is built from them: lazily, so that a sink that is down
//! at start shows on `/readyz` instead of killing the process.

use std::sync::Arc;

use chassis::{BuildError, Context, Service};
use contracts::Tenant;
use database::{Database, DatabaseConfig, PostgresAttempts, Role};
use queue_core::{AttemptStore, Probe};
use sinks::objects::ClaimConfig;
use sinks::pubsub::{Feed, FeedConfig};
use sinks::search::SearchConfig;

use super::{BatchLimits, IndexWorker, Parts};
use crate::store::PostgresLogs;

/// Options of the index worker.
#[derive(Clone, Debug, clap::Args)]
pub struct IndexConfig {
    /// PostgreSQL.
    #[command(flatten)]
    pub database: DatabaseConfig,
    /// The search engine.
    #[command(flatten)]
    pub search: SearchConfig,
    /// The live tail.
    #[command(flatten)]
    pub feed: FeedConfig,

    /// Tenants that bare messages of the legacy queue may name, separated by commas; none by default
    ///
    /// Example: acme,globex
    #[arg(long, env = "LEGACY_TENANTS", value_delimiter = ',', value_name = "TENANTS")]
    pub legacy_tenants: Vec<Tenant>,

    /// Bodies over the broker's limit.
    #[command(flatten)]
    pub claims: ClaimConfig,

    /// The step at which a debug build kills itself, for crash tests
    #[cfg(debug_assertions)]
    #[arg(long, env = "CRASH_POINT", hide = true)]
    pub crash_point: Option<crate::crash::CrashPoint>,
}

impl Service for IndexWorker {
    type Config = IndexConfig;

    async fn build(config: IndexConfig, context: &Context) -> Result<Self, BuildError> {
        #[cfg(debug_assertions)]
        if let Some(point) = config.crash_point {
            crate::crash::arm(point);
        }
        let database =
            Database::connect(&config.database, Role::Worker).map_err(BuildError::failed)?;
        let search =
            sinks::search::open(&config.search, &database).await.map_err(BuildError::failed)?;
        let feed = Feed::open(&config.feed).map_err(BuildError::failed)?;
        let probes: Vec<Arc<dyn Probe>> =
            vec![Arc::new(database.clone()), search.clone(), Arc::new(feed.clone())];
        Ok(Self::new(Parts {
            store: Arc::new(PostgresLogs::new(database.clone())),
            search,
            feed: Arc::new(feed),
            attempts: Arc::new(PostgresAttempts::new(&database)),
            clock: context.clock(),
            probes,
            limits: BatchLimits::default(),
            legacy_tenants: config.legacy_tenants,
        })
        .forwarding(&database)
        .claiming(sinks::objects::open(&config.claims).await))
    }

    fn attempts(&self) -> Arc<dyn AttemptStore> {
        self.attempt_store()
    }
}

//! The HTTP API as a process: its configuration, its parts put together, its drain. A library, so
//! that `fleet` runs the very same in one process with the workers.
//!
//! What it never does: wait for a dependency at start (each may be down, `/readyz` says so), or
//! write a log anywhere but to the queue.

mod config;
mod probe;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use audit::archive::Reader;
use audit::http::{AccessLog, Api, SIMULATIONS_MAX, router};
use audit::ingest::Ingest;
use audit::live::Live;
use audit::publish::Publisher;
use axum::Router;
use chassis::{App, BuildError, Context, Ended, Problem};
use contracts::QueueSpec;
use contracts::catalogue::AUDIT_INDEX;
use database::{Database, Role};
use edge::{Authenticator, Gate, ServerLimits};
use queue_core::{Driver, Probe};
use queue_sqs::Sqs;
use serde_json::json;
use sinks::pubsub::{Feed, Signal};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use config::ApiConfig;
pub use probe::QueueProbe;

/// The queue that the API publishes to.
pub const QUEUE: &QueueSpec = &AUDIT_INDEX;
/// Pause before the feed of revocations is opened again.
const REVOCATIONS_PAUSE: Duration = Duration::from_secs(1);

/// The API, built and listening.
#[derive(Debug)]
pub struct IngestApi {
    listener: TcpListener,
    address: SocketAddr,
    limits: ServerLimits,
    router: Router,
    publisher: Publisher,
    live: Live,
    authenticator: Arc<Authenticator>,
    access: AccessLog,
    feed: Feed,
    /// Cancelled when revocations need not be heard any more.
    hearing: CancellationToken,
}

impl App for IngestApi {
    const NAME: &'static str = "ingest-api";
    const ABOUT: &'static str =
        "The HTTP API: takes in audit logs, searches them, streams them live.";
    type Config = ApiConfig;

    fn check(config: &ApiConfig) -> Vec<Problem> {
        config.check()
    }

    async fn build(config: ApiConfig, context: &Context) -> Result<Self, BuildError> {
        let sqs = Sqs::connect(&config.aws).await?;
        let queue = sqs.queue(QUEUE.name, &config.index_queue_url);
        Self::build_with(config, queue, context).await
    }

    async fn run(self, context: Context, drain: CancellationToken) -> Result<Ended, BuildError> {
        tracing::info!(address = %self.address, "the API listens");
        let serving = edge::serve(self.listener, self.router, self.limits, drain.child_token());
        let live = self.live.clone();
        let draining = async {
            drain.cancelled().await;
            live.drain().await;
        };
        let (publisher, authenticator) = (self.publisher.clone(), self.authenticator);
        let access = self.access;
        let working = async {
            tokio::join!(serving, draining);
            access.close().await;
            // Whoever was answered has been accepted; what is left belongs to clients that went.
            publisher.close().await;
            authenticator.flush_touched().await;
        };
        let over = async {
            drain.cancelled().await;
            tokio::time::sleep(context.drain_budget()).await;
        };
        let ended = tokio::select! {
            () = working => Ended::Drained,
            () = over => Ended::BudgetExceeded,
        };
        self.hearing.cancel();
        self.feed.close().await;
        Ok(ended)
    }
}

impl IngestApi {
    /// Builds it on a queue of the caller's choice.
    pub async fn build_with(
        config: ApiConfig,
        queue: Arc<dyn Driver>,
        context: &Context,
    ) -> Result<Self, BuildError> {
        #[cfg(debug_assertions)]
        if let Some(point) = config.crash_point {
            audit::crash::arm(point);
        }
        let database =
            Database::connect(&config.database, Role::Api).map_err(BuildError::failed)?;
        let search =
            sinks::search::open(&config.search, &database).await.map_err(BuildError::failed)?;
        let feed = Feed::open(&config.feed).map_err(BuildError::failed)?;
        let clock = context.clock();
        let authenticator =
            Arc::new(Authenticator::new(Arc::new(database.clone()), Arc::clone(&clock)));
        let claims = sinks::objects::open(&config.claims).await;
        let publisher =
            Publisher::with_claims(Arc::clone(&queue), &config.publish, Arc::clone(&clock), claims);
        let live = Live::new(config.live.clone(), feed.clone(), database.clone());
        let probes: [Arc<dyn Probe>; 4] = [
            Arc::new(QueueProbe::new(queue)),
            Arc::new(database.clone()),
            search.clone(),
            Arc::new(feed.clone()),
        ];
        for probe in probes {
            context.readiness().register(probe);
        }
        let archive = config.archive.objects().await;
        let archive = archive.map(|objects| Reader::new(&database, objects));
        let events = config.routes.event_limits();
        let access = AccessLog::new(&database, &publisher, Arc::clone(&clock));
        let api = Arc::new(Api {
            gate: Arc::new(Gate::new(Arc::clone(&authenticator), &config.edge)),
            ingest: Ingest::new(publisher.clone(), database.clone(), Arc::clone(&clock), events),
            publisher: publisher.clone(),
            database,
            search,
            live: live.clone(),
            clock,
            edge: config.edge.clone(),
            archive,
            exports: Arc::new(Semaphore::new(config.routes.exports_max as usize)),
            simulations: Arc::new(Semaphore::new(SIMULATIONS_MAX)),
            access: access.clone(),
        });
        let listener = TcpListener::bind(config.edge.listen_addr).await.map_err(|error| {
            let reason = format!("cannot listen there: {error}");
            Problem::new(
                "LISTEN_ADDR",
                &config.edge.listen_addr,
                reason,
                "LISTEN_ADDR=127.0.0.1:3000",
            )
        })?;
        let built = Self {
            address: listener.local_addr().map_err(BuildError::failed)?,
            listener,
            limits: config.edge.server_limits(),
            router: router(api),
            publisher,
            live,
            authenticator,
            access,
            feed,
            hearing: CancellationToken::new(),
        };
        built.tell(context);
        Ok(built)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Status section and background work.
    fn tell(&self, context: &Context) {
        let (publisher, live, address) = (self.publisher.clone(), self.live.clone(), self.address);
        context.status().register("api", move || {
            json!({
                "address": address,
                "pending_bytes": publisher.pending_bytes(),
                "live_connections": live.connections(),
                "live_slow": live.slow(),
            })
        });
        let authenticator = Arc::clone(&self.authenticator);
        context.spawn(async move { authenticator.run().await });
        let access = self.access.clone();
        context.spawn(async move { access.run().await });
        let (authenticator, feed) = (Arc::clone(&self.authenticator), self.feed.clone());
        let hearing = self.hearing.clone();
        context.spawn(async move {
            hearing.run_until_cancelled(hear_revocations(authenticator, feed)).await;
        });
    }
}

/// Refuses keys as soon as their revocation is announced. Where announcements may have been missed,
/// every key is looked up again.
async fn hear_revocations(authenticator: Arc<Authenticator>, feed: Feed) {
    loop {
        match feed.revocations() {
            Ok(mut subscription) => {
                while let Some(signal) = subscription.recv().await {
                    match signal {
                        Signal::Item(key_id) => authenticator.revoke(&key_id),
                        Signal::Gap => authenticator.distrust(),
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "revocations are not heard"),
        }
        tokio::time::sleep(REVOCATIONS_PAUSE).await;
    }
}

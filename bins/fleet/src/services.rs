//! The services, each built by its own crate from its own options. All share one admin port: their
//! probes and status sections go to the same context.

use std::net::SocketAddr;
use std::time::Duration;

use audit::workers::{
    ArchiveWorker, CleanupWorker, IndexWorker, LegacyIndexWorker, RetentionWorker,
};
use chassis::config::{ConfigError, parse};
use chassis::{
    App, BuildError, Context, Ended, Environment, Problem, Roles, Service, WorkerArgs, WorkerRun,
};
use contracts::catalogue::AUDIT_LEGACY;
use contracts::{Message, QueueSpec};
use ingest_api::IngestApi;
use queue_core::Worker;
use queue_sqs::{AwsConfig, Sqs};
use scheduler::Scheduler;
use tokio_util::sync::CancellationToken;

use crate::options::{ServiceName, UpConfig};

/// The index worker with its reader of the legacy queue.
type Index = (IndexWorker, LegacyIndexWorker);

/// A worker's options, with those of its broker.
type Run<W> = (AwsConfig, WorkerRun<<W as Service>::Config>);
/// A worker that is about to run.
type Ready<W> = (Sqs, WorkerRun<<W as Service>::Config>);

/// Where the archive is; a fleet without one runs no archive, cleanup or retention worker.
const ARCHIVES: [&str; 2] = ["ARCHIVE_BUCKET", "ARCHIVE_DIR"];

/// Of the drain budget, kept for requests in progress, which are answered before workers stop.
pub(crate) const API_SHARE: Duration = Duration::from_secs(5);

/// The options of every service that runs here; read and checked together, before any starts.
#[derive(Clone, Debug)]
pub(crate) struct Configs {
    api: Option<<IngestApi as App>::Config>,
    index: Option<Run<IndexWorker>>,
    archive: Option<Run<ArchiveWorker>>,
    cleanup: Option<Run<CleanupWorker>>,
    retention: Option<Run<RetentionWorker>>,
    scheduler: Option<<Scheduler as App>::Config>,
}

impl Configs {
    /// Reads what the services of `up` need.
    pub(crate) fn read(up: &UpConfig, environment: &Environment) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let configs = Self {
            api: up
                .runs(ServiceName::IngestApi)
                .then(|| app::<IngestApi>(environment, &mut problems))
                .flatten(),
            index: up
                .runs(ServiceName::IndexWorker)
                .then(|| worker::<IndexWorker>(Some(&AUDIT_LEGACY), environment, &mut problems))
                .flatten(),
            archive: (up.runs(ServiceName::ArchiveWorker) && archives(environment))
                .then(|| worker::<ArchiveWorker>(None, environment, &mut problems))
                .flatten(),
            cleanup: (up.runs(ServiceName::CleanupWorker) && archives(environment))
                .then(|| worker::<CleanupWorker>(None, environment, &mut problems))
                .flatten(),
            retention: (up.runs(ServiceName::RetentionWorker) && archives(environment))
                .then(|| worker::<RetentionWorker>(None, environment, &mut problems))
                .flatten(),
            scheduler: up
                .runs(ServiceName::Scheduler)
                .then(|| app::<Scheduler>(environment, &mut problems))
                .flatten(),
        };
        problems.sort_by(|a, b| a.option.cmp(&b.option));
        // Two services ask for the same variable, each in its own words.
        problems.dedup_by(|a, b| a.option == b.option);
        if problems.is_empty() { Ok(configs) } else { Err(problems) }
    }
}

fn group<C: clap::Args>(environment: &Environment, problems: &mut Vec<Problem>) -> Option<C> {
    let none: [&str; 0] = [];
    match parse::<C>("fleet", none, environment) {
        Ok(config) => Some(config),
        Err(ConfigError::Invalid(found)) => {
            problems.extend(found);
            None
        }
        Err(ConfigError::Usage(text) | ConfigError::Shown(text)) => {
            problems.push(Problem {
                option: "fleet".into(),
                value: None,
                reason: text,
                example: None,
            });
            None
        }
    }
}

fn app<A: App>(environment: &Environment, problems: &mut Vec<Problem>) -> Option<A::Config> {
    let config = group::<A::Config>(environment, problems)?;
    problems.extend(A::check(&config));
    Some(config)
}

/// Whether an archive is named.
pub(crate) fn archives(environment: &Environment) -> bool {
    let set = |name: &&str| environment.get(name).is_some_and(|value| !value.is_empty());
    ARCHIVES.iter().any(set)
}

fn worker<W: Service>(
    companion: Option<&QueueSpec>,
    environment: &Environment,
    problems: &mut Vec<Problem>,
) -> Option<Run<W>> {
    let spec = <<W as Worker>::Message as Message>::QUEUE;
    let url =
        |spec: &QueueSpec| environment.get(spec.env).map(|url| url.to_string_lossy().into_owned());
    let queue_url = url(spec);
    if queue_url.is_none() {
        problems.push(Problem {
            option: spec.env.to_owned(),
            value: None,
            reason: format!("not set: URL of the queue {}", spec.name),
            example: Some(format!(
                "{}={}",
                spec.env,
                <Sqs as chassis::Broker>::example_url(spec.name)
            )),
        });
    }
    let aws = group::<AwsConfig>(environment, problems);
    let args = group::<WorkerArgs>(environment, problems);
    let config = group::<W::Config>(environment, problems);
    let (aws, args, config) = (aws?, args?, config?);
    problems.extend(aws.check());
    problems.extend(W::check(&config));
    let companion_url = companion.and_then(url);
    Some((aws, WorkerRun { config, args, queue_url: queue_url?, companion_url }))
}

async fn connected<W: Service>(run: Option<Run<W>>) -> Result<Option<Ready<W>>, BuildError> {
    match run {
        Some((aws, run)) => Ok(Some((Sqs::connect(&aws).await?, run))),
        None => Ok(None),
    }
}

/// Runs a worker where there is one, until it has drained.
async fn lane<R: Roles>(
    ready: Option<Ready<R::Lead>>,
    context: &Context,
    drain: &CancellationToken,
) -> Result<Ended, BuildError> {
    match ready {
        Some((broker, run)) => chassis::run_worker::<R, Sqs>(&broker, run, context, drain).await,
        None => idle(drain).await,
    }
}

/// When each group of services stops.
pub(crate) struct Drains {
    /// The API, which takes new work in.
    pub(crate) api: CancellationToken,
    /// Everything behind it.
    pub(crate) workers: CancellationToken,
    /// How long what is behind the API may take.
    pub(crate) behind: Duration,
}

/// The services, built and not yet running: ports are bound, nothing is answered.
pub(crate) struct Services {
    api: Option<IngestApi>,
    index: Option<Ready<IndexWorker>>,
    archive: Option<Ready<ArchiveWorker>>,
    cleanup: Option<Ready<CleanupWorker>>,
    retention: Option<Ready<RetentionWorker>>,
    scheduler: Option<Scheduler>,
}

impl Services {
    /// Builds every service that has options.
    pub(crate) async fn build(configs: Configs, context: &Context) -> Result<Self, BuildError> {
        let Configs { api, index, archive, cleanup, retention, scheduler } = configs;
        let api = match api {
            Some(config) => Some(IngestApi::build(config, context).await?),
            None => None,
        };
        let index = connected::<IndexWorker>(index).await?;
        let archive = connected::<ArchiveWorker>(archive).await?;
        let cleanup = connected::<CleanupWorker>(cleanup).await?;
        let retention = connected::<RetentionWorker>(retention).await?;
        let scheduler = match scheduler {
            Some(config) => Some(Scheduler::build(config, context).await?),
            None => None,
        };
        Ok(Self { api, index, archive, cleanup, retention, scheduler })
    }

    /// Where the API listens, where it runs here.
    pub(crate) fn api_address(&self) -> Option<SocketAddr> {
        self.api.as_ref().map(IngestApi::address)
    }

    /// Runs them until each has drained. The first fault drains the others and is returned.
    pub(crate) async fn run(self, context: &Context, drains: &Drains) -> Result<Ended, BuildError> {
        let Self { api, index, archive, cleanup, retention, scheduler } = self;
        let behind = context.within(drains.behind);
        let front = async {
            let ended = match api {
                Some(api) => api.run(context.within(API_SHARE), drains.api.clone()).await,
                None => idle(&drains.api).await,
            };
            // Whatever ended the API, nothing new comes in any more.
            drains.workers.cancel();
            ended
        };
        let index = lane::<Index>(index, &behind, &drains.workers);
        let archive = lane::<ArchiveWorker>(archive, &behind, &drains.workers);
        let cleanup = lane::<CleanupWorker>(cleanup, &behind, &drains.workers);
        let retention = lane::<RetentionWorker>(retention, &behind, &drains.workers);
        let timed = async {
            match scheduler {
                Some(scheduler) => scheduler.run(behind.clone(), drains.workers.clone()).await,
                None => idle(&drains.workers).await,
            }
        };
        let (front, index, archive, cleanup, retention, timed) = tokio::join!(
            async { drains.watch(front.await) },
            async { drains.watch(index.await) },
            async { drains.watch(archive.await) },
            async { drains.watch(cleanup.await) },
            async { drains.watch(retention.await) },
            async { drains.watch(timed.await) },
        );
        Ok(front?.and(index?).and(archive?).and(cleanup?).and(retention?).and(timed?))
    }
}

impl Drains {
    /// A fault of one is the end of all.
    fn watch(&self, ended: Result<Ended, BuildError>) -> Result<Ended, BuildError> {
        if ended.is_err() {
            self.stop();
        }
        ended
    }

    /// Ends everything.
    pub(crate) fn stop(&self) {
        self.api.cancel();
        self.workers.cancel();
    }
}

async fn idle(drain: &CancellationToken) -> Result<Ended, BuildError> {
    drain.cancelled().await;
    Ok(Ended::Drained)
}

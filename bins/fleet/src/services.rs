//! The services, each built by its own crate from its own options. All share one admin port: their
//! probes and status sections go to the same context.

use std::net::SocketAddr;
use std::time::Duration;

use audit::workers::{IndexWorker, LegacyIndexWorker};
use chassis::config::{ConfigError, parse};
use chassis::{
    App, BuildError, Context, Ended, Environment, Problem, Service, WorkerArgs, WorkerRun,
};
use contracts::QueueSpec;
use contracts::catalogue::{AUDIT_INDEX, AUDIT_LEGACY};
use ingest_api::IngestApi;
use queue_sqs::{AwsConfig, Sqs};
use scheduler::Scheduler;
use tokio_util::sync::CancellationToken;

use crate::options::{ServiceName, UpConfig};

/// The index worker with its reader of the legacy queue.
type Index = (IndexWorker, LegacyIndexWorker);

/// Of the drain budget, kept for requests in progress, which are answered before workers stop.
pub(crate) const API_SHARE: Duration = Duration::from_secs(5);

/// The options of every service that runs here; read and checked together, before any starts.
#[derive(Clone, Debug)]
pub(crate) struct Configs {
    api: Option<<IngestApi as App>::Config>,
    index: Option<(AwsConfig, WorkerRun<<IndexWorker as Service>::Config>)>,
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
                .then(|| index(environment, &mut problems))
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

fn index(
    environment: &Environment,
    problems: &mut Vec<Problem>,
) -> Option<(AwsConfig, WorkerRun<<IndexWorker as Service>::Config>)> {
    let url =
        |spec: &QueueSpec| environment.get(spec.env).map(|url| url.to_string_lossy().into_owned());
    let queue_url = url(&AUDIT_INDEX);
    if queue_url.is_none() {
        problems.push(Problem {
            option: AUDIT_INDEX.env.to_owned(),
            value: None,
            reason: format!("not set: URL of the queue {}", AUDIT_INDEX.name),
            example: Some(format!(
                "{}={}",
                AUDIT_INDEX.env,
                <Sqs as chassis::Broker>::example_url(AUDIT_INDEX.name)
            )),
        });
    }
    let aws = group::<AwsConfig>(environment, problems);
    let args = group::<WorkerArgs>(environment, problems);
    let config = group::<<IndexWorker as Service>::Config>(environment, problems);
    let (aws, args, config) = (aws?, args?, config?);
    problems.extend(aws.check());
    problems.extend(IndexWorker::check(&config));
    let companion_url = url(&AUDIT_LEGACY);
    Some((aws, WorkerRun { config, args, queue_url: queue_url?, companion_url }))
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
    index: Option<(Sqs, WorkerRun<<IndexWorker as Service>::Config>)>,
    scheduler: Option<Scheduler>,
}

impl Services {
    /// Builds every service that has options.
    pub(crate) async fn build(configs: Configs, context: &Context) -> Result<Self, BuildError> {
        let Configs { api, index, scheduler } = configs;
        let api = match api {
            Some(config) => Some(IngestApi::build(config, context).await?),
            None => None,
        };
        let index = match index {
            Some((aws, run)) => Some((Sqs::connect(&aws).await?, run)),
            None => None,
        };
        let scheduler = match scheduler {
            Some(config) => Some(Scheduler::build(config, context).await?),
            None => None,
        };
        Ok(Self { api, index, scheduler })
    }

    /// Where the API listens, where it runs here.
    pub(crate) fn api_address(&self) -> Option<SocketAddr> {
        self.api.as_ref().map(IngestApi::address)
    }

    /// Runs them until each has drained. The first fault drains the others and is returned.
    pub(crate) async fn run(self, context: &Context, drains: &Drains) -> Result<Ended, BuildError> {
        let Self { api, index, scheduler } = self;
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
        let index = async {
            match index {
                Some((broker, run)) => {
                    chassis::run_worker::<Index, Sqs>(&broker, run, &behind, &drains.workers).await
                }
                None => idle(&drains.workers).await,
            }
        };
        let timed = async {
            match scheduler {
                Some(scheduler) => scheduler.run(behind.clone(), drains.workers.clone()).await,
                None => idle(&drains.workers).await,
            }
        };
        let (front, index, timed) = tokio::join!(
            async { drains.watch(front.await) },
            async { drains.watch(index.await) },
            async { drains.watch(timed.await) },
        );
        Ok(front?.and(index?).and(timed?))
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

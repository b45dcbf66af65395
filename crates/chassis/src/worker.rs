//! A worker as a process: its queue's URL from the catalogue's variable, the engine around it, its
//! status and readiness on the admin port. `fleet` calls [`run_worker`] with values it chose.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clap::{Arg, Args, Command, FromArgMatches};
use contracts::{Message, QueueSpec};
use queue_core::config::BYTES_IN_HAND_RANGE;
use queue_core::engine::{Engine, EngineConfig, InvalidConfig, Ports};
use queue_core::{AttemptStore, Driver, Probe, Worker};
use tokio_util::sync::CancellationToken;

use crate::config::Problem;
use crate::context::Context;
use crate::exit::Exit;
use crate::process;
use crate::process_args::CommonArgs;
use crate::service::{Broker, BuildError, Roles, Service};

/// How the work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Nothing left in hand.
    Drained,
    /// The budget ended first; leases end and messages come back.
    BudgetExceeded,
}

impl Ended {
    /// The worse of two.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        if self == Self::Drained { other } else { self }
    }
}

impl From<Ended> for Exit {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Drained => Self::Drained,
            Ended::BudgetExceeded => Self::DrainBudgetExceeded,
        }
    }
}

/// Options of every worker. What is not given is the catalogue's or the worker's own figure.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Worker")]
pub struct WorkerArgs {
    /// Messages in hand at most; by default the worker's own figure
    ///
    /// Example: 256
    #[arg(long, env = "WORKER_CONCURRENCY", value_parser = at_most::<10_000>)]
    pub worker_concurrency: Option<usize>,

    /// Bytes of messages in hand at most per queue, 65536 to 268435456; by default the worker's own
    /// figure, 16 MiB
    ///
    /// Polls stop where one more message as heavy as those of late would not fit. Handling needs a
    /// few times as much memory. Example: `33554432`
    #[arg(long, env = "WORKER_BYTES_IN_HAND_MAX", value_parser = bytes_in_hand)]
    pub worker_bytes_in_hand_max: Option<usize>,

    /// Long polls at most; by default the figure of the queue's latency class
    ///
    /// Example: 8
    #[arg(long, env = "WORKER_POLLERS_MAX", value_parser = at_most::<64>)]
    pub worker_pollers_max: Option<usize>,

    /// Seconds that a long poll waits; SQS allows 20
    #[arg(long, env = "WORKER_WAIT_SECS", default_value = "20",
          value_parser = clap::value_parser!(u64).range(1..=20))]
    pub worker_wait_secs: u64,
}

fn at_most<const MAX: usize>(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (1..=MAX).contains(&number) => Ok(number),
        _ => Err(format!("a whole number from 1 to {MAX} is expected")),
    }
}

fn bytes_in_hand(text: &str) -> Result<usize, String> {
    let (least, most) = (BYTES_IN_HAND_RANGE.start(), BYTES_IN_HAND_RANGE.end());
    match text.parse() {
        Ok(number) if BYTES_IN_HAND_RANGE.contains(&number) => Ok(number),
        _ => Err(format!("a whole number from {least} to {most} is expected")),
    }
}

/// One queue with the engine's figures: everything around a worker but the worker.
#[derive(Clone, Debug)]
pub struct Lane {
    /// The catalogue entry.
    pub spec: &'static QueueSpec,
    /// The queue.
    pub queue: Arc<dyn Driver>,
    /// Its dead-letter queue.
    pub dead_letters: Arc<dyn Driver>,
    /// The worker options.
    pub args: WorkerArgs,
    /// The process.
    pub context: Context,
    /// Cancelled when the process should drain.
    pub drain: CancellationToken,
}

impl Lane {
    /// A lane on `url`; the dead-letter queue is its neighbour.
    pub fn open<B: Broker>(
        broker: &B,
        spec: &'static QueueSpec,
        url: &str,
        args: &WorkerArgs,
        context: &Context,
        drain: &CancellationToken,
    ) -> Self {
        Self {
            spec,
            queue: broker.queue(spec.name, url),
            dead_letters: broker.queue(spec.dlq, &dead_letter_url(url, spec)),
            args: args.clone(),
            context: context.clone(),
            drain: drain.clone(),
        }
    }

    /// Runs `worker` on this lane until it has drained.
    pub async fn run<W: Worker>(
        self,
        worker: Arc<W>,
        attempts: Arc<dyn AttemptStore>,
    ) -> Result<Ended, BuildError> {
        for probe in worker.probes() {
            self.context.readiness().register(probe);
        }
        let probe = QueueProbe { name: self.spec.key, queue: Arc::clone(&self.queue) };
        self.context.readiness().register(Arc::new(probe));
        let ports = Ports {
            queue: self.queue,
            dead_letters: self.dead_letters,
            attempts,
            clock: self.context.clock(),
        };
        let config = engine_config::<W>(&self.args, self.context.drain_budget());
        let engine = Engine::new(worker, ports, config).map_err(BuildError::failed)?;
        let status = engine.status();
        let section = move || serde_json::to_value(status.snapshot()).unwrap_or_default();
        self.context.status().register(self.spec.key, section);
        let report = engine.run(self.drain.clone()).await;
        tracing::info!(queue = self.spec.name, report = ?report, "drained");
        match report.fault {
            Some(fault) => Err(BuildError::Failed(format!("{}: {fault}", self.spec.name))),
            None if report.within_budget => Ok(Ended::Drained),
            None => Ok(Ended::BudgetExceeded),
        }
    }
}

/// Whether a queue answers.
struct QueueProbe {
    name: &'static str,
    queue: Arc<dyn Driver>,
}

#[async_trait]
impl Probe for QueueProbe {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn probe(&self) -> Result<(), String> {
        self.queue.attributes().await.map(|_| ()).map_err(|error| error.to_string())
    }
}

/// The worker's figures, with what the options override.
fn engine_config<W: Worker>(args: &WorkerArgs, drain_budget: Duration) -> EngineConfig {
    let figures = EngineConfig::for_worker::<W>();
    EngineConfig {
        pollers_max: args.worker_pollers_max.unwrap_or(figures.pollers_max),
        concurrency: args.worker_concurrency.unwrap_or(figures.concurrency),
        bytes_in_hand_max: args.worker_bytes_in_hand_max.unwrap_or(figures.bytes_in_hand_max),
        wait: Duration::from_secs(args.worker_wait_secs),
        drain_budget,
        ..figures
    }
}

/// The dead-letter queue's URL: the queue's, with the last segment replaced.
pub fn dead_letter_url(url: &str, spec: &QueueSpec) -> String {
    let base = url.trim_end_matches('/');
    match base.rfind('/') {
        Some(at) => format!("{}/{}", &base[..at], spec.dlq),
        None => spec.dlq.to_owned(),
    }
}

/// Builds a service and runs it on one queue until `drain` is cancelled and it has drained.
pub async fn run_worker<R: Roles, B: Broker>(
    broker: &B,
    run: WorkerRun<<R::Lead as Service>::Config>,
    context: &Context,
    drain: &CancellationToken,
) -> Result<Ended, BuildError> {
    let spec = <<R::Lead as Worker>::Message as Message>::QUEUE;
    let lead = Arc::new(R::Lead::build(run.config, context).await?);
    let lane = Lane::open(broker, spec, &run.queue_url, &run.args, context, drain);
    let companion = run.companion_url.as_deref().zip(R::COMPANION);
    let companion =
        companion.map(|(url, spec)| Lane::open(broker, spec, url, &run.args, context, drain));
    context.readiness().running();
    let beside = async {
        match companion {
            Some(lane) => R::run_companion(&lead, lane).await,
            None => Ok(Ended::Drained),
        }
    };
    let (lead, beside) = tokio::try_join!(lane.run(Arc::clone(&lead), lead.attempts()), beside)?;
    Ok(lead.and(beside))
}

/// What [`run_worker`] needs besides the broker.
#[derive(Clone, Debug)]
pub struct WorkerRun<C> {
    /// The service's options.
    pub config: C,
    /// Options of every worker.
    pub args: WorkerArgs,
    /// URL of its queue.
    pub queue_url: String,
    /// URL of its companion's queue; without it the companion does not run.
    pub companion_url: Option<String>,
}

const QUEUE_URL: &str = "queue_url";
const COMPANION_URL: &str = "companion_url";

/// The command of a worker, for help, completions and docs.
pub fn worker_command<R: Roles, B: Broker>() -> Command {
    let spec = <<R::Lead as Worker>::Message as Message>::QUEUE;
    let name = <R::Lead as Worker>::NAME;
    let mut command = Command::new(name)
        .version(env!("CARGO_PKG_VERSION"))
        .next_help_heading("Queue")
        .arg(url_arg::<B>(QUEUE_URL, "queue-url", spec).required(true));
    if let Some(companion) = R::COMPANION {
        command = command.arg(url_arg::<B>(COMPANION_URL, "companion-queue-url", companion));
    }
    let command = B::Config::augment_args(command);
    let command = <R::Lead as Service>::Config::augment_args(command);
    let command = CommonArgs::augment_args(WorkerArgs::augment_args(command));
    // Last, since a group's doc comment would become the program's.
    command.about(format!("Flotilla worker of {}. {}", spec.name, spec.why)).long_about(None)
}

fn url_arg<B: Broker>(id: &'static str, long: &'static str, spec: &'static QueueSpec) -> Arg {
    let check = |url: &str| B::check_url(url).map(|()| url.to_owned());
    Arg::new(id)
        .long(long)
        .env(spec.env)
        .value_name("URL")
        .help(format!("URL of the queue {}", spec.name))
        .long_help(format!(
            "URL of the queue {}\n\n{}\n\nExample: {}",
            spec.name,
            spec.why,
            B::example_url(spec.name)
        ))
        .value_parser(check)
}

/// A worker process's options.
pub(crate) struct Options<R: Roles, B: Broker> {
    common: CommonArgs,
    broker: B::Config,
    run: WorkerRun<<R::Lead as Service>::Config>,
}

impl<R: Roles, B: Broker> Options<R, B> {
    pub(crate) fn from_matches(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
        let url = |id| matches.try_get_one::<String>(id).ok().flatten().cloned();
        Ok(Self {
            common: CommonArgs::from_arg_matches(matches)?,
            broker: B::Config::from_arg_matches(matches)?,
            run: WorkerRun {
                config: <R::Lead as Service>::Config::from_arg_matches(matches)?,
                args: WorkerArgs::from_arg_matches(matches)?,
                queue_url: url(QUEUE_URL).unwrap_or_default(),
                companion_url: url(COMPANION_URL),
            },
        })
    }
}

impl<R: Roles, B: Broker> process::Options for Options<R, B> {
    fn common(&self) -> &CommonArgs {
        &self.common
    }

    fn check(&self) -> Vec<Problem> {
        let mut problems = R::Lead::check(&self.run.config);
        let figures = engine_config::<R::Lead>(&self.run.args, self.common.drain_budget());
        problems.extend(figures.validate().err().map(|invalid| contradiction(&invalid)));
        problems
    }
}

/// The engine's own check, told by the variable that sets the figure.
fn contradiction(invalid: &InvalidConfig) -> Problem {
    let option = match invalid.field {
        "pollers_max" => "WORKER_POLLERS_MAX",
        "concurrency" => "WORKER_CONCURRENCY",
        "bytes_in_hand_max" => "WORKER_BYTES_IN_HAND_MAX",
        "wait" => "WORKER_WAIT_SECS",
        "drain_budget" => "DRAIN_BUDGET_SECS",
        field => field,
    };
    Problem {
        option: option.to_owned(),
        value: Some(invalid.value.clone()),
        reason: invalid.rule.to_owned(),
        example: None,
    }
}

/// The body of a worker process.
pub(crate) async fn run_process<R: Roles, B: Broker>(
    options: Options<R, B>,
    context: Context,
    drain: CancellationToken,
) -> Result<Ended, BuildError> {
    let broker = B::connect(options.broker).await?;
    run_worker::<R, B>(&broker, options.run, &context, &drain).await
}

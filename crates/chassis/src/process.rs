//! From `main` to the exit code: the typed life of a process, shared by workers and other services.

use std::ffi::OsString;
use std::future::Future;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Command;
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, AdminConfig};
use crate::config::{ConfigError, Definition, Environment, Problem, describe_json};
use crate::context::Context;
use crate::exit::Exit;
use crate::process_args::{CommonArgs, STOP_MARGIN};
use crate::service::{Broker, BuildError, Roles};
use crate::signals::{Signals, StopNow};
use crate::telemetry::{Emf, MetricsEmf, Telemetry, TelemetryOptions};
use crate::worker::{self, Ended};

/// How long the last spans may take to the collector; background tasks end meanwhile.
const TRACES_END: Duration = Duration::from_millis(1_500);
/// How long the runtime gets to drop its tasks at the end.
const RUNTIME_END: Duration = Duration::from_millis(500);

/// The whole `main` of a worker: `chassis::main::<MyWorker, Sqs>()`, or with an optional second
/// queue `chassis::main::<(MyWorker, ItsCompanion), Sqs>()`.
pub fn main<R: Roles, B: Broker>() -> ExitCode {
    let command = worker::worker_command::<R, B>();
    let name = <R::Lead as queue_core::Worker>::NAME;
    let arguments = std::env::args_os().collect();
    let parse = worker::Options::<R, B>::from_matches;
    run(name, command, arguments, parse, worker::run_process::<R, B>)
}

/// A process's parsed options.
pub(crate) trait Options {
    /// The common ones.
    fn common(&self) -> &CommonArgs;
    /// What is wrong between values.
    fn check(&self) -> Vec<Problem>;
}

/// Reads the configuration, then runs `body` with telemetry, admin port and signals around it.
pub(crate) fn run<O, F>(
    name: &'static str,
    command: Command,
    arguments: Vec<OsString>,
    parse: impl FnOnce(&clap::ArgMatches) -> Result<O, clap::Error>,
    body: impl FnOnce(O, Context, CancellationToken) -> F,
) -> ExitCode
where
    O: Options,
    F: Future<Output = Result<Ended, BuildError>>,
{
    if arguments.iter().any(|word| word == "--describe") {
        let definition = Definition::new(command);
        say(&mut std::io::stdout(), &format!("{}\n", describe_json(definition.command())));
        return Exit::Drained.into();
    }
    let options = match read(command, arguments, &Environment::process(), parse) {
        Ok(options) => options,
        Err(error) => return refuse(name, &error).into(),
    };
    if options.common().check_config {
        say(&mut std::io::stdout(), &format!("{name}: the configuration is valid\n"));
        return Exit::Drained.into();
    }
    match start(name, options, body) {
        Ok(exit) => exit.into(),
        Err(error) => {
            say(&mut std::io::stderr(), &format!("{name}: {error}\n"));
            let config = matches!(error, BuildError::Config(_));
            if config { Exit::Config } else { Exit::Failure }.into()
        }
    }
}

fn read<O: Options>(
    command: Command,
    arguments: Vec<OsString>,
    environment: &Environment,
    parse: impl FnOnce(&clap::ArgMatches) -> Result<O, clap::Error>,
) -> Result<O, ConfigError> {
    let matches = Definition::new(command).read(arguments, environment)?;
    let options = parse(&matches).map_err(|error| ConfigError::Usage(error.to_string()))?;
    let mut problems = options.common().check();
    problems.extend(options.check());
    if problems.is_empty() { Ok(options) } else { Err(ConfigError::Invalid(problems)) }
}

fn refuse(name: &str, error: &ConfigError) -> Exit {
    match error {
        ConfigError::Shown(text) => {
            say(&mut std::io::stdout(), text);
            Exit::Drained
        }
        ConfigError::Usage(text) => {
            say(&mut std::io::stderr(), text);
            Exit::Usage
        }
        ConfigError::Invalid(_) => {
            say(&mut std::io::stderr(), &format!("{name}: {error}\n"));
            Exit::Config
        }
    }
}

/// Output that nobody reads any more is no reason to fail.
fn say(to: &mut impl Write, text: &str) {
    to.write_all(text.as_bytes()).and_then(|()| to.flush()).unwrap_or_default();
}

fn start<O: Options, F>(
    name: &'static str,
    options: O,
    body: impl FnOnce(O, Context, CancellationToken) -> F,
) -> Result<Exit, BuildError>
where
    F: Future<Output = Result<Ended, BuildError>>,
{
    let common = options.common().clone();
    let telemetry = Telemetry::install(TelemetryOptions {
        name,
        format: common.log_format,
        level: &common.log_level,
        traces: &common.traces,
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(BuildError::failed)?;
    let context = Context::new(name, env!("CARGO_PKG_VERSION"), common.drain_budget());
    let exit = runtime.block_on(supervise(&common, telemetry, &context, |drain| {
        body(options, context.clone(), drain)
    }));
    runtime.shutdown_timeout(RUNTIME_END);
    exit
}

/// Runs `body` with the admin port beside it until it ends, a second signal comes, or the drain
/// budget is over.
async fn supervise<F>(
    common: &CommonArgs,
    telemetry: Telemetry,
    context: &Context,
    body: impl FnOnce(CancellationToken) -> F,
) -> Result<Exit, BuildError>
where
    F: Future<Output = Result<Ended, BuildError>>,
{
    let drain = CancellationToken::new();
    let signals = Signals::catch()?;
    let config = AdminConfig { addr: common.admin_addr, token: common.admin_token.clone() };
    let admin = Admin::bind(config, context.clone(), telemetry.clone()).await?;
    telemetry.start();
    context.set_admin_addr(admin.addr());
    tracing::info!(
        service = context.name(),
        version = context.version(),
        admin = %admin.addr(),
        "starting"
    );
    context.spawn(admin.serve(context.ended()));
    let emf = (common.metrics_emf == MetricsEmf::Stdout)
        .then(|| Emf::new(telemetry.clone(), context.clock()));
    if let Some(emf) = &emf {
        context.spawn(emf.clone().run());
    }
    let budget = {
        let (drain, context) = (drain.clone(), context.clone());
        async move {
            drain.cancelled().await;
            context.readiness().draining();
            // The engine keeps to the budget itself; this is for what does not.
            tokio::time::sleep(context.drain_budget() + STOP_MARGIN / 2).await;
        }
    };
    let ended = tokio::select! {
        ended = body(drain.clone()) => ended.map(Exit::from),
        StopNow(exit) = signals.watch(drain.clone()) => Ok(exit),
        () = budget => Ok(Exit::DrainBudgetExceeded),
    };
    let last_figures = async {
        if let Some(emf) = &emf {
            tokio::time::timeout(TRACES_END, emf.write()).await.ok();
        }
    };
    // At the same time, so that together they keep to the margin.
    tokio::join!(context.end(), telemetry.finish(TRACES_END), last_figures);
    if let Ok(exit) = &ended {
        tracing::info!(code = exit.code(), "{}", exit.meaning());
    }
    ended
}

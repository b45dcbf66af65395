//! Processes that are no worker: the API, the scheduler, `fleet`. The same life as a worker's,
//! without an engine.

use std::ffi::OsString;
use std::fmt::Debug;
use std::future::Future;
use std::process::ExitCode;

use clap::{Args, Command, FromArgMatches};
use tokio_util::sync::CancellationToken;

use crate::config::Problem;
use crate::context::Context;
use crate::process::{self, Options};
use crate::process_args::CommonArgs;
use crate::service::BuildError;
use crate::worker::Ended;

/// A process of its own.
pub trait App: Sized + Send + 'static {
    /// The one name: of the binary, the compose service, the metric label.
    const NAME: &'static str;
    /// One line for `--help`.
    const ABOUT: &'static str;
    /// Its options; the common ones are added. See [`crate::Service::Config`] about secrets.
    type Config: clap::Args + Clone + Debug + Send + Sync + 'static;

    /// Last changes to the command, e.g. other defaults of common options.
    fn command(command: Command) -> Command {
        command
    }

    /// Checks what one option alone cannot show. Never does IO.
    fn check(_config: &Self::Config) -> Vec<Problem> {
        Vec::new()
    }

    /// Builds it: binds its ports, registers probes and status. Dependencies may be down.
    fn build(
        config: Self::Config,
        context: &Context,
    ) -> impl Future<Output = Result<Self, BuildError>> + Send;

    /// Works until `drain` is cancelled, then finishes what it has in hand and returns, inside
    /// `context.drain_budget()`. Returning before that is a fault unless it is `Ok`.
    fn run(
        self,
        context: Context,
        drain: CancellationToken,
    ) -> impl Future<Output = Result<Ended, BuildError>> + Send;
}

/// The command of an app, for help, completions and docs.
pub fn app_command<A: App>() -> Command {
    let command = Command::new(A::NAME).version(env!("CARGO_PKG_VERSION"));
    let command = CommonArgs::augment_args(A::Config::augment_args(command));
    // Last, since a group's doc comment would become the program's.
    A::command(command.about(A::ABOUT).long_about(None))
}

/// The whole `main` of an app.
pub fn serve_main<A: App>() -> ExitCode {
    serve_args::<A>(std::env::args_os().collect())
}

/// As [`serve_main`], for a binary with several commands: `arguments` are the program's name and
/// what follows the command's name.
pub fn serve_args<A: App>(arguments: Vec<OsString>) -> ExitCode {
    let parse = AppOptions::<A>::from_matches;
    process::run(A::NAME, app_command::<A>(), arguments, parse, run_app::<A>)
}

struct AppOptions<A: App> {
    common: CommonArgs,
    config: A::Config,
}

impl<A: App> AppOptions<A> {
    fn from_matches(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self {
            common: CommonArgs::from_arg_matches(matches)?,
            config: A::Config::from_arg_matches(matches)?,
        })
    }
}

impl<A: App> Options for AppOptions<A> {
    fn common(&self) -> &CommonArgs {
        &self.common
    }

    fn check(&self) -> Vec<Problem> {
        A::check(&self.config)
    }
}

async fn run_app<A: App>(
    options: AppOptions<A>,
    context: Context,
    drain: CancellationToken,
) -> Result<Ended, BuildError> {
    let app = A::build(options.config, &context).await?;
    context.readiness().running();
    app.run(context, drain).await
}

//! `fleet up`: backends, then services, until a signal; then the API drains first, the workers next,
//! the backends last.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use chassis::{App, BuildError, Context, Ended, Environment, Problem};
use clap::Command;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backends::Laptop;
use crate::first_key;
use crate::options::{BackendsName, ServiceName, UpConfig};
use crate::ready;
use crate::report::Ready;
use crate::services::{self, Configs, Drains, Services};

/// How long the laptop backends may take to stop; what is acknowledged is on disk without it.
const BACKENDS_END: Duration = Duration::from_secs(10);

/// When `main` was entered.
static BEGUN: OnceLock<Instant> = OnceLock::new();

/// Starts the clock that `ready_ms` is read from. The first thing that the process does.
pub(crate) fn begin() {
    BEGUN.get_or_init(Instant::now);
}

/// The fleet, its backends running and its services built.
pub(crate) struct Fleet {
    config: UpConfig,
    services: Services,
    laptop: Option<Laptop>,
}

impl App for Fleet {
    const NAME: &'static str = "fleet";
    const ABOUT: &'static str = "Every service in one process, on backends of its own or on yours.";
    type Config = UpConfig;

    fn command(command: Command) -> Command {
        // On a terminal the addresses must not drown; LOG_LEVEL=info brings the rest back.
        command.bin_name("fleet up").mut_arg("log_level", |arg| arg.default_value("warn"))
    }

    fn check(config: &UpConfig) -> Vec<Problem> {
        let mut problems = config.check();
        if config.backends == BackendsName::Aws {
            let found = Configs::read(config, &Environment::process()).err();
            problems.extend(found.unwrap_or_default());
        }
        problems
    }

    async fn build(mut config: UpConfig, context: &Context) -> Result<Self, BuildError> {
        let process = Environment::process().with("LISTEN_ADDR", config.listen_addr.to_string());
        let (laptop, environment) = match config.backends {
            BackendsName::Aws => (None, process),
            BackendsName::Laptop => {
                let laptop = Box::pin(Laptop::start(&config)).await?;
                let environment = laptop.environment(process);
                (Some(laptop), environment)
            }
        };
        if !services::archives(&environment) {
            config.except.extend([
                ServiceName::ArchiveWorker,
                ServiceName::CleanupWorker,
                ServiceName::RetentionWorker,
            ]);
        }
        let configs = Configs::read(&config, &environment).map_err(BuildError::Config)?;
        let services = Box::pin(Services::build(configs, context)).await?;
        Ok(Self { config, services, laptop })
    }

    async fn run(self, context: Context, drain: CancellationToken) -> Result<Ended, BuildError> {
        let Self { config, services, laptop } = self;
        let drains = drains(&config, &context, &drain);
        let api = services.api_address();
        let (ended, told) = tokio::join!(
            Box::pin(services.run(&context, &drains)),
            Box::pin(tell(&config, laptop.as_ref(), api, &context, &drains)),
        );
        if let Some(laptop) = laptop
            && tokio::time::timeout(BACKENDS_END, laptop.stop()).await.is_err()
        {
            tracing::warn!("the backends did not stop in time; their data is safe");
        }
        told.and(ended)
    }
}

/// Says that the fleet is ready, as soon as it is; nothing when it is drained before.
async fn tell(
    config: &UpConfig,
    laptop: Option<&Laptop>,
    api: Option<SocketAddr>,
    context: &Context,
    drains: &Drains,
) -> Result<(), BuildError> {
    let ready = drains.api.run_until_cancelled(ready::wait(config, api, context)).await;
    if ready.is_none() {
        return Ok(());
    }
    let took = BEGUN.get().map(Instant::elapsed).unwrap_or_default();
    // Made last: between its making and its printing nothing may take long.
    let key = match laptop {
        Some(laptop) => first_key::make(&laptop.database).await.inspect_err(|_| drains.stop())?,
        None => None,
    };
    let admin = context.admin_addr().map(|addr| addr.to_string()).unwrap_or_default();
    let ready = Ready { config, admin, laptop, key: key.as_deref(), took };
    crate::say(&if config.json { ready.json() } else { ready.text() });
    Ok(())
}

/// The order of the drain.
fn drains(config: &UpConfig, context: &Context, drain: &CancellationToken) -> Drains {
    let budget = context.drain_budget();
    match config.backends {
        // What the API accepts last is still worked off where nobody else would.
        BackendsName::Laptop => Drains {
            api: drain.clone(),
            workers: CancellationToken::new(),
            behind: budget.saturating_sub(services::API_SHARE),
        },
        // The backends outlive this process: order does not matter there, and time does.
        BackendsName::Aws => {
            Drains { api: drain.clone(), workers: drain.child_token(), behind: budget }
        }
    }
}

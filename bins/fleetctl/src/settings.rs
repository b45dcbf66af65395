//! Where everything is: flags, the services' own variables, or the file that `fleet up` leaves. The
//! services' own option definitions read them, so a variable means the same here as there.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chassis::config::{self, ConfigError, Environment};
use clap::Args;
use contracts::QueueSpec;
use database::{Database, DatabaseConfig, Role};
use queue_core::Driver;
use queue_sqs::Sqs;

use crate::api::{Api, ApiConfig};
use crate::failure::Failure;
use crate::output::Output;

/// Where `fleet up` says how to reach what it runs.
const LAPTOP_ENV: &str = ".flotilla/fleet.env";
/// An env file is at most this long; more is a mistake in the path.
const ENV_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Connections, for every command.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Connections")]
pub(crate) struct Connections {
    /// File of VARIABLE=value lines; the process's own variables win
    #[arg(long, global = true, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// `PostgreSQL` [env: `DATABASE_URL`]
    #[arg(long, global = true, value_name = "URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Redis [env: `REDIS_URL`]
    #[arg(long, global = true, value_name = "URL")]
    redis_url: Option<String>,
    /// `OpenSearch`; without it search is in `PostgreSQL` [env: `OPENSEARCH_URL`]
    #[arg(long, global = true, value_name = "URL")]
    opensearch_url: Option<String>,
    /// SQS endpoint, for `LocalStack` and sqs-local [env: `AWS_ENDPOINT_URL`]
    #[arg(long, global = true, value_name = "URL")]
    aws_endpoint_url: Option<String>,
    /// The HTTP API [env: `FLOTILLA_URL`]
    #[arg(long, global = true, value_name = "URL")]
    url: Option<String>,
    /// API key [env: `FLOTILLA_API_KEY`]
    #[arg(long, global = true, value_name = "KEY")]
    api_key: Option<String>,
}

/// The flags and variables, ready to be asked.
#[derive(Debug)]
pub(crate) struct Settings {
    environment: Environment,
}

impl Settings {
    /// Joins flags, variables and the env file, the first winning.
    pub(crate) fn new(flags: Connections, process: Environment) -> Result<Self, Failure> {
        let mut environment = Environment::empty();
        let laptop = Path::new(LAPTOP_ENV);
        let unset = ["DATABASE_URL", "DATABASE_URL_FILE"].iter().all(|n| process.get(n).is_none());
        if let Some(path) = &flags.env_file {
            environment = from_file(path, environment)?;
        } else if unset && flags.database_url.is_none() && laptop.is_file() {
            environment = from_file(laptop, environment)?;
        }
        environment = process.onto(environment);
        for (name, value) in [
            ("DATABASE_URL", flags.database_url),
            ("REDIS_URL", flags.redis_url),
            ("OPENSEARCH_URL", flags.opensearch_url),
            ("AWS_ENDPOINT_URL", flags.aws_endpoint_url),
            ("FLOTILLA_URL", flags.url),
            ("FLOTILLA_API_KEY", flags.api_key),
        ] {
            if let Some(value) = value {
                // A flag also silences the variable's file.
                environment = environment.with(format!("{name}_FILE"), "").with(name, value);
            }
        }
        Ok(Self { environment })
    }

    /// One group of options, as the services define it.
    pub(crate) fn read<C: Args>(&self) -> Result<C, Failure> {
        let none: [&str; 0] = [];
        config::parse::<C>("fleetctl", none, &self.environment).map_err(|error| match error {
            ConfigError::Usage(text) | ConfigError::Shown(text) => Failure::config(text),
            ConfigError::Invalid(_) => Failure::config(error),
        })
    }

    /// Whether a variable is set.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.environment.get(name).is_some()
    }

    /// A variable's text.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        self.environment.get(name).map(|value| value.to_string_lossy().into_owned())
    }

    /// SQS, not yet asked anything.
    pub(crate) async fn sqs(&self) -> Result<Sqs, Failure> {
        let config = self.read::<queue_sqs::AwsConfig>()?;
        Sqs::connect(&config).await.map_err(Failure::config)
    }

    /// A queue and its dead letters: by the queue's variable, or else as SQS knows it by name.
    pub(crate) async fn queue(&self, sqs: &Sqs, spec: &QueueSpec) -> Result<Queue, Failure> {
        let url = match self.environment.get(spec.env) {
            Some(url) => url.to_string_lossy().into_owned(),
            None => sqs.queue_url(spec.name).await.map_err(|error| Failure::sqs(&error))?,
        };
        let dead_letters = sqs.queue(spec.dlq, &chassis::dead_letter_url(&url, spec));
        Ok(Queue { queue: sqs.queue(spec.name, &url), dead_letters })
    }

    /// `PostgreSQL`, as `role`.
    pub(crate) fn database(&self, role: Role) -> Result<Database, Failure> {
        let mut config = self.read::<DatabaseConfig>()?;
        // A command line is one person: it needs few connections, and the others belong to services.
        config.database_pool_max = config.database_pool_max.min(4);
        Database::connect(&config, role).map_err(Failure::config)
    }

    /// The HTTP API.
    pub(crate) fn api(&self) -> Result<Api, Failure> {
        Api::new(&self.read::<ApiConfig>()?)
    }
}

/// A queue and its dead-letter queue.
pub(crate) struct Queue {
    pub(crate) queue: Arc<dyn Driver>,
    pub(crate) dead_letters: Arc<dyn Driver>,
}

fn from_file(path: &Path, mut environment: Environment) -> Result<Environment, Failure> {
    let named = |error: std::io::Error| {
        Failure::config(format!("{}: {error}", path.display()))
            .hint("`fleet up` writes .flotilla/fleet.env; --env-file names another")
    };
    if std::fs::metadata(path).map_err(named)?.len() > ENV_FILE_BYTES_MAX {
        return Err(Failure::config(format!("{}: too long for an env file", path.display())));
    }
    for line in std::fs::read_to_string(path).map_err(named)?.lines() {
        if let Some((name, value)) = line.trim().split_once('=').filter(|_| !line.starts_with('#'))
        {
            environment = environment.with(name.trim(), value.trim());
        }
    }
    Ok(environment)
}

/// Asks a person before something that cannot be undone; `yes` answers beforehand.
pub(crate) fn confirm(output: &Output, yes: bool, question: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !output.is_interactive() {
        return Err(Failure::usage(format!(
            "{question}: not asked, since nobody is at a terminal"
        ))
        .hint("say --yes to go ahead"));
    }
    output.note(&format!("{question} Type yes to go ahead:"));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if answer.trim() == "yes" { Ok(()) } else { Err(Failure::new("stopped: nothing was changed")) }
}

/// How long a call to a dependency may take before it counts as not answering.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

//! The backends, and the environment that leads the services to them. On a laptop they are started
//! here: the SQS emulator in this process, PostgreSQL and Redis as private child processes.

use std::net::SocketAddr;

use chassis::{BuildError, Environment, Problem};
use contracts::catalogue::QUEUES;
use database::{Database, DatabaseConfig, Role};
use local_services::{PartError, Postgres, Redis};
use queue_sqs::{AwsConfig, Deployment, Sqs};
use sqs_emulator::{Server, ServerError};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;

use crate::options::UpConfig;
use crate::state::StateDir;

/// Any region will do: the emulator keeps queues apart by it, so it must stay the same.
const REGION: &str = "us-east-1";
/// The emulator's account is the access key where that has 12 digits, else zeros; the seed's URLs
/// have zeros.
const CREDENTIAL: &str = "flotilla";
/// Long polls of the laptop: the emulator is in this process, so an empty poll costs nothing, and
/// a drain has to wait for the longest.
const LAPTOP_WAIT_SECS: &str = "1";
/// Settings of a real deployment that must not leak into a laptop from the shell that starts it.
const FOREIGN: [&str; 14] = [
    "ARCHIVE_BUCKET",
    "CLAIM_BUCKET",
    "DATABASE_URL_FILE",
    "REDIS_URL_FILE",
    "OPENSEARCH_URL",
    "OPENSEARCH_USERNAME",
    "OPENSEARCH_PASSWORD",
    "OPENSEARCH_PASSWORD_FILE",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL_SQS",
    "AWS_SESSION_TOKEN",
    "AWS_SESSION_TOKEN_FILE",
    "AWS_SECRET_ACCESS_KEY_FILE",
    "AWS_PROFILE",
];

/// What runs for the services.
pub(crate) struct Laptop {
    /// The data.
    pub(crate) state: StateDir,
    /// Variables that lead to these backends, for services beside the fleet.
    pub(crate) variables: Vec<(&'static str, String)>,
    /// The database, as its owner.
    pub(crate) database: Database,
    /// Where the queues are.
    pub(crate) sqs: SocketAddr,
    /// PostgreSQL's port.
    pub(crate) postgres_port: u16,
    /// Redis's port.
    pub(crate) redis_port: u16,
    emulator: (CancellationToken, JoinHandle<()>),
    postgres: Postgres,
    redis: Redis,
}

impl Laptop {
    /// Starts everything, applies the migrations and makes the queues.
    pub(crate) async fn start(config: &UpConfig) -> Result<Self, BuildError> {
        let state = StateDir::open(&config.state_dir)?;
        let emulator = bind_emulator(config, &state).await?;
        let (postgres, redis) = start_servers(&state).await?;
        let sqs = emulator.addr();
        let stop = CancellationToken::new();
        let running = tokio::task::spawn(emulator.run(stop.clone()));
        let mut laptop = Self {
            variables: variables(config, &state, sqs, &postgres, &redis),
            database: Database::connect(&DatabaseConfig::for_url(postgres.url()), Role::Owner)
                .map_err(BuildError::failed)?,
            sqs,
            postgres_port: postgres.port(),
            redis_port: redis.port(),
            emulator: (stop, running),
            state,
            postgres,
            redis,
        };
        let (migrated, queues) = tokio::join!(laptop.migrate(), laptop.make_queues());
        migrated?;
        laptop.variables.extend(queues?);
        let lines = laptop.variables.iter().map(|(name, value)| format!("{name}={value}\n"));
        laptop.state.write_private("fleet.env", &lines.collect::<String>())?;
        Ok(laptop)
    }

    async fn migrate(&self) -> Result<(), BuildError> {
        self.database.migrate().await.map(|_| ()).map_err(BuildError::failed)
    }

    /// Every queue of the catalogue; returns their variables.
    async fn make_queues(&self) -> Result<Vec<(&'static str, String)>, BuildError> {
        let environment = self.variables.iter().map(|(name, value)| (*name, value)).collect();
        let none: [&str; 0] = [];
        let config = chassis::config::parse::<AwsConfig>("fleet", none, &environment)
            .map_err(BuildError::failed)?;
        let admin = Sqs::connect(&config).await?.admin();
        let mut variables = Vec::new();
        for spec in QUEUES {
            let made = admin.create(spec, Deployment::Dev).await.map_err(BuildError::failed)?;
            variables.push((spec.env, made.url));
        }
        Ok(variables)
    }

    /// What the services read: these backends over the shell's own settings.
    pub(crate) fn environment(&self, process: Environment) -> Environment {
        let waits = process.get("WORKER_WAIT_SECS").is_some();
        let process =
            if waits { process } else { process.with("WORKER_WAIT_SECS", LAPTOP_WAIT_SECS) };
        let quiet = FOREIGN.iter().fold(process, |environment, name| environment.with(*name, ""));
        let pairs = self.variables.iter();
        pairs.fold(quiet, |environment, (name, value)| environment.with(*name, value))
    }

    /// Stops everything: nothing uses it any more. Each is durable without it; stopping only makes
    /// the next start quicker.
    pub(crate) async fn stop(self) {
        self.database.close().await;
        let (stop, running) = self.emulator;
        stop.cancel();
        let (emulator, redis, postgres) =
            tokio::join!(running, self.redis.stop(), self.postgres.stop());
        for (name, error) in [
            ("the SQS emulator", emulator.err().map(|error| error.to_string())),
            ("Redis", redis.err().map(|error| error.to_string())),
            ("PostgreSQL", postgres.err().map(|error| error.to_string())),
        ] {
            if let Some(error) = error {
                tracing::warn!(error, "{name} did not stop cleanly; its data is safe");
            }
        }
        drop(self.state);
    }
}

/// Both at once, each on a thread of its own: their start prepares directories and runs `initdb`,
/// which block.
async fn start_servers(state: &StateDir) -> Result<(Postgres, Redis), BuildError> {
    let (postgres, redis) = (state.join("postgres"), state.join("redis"));
    let (for_postgres, for_redis) = (Handle::current(), Handle::current());
    let postgres = spawn_blocking(move || for_postgres.block_on(Postgres::start(&postgres)));
    let redis = spawn_blocking(move || for_redis.block_on(Redis::start(&redis)));
    let (postgres, redis) = tokio::join!(postgres, redis);
    let failed = |error: PartError| BuildError::failed(error);
    let postgres = postgres.map_err(BuildError::failed)?.map_err(failed)?;
    Ok((postgres, redis.map_err(BuildError::failed)?.map_err(failed)?))
}

async fn bind_emulator(config: &UpConfig, state: &StateDir) -> Result<Server, BuildError> {
    Server::bind(config.sqs_addr, Some(state.join("sqs"))).await.map_err(|error| match error {
        ServerError::Listen { addr, reason } => {
            let reason = format!("cannot listen there: {reason}");
            Problem::new("FLEET_SQS_ADDR", &addr, reason, "FLEET_SQS_ADDR=127.0.0.1:4567").into()
        }
        error => BuildError::failed(format!("the queues: {error}")),
    })
}

fn variables(
    config: &UpConfig,
    state: &StateDir,
    sqs: SocketAddr,
    postgres: &Postgres,
    redis: &Redis,
) -> Vec<(&'static str, String)> {
    vec![
        ("FLOTILLA_URL", format!("http://{}", config.listen_addr)),
        ("DATABASE_URL", postgres.url()),
        ("REDIS_URL", redis.url()),
        ("ARCHIVE_DIR", state.join("archive").to_string_lossy().into_owned()),
        ("CLAIM_DIR", state.join("objects").to_string_lossy().into_owned()),
        ("AWS_ENDPOINT_URL", format!("http://{sqs}")),
        ("AWS_REGION", REGION.to_owned()),
        ("AWS_ACCESS_KEY_ID", CREDENTIAL.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", CREDENTIAL.to_owned()),
    ]
}

//! The options of `fleet up`. Everything that a single service can be told is told by that
//! service's own variables; here is only what is the fleet's.

use std::net::SocketAddr;
use std::path::PathBuf;

use chassis::Problem;

/// A service that the fleet runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ServiceName {
    /// The HTTP API.
    IngestApi,
    /// Stores and indexes accepted logs.
    IndexWorker,
    /// Writes logs into the archive; runs where an archive is set.
    ArchiveWorker,
    /// Deletes what is archived, or what a policy says; runs where an archive is set.
    CleanupWorker,
    /// Plans and starts what retention policies archive and delete; runs where an archive is set.
    RetentionWorker,
    /// What time starts: partitions, ageing, schedules; and the outbox's relay.
    Scheduler,
}

impl ServiceName {
    pub(crate) const ALL: [Self; 6] = [
        Self::IngestApi,
        Self::IndexWorker,
        Self::ArchiveWorker,
        Self::CleanupWorker,
        Self::RetentionWorker,
        Self::Scheduler,
    ];

    /// The name of its binary.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::IngestApi => "ingest-api",
            Self::IndexWorker => "index-worker",
            Self::ArchiveWorker => "archive-worker",
            Self::CleanupWorker => "cleanup-worker",
            Self::RetentionWorker => "retention-worker",
            Self::Scheduler => "scheduler",
        }
    }
}

/// Where queues, database and the rest are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum BackendsName {
    /// Started here, from what is installed; data in the state directory.
    Laptop,
    /// Wherever the services' usual variables say.
    Aws,
}

/// Options of `fleet up`.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Fleet")]
pub(crate) struct UpConfig {
    /// Where queues, database, search and Redis are: started here, or by the usual variables
    #[arg(long, env = "FLEET_BACKENDS", value_enum, default_value = "laptop")]
    pub(crate) backends: BackendsName,

    /// Directory that keeps the data of the laptop backends
    #[arg(long, env = "FLEET_STATE_DIR", default_value = ".flotilla", value_name = "DIR")]
    pub(crate) state_dir: PathBuf,

    /// Leave a service out, to run its own binary beside; may be repeated
    #[arg(long, env = "FLEET_EXCEPT", value_enum, value_delimiter = ',', value_name = "SERVICE")]
    pub(crate) except: Vec<ServiceName>,

    /// Address of the HTTP API
    ///
    /// On the laptop backends it has to be a loopback address.
    #[arg(long, env = "LISTEN_ADDR", default_value = "127.0.0.1:3000", value_name = "ADDR")]
    pub(crate) listen_addr: SocketAddr,

    /// Address of the queues on the laptop backends; what AWS SDKs take as endpoint
    #[arg(long, env = "FLEET_SQS_ADDR", default_value = "127.0.0.1:4566", value_name = "ADDR")]
    pub(crate) sqs_addr: SocketAddr,

    /// Print one line of JSON when the fleet is ready, in place of the text
    #[arg(long)]
    pub(crate) json: bool,
}

impl UpConfig {
    /// Whether `service` runs in this process.
    pub(crate) fn runs(&self, service: ServiceName) -> bool {
        !self.except.contains(&service)
    }

    /// What is wrong between these values.
    pub(crate) fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.backends == BackendsName::Laptop {
            let addresses = [
                ("LISTEN_ADDR", self.listen_addr, "127.0.0.1:3000"),
                ("FLEET_SQS_ADDR", self.sqs_addr, "127.0.0.1:4566"),
            ];
            for (variable, addr, example) in addresses {
                if !addr.ip().is_loopback() {
                    let reason = "the laptop backends are for this machine alone: a loopback \
                                  address is expected";
                    let example = format!("{variable}={example}");
                    problems.push(Problem::new(variable, &addr, reason, example));
                }
            }
        }
        if ServiceName::ALL.iter().all(|service| !self.runs(*service)) {
            problems.push(Problem::new(
                "FLEET_EXCEPT",
                &"everything",
                "every service is left out, nothing would run",
                "FLEET_EXCEPT=index-worker",
            ));
        }
        problems
    }
}

//! The commands, one file each; this only names them and calls the one that was typed.

mod archive;
mod audit;
mod cleanup;
mod completions;
mod dlq;
mod doctor;
mod effects;
mod evidence;
mod healthcheck;
mod holds;
mod import;
mod keys;
mod migrate;
mod parked;
mod policies;
mod queues;
mod rebuild;
mod reconcile;
mod search;
mod signing;
mod tail;
mod tenants;
mod verify;
mod which;

use clap::Subcommand;

use crate::failure::Failure;
use crate::output::Output;
use crate::settings::Settings;

/// What `fleetctl` does.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Check every dependency and say what to do
    Doctor(doctor::Doctor),
    /// Find logs; `search rebuild` builds the index anew
    Search(search::Search),
    /// Follow logs as they arrive
    Tail(tail::Tail),
    /// What waits on each queue: depth, age, in flight
    Queues(queues::Queues),
    /// Whether everything accepted is stored once and searchable, or deleted
    Reconcile(reconcile::Reconcile),
    /// Dead letters: list, show, redrive, purge
    #[command(subcommand, after_help = dlq::EXAMPLES)]
    Dlq(dlq::Dlq),
    /// Parked FIFO groups: list, show, release, replay, skip
    #[command(subcommand, after_help = parked::EXAMPLES)]
    Parked(parked::Parked),
    /// Effects nobody knows the end of: list, show, settle
    #[command(subcommand, after_help = effects::EXAMPLES)]
    Effects(effects::Effects),
    /// Retention policies: list, show, apply, delete, simulate, explain
    #[command(subcommand, after_help = policies::EXAMPLES)]
    Policies(policies::Policies),
    /// Have logs archived and deleted on request: run, show, cancel
    #[command(subcommand, after_help = cleanup::EXAMPLES)]
    Cleanup(cleanup::Cleanup),
    /// Legal holds: list, place, release
    #[command(subcommand, after_help = holds::EXAMPLES)]
    Holds(holds::Holds),
    /// API keys: create, list, revoke
    #[command(subcommand, after_help = keys::EXAMPLES)]
    Keys(keys::Keys),
    /// Tenants: create, list
    #[command(subcommand, after_help = tenants::EXAMPLES)]
    Tenants(tenants::Tenants),
    /// Bring events in: NDJSON, `CloudTrail`, git history
    Import(import::Import),
    /// What the archive holds: list, get, search
    #[command(subcommand, after_help = archive::EXAMPLES)]
    Archive(archive::Archive),
    /// The audit trail as a whole: reconcile its stores
    #[command(subcommand, after_help = audit::EXAMPLES)]
    Audit(audit::Audit),
    /// The key that signs the archive: new, init, show, rotate; a signed head
    #[command(subcommand, after_help = signing::EXAMPLES)]
    Signing(signing::Signing),
    /// Check an archive, downloaded or in S3, from its files and public keys alone
    Verify(verify::Verify),
    /// Export what proves one event, out of an archive, downloaded or in S3
    Evidence(evidence::Evidence),
    /// Bring the database's schema up to this release
    Migrate(migrate::Migrate),
    /// Ask a service on this machine whether it is alive; for containers
    Healthcheck(healthcheck::Healthcheck),
    /// Shell completions
    Completions(completions::Completions),
}

/// Runs it.
pub(crate) async fn run(
    command: Command,
    settings: &Settings,
    output: &Output,
) -> Result<(), Failure> {
    match command {
        Command::Doctor(command) => command.run(settings, output).await,
        Command::Keys(command) => command.run(settings, output).await,
        Command::Policies(command) => command.run(settings, output).await,
        Command::Cleanup(command) => command.run(settings, output).await,
        Command::Holds(command) => command.run(settings, output).await,
        Command::Tenants(command) => command.run(settings, output).await,
        Command::Import(command) => command.run(settings, output).await,
        Command::Queues(command) => command.run(settings, output).await,
        Command::Reconcile(command) => command.run(settings, output).await,
        Command::Search(command) => command.run(settings, output).await,
        Command::Tail(command) => command.run(settings, output).await,
        Command::Dlq(command) => command.run(settings, output).await,
        Command::Parked(command) => command.run(settings, output).await,
        Command::Effects(command) => command.run(settings, output).await,
        Command::Archive(command) => command.run(settings, output).await,
        Command::Audit(command) => command.run(settings, output).await,
        Command::Signing(command) => command.run(settings, output).await,
        Command::Verify(command) => tokio::task::block_in_place(|| command.run(output)),
        Command::Evidence(command) => tokio::task::block_in_place(|| command.run(settings, output)),
        Command::Migrate(command) => command.run(settings, output).await,
        Command::Healthcheck(command) => command.run(output).await,
        Command::Completions(command) => {
            command.run();
            Ok(())
        }
    }
}

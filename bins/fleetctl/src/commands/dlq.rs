//! `fleetctl dlq`: dead letters, found, read, sent back or removed. Reading never loses a message: it
//! is received under a lease and given back; sending back deletes only after the queue has accepted.

mod letter;
mod list;
mod purge;
mod redrive;
mod select;
mod show;
mod sweep;
#[cfg(test)]
mod tests;

use clap::Subcommand;
use contracts::QueueSpec;
use contracts::catalogue::QUEUES;

use crate::failure::Failure;
use crate::output::Output;
use crate::settings::Settings;

/// Shown under the group's help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  fleetctl dlq list
  fleetctl dlq show audit-index 5f2c
  fleetctl dlq redrive audit-index --code failures-exhausted --rate 50
  fleetctl dlq purge audit-index --fingerprint 9c1185a5c5e9fc54 --older-than 7d";

/// What can be done with dead letters.
#[derive(Subcommand)]
pub(crate) enum Dlq {
    /// List dead letters with their reasons
    List(list::List),
    /// Show one dead letter whole: reason, every attempt, original
    Show(show::Show),
    /// Send originals back to their queue
    Redrive(redrive::Redrive),
    /// Delete dead letters
    Purge(purge::Purge),
}

impl Dlq {
    pub(crate) async fn run(self, settings: &Settings, output: &Output) -> Result<(), Failure> {
        match self {
            Self::List(command) => command.run(settings, output).await,
            Self::Show(command) => command.run(settings, output).await,
            Self::Redrive(command) => command.run(settings, output).await,
            Self::Purge(command) => command.run(settings, output).await,
        }
    }
}

/// The catalogue's entry of that key or name.
fn spec(name: &str) -> Result<&'static QueueSpec, String> {
    QueueSpec::find(name).ok_or_else(|| {
        let keys: Vec<&str> = QUEUES.iter().map(|spec| spec.key).collect();
        format!("no queue of the catalogue; one of {}", keys.join(", "))
    })
}

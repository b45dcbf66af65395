//! `fleetctl dlq`: dead letters, found, read, sent back or removed. Reading never loses a message: it
//! is received under a lease and given back; sending back deletes only after the queue has accepted.

mod carry;
mod claimed;
mod edit;
mod groups;
mod interrupt;
mod json_text;
mod letter;
mod list;
mod outlook;
mod purge;
mod redrive;
mod select;
mod show;
mod sweep;
#[cfg(test)]
mod tests;

use clap::{Args, Subcommand};
use contracts::QueueSpec;
use contracts::catalogue::QUEUES;

pub(super) use outlook::{Prospects, prospects};

use crate::failure::Failure;
use crate::output::Output;
use crate::settings::Settings;

/// Shown under the group's help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  fleetctl dlq list
  fleetctl dlq show audit-index 5f2c
  fleetctl dlq edit audit-index 5f2c --set body.reason='asked for by legal' --why INC-12
  fleetctl dlq redrive audit-index --code failures-exhausted --rate 50
  fleetctl dlq purge audit-index --fingerprint 9c1185a5c5e9fc54 --older-than 7d";

/// What can be done with dead letters.
#[derive(Subcommand)]
pub(crate) enum Dlq {
    /// Count dead letters by cause, or list them
    List(list::List),
    /// Show one dead letter whole: reason, every attempt, original
    Show(show::Show),
    /// Mend one dead letter's original
    Edit(edit::Edit),
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
            Self::Edit(command) => command.run(settings, output).await,
            Self::Redrive(command) => command.run(settings, output).await,
            Self::Purge(command) => command.run(settings, output).await,
        }
    }
}

/// Where the running workers say what they are.
#[derive(Args, Clone, Debug)]
pub(crate) struct AdminPorts {
    /// A worker's admin port, asked for its version and breakers; may be given several times
    #[arg(long, default_value = "http://127.0.0.1:9090")]
    pub(crate) admin: Vec<String>,
    /// Bearer token of the admin ports, where they are not on loopback
    #[arg(long, env = "ADMIN_TOKEN", hide_env_values = true)]
    pub(crate) admin_token: Option<String>,
}

impl AdminPorts {
    /// What is known of the fleet now.
    pub(crate) async fn outlook(&self, settings: &Settings) -> outlook::Outlook {
        outlook::Outlook::ask(settings, &self.admin, self.admin_token.as_deref()).await
    }
}

/// The catalogue's entry of that key or name.
fn spec(name: &str) -> Result<&'static QueueSpec, String> {
    QueueSpec::find(name).ok_or_else(|| {
        let keys: Vec<&str> = QUEUES.iter().map(|spec| spec.key).collect();
        format!("no queue of the catalogue; one of {}", keys.join(", "))
    })
}

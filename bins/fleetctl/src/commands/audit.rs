//! `fleetctl audit`: what an operator does with the audit trail as a whole.

mod reconcile;
mod shown;

use clap::Subcommand;

use crate::failure::Failure;
use crate::output::Output;
use crate::settings::Settings;

/// Shown under the group's help.
pub(crate) const EXAMPLES: &str = "Examples:
  fleetctl audit reconcile
  fleetctl audit reconcile --tenant acme --from 2026-01-01T00:00:00Z --repair
  fleetctl audit reconcile --repair --apply-receipts --reason 'restore of 2026-11-30'";

/// What can be done.
#[derive(Subcommand)]
pub(crate) enum Audit {
    /// Compare PostgreSQL, search and the archive, and mend what can be proved
    Reconcile(reconcile::Reconcile),
}

impl Audit {
    pub(crate) async fn run(self, settings: &Settings, output: &Output) -> Result<(), Failure> {
        match self {
            Self::Reconcile(command) => command.run(settings, output).await,
        }
    }
}

//! `fleetctl tenants`: who may send logs, and how long theirs are kept by default.

use clap::Subcommand;
use contracts::{RetentionClass, Tenant};
use database::{Role, tenants};

use crate::failure::Failure;
use crate::output::Output;
use crate::settings::Settings;

/// Shown under the group's help.
pub(crate) const EXAMPLES: &str =
    "Examples:\n  fleetctl tenants create acme --class 1y\n  fleetctl tenants list --json";

/// What can be done with tenants.
#[derive(Subcommand)]
pub(crate) enum Tenants {
    /// Make a tenant
    #[command(after_help = "Example:\n  fleetctl tenants create acme --class 1y")]
    Create {
        /// Name: 1 to 63 of a-z, 0-9 and -
        name: Tenant,
        /// How long its logs are kept: 7d, 30d, 90d, 1y, 7y, custom
        #[arg(long, default_value = "90d")]
        class: RetentionClass,
        /// Its policies may keep for no time at all: for demos and drills
        #[arg(long)]
        sandbox: bool,
    },
    /// List every tenant
    #[command(after_help = "Example:\n  fleetctl tenants list --json")]
    List,
}

impl Tenants {
    pub(crate) async fn run(self, settings: &Settings, output: &Output) -> Result<(), Failure> {
        let database = settings.database(Role::Owner)?;
        match self {
            Self::Create { name, class, sandbox } => {
                if name.as_str() == contracts::ids::SYSTEM_TENANT {
                    return Err(Failure::usage("`system` is the fleet's own tenant"));
                }
                let made = tenants::create(database.pool(), &name, class, sandbox).await?;
                let made = made.ok_or_else(|| {
                    Failure::new(format!("there is a tenant {name} already"))
                        .hint("`fleetctl tenants list` shows them")
                })?;
                output.value(&made, || format!("made tenant {name}; its logs are kept {class}"));
            }
            Self::List => {
                let rows = tenants::list(database.pool()).await?;
                output.rows(&rows, &["TENANT", "KEPT", "STATE", "SANDBOX", "SINCE"], |row| {
                    vec![
                        row.id.to_string(),
                        row.default_class.to_string(),
                        format!("{:?}", row.state).to_lowercase(),
                        if row.sandbox { "yes" } else { "no" }.to_owned(),
                        row.created_at.format("%Y-%m-%d").to_string(),
                    ]
                });
            }
        }
        Ok(())
    }
}

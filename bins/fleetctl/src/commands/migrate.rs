//! `fleetctl migrate`: the schema of this release, under an advisory lock; safe to run twice and
//! beside the previous release's services. It never goes back.

use clap::Args;
use database::Role;
use serde_json::json;

use crate::failure::Failure;
use crate::output::Output;
use crate::settings::Settings;

/// Applies what is missing.
#[derive(Args)]
#[command(
    after_help = "Example:\n  fleetctl migrate\n  DATABASE_URL_FILE=/run/secrets/database-url fleetctl migrate"
)]
pub(crate) struct Migrate {}

impl Migrate {
    pub(crate) async fn run(self, settings: &Settings, output: &Output) -> Result<(), Failure> {
        let database = settings.database(Role::Owner)?;
        let report = database.migrate().await.map_err(|error| {
            Failure::new(format!("not migrated: {error}")).hint(
                "what a migration did is rolled back; check DATABASE_URL and the role's rights",
            )
        })?;
        let shown = json!({
            "schema": report.version,
            "applied": report.applied,
            "partitions_made": report.partitions_made,
        });
        output.value(&shown, || {
            let applied = report.applied.len();
            let made = report.partitions_made;
            format!(
                "schema {}: {applied} migrations applied, {made} partitions made",
                report.version
            )
        });
        Ok(())
    }
}

//! `fleetctl evidence`: everything that proves one event, out of an archive, into a folder that stands by
//! itself. It writes nothing but that folder.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use contracts::{LogId, Tenant};
use evidence::bundle::{INDEX, NoEvidence, PAGE, assemble};
use serde_json::json;

use crate::archive;
use crate::failure::Failure;
use crate::output::Output;
use crate::settings::Settings;

/// Exports the evidence for one event.
#[derive(Args)]
#[command(after_help = "\
Example:
  aws s3 cp --recursive s3://my-archive/ ./copy
  fleetctl evidence 01940000-0000-7000-8000-000000000001 --tenant acme --from ./copy --to ./case-17
  fleetctl verify ./case-17 --key 'audit.example.com+3c36b532+AYqI4910…'
With --from s3://my-archive it reads the bucket itself; without --from, the archive that ARCHIVE_BUCKET or
ARCHIVE_DIR names.
The folder holds the event's bytes with the proof that a signed manifest covers them, or, where it was
deleted, the receipt; the signed head that counts those documents; and README.txt, which says in plain
words what is proved and what is not. Verify the archive itself first: this believes it.")]
pub(crate) struct Evidence {
    /// The event's id
    id: LogId,
    /// Whose event
    #[arg(long)]
    tenant: Tenant,
    /// The folder with the downloaded archive, or `s3://BUCKET/PREFIX`; by default the archive in use
    #[arg(long, value_name = "DIR|S3")]
    from: Option<String>,
    /// The folder to write; it must not exist yet
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

impl Evidence {
    pub(crate) fn run(self, settings: &Settings, output: &Output) -> Result<(), Failure> {
        let place = self.from.clone().or_else(|| in_use(settings)).ok_or_else(|| {
            Failure::usage("no archive is named")
                .hint("say --from DIR or --from s3://BUCKET, or set ARCHIVE_BUCKET or ARCHIVE_DIR")
        })?;
        let source = archive::open(&place)?;
        let files = assemble(&*source, &self.tenant, self.id.0).map_err(|error| {
            let failure = Failure::new(&error);
            match error {
                NoEvidence::Unknown(..) => failure.hint("check the id and --tenant"),
                NoEvidence::Gone { .. } => failure.hint(
                    "an earlier export, or a copy of the archive that was taken before, may tell",
                ),
                _ => failure.hint("`fleetctl verify` says what is wrong with the archive"),
            }
        })?;
        fs::create_dir(&self.to).map_err(|error| {
            Failure::usage(format!("{}: {error}", self.to.display()))
                .hint("name a folder that does not exist yet, in one that does")
        })?;
        // The index goes last: a folder with an index is whole.
        for (name, bytes) in files.iter().filter(|(name, _)| *name != INDEX) {
            fs::write(self.to.join(name), bytes)?;
        }
        fs::write(self.to.join(INDEX), &files[INDEX])?;
        let names: Vec<&String> = files.keys().collect();
        output.value(&json!({ "id": self.id, "folder": self.to, "files": names }), || {
            format!("{} files in {}; begin with {PAGE}", names.len(), self.to.display())
        });
        Ok(())
    }
}

/// The archive that the services' own variables name.
fn in_use(settings: &Settings) -> Option<String> {
    let named = |name: &str| settings.variable(name).filter(|value| !value.is_empty());
    let bucket = named("ARCHIVE_BUCKET").map(|bucket| format!("s3://{bucket}"));
    bucket.or_else(|| named("ARCHIVE_DIR"))
}

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

/// Exports the evidence for one event.
#[derive(Args)]
#[command(after_help = "\
Example:
  aws s3 cp --recursive s3://my-archive/ ./copy
  fleetctl evidence 01940000-0000-7000-8000-000000000001 --tenant acme --from ./copy --to ./case-17
  fleetctl verify ./case-17 --key 'audit.example.com+3c36b532+AYqI4910…'
With --from s3://my-archive it reads the bucket itself.
The folder holds the event's bytes with the proof that a signed manifest covers them, or, where it was
deleted, the receipt; the signed head that counts those documents; and README.txt, which says in plain
words what is proved and what is not. Verify the archive itself first: this believes it.")]
pub(crate) struct Evidence {
    /// The event's id
    id: LogId,
    /// Whose event
    #[arg(long)]
    tenant: Tenant,
    /// The folder with the downloaded archive, or `s3://BUCKET/PREFIX`
    #[arg(long, value_name = "DIR|S3")]
    from: String,
    /// The folder to write; it must not exist yet
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

impl Evidence {
    pub(crate) fn run(self, output: &Output) -> Result<(), Failure> {
        let source = archive::open(&self.from)?;
        let files = assemble(&*source, &self.tenant, self.id.0).map_err(|error| {
            let failure = Failure::new(&error);
            match error {
                NoEvidence::Unknown(..) => failure.hint("check the id and --tenant"),
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

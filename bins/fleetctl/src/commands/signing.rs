//! `fleetctl signing`: which key signs the archive. It reads the private key to learn its public half;
//! neither leaves this process but for the public one.

use audit::archive::SigningConfig;
use audit::archive::keys::{self, Purpose};
use audit::store::signing_keys;
use clap::Subcommand;
use database::Role;
use evidence::VerifyKey;
use queue_core::{Clock as _, SystemClock};
use serde_json::json;

use crate::author::{author, words};
use crate::failure::Failure;
use crate::output::Output;
use crate::settings::Settings;

/// Shown under the group's help.
pub(crate) const EXAMPLES: &str = "Examples:
  openssl genpkey -algorithm ed25519 -out key.pem
  ARCHIVE_SIGNING_KEY_FILE=key.pem fleetctl signing init
  fleetctl signing show
  fleetctl signing rotate --reason 'yearly'";

/// What can be done with the signing key.
#[derive(Subcommand)]
pub(crate) enum Signing {
    /// Set up the first key: the one in `ARCHIVE_SIGNING_KEY`
    #[command(after_help = "Example:\n  ARCHIVE_SIGNING_KEY_FILE=key.pem fleetctl signing init")]
    Init(Author),
    /// Show the public keys, as `fleetctl verify --key` takes them, and what still waits for each
    #[command(after_help = "Example:\n  fleetctl signing show")]
    Show,
    /// Let the key in `ARCHIVE_SIGNING_KEY` take over; give the sealer the old one as
    /// `ARCHIVE_SIGNING_KEY_PREVIOUS` first
    #[command(after_help = "Example:\n  fleetctl signing rotate --reason yearly")]
    Rotate {
        /// Why, in words; it stands in every chain
        #[arg(long, value_parser = words)]
        reason: String,
        #[command(flatten)]
        author: Author,
    },
}

/// Who does it.
#[derive(clap::Args)]
pub(crate) struct Author {
    /// Who does it; by default the user of this terminal
    #[arg(long, value_parser = words)]
    by: Option<String>,
}

impl Signing {
    pub(crate) async fn run(self, settings: &Settings, output: &Output) -> Result<(), Failure> {
        match self {
            Self::Init(by) => set_up(Purpose::First, "first", &by, settings, output).await,
            Self::Show => show(settings, output).await,
            Self::Rotate { reason, author } => {
                set_up(Purpose::Rotation, &reason, &author, settings, output).await
            }
        }
    }
}

/// The public half of the key that is set.
async fn given(settings: &Settings) -> Result<VerifyKey, Failure> {
    let config: SigningConfig = settings.read()?;
    let signer = config.signer().await.map_err(|error| Failure::new(error.to_string()))?;
    let signer = signer.ok_or_else(|| {
        Failure::new("no signing key is set").hint(
            "`openssl genpkey -algorithm ed25519 -out key.pem`, then ARCHIVE_SIGNING_KEY_FILE=key.pem; \
             or ARCHIVE_SIGNING_KMS_KEY",
        )
    })?;
    Ok(signer.key().clone())
}

async fn set_up(
    purpose: Purpose,
    reason: &str,
    by: &Author,
    settings: &Settings,
    output: &Output,
) -> Result<(), Failure> {
    let key = given(settings).await?;
    let database = settings.database(Role::Owner)?;
    let (by, now) = (author(by.by.as_ref(), settings), SystemClock.now());
    let refused = |error: keys::KeyError| Failure::new(error.to_string());
    match keys::set_up(&database, &key, purpose, reason, &by, now).await {
        // Run again after it was interrupted: the chains that are left follow.
        Err(keys::KeyError::Used(id))
            if purpose == Purpose::Rotation && newest(&database).await?.as_ref() == Some(&id) => {}
        done => done.map_err(refused)?,
    }
    let chains = keys::rotate_chains(&database, now).await.map_err(refused)?;
    let shown = json!({ "key": key.to_string(), "key_id": key.id(), "chains_rotated": chains });
    output.value(&shown, || key.to_string());
    output.note(&format!(
        "{} signs from now on; {chains} chains were told. Give the line above to whoever verifies.",
        key.id()
    ));
    Ok(())
}

async fn newest(database: &database::Database) -> Result<Option<String>, Failure> {
    let mut connection = database.pool().acquire().await?;
    let newest = signing_keys::newest_key(&mut connection).await?;
    Ok(newest.map(|key| key.key_id))
}

async fn show(settings: &Settings, output: &Output) -> Result<(), Failure> {
    let database = settings.database(Role::Worker)?;
    let rows = signing_keys::overview(database.pool()).await?;
    if rows.is_empty() {
        output.note("no signing key is set up: `fleetctl signing init`");
    }
    output.rows(&rows, &["KEY", "SINCE", "BY", "WHY", "WAITING"], |row| {
        vec![
            row.public_key.clone(),
            row.created_at.format("%Y-%m-%d").to_string(),
            row.created_by.clone(),
            row.reason.clone(),
            row.waiting.to_string(),
        ]
    });
    Ok(())
}
